"""llama.cpp's own functions, its server and its child processes: what each cannot do is one sentence."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from llmnotes.errors import BadSettings, DoesNotFit, MissingPart, ModelBroken, ProcessDied, UnknownName
from llmnotes.formats import convert
from llmnotes.llama_cpp import engine, library, memory, packages, trial
from llmnotes.llama_cpp.library import Model


@pytest.fixture(scope="module")
def gguf(tiny_folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    convert(tiny_folder, path)
    return path


class Changed:
    """llama.cpp's library, some of whose functions answer otherwise."""

    def __init__(self, lib, **functions):
        self.lib = lib
        self.__dict__ |= functions

    def __getattr__(self, name):
        return getattr(self.lib, name)


def test_a_library_that_is_missing_bare_or_laid_out_otherwise(monkeypatch, tmp_path):
    library.library()  # it is here
    (tmp_path / "bare.so").write_bytes(b"")
    for path, words in ((None, "xllamacpp is missing; bring it"), (tmp_path / "bare.so", "shows no C interface")):
        with monkeypatch.context() as patch, pytest.raises(MissingPart, match=words):
            patch.setattr(library.shared_library, "find", lambda path=path: path)
            library.library.__wrapped__()
    monkeypatch.setitem(library.DEFAULTS, library.ContextParams, {"n_ctx": 513})
    with pytest.raises(MissingPart, match="laid out in another way than the one known here; bring that with"):
        library.library.__wrapped__()
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingPart, match="xllamacpp is missing; bring it"):
        packages.xllamacpp()


def test_what_its_functions_refuse(gguf, tmp_path):
    (tmp_path / "text.gguf").write_bytes(b"Once upon a time")
    with pytest.raises(ModelBroken, match="does not load text.gguf; make it again"):
        Model(tmp_path / "text.gguf")
    with Model(gguf) as model:
        rows = model.lib.llama_vocab_n_tokens(model.vocab)
        with pytest.raises(UnknownName, match=f"There is no token {rows} in tiny.gguf; it has 0 to {rows - 1}"):
            model.logits([rows], 1)
        with pytest.raises(UnknownName, match="Give a token"):
            model.logits([], 1)
        real = model.lib
        model.lib = Changed(real, llama_decode=lambda context, batch: 1)
        with pytest.raises(ModelBroken, match="cannot run tiny.gguf on this text; make the file again"):
            model.logits([1], 1)
        model.lib = Changed(real, llama_init_from_model=lambda model, params: None)
        with pytest.raises(DoesNotFit, match="no memory for 1 tokens of tiny.gguf; give fewer"):
            model.logits([1], 1)
        with pytest.raises(DoesNotFit, match="no memory for a context of 512 tokens of tiny.gguf; give fewer"):
            model.reserve(512, exact=True, embeddings=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_a_file_whose_name_is_no_unicode_is_opened(gguf, tmp_path):
    with Model(shutil.copy(gguf, tmp_path / "\udcff.gguf")) as model:
        assert model.lib.llama_vocab_n_tokens(model.vocab)


def test_what_its_server_refuses(monkeypatch):
    model = SimpleNamespace(name="Tiny", path=Path("tiny.gguf"), context=512, template=None, pooling=None)
    with pytest.raises(BadSettings, match="A context of 0 tokens holds nothing; give a number above 0"):
        engine.context_of(model, 0)
    monkeypatch.setattr(engine, "xllamacpp", lambda: MagicMock(Server=MagicMock(side_effect=RuntimeError)))
    for what in ("n_threads", "parallel"):
        with pytest.raises(BadSettings, match=f"{what} is 0; give a number from 1 to 512"):
            engine.start(model, **{what: 0})
    with pytest.raises(ModelBroken, match="does not start with tiny.gguf; ask for a shorter context or fewer layers"):
        engine.start(model)


def test_children_that_hang_or_fail(gguf, monkeypatch):
    def ends(*status: int, words: str = ""):
        def run(command, timeout, **how):
            if not status:
                raise subprocess.TimeoutExpired(command, timeout)
            return subprocess.CompletedProcess(command, status[0], words, "")

        monkeypatch.setattr(subprocess, "run", run)

    ends()
    with pytest.raises(ProcessDied, match="has not loaded .*tiny.gguf in .* seconds; try a smaller file"):
        memory.reported_buffers(gguf, 512)
    with pytest.raises(ModelBroken, match="is not done with tiny.gguf after 60 s; make the file again"):
        trial.try_file(gguf)
    ends(1)
    with pytest.raises(ProcessDied, match="did not load .*tiny.gguf to count its memory; try `llmnotes inspect`"):
        memory.reported_buffers(gguf, 512)
    ends(-6)
    with pytest.raises(ModelBroken, match=r"itself breaks on tiny.gguf \(exit status -6\); make the file again"):
        trial.try_file(gguf)
    ends(trial.REFUSED, words="no such layer\n")
    with pytest.raises(ModelBroken, match="does not load tiny.gguf: no such layer; take a GGUF of an architecture"):
        trial.try_file(gguf)
