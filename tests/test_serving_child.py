"""The child process in which llama.cpp runs: it ends with whoever started it, and its failures are one sentence."""

import gc

import psutil
import pytest

from llmnotes.errors import FileBroken, ModelBroken, ServerFailed
from llmnotes.llama_cpp.child import Child
from llmnotes.llama_cpp.trial import checked_file

pytestmark = pytest.mark.slow


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def test_it_ends_when_nothing_refers_to_it_any_more(gguf):
    before = children()
    child = Child(checked_file(gguf), n_ctx=512)
    tokens, greedy = child.tokenize, child.greedy
    del child
    (process,) = children() - before
    assert len(greedy(tokens("Once upon a time"), 8)) == 8
    del tokens
    gc.collect()
    assert process.is_running()
    del greedy
    gc.collect()
    assert not process.is_running() and children() == before


def test_what_it_cannot_do_is_one_sentence(gguf, tmp_path):
    before = children()
    data = gguf.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-9000])
    (tmp_path / "unknown.gguf").write_bytes(data.replace(b"llama", b"lxxma"))
    with pytest.raises(FileBroken, match="cut.gguf is damaged"):
        checked_file(tmp_path / "cut.gguf")
    with pytest.raises(ModelBroken, match="does not load unknown.gguf: unknown model architecture"):
        checked_file(tmp_path / "unknown.gguf")
    child = Child(checked_file(gguf), n_ctx=512)
    with pytest.raises(ServerFailed, match="llama.cpp does not answer for Pebble Chat") as raised:
        child.greedy([1] * 600, 8)
    assert "\n" not in str(raised.value)
    child.close()
    child.close()
    with pytest.raises(ServerFailed, match="load the model again"):
        child.tokenize("Once")
    assert children() == before
