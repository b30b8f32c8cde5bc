# PYTHON_ARGCOMPLETE_OK
"""The command `llmnotes`, which is also `python -m llmnotes`: Ctrl-C is heard from the first import to the end."""

import signal
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        from llmnotes.cli.main import main

        return main()
    except KeyboardInterrupt:
        return 130
    finally:  # what still ends now, such as threads of a library, would print where Ctrl-C met it
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
