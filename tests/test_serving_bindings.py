"""The runtime over llama-cpp-python, which is compiled and not pinned, against the one over xllamacpp."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llmnotes.errors import (
    BadSettings,
    DoesNotFit,
    LLMNotesError,
    MissingPart,
    ModelBroken,
    ServerFailed,
    UnknownName,
)
from llmnotes.serving import load, loading
from llmnotes.serving.bindings import Bindings
from llmnotes.serving.terminal import converse

GOOSE = [{"role": "user", "content": "What does the goose say?"}]


@pytest.fixture(scope="module")
def theirs(gguf):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not here; pip install llama-cpp-python")
    with load(gguf, n_threads=1, engine="llama-cpp-python") as found:
        yield found


@pytest.fixture(scope="module")
def ours(gguf):
    with load(gguf, n_threads=1, engine="xllamacpp") as found:
        yield found


def test_both_give_the_same_text(theirs, ours):
    for prompt in ("Once upon a time", "Q: What does the cow say?\nA:", "The", "Lars had a donkey that", "x"):
        assert theirs.tokenize(prompt) == ours.tokenize(prompt)
        text = ours.complete(prompt, 40)
        assert theirs.complete(prompt, 40) == text == "".join(theirs.stream(prompt, 40))
        assert theirs.complete(ours.tokenize(prompt), 40) == text
    for animal in ("goose", "cow", "wolf", "cat"):
        asked = [{"role": "user", "content": f"What does the {animal} say?"}]
        assert theirs.chat(asked) == ours.chat(asked) == "".join(theirs.stream(asked))
    assert theirs.complete("Q:", 20, grammar='root ::= "honk"') == "honk"
    assert theirs.complete("Once upon a time", 50, stop=["."]) == ours.complete("Once upon a time", 50, stop=["."])
    hot = [theirs.complete("Once", 20, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    assert theirs.models() == ours.models() and theirs.file == ours.file and theirs.n_ctx == ours.n_ctx


def test_both_give_the_same_numbers(theirs, ours):
    texts = ["The goose says honk.", "A cat"]
    assert np.abs(np.array(theirs.embeddings(texts)) - np.array(ours.embeddings(texts))).max() < 1e-5
    assert np.abs(theirs.logits(texts[0]) - ours.logits(texts[0])).max() < 1e-3
    assert theirs.perplexity(texts[0]) == pytest.approx(ours.perplexity(texts[0]), rel=1e-4)


def test_a_conversation_forgets_its_beginning_there_too(theirs):
    out = []
    converse(theirs, [f"What does the goose say? ({number})" for number in range(40)], out.append, max_tokens=4)
    assert "".join(out).count("\n") >= 40  # of 12 tokens each, three of the template, and some of an answer: above 512


def test_what_it_refuses_is_one_sentence(theirs):
    for error, ask in (
        (UnknownName, lambda: theirs.logits([99_999])),
        (UnknownName, lambda: theirs.perplexity("")),
        (DoesNotFit, lambda: theirs.logits([1] * 513)),
        (ServerFailed, lambda: theirs.complete("honk " * 3000)),
        (ServerFailed, lambda: list(theirs.stream("honk " * 3000))),
        (ServerFailed, lambda: theirs.complete("Q:", grammar="root ::= (")),
        (ServerFailed, lambda: theirs.chat([{"role": "user"}])),
        (ServerFailed, lambda: theirs.chat([{"role": "wizard", "content": "x"}])),
        (ServerFailed, lambda: theirs.complete("x", banana=5)),
        (MissingPart, theirs.memory),
    ):
        with pytest.raises(error) as raised:
            ask()
        assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert "honk" in theirs.chat(GOOSE)


def test_it_is_closed_once_and_for_all(gguf):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not here; pip install llama-cpp-python")
    found = load(gguf, n_threads=1, engine="llama-cpp-python")
    found.logits([1, 2])
    found.close()
    found.close()
    with pytest.raises(LLMNotesError, match="load it again"):
        found.complete("x")


def test_without_xllamacpp_it_is_taken_by_itself(gguf, tmp_path):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not here; pip install llama-cpp-python")
    (tmp_path / "unknown.gguf").write_bytes(gguf.read_bytes().replace(b"llama", b"lxxma"))
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "xllamacpp" else find(name, *rest)
from llmnotes.serving import load
from llmnotes.llama_cpp import trial
with load(sys.argv[1], n_threads=1) as found:
    print(type(found).__name__, found.chat([{"role": "user", "content": "What does the goose say?"}]))
print(trial.main(sys.argv[2]))
"""
    command = [sys.executable, "-c", code, str(gguf), str(tmp_path / "unknown.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("Bindings") and "honk" in said[0] and said[1:] == ["Failed to load model from file", "3"]


def test_who_has_it_not_is_told_how_to_get_it(gguf, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingPart, match="llama-cpp-python>="):
        load(gguf, engine="llama-cpp-python")
    with pytest.raises(BadSettings, match="xllamacpp or llama-cpp-python"):
        load(gguf, engine="vllm")
    assert set(loading.ENGINES) == {"xllamacpp", "llama-cpp-python"} and importlib.util.find_spec("xllamacpp")


class Refusing:
    """A stand-in for llama-cpp-python's `Llama`, which is not installed everywhere."""

    def __init__(self, path, **settings):
        if "broken" in path:
            raise ValueError("Failed to load model from file: broken.gguf")

    def n_vocab(self):
        return 10

    def tokenize(self, text, **how):
        return list(range(len(text)))

    def create_completion(self, prompt, **how):
        raise ValueError("Requested tokens (600) exceed context window of 512.")

    def close(self):
        pass


def test_its_sentences_need_no_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Refusing))
    file, broken = (SimpleNamespace(name="Tiny", path=Path(name)) for name in ("tiny.gguf", "broken.gguf"))
    with pytest.raises(BadSettings, match="n_threads is 0; give a number from 1 to 512"):
        Bindings(file, 0, None, 512, False)
    with pytest.raises(ModelBroken, match="does not load broken.gguf; ask for a shorter context"):
        Bindings(broken, 1, None, 512, False)
    model = Bindings(file, 1, None, 512, False)
    for error, ask, words in (
        (UnknownName, lambda: model.logits([10]), "There is no token 10 in Tiny; it has 0 to 9."),
        (UnknownName, lambda: model.logits([]), "Give a token."),
        (MissingPart, model.memory, 'load the model with engine="xllamacpp".'),
        (ServerFailed, lambda: model.complete("x"), "exceed context window of 512; change what is asked."),
    ):
        with pytest.raises(error) as raised:
            ask()
        assert str(raised.value).endswith(words)
    model.close()
    with pytest.raises(ServerFailed, match=r"Tiny in llama-cpp-python does not answer \(it is closed\); load it again"):
        model.complete("x")
