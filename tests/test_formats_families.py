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

from llmnotes.formats import convert
from llmnotes.formats.gguf.families import ARCHITECTURES
from llmnotes.formats.gguf.pretokenizers import PRE
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
    "Qwen2ForCausalLM": ("qwen2", "qwen2", "Qwen 1.5 to 2.5"),
    "Qwen3ForCausalLM": ("qwen3", "qwen2", "Qwen 3"),
    "SmolLM3ForCausalLM": ("smollm3", "llama-bpe", "SmolLM 3"),
    "Gemma2ForCausalLM": ("gemma2", "SentencePiece", "Gemma 2"),
    "Gemma3ForCausalLM": ("gemma3", "SentencePiece", "Gemma 3, text alone"),
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
