"""What llmnotes does not know goes to GGUF by llama.cpp's own converter: the command in the refusal works."""

import importlib.util
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmnotes.errors import NotConvertible
from llmnotes.formats import convert
from tests.llama_cpp import opened
from tests.models_for_gguf import SIZES


@pytest.fixture(scope="module")
def gemma(tmp_path_factory, stories) -> Path:
    """A tiny model of the first Gemma, which llmnotes does not convert, in a folder with a space in its name."""
    import torch
    from transformers import GemmaConfig, GemmaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("a model") / "gemma"
    GemmaForCausalLM(GemmaConfig(**SIZES | {"head_dim": 16})).save_pretrained(folder)
    for file in stories.glob("token*"):
        shutil.copy(file, folder)
    return folder


def refusal(folder: Path, target: Path) -> str:
    with pytest.raises(NotConvertible, match="cannot convert GemmaForCausalLM to or from GGUF") as caught:
        convert(folder, target, to="gguf")
    return str(caught.value)


def test_without_it_the_refusal_says_where_it_is_to_be_had(gemma, tmp_path, monkeypatch):
    monkeypatch.delenv("LLMNOTES_LLAMA_CPP", raising=False)
    monkeypatch.chdir(tmp_path)
    said = refusal(gemma, tmp_path / "model.gguf")
    assert "(git clone https://github.com/ggml-org/llama.cpp, or say in LLMNOTES_LLAMA_CPP where it is)" in said
    assert said.endswith(f'python llama.cpp/convert_hf_to_gguf.py "{gemma.as_posix()}" --outfile model.gguf')
    (tmp_path / "llama.cpp").mkdir()
    (tmp_path / "llama.cpp" / "convert_hf_to_gguf.py").write_text("")
    assert "git clone" not in refusal(gemma, tmp_path / "model.gguf")


@pytest.mark.slow  # llama.cpp's converter takes its time to start
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
def test_the_command_makes_a_gguf_that_computes_the_same(gemma, converter, tmp_path, monkeypatch):
    import torch
    from transformers import GemmaForCausalLM

    monkeypatch.setenv("LLMNOTES_LLAMA_CPP", str(converter))
    _, _, command = refusal(gemma, tmp_path / "model.gguf").partition("knows more: ")
    python, *rest = shlex.split(command)
    assert python == "python"
    done = subprocess.run([sys.executable, *rest, "--outtype", "f32"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with torch.no_grad():
        logits = GemmaForCausalLM.from_pretrained(gemma, dtype=torch.float32)(torch.arange(3, 43)[None]).logits
    expected = torch.log_softmax(logits[0, -1], -1)
    with opened(tmp_path / "model.gguf") as llama:
        for token, logprob in llama.next_tokens(list(range(3, 43)), 20):
            assert abs(expected[token].item() - logprob) < 5e-3  # GELU from a table of float16
