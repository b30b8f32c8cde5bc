"""A Gemma 3 that sees, as the larger ones are published: its language model becomes a GGUF, and the rest is named."""

import importlib.util

import pytest

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.fit.model import model_of
from llmnotes.formats import convert, inspect
from llmnotes.formats.gguf import architectures, llava, rope
from llmnotes.pebble import weights_dir
from tests.llama_cpp import opened
from tests.test_formats_experts import changed

pytestmark = pytest.mark.slow

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "vocab_size": 2048,
    "sliding_window": 16,
    "max_position_embeddings": 512,
}
EYE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
EYE |= {"image_size": 16, "patch_size": 4}
# The settings of gemma-3-4b and gemma-3-27b, which leave out what are transformers' defaults.
PUBLISHED = {
    34: {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    | {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    62: {"hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62, "sliding_window": 1024}
    | {"num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 168},
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """A random Gemma 3 that sees, and the folders of all of it and of its language model alone."""
    import torch
    import transformers

    config = transformers.Gemma3Config(text_config=TEXT, vision_config=EYE, mm_tokens_per_image=4, image_token_index=9)
    torch.manual_seed(0)
    whole = transformers.Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
        for layer in whole.model.language_model.layers:
            layer.mlp.down_proj.weight.zero_()  # llama.cpp looks the GELU up in a table of float16
    alone = transformers.Gemma3ForCausalLM(config.text_config)
    alone.model.load_state_dict(whole.model.language_model.state_dict())
    folders = [tmp_path_factory.mktemp(kind) / "model" for kind in ("whole", "alone")]
    for model, folder in zip((whole, alone), folders, strict=True):
        model.save_pretrained(folder)
        for file in weights_dir("pebble").glob("token*"):
            (folder / file.name).symlink_to(file)
    return whole, *folders


def test_the_language_model_arrives_and_the_rest_is_named(gemma, tmp_path):
    model, whole, alone = gemma
    done = convert(whole, tmp_path / "whole.gguf", type="F32")
    convert(alone, tmp_path / "alone.gguf", type="F32")
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "alone.gguf").read_bytes()
    eye = [tensor for tensor in inspect(whole).tensors if not tensor.name.startswith("language_model.")]
    (sentence,) = [sentence for sentence in done.lost if sentence.startswith("Left out")]
    assert f"Left out: {len(eye)} tensors of the vision tower and the projector: llmnotes writes the lang" in sentence
    # As transformers 5 names them inside, and with a tied head that is stored once more.
    model.save_pretrained(tmp_path / "five", save_original_format=False)
    for file in weights_dir("pebble").glob("token*"):
        (tmp_path / "five" / file.name).symlink_to(file)
    assert any(tensor.name.startswith("model.language_model.") for tensor in inspect(tmp_path / "five").tensors)
    convert(tmp_path / "five", tmp_path / "model.gguf", type="F32")
    convert(tmp_path / "model.gguf", tmp_path / "back", to="huggingface")
    convert(tmp_path / "alone.gguf", tmp_path / "other", to="huggingface")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (tmp_path / "other/model.safetensors").read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
def test_llama_cpp_says_of_a_text_what_the_whole_model_says(gemma, tmp_path):
    import torch

    model, whole, _ = gemma
    convert(whole, tmp_path / "model.gguf", type="F32")
    ids = list(range(20, 60))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    with opened(tmp_path / "model.gguf") as llama:
        assert all(abs(expected[token].item() - said) < 1e-4 for token, said in llama.next_tokens(ids, 20))


@pytest.mark.parametrize("layers", PUBLISHED)
def test_what_published_settings_leave_out_is_what_transformers_takes(layers):
    import transformers

    text = PUBLISHED[layers] | {"model_type": "gemma3_text"}
    theirs = transformers.Gemma3TextConfig.from_dict(dict(text))
    kind = architectures.of_config(text)
    sizes = rope.settings(kind, text, 1000)
    assert kind.lost(kind.weighed | text)
    assert {key: sizes[key] for key in kind.defaults if hasattr(theirs, key)} == {
        key: getattr(theirs, key) for key in kind.defaults if hasattr(theirs, key)
    }
    assert model_of({"model_type": "gemma3", "text_config": text}).no_gguf == ""


def test_a_head_of_its_own_is_kept_where_the_whole_is_not_tied(gemma, tmp_path):
    _, whole, _ = gemma
    with pytest.raises(FileBroken, match="lacks 1 tensor .* lm_head.weight first"):
        convert(changed(whole, tmp_path / "untied", {"tie_word_embeddings": False}), tmp_path / "untied.gguf")
    done = convert(changed(whole, tmp_path / "text", {}), tmp_path / "text.gguf", type="F32")
    assert "output.weight" not in {tensor.name for tensor in inspect(done.target).tensors}


def test_the_settings_beside_the_text_count_for_it(gemma, tmp_path):
    _, whole, _ = gemma
    packed = changed(whole, tmp_path / "packed", {"quantization_config": {"quant_method": "bitsandbytes"}})
    found, left = llava.language_model(inspect(packed))
    assert found.metadata["config"]["quantization_config"] == {"quant_method": "bitsandbytes"} and left
    with pytest.raises(NotConvertible, match="cannot find a vision tower"):
        convert(whole, tmp_path / "eye.gguf", to="mmproj")
