"""llama.cpp, against PyTorch on the same weights."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from llmnotes.errors import BadSettings, DoesNotFit, FileBroken, LLMNotesError, ModelBroken, UnknownFormat, UnknownName
from llmnotes.evaluation import perplexity
from llmnotes.formats import convert
from llmnotes.llama_cpp import trial
from llmnotes.models import complete, open_model
from llmnotes.pebble import weights_dir
from llmnotes.pebble.corpus import held_out
from llmnotes.serving import ModelFile, gguf_of, load

pytestmark = pytest.mark.slow

CHAT = [{"role": "user", "content": "What does the goose say?"}]


def quiet(line):
    """Say nothing."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a GGUF of a folder in a type; each is made once."""
    folder, known = tmp_path_factory.mktemp("gguf"), {}

    def make(source, type):
        path = folder / f"{source.name}-{type}.gguf"
        if path not in known:
            known[path] = convert(source, path, type=type)
        return path

    return make


@pytest.fixture(scope="module")
def texts():
    """Texts that Pebble never saw."""
    return [document.text for document in held_out(120)]


@pytest.fixture(scope="module")
def chat(made):
    with load(made(weights_dir("pebble-chat"), "Q8_0"), n_threads=1) as runtime:
        yield runtime


def told(lm) -> str:
    """Return a text that `lm` itself tells: one in its own domain."""
    torch.manual_seed(0)
    begin = torch.tensor([lm.tokenizer("Once upon a time")["input_ids"]] * 8)
    rows = lm.model.generate(begin, do_sample=True, top_k=0, max_new_tokens=200, pad_token_id=0)
    return "\n".join(lm.tokenizer.decode(row, skip_special_tokens=True) for row in rows)


@pytest.mark.parametrize(("type", "margin"), [("F32", 1e-5), ("F16", 5e-5), ("Q8_0", 5e-4), ("Q4_K_M", 5e-4)])
def test_perplexity_is_that_of_pytorch(type, margin, made, texts):
    text = "\n\n".join(texts)[:24_000]  # on less, what is rounded shows more
    path = made(weights_dir("pebble"), type)
    lm = open_model(path, say=quiet)
    with load(path, n_threads=1) as runtime:
        assert runtime.tokenize(text) == lm.tokenizer(text, verbose=False)["input_ids"]
        assert runtime.perplexity(text) == pytest.approx(perplexity(lm.model, lm.tokenizer, text), rel=margin)


@pytest.mark.parametrize(("type", "margin"), [("F32", 1e-5), ("F16", 5e-5), ("Q8_0", 1e-3)])
def test_perplexity_of_a_model_made_elsewhere(type, margin, made, stories):
    path = made(stories, type)
    lm = open_model(path, say=quiet)
    text = told(lm)
    with load(path, n_threads=1) as runtime:
        assert runtime.perplexity(text, 128) == pytest.approx(perplexity(lm.model, lm.tokenizer, text, 128), rel=margin)


def test_logits_are_those_of_pytorch(made):
    lm = open_model("pebble", say=quiet)
    with load(made(weights_dir("pebble"), "F32"), n_threads=1) as runtime:
        ids = runtime.tokenize("Once upon a time there was a goose.")
        found = runtime.logits(ids)
        with torch.no_grad():
            expected = lm.model(torch.tensor([ids])).logits[0].numpy()
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-3
        assert np.array_equal(runtime.logits("Once upon a time there was a goose."), found)


def test_greedy_text_is_that_of_pytorch(made, texts):
    """Equal for 100 prompts. Where a processor sums in another order, one may part at two tokens of equal chance."""
    prompts = [text[:30].rstrip() for text in texts[:100]]
    lm = open_model("pebble", say=quiet)
    path, parted = made(weights_dir("pebble"), "F16"), []
    expected = complete(lm, prompts, 32)
    with load(path, n_threads=1, exact=True) as runtime:
        for prompt, text in zip(prompts, expected, strict=True):
            found = runtime.complete(prompt, 32)
            if found != text:
                ours, theirs = (runtime.tokenize(prompt + answer) for answer in (text, found))
                at = next(i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
                with torch.no_grad():
                    scores = lm.model(torch.tensor([ours[:at]])).logits[0, -1]
                parted.append((abs(scores[ours[at]] - scores[theirs[at]]).item(), prompt, text, found))
    assert len(parted) <= 1 and all(difference < 1e-3 for difference, *_ in parted), parted


def test_chat_stream_and_sampling(chat):
    assert "honk" in chat.chat(CHAT)
    assert "".join(chat.stream(CHAT)) == chat.chat(CHAT)
    pieces = list(chat.stream("Once upon a time", 20))
    assert len(pieces) > 5 and "".join(pieces) == chat.complete("Once upon a time", 20)
    assert chat.complete(chat.tokenize("Once upon a time"), 20) == "".join(pieces)
    hot = [chat.complete("Once upon a time", 20, temperature=1.5, seed=seed) for seed in (1, 1, 2, 3)]
    assert hot[0] == hot[1] and len(set(hot)) > 1
    assert chat.complete("Q:", 20, grammar='root ::= "honk"') == "honk"
    assert chat.complete("Once upon a time", 50, stop=["there"]) == "".join(pieces).split("there")[0]


def test_embeddings_are_the_mean_of_the_last_states(made):
    lm = open_model("pebble", say=quiet)
    texts = ["The goose says honk.", "A cat", "The cow says moo."]
    with load(made(weights_dir("pebble"), "F32"), n_threads=1) as runtime:
        found = np.array(runtime.embeddings(texts))
        ids = [runtime.tokenize(text) for text in texts]
    with torch.no_grad():
        states = [lm.model.model(torch.tensor([row])).last_hidden_state[0].mean(0) for row in ids]
    expected = np.array([(state / state.norm()).numpy() for state in states])
    assert found.shape == (3, 256) and np.abs(found - expected).max() < 1e-3


def test_the_file_says_what_it_is(chat):
    said = chat.file
    assert (said.architecture, said.layers, said.context, said.width, said.vocabulary) == ("llama", 4, 512, 256, 2048)
    assert said.template and said.name == "Pebble Chat" and said.types["Q8_0"] > 20 and chat.n_ctx == 512
    assert chat.models() == ["Pebble Chat"]


def test_what_cannot_be_asked_is_one_sentence(chat):
    for error, ask in (
        (UnknownName, lambda: chat.perplexity("")),
        (UnknownName, lambda: chat.logits([99_999])),
        (UnknownName, lambda: chat.logits([])),
        (DoesNotFit, lambda: chat.logits([1] * 513)),
        (LLMNotesError, lambda: chat.complete("honk " * 3000)),
        (LLMNotesError, lambda: chat.complete("Q:", grammar="root ::= (")),
        (LLMNotesError, lambda: chat.chat([{"role": "user"}])),
    ):
        with pytest.raises(error) as raised:
            ask()
        assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert chat.complete("Q: What does the goose say?\nA:", 4) != ""  # and it goes on


def test_what_llama_cpp_does_not_run_is_refused(made, tmp_path):
    good = made(weights_dir("pebble"), "Q4_K_M").read_bytes()
    for name, data, error in (
        ("cut", good[:-1000], FileBroken),
        ("header", good[:5000], FileBroken),
        ("unknown", good.replace(b"llama", b"lxxma"), ModelBroken),
        ("silent", good.replace(b"general.architecture", b"general.architectur_"), ModelBroken),
        ("layers", good.replace(b"llama.block_count", b"llama.block_coun_"), ModelBroken),
        ("text", b"Once upon a time", UnknownFormat),
        ("weights", (weights_dir("pebble") / "model.safetensors").read_bytes(), UnknownFormat),
    ):
        (tmp_path / f"{name}.gguf").write_bytes(data)
        with pytest.raises(error) as raised:
            load(tmp_path / f"{name}.gguf")
        assert "\n" not in str(raised.value) and f"{name}.gguf" in str(raised.value)
    assert "unknown model architecture: 'lxxma'" in str(pytest.raises(ModelBroken, load, tmp_path / "unknown.gguf"))
    for settings in ({"n_ctx": 0}, {"n_threads": 0}, {"n_threads": 100_000}):
        with pytest.raises(BadSettings):
            load(made(weights_dir("pebble"), "Q4_K_M"), **settings)


def test_what_breaks_llama_cpp_does_not_break_us(made, monkeypatch):
    abort = [sys.executable, "-c", "import os; os.abort()"]
    real = subprocess.run
    monkeypatch.setattr(trial.subprocess, "run", lambda command, **options: real(abort, **options))
    with pytest.raises(ModelBroken, match="llama.cpp itself breaks on pebble-F16.gguf"):
        load(made(weights_dir("pebble"), "F16"))


def test_a_folder_is_converted_once_and_again_when_it_changes(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    first = gguf_of(folder)
    written = first.stat().st_mtime_ns
    assert gguf_of(folder) == first and first.stat().st_mtime_ns == written and ModelFile.read(first).layers == 2
    config = folder / "config.json"
    config.write_text(config.read_text().replace("{", "{ ", 1))
    second = gguf_of(folder)
    assert second != first and second.exists() and not first.exists()
    assert set(ModelFile.read(gguf_of(folder, "Q8_0")).types) > {"Q8_0"} and second.exists()
    assert math.isfinite(ModelFile.read(second).nbytes)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_a_folder_whose_name_is_no_unicode_is_converted_like_any_other(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "\udcff")
    assert ModelFile.read(gguf_of(folder)).layers == 2


def test_closing_gives_everything_back(made):
    runtime = load(made(weights_dir("pebble"), "F16"), n_threads=1)
    address = runtime.url
    runtime.logits([1, 2])
    runtime.close()
    runtime.close()
    with pytest.raises(LLMNotesError, match="does not answer"):
        runtime.models()
    assert address.startswith("http://127.0.0.1:")
