"""`python -m llmnotes.cli`."""

import sys

from llmnotes.cli.main import main

sys.exit(main())
