"""llama.cpp beside this process: it ends with who asked for it, and says no in one sentence."""

import gc

import psutil
import pytest

from llmnotes.errors import ModelBroken
from llmnotes.formats import convert
from llmnotes.llama_cpp.greedy import tokens_and_greedy
from llmnotes.pebble import weights_dir

pytestmark = pytest.mark.slow


def test_it_ends_when_both_functions_are_gone_and_refuses_what_is_broken(tmp_path):
    pytest.importorskip("xllamacpp")
    convert(weights_dir("pebble"), tmp_path / "p.gguf", type="Q8_0")
    before = set(psutil.Process().children())
    tokens, greedy = tokens_and_greedy(tmp_path / "p.gguf")
    (engine,) = set(psutil.Process().children()) - before
    assert len(greedy(tokens("Once upon a time"), 8)) == 8
    del tokens
    gc.collect()
    assert engine.is_running()
    del greedy
    gc.collect()
    assert not engine.is_running()
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "p.gguf").read_bytes()[:-9000])
    with pytest.raises(ModelBroken, match="does not load cut.gguf"):
        tokens_and_greedy(tmp_path / "cut.gguf")
    assert set(psutil.Process().children()) == before
