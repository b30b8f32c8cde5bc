"""Two thousand broken files and the crafted ones: `make fuzz` throws ten times as many."""

import sys

import pytest

from .fuzz import fuzz
from .samples import write_samples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on a process's memory are Linux's")


def test_no_file_breaks_a_reader(tmp_path):
    write_samples(tmp_path)
    rows = fuzz(tmp_path, seed=0, count=2000)
    assert len(rows) > 2100
    assert [row for row in rows if row["faults"]] == []
