"""Two forms of one model, compared; and a GGUF file opened as any other model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import LLMNotesError, NotConvertible, UnknownName
from llmnotes.evaluation import kl_divergence
from llmnotes.formats import convert
from llmnotes.models import open_model, parity
from llmnotes.pebble import weights_dir

pytestmark = pytest.mark.slow


def quiet(line):
    """Say nothing."""


def test_a_copy_is_the_same(tiny_folder, tmp_path):
    convert(tiny_folder, tmp_path / "copy", to="safetensors")
    found = parity(tiny_folder, tmp_path / "copy", tokens=8)
    assert found.same and found.largest_logit_difference == 0 and abs(found.kl) < 1e-12 and found.lost == ()
    assert json.loads(json.dumps(found.as_dict()))["same"] is True
    assert "6 of 6 strings" in str(found) and "metadata lost             nothing" in str(found)


def test_other_weights_are_measured(tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    torch.manual_seed(1)
    noisy = {name: value + 0.05 * torch.randn_like(value) for name, value in weights.items()}
    save_file(noisy, other / "model.safetensors", {"format": "pt"})
    text = "A text of its own."
    found = parity(tiny_folder, other, tokens=8, text=text)
    a, b = (open_model(folder, say=quiet) for folder in (tiny_folder, other))
    ids = torch.tensor([a.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        difference = (a.model(ids).logits - b.model(ids).logits).abs().max().item()
    assert found.largest_logit_difference == pytest.approx(difference, rel=1e-5) and difference > 0.01
    assert found.kl == pytest.approx(kl_divergence(a.model, b.model, a.tokenizer, text)) and found.kl > 0
    assert found.same_tokens == found.strings and not found.same


def test_lost_metadata_is_named(tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(
        json.dumps(config | {"chat_template": "{{ messages }}", "eos_token": "a"})
    )
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    lost = " ".join(parity(tiny_folder, other, tokens=2).lost)
    assert "chat template: None became '{{ messages }}'" in lost and "eos_token" in lost
    assert "config rms_norm_eps: 1e-06 became 0.5" in lost


def test_all_tokens_that_end_an_answer_are_compared(tmp_path):
    convert(weights_dir("pebble-chat"), tmp_path / "chat.gguf", type="F32")
    one = shutil.copytree(weights_dir("pebble-chat"), tmp_path / "one")
    (one / "generation_config.json").unlink()  # config.json names one of the two
    assert parity("pebble-chat", tmp_path / "chat.gguf", prompts=[], strings=[]).lost == ()
    assert parity("pebble-chat", one, prompts=[], strings=[]).lost == ("config eos_token_id: [1, 5] became [5]",)


def test_other_tokens_are_counted(tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = parity(tiny_folder, other, strings=("xyz", "abc", "b"), tokens=2)
    assert (found.same_tokens, found.strings) == (1, 3)


def test_a_gguf_is_opened_and_equals_its_source(tmp_path):
    convert(weights_dir("pebble"), tmp_path / "p.gguf", type="F32")
    lm = open_model(tmp_path / "p.gguf", say=quiet)
    assert lm.name == "p.gguf"
    found = parity("pebble", lm, tokens=16)
    assert found.largest_logit_difference == 0 and found.same_tokens == found.strings and found.same_text == 2
    engine = parity("pebble", tmp_path / "p.gguf", tokens=16, engine="llama.cpp")
    assert engine.same_tokens == engine.strings and engine.same_text == 2 and engine.kl is None


@pytest.mark.slow
def test_an_onnx_file_borrows_the_tokenizer(tiny_folder, tmp_path):
    pytest.importorskip("onnxscript")
    convert(tiny_folder, tmp_path / "m.onnx")
    found = parity(tiny_folder, tmp_path / "m.onnx", tokens=3)
    assert found.largest_logit_difference < 1e-4 and found.same_text == found.prompts and found.same
    with pytest.raises(NotConvertible, match="Neither"):
        parity(tmp_path / "m.onnx", tmp_path / "m.onnx")


def test_what_cannot_be_compared_is_one_sentence(tiny_folder, tmp_path):
    with pytest.raises(UnknownName, match="no engine"):
        parity(tiny_folder, tiny_folder, engine="vllm")
    (tmp_path / "a.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(LLMNotesError):
        parity(tiny_folder, tmp_path / "a.gguf")


def test_models_of_different_vocabularies_get_a_sentence(tiny_folder):
    with pytest.raises(NotConvertible, match="rows of embeddings and none for token .* not two forms of one model"):
        parity("pebble", str(tiny_folder))
