"""What the tests start themselves ends, even where a test goes wrong."""

import subprocess
import sys
import time

import pytest

from .processes import limited, started

SLEEPS = [sys.executable, "-c", "import time; time.sleep(1000)"]


def test_a_test_that_fails_waits_for_nothing():
    with pytest.raises(subprocess.TimeoutExpired), started(SLEEPS, stdout=subprocess.PIPE) as process:
        process.communicate(timeout=0.1)
    assert process.returncode and process.stdout.closed


def test_a_line_that_never_comes_is_an_end():
    with started(SLEEPS, stdout=subprocess.PIPE) as process, limited(process, 0.2):
        assert process.stdout.readline() == b""
    with started(SLEEPS) as process:
        with limited(process, 0.2):
            pass
        time.sleep(0.4)
        assert process.poll() is None, "the limit is that of the block"
