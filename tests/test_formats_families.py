"""The README's table of what becomes a GGUF: every cell is measured again, with a tiny random model of the family.

Tokens and logits are llama.cpp's against tokenizers' and transformers'; the rest compares folder, GGUF and folder.
"""

import importlib.util
import json
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.fit.model import model_of
from llmnotes.formats import convert, gguf, inspect
from llmnotes.formats.files import stored
from llmnotes.formats.gguf.families import ARCHITECTURES
from llmnotes.formats.gguf.pretokenizers import PRE
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.pebble import weights_dir
from tests.llama_cpp import opened
from tests.models_for_gguf import make, without_a_space_before
from tests.test_formats_to_gguf import differs_from_llama_cpp, read, strings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed"),
]
ROOT = Path(__file__).parent.parent
HEAD = ("folder of", "as published", "tokens", "logits", "special ids", "weights, there and back")
# Architecture -> (a variant in models_for_gguf, how its published models cut words, their names)
FAMILIES = {
    "LlamaForCausalLM": ("llama_rope_llama3", "llama-bpe", "Llama 1 to 3, SmolLM 1 and 2"),
    "MistralForCausalLM": ("mistral", "SentencePiece", "Mistral"),
    "MixtralForCausalLM": ("mixtral", "SentencePiece", "Mixtral"),
    "Qwen2ForCausalLM": ("qwen2", "qwen2", "Qwen 1.5 to 2.5"),
    "Qwen3ForCausalLM": ("qwen3", "qwen2", "Qwen 3"),
    "Qwen3MoeForCausalLM": ("qwen3_moe", "qwen2", "Qwen 3 MoE"),
    "SmolLM3ForCausalLM": ("smollm3", "llama-bpe", "SmolLM 3"),
    "Gemma2ForCausalLM": ("gemma2", "SentencePiece", "Gemma 2"),
    "Gemma3ForCausalLM": ("gemma3", "SentencePiece", "Gemma 3"),
    "Phi3ForCausalLM": ("phi3_longrope", "SentencePiece", "Phi 3, 3.5 and 4"),
    "Olmo2ForCausalLM": ("olmo2", "smaug-bpe", "OLMo 2"),
    "StableLmForCausalLM": ("stablelm", "gpt-2", "StableLM"),
}


def made(name: str, folder: Path, stories: Path) -> Path:
    """Save a tiny model of the architecture `name` with a tokenizer of the kind that its published models have."""
    variant, pre, _ = FAMILIES[name]
    make(variant, folder, stories if pre == "SentencePiece" else weights_dir("pebble"))
    if name.startswith("Gemma"):
        without_a_space_before(folder)
    if pre != "SentencePiece":
        value = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        steps = [step | {"trim_offsets": True} if step["type"] == "ByteLevel" else step for step in PRE[pre][0]]
        value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0]
        value["model"]["ignore_merges"] = PRE[pre][1]
        value["normalizer"] = {"type": "NFC"} if pre == "qwen2" else None
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
    (folder / "generation_config.json").unlink()  # it has the ends of models_for_gguf, which no tokenizer has
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= dict.fromkeys(ENDS) | ({"bos_token_id": 1, "eos_token_id": 2} if pre == "SentencePiece" else PEBBLE)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
PEBBLE = dict(zip(ENDS, range(3), strict=True))


def row(name: str, folder: Path, tmp_path: Path) -> tuple[str, ...]:
    """Return the cells of an architecture, as measured."""
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    nats = differs_from_llama_cpp(folder, tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", to="huggingface")
    convert(tmp_path / "back", tmp_path / "again.gguf", type="F32")
    texts = strings(150)
    ours, back = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (folder, tmp_path / "back"))
    ids = [ours.encode(text).ids for text in texts]
    assert ids == [back.encode(text).ids for text in texts]
    with opened(tmp_path / "model.gguf") as llama, opened(tmp_path / "again.gguf") as again:
        said = [llama.tokens(text) for text in texts]
        assert said == [again.tokens(text) for text in texts]
    other = [text for text, one, two in zip(texts, said, ids, strict=True) if one != two]
    normal = [text for text in other if unicodedata.is_normalized("NFC", text)]
    configs = [json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (folder, tmp_path / "back")]
    special = [[config.get(end) for end in ENDS] for config in configs]
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "back"))
    assert before.keys() == after.keys()
    unequal = [key for key in before if not torch.equal(before[key], after[key])]
    close = partial(torch.allclose, rtol=1.2e-7, atol=0)
    rounded = all("norm" in key and close(1 + before[key], 1 + after[key]) for key in unequal)
    (keys, tensors), (others, parts) = read(tmp_path / "model.gguf"), read(tmp_path / "again.gguf")
    changed = {key for key in keys | others if keys.get(key) != others.get(key)}
    assert changed <= {"general.name", *(f"tokenizer.ggml.{key}" for key in ("scores", "token_type"))}
    assert tensors == parts
    return (
        name,
        FAMILIES[name][2],
        "equal" if not other else "equal in NFC" if not normal else "differ",
        "10⁻⁴" if nats < 1e-4 else "5 · 10⁻³" if nats < 5e-3 else "differ",
        "equal" if special[0] == special[1] else "differ",
        "equal" if not unequal else "last bit of norms" if rounded else "differ",
    )


def test_the_table_has_each_architecture():
    assert list(FAMILIES) == [architecture.hugging_face for architecture in sorted(ARCHITECTURES, key=_place)]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(HEAD)} |\n| {' | '.join(['---'] * len(HEAD))} |\n" in text
    named = {line.split(" | ")[0].strip("| ") for line in text.splitlines() if "ForCausalLM |" in line}
    assert named == set(FAMILIES)


def _place(architecture) -> int:
    return list(FAMILIES).index(architecture.hugging_face)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_of_the_table_is_what_is_measured(name, stories, tmp_path):
    cells = row(name, made(name, tmp_path / "model", stories), tmp_path)
    assert f"| {' | '.join(cells)} |" in (ROOT / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", [each.hugging_face for each in ARCHITECTURES if not each.mixture])
def test_fit_counts_the_numbers_that_a_folder_holds(name, tmp_path):
    folder = make(FAMILIES[name][0], tmp_path / "model", weights_dir("pebble"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key != "tie_word_embeddings"}  # as published
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    count = sum(tensor.elements for tensor in inspect(folder).tensors)
    if name == "SmolLM3ForCausalLM":
        count -= config["vocab_size"] * config["hidden_size"]  # this one's output is a matrix of its own
    assert model_of(folder).parameters == count


LONG = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, "short_factor": [1.0] * 6}


@pytest.mark.parametrize(
    ("name", "change", "error", "word"),
    [
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1]}, NotConvertible, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": 5}, NotConvertible, "no_rope_layers is 5"),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}, NotConvertible, "interval is 3"),
        ("smollm3", {"attention_bias": True}, NotConvertible, "attention_bias is True"),
        ("gemma2", {"query_pre_attn_scalar": 16}, NotConvertible, "query_pre_attn_scalar is 16, but .* with 32 only"),
        ("gemma2", {"attn_logit_softcapping": None}, NotConvertible, "attn_logit_softcapping is None"),
        ("gemma2", {"sliding_window": 4.5}, FileBroken, "sliding_window is 4.5"),
        ("gemma2", {"layer_types": ["full_attention"] * 3}, NotConvertible, "layer_types"),
        ("gemma3", {"layer_types": None, "sliding_window_pattern": 3}, NotConvertible, "sliding_window_pattern is 3"),
        ("gemma3", {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}}, FileBroken, "rope_parameters"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, NotConvertible, "default or linear"),
        ("gemma3", {"rope_scaling": 5}, FileBroken, "rope_scaling is 5"),
        ("phi3_longrope", {"head_dim": 32}, NotConvertible, "head_dim is 32, but llama.cpp .* with 16 only"),
        ("phi3_longrope", {"rope_parameters": LONG | {"long_factor": [1.0] * 5}}, FileBroken, "long_factor is"),
        ("phi3_longrope", {"rope_parameters": LONG | {"long_factor": [0.0] * 6}}, FileBroken, "long is 0.0"),
        ("phi3_longrope", {"original_max_position_embeddings": 1}, FileBroken, "original_max_position_embeddings is 1"),
        ("phi3_longrope", {"partial_rotary_factor": 7.0, "rope_parameters": {}}, FileBroken, "partial_rotary_factor"),
        ("olmo2", {"tie_word_embeddings": True}, NotConvertible, "tie_word_embeddings is True"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_said_in_one_sentence(name, change, error, word, tmp_path):
    folder = make(name, tmp_path / "model", weights_dir("pebble"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | change
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(error, match=word):
        convert(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_phi_3s_first_name_for_longrope_is_known_and_a_factor_that_is_stated_comes_back(tmp_path):
    folder = make("phi3_longrope", tmp_path / "model", weights_dir("pebble"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"] |= {"rope_type": "su", "attention_factor": 1.25}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    convert(folder, tmp_path / "model.gguf", type="F32")
    assert gguf.entries(tmp_path / "model.gguf")["phi3.rope.scaling.attn_factor"].value == 1.25
    convert(tmp_path / "model.gguf", tmp_path / "back", to="huggingface")
    back = json.loads((tmp_path / "back" / "config.json").read_text(encoding="utf-8"))["rope_parameters"]
    assert back == config["rope_parameters"] | {"rope_type": "longrope"}


def test_a_gguf_with_half_of_longrope_is_refused(tmp_path):
    convert(make("phi3_longrope", tmp_path / "model", weights_dir("pebble")), tmp_path / "whole.gguf")
    tensors = [tensor for tensor in inspect(tmp_path / "whole.gguf").tensors if "factors_short" not in tensor.name]
    parts = [PlannedTensor(t.name, t.dtype, t.shape, partial(stored, t)) for t in tensors]
    with (tmp_path / "half.gguf").open("wb") as file:
        write_gguf(file, gguf.entries(tmp_path / "whole.gguf"), parts)
    with pytest.raises(FileBroken, match=r"no rope_factors_short.weight with a number in F32 for each of 6 pairs"):
        convert(tmp_path / "half.gguf", tmp_path / "back", to="huggingface")
