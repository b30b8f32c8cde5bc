"""A GGUF becomes a Hugging Face folder again: the same weights, the same tokens, the same template."""

import json
import math
from functools import partial
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import convert, gguf, inspect
from llmnotes.formats.files import stored
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.pebble import weights_dir
from tests.models_for_gguf import VARIANTS, make
from tests.test_formats_to_gguf import read as gguf_read
from tests.test_formats_to_gguf import strings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pebble() -> Path:
    return weights_dir("pebble")


def there_and_back(folder: Path, tmp_path: Path, kind: str = "F32", back: str | None = None) -> Path:
    convert(folder, tmp_path / "model.gguf", type=kind)
    convert(tmp_path / "model.gguf", tmp_path / "back", to="huggingface", type=back)
    return tmp_path / "back"


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same_words(folder: Path, back: Path, count: int) -> None:
    from transformers import AutoTokenizer

    one, other = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(back)
    texts = strings(count)
    if folder.name != "stories260K":  # its LlamaTokenizer leaves out the space that llama.cpp puts before these
        texts += [" " + text for text in texts[:50]]
        texts += [text + token + text for token in one.all_special_tokens for text in texts[:20]]
    assert [text for text in texts if one(text)["input_ids"] != other(text)["input_ids"]] == []
    assert one.chat_template == other.chat_template
    assert [one.decode(one(text)["input_ids"]) for text in texts[:200]] == [
        other.decode(other(text)["input_ids"]) for text in texts[:200]
    ]
    assert (one.bos_token, one.eos_token, one.pad_token) == (other.bos_token, other.eos_token, other.pad_token)


@pytest.mark.parametrize("name", ["pebble", "pebble-chat", "stories"])
def test_round_trip_keeps_every_bit_every_token_and_the_template(name, request, tmp_path):
    import torch

    folder = request.getfixturevalue("stories") if name == "stories" else weights_dir(name)
    back = there_and_back(folder, tmp_path)
    before, after = weights(folder), weights(back)
    assert before.keys() == after.keys()  # tied embeddings are stored once, as before
    assert all(torch.equal(before[name].float(), after[name]) for name in before)
    assert all(torch.equal(before[name], after[name].to(before[name].dtype)) for name in before)
    same_words(folder, back, 2000)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_computes_the_same_after_the_round_trip(name, pebble, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    close = partial(torch.allclose, rtol=1.2e-7, atol=0)
    folder = make(name, tmp_path / "model", pebble)
    back = there_and_back(folder, tmp_path)
    one, other = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (folder, back))
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        if name == "mistral":  # GGUF has no sliding window: the same up to its width
            ids = ids[:, :57]
        assert torch.equal(one(ids).logits, other(ids).logits)
    before, after = weights(folder), weights(back)
    assert before.keys() == after.keys()
    unequal = [key for key in before if not torch.equal(before[key], after[key])]
    if name.startswith("gemma"):  # GGUF holds 1 + each weight of a norm
        unequal = [key for key in unequal if "norm" not in key or not close(1 + before[key], 1 + after[key])]
    assert unequal == []
    convert(back, tmp_path / "again.gguf", type="F32")  # and from a GGUF to a folder and to a GGUF
    one, other = (gguf_read(tmp_path / file) for file in ("model.gguf", "again.gguf"))
    assert one[1] == other[1]
    assert {key for key in one[0] | other[0] if one[0].get(key) != other[0].get(key)} == {"general.name"}


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "phi3_longrope"])
def test_weights_of_16_bits_come_back_to_the_bit(name, pebble, tmp_path):
    import torch

    folder = make(name, tmp_path / "model", pebble, "bfloat16")
    before, after = weights(folder), weights(there_and_back(folder, tmp_path, "BF16", "BF16"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_type_can_be_asked_for_and_is_the_folders_own_otherwise(pebble, tmp_path):
    import torch

    back = there_and_back(pebble, tmp_path, "F32", "BF16")
    before, after = weights(pebble), weights(back)
    assert all(torch.equal(before[name], after[name]) for name in before)  # the very types and bits of the original
    assert json.loads((back / "config.json").read_text())["dtype"] == "bfloat16"
    convert(pebble, tmp_path / "own.gguf", type="BF16")
    convert(tmp_path / "own.gguf", tmp_path / "own", to="huggingface")
    assert weights(tmp_path / "own")["model.embed_tokens.weight"].dtype == torch.bfloat16
    with pytest.raises(NotConvertible, match="BF16"):
        convert(tmp_path / "own.gguf", tmp_path / "none", to="huggingface", type="Q8_0")


def test_blocks_become_the_numbers_that_they_stand_for(pebble, tmp_path):
    import gguf as peer
    import numpy as np

    back = weights(there_and_back(pebble, tmp_path, "Q8_0"))
    reader = peer.GGUFReader(tmp_path / "model.gguf")
    tensors = {tensor.name: peer.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    assert np.array_equal(back["model.layers.1.mlp.up_proj.weight"].numpy(), tensors["blk.1.ffn_up.weight"])
    assert np.array_equal(back["model.embed_tokens.weight"].numpy(), tensors["token_embd.weight"])


def test_plain_safetensors_keeps_the_names_of_gguf(pebble, tmp_path):
    convert(pebble, tmp_path / "model.gguf", type="F16")
    done = convert(tmp_path / "model.gguf", tmp_path / "model.safetensors")
    ours, theirs = inspect(tmp_path / "model.safetensors"), inspect(tmp_path / "model.gguf")
    assert {t.name: t.dtype for t in ours.tensors} == {t.name: t.dtype for t in theirs.tensors}
    assert done.tensors == 38 and done.lost


def rewritten(source: Path, target: Path, change) -> Path:
    """Write a GGUF again with other keys."""
    keys = gguf.entries(source)
    change(keys)
    parts = [PlannedTensor(t.name, t.dtype, t.shape, partial(stored, t)) for t in inspect(source).tensors]
    with target.open("wb") as file:
        write_gguf(file, keys, parts)
    return target


def put(key, value):
    return lambda keys: keys.update({key: value})


def both(one, other):
    return lambda keys: (one(keys), other(keys))


NESTED = Typed("[[U32]]", [[1], [2]])  # is read as a list of arrays, and JSON has no word for an array


def test_what_a_gguf_says_of_its_makers_is_named_as_lost(pebble, tmp_path):
    convert(pebble, tmp_path / "plain.gguf", type="Q8_0")
    source = rewritten(tmp_path / "plain.gguf", tmp_path / "a.gguf", put("general.license", "apache-2.0"))
    plain, licensed = (convert(p, tmp_path / p.stem, to="huggingface").lost for p in (tmp_path / "plain.gguf", source))
    assert set(licensed) - set(plain) == {
        "A folder has no file for general.license but a README.md, and none is written."
    }


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        (put("general.architecture", "mamba"), NotConvertible, "LlamaForCausalLM"),
        (put("llama.block_count", 5), (FileBroken, NotConvertible), "lacks"),
        (put("llama.block_count", 3), (FileBroken, NotConvertible), "does not have"),
        (put("llama.block_count", 4_000_000_000), FileBroken, "num_hidden_layers"),
        (put("llama.attention.head_count", 3), FileBroken, "head"),
        (put("llama.attention.head_count", 0), FileBroken, "head"),
        (put("llama.embedding_length", "big"), FileBroken, "hidden_size"),
        (put("llama.attention.head_count_kv", [2, 1]), NotConvertible, "num_key_value_heads, a number for each layer"),
        (put("llama.rope.freq_base", [1.0, 2.0]), FileBroken, "a list for rope_theta, which is one finite number"),
        *(
            (put(f"tokenizer.ggml.{name}_token_id", value), FileBroken, f"give {said} for {name[:3]}.*a whole number")
            for name in ("bos", "eos", "padding")
            for value, said in ((NESTED, "a list"), (math.nan, "nan"), (0.5, "0.5"), ("x", "'x'"), (True, "True"))
        ),
        *(
            (both(put("llama.rope.scaling.type", "yarn"), put(f"llama.rope.scaling.{key}", value)), FileBroken, word)
            for key, word in {
                "factor": "say factor is",
                "attn_factor": "say attn_factor is",
                "yarn_beta_fast": "say yarn_beta_fast is",
                "original_context_length": "for original_max_position_embeddings, which is a whole number",
            }.items()
            for value in (NESTED, math.nan, math.inf, -1.0, "x", True)
        ),
        (put("tokenizer.ggml.pre", "viking"), NotConvertible, "viking"),
        (put("tokenizer.ggml.model", "rwkv"), NotConvertible, "rwkv"),
        (put("tokenizer.ggml.tokens", ["a", "b"]), FileBroken, "types of tokens"),
        (put("tokenizer.ggml.tokens", ["a"] * 2048), FileBroken, "twice"),
        (lambda keys: keys.pop("tokenizer.ggml.tokens"), FileBroken, "tokens"),
        (put("llama.rope.scaling.type", "longrope"), NotConvertible, "longrope"),
    ],
)
def test_what_cannot_go_back_is_said_in_one_sentence(change, error, word, pebble, tmp_path):
    convert(pebble, tmp_path / "good.gguf", type="Q8_0")
    bad = rewritten(tmp_path / "good.gguf", tmp_path / "bad.gguf", change)
    with pytest.raises(error, match=word):
        convert(bad, tmp_path / "back", to="huggingface")
    assert not (tmp_path / "back").exists()


def test_the_numbers_of_special_tokens_come_back(tmp_path):
    convert(weights_dir("pebble"), tmp_path / "a.gguf")
    convert(tmp_path / "a.gguf", tmp_path / "back", "huggingface")
    was, back = (json.loads((path / "config.json").read_text()) for path in (weights_dir("pebble"), tmp_path / "back"))
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    assert [back[key] for key in keys] == [was[key] for key in keys] == [0, 1, 2]


@pytest.mark.parametrize("number", [2048, 40_000, -1])
def test_a_special_token_that_no_token_is_does_not_come_back(number, pebble, tmp_path):
    convert(pebble, tmp_path / "a.gguf", type="Q8_0")
    change = both(put("tokenizer.ggml.eos_token_id", Typed("I32", number)), put("tokenizer.ggml.eot_token_id", 5))
    done = convert(rewritten(tmp_path / "a.gguf", tmp_path / "b.gguf", change), tmp_path / "back", "huggingface")
    assert f"The folder does not get eos_token_id {number:,}: the vocabulary has 2,048 tokens." in done.lost
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (0, 5)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_a_scaling_that_states_no_factor_is_what_llama_cpp_takes_it_for(kind, pebble, tmp_path):
    from transformers import AutoConfig

    convert(pebble, tmp_path / "a.gguf", type="Q8_0")
    bare = rewritten(tmp_path / "a.gguf", tmp_path / "b.gguf", put("llama.rope.scaling.type", kind))
    convert(bare, tmp_path / "back", to="huggingface")
    said = json.loads((tmp_path / "back" / "config.json").read_text())["rope_parameters"]
    assert said == {"rope_type": kind, "rope_theta": said["rope_theta"], "factor": 1.0}
    assert AutoConfig.from_pretrained(tmp_path / "back").rope_parameters["factor"] == 1.0
