"""What a GGUF, or a folder on the way to one, can have wrong: a small case for each sentence, without a model."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats import gguf, inspect
from llmnotes.formats.gguf import (
    architectures,
    config_back,
    differences,
    from_huggingface,
    hf_tokenizer,
    llava,
    mmproj,
    pieces,
    pretokenizers,
    rope,
    source,
    to_huggingface,
    tokenizer,
    tokenizer_check,
    tokenizer_files,
)
from llmnotes.formats.protobuf import field
from llmnotes.formats.results import Identity, Inspection, Tensor

AGAIN = "; copy or download it again."
GGUF = Identity("GGUF", "3", "")
WEIGHT = architectures.Weight


def refused(error, what, ask, *arguments) -> None:
    """The call raises one sentence with these words."""
    with pytest.raises(error) as found:
        ask(*arguments)
    assert what in str(found.value) and "\n" not in str(found.value) and str(found.value).endswith(".")


def words(**keys) -> dict:
    """The keys of a small tokenizer of SentencePiece, some of them changed."""
    small = {"model": "llama", "tokens": ["<unk>", "a", "b"], "scores": [0.0] * 3, "token_type": [2, 1, 1]} | keys
    return {f"tokenizer.ggml.{key}": value for key, value in small.items()}


LONG = [f"{number:0400}" for number in range(130)]
TOKENIZERS = [
    (FileBroken, "has 3 tokens and 1 types of tokens", words(token_type=[1])),
    (FileBroken, "has 3 tokens and 2 scores", words(scores=[0.0, 1.0])),
    (FileBroken, "a token stands twice in its vocabulary", words(tokens=["a", "a", "b"])),
    (FileBroken, "its tokens are no list", words(tokens="abc")),
    (FileBroken, "its tokens are missing, or no texts", words(tokens=[])),
    (NotConvertible, "of the kind rwkv; it knows gpt2 and llama.", words(model="rwkv")),
    (NotConvertible, "work out their merges", words(tokens=LONG, scores=[0.0] * 130, token_type=[1] * 130)),
    (NotConvertible, "does not know the pre-tokenizer viking", words(model="gpt2", pre="viking", merges=[])),
]


@pytest.mark.parametrize("error, what, keys", TOKENIZERS, ids=[row[1] for row in TOKENIZERS])
def test_a_tokenizer_in_a_gguf_that_does_not_come_back(error, what, keys):
    assert hf_tokenizer.parts(words(), "a.gguf")[0]["model"]["vocab"] == {"<unk>": 0, "a": 1, "b": 2}
    refused(error, what, hf_tokenizer.files, keys, "a.gguf")


def template(*names) -> dict:
    """A tokenizer.json that puts special tokens around a text."""
    parts = [{"Sequence": {"id": name}} if name == "A" else {"SpecialToken": {"id": name}} for name in names]
    return {"post_processor": {"type": "TemplateProcessing", "single": parts}}


FOLDERS = [
    (NotConvertible, "more than a first and a last token", tokenizer._adds, template("<s>", "A", "x", "</s>"), {}),
    (NotConvertible, "adds two tokens on one side", tokenizer._adds, template("<s>", "<s>", "A"), {}),
    (FileBroken, "a merge is no pair of tokens", tokenizer._merges, {"vocab": {"a": 0}, "merges": [["a"]]}),
    (FileBroken, "it counts 2,000,000 tokens, more than any model has", tokenizer._lists, {}, {}, 2_000_000),
    (FileBroken, "tokenizer.json is damaged: it has no tokens", tokenizer._lists, {}, {}, 5),
]


@pytest.mark.parametrize("error, what, ask, arguments", [(*row[:3], row[3:]) for row in FOLDERS])
def test_a_tokenizer_json_that_no_gguf_can_say(error, what, ask, arguments):
    refused(error, what, ask, *arguments)


def test_the_files_of_a_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(tokenizer_files, "METADATA_LIMIT", 1)
    refused(
        FileBroken, "has 2 bytes, more than any tokenizer needs", tokenizer_files.json_of, tmp_path / "tokenizer.json"
    )
    model = tmp_path / "tokenizer.model"
    model.write_bytes(field(2, field(3, 2)))
    refused(FileBroken, "tokenizer.model is damaged: it holds no pieces" + AGAIN, pieces.of_model, model)
    model.write_bytes(field(1, field(1, b"a")) + field(2, field(3, 1)))
    refused(NotConvertible, "is no BPE, and llama.cpp would cut texts in another way", pieces.of_model, model)


def test_an_added_token_that_a_gguf_would_not_find(tmp_path):
    from tokenizers import AddedToken, Tokenizer, models

    made = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    made.add_special_tokens([AddedToken("<x>", normalized=False)])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    keys = words(model="gpt2", pre="default", merges=[], tokens=["a", "b", "<x>"], token_type=[1, 1, 1])
    what = f"The added token '<x>' would not be found in a text by a GGUF of {tmp_path.name}"
    refused(NotConvertible, what, tokenizer_check.differences, tmp_path, keys, False)


def test_headers_that_no_writer_makes(tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"none")
    refused(FileBroken, "a.gguf is damaged: it does not begin with “GGUF”" + AGAIN, gguf.entries, path)
    key = struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9)
    two = struct.pack("<IQIQBIQI", 9, 2, 0, 1, 7, 4, 1, 7)
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    path.write_bytes(header + key + two)
    refused(FileBroken, "a.gguf is damaged: an array in its header mixes kinds" + AGAIN, inspect, path)
    path.write_bytes(header + key + struct.pack("<IQ", 0, 300_000) + bytes(300_000))
    monkeypatch.setattr(gguf, "METADATA_LIMIT", 290_000)
    refused(FileBroken, "a.gguf is damaged: its header has more than 290,000 bytes" + AGAIN, inspect, path)
    found = Inspection(path, GGUF)
    refused(
        FileBroken,
        "changed while it was read; run the command again",
        list,
        gguf.read(found, Tensor("a", "F32", (), 4)),
    )


def tensor(name, shape=(2, 2), dtype="F32", offset=0) -> Tensor:
    return Tensor(name, dtype, shape, 4 * int(np.prod(shape)), Path("a.gguf"), offset)


LLAMA = architectures.of_gguf("llama")
BACK = Inspection(Path("a.gguf"), GGUF)
META = Inspection(Path("a"), GGUF, (tensor("tok_embeddings.weight"),), {"config": {}})
TABLE = {"a": tensor("a")}
WHOLE = {"partial_rotary_factor": 1.0}
FREQUENCIES = {"rope_freqs.weight": tensor("rope_freqs.weight")}
RETURNS = [
    (NotConvertible, "cannot convert a GGUF of the architecture mamba", architectures.of_gguf, "mamba"),
    (NotConvertible, "safetensors has no type Q4_0 for weights; choose one of F32", to_huggingface._asked, "Q4_0"),
    (
        NotConvertible,
        "cannot convert the position scaling longrope of a LlamaForCausalLM back",
        *(config_back._positions, LLAMA, {"llama.rope.scaling.type": "longrope"}, {}),
    ),
    (
        FileBroken,
        "Its keys give a list for rope_theta, which is one finite number" + AGAIN,
        *(config_back.config_of, LLAMA, {"llama.rope.freq_base": (1.0, 2.0)}, {}),
    ),
    (
        NotConvertible,
        "matches no published Llama 3",
        *(to_huggingface._llama3, FREQUENCIES, BACK, {"head_dim": 8}),
    ),
    (
        FileBroken,
        "a.gguf lacks b, and its keys promise (2, 2)" + AGAIN,
        *(to_huggingface.check, BACK, [WEIGHT("b", (2, 2), ("b",))], TABLE),
    ),
    (
        FileBroken,
        "a.gguf has a with the shape (2, 2), and its keys promise (3,)" + AGAIN,
        *(to_huggingface.check, BACK, [WEIGHT("a", (3,), ("a",))], TABLE),
    ),
    (
        NotConvertible,
        "a.gguf has 1 tensor that its architecture does not have, a first",
        *(to_huggingface.check, BACK, [], TABLE),
    ),
    (
        NotConvertible,
        "One attention head has 536,870,912 bytes",
        *(list, from_huggingface.permuted([], 1 << 9, 1 << 20)),
    ),
    (
        NotConvertible,
        "a is stored as I8; convert the model in its original precision instead",
        *(source.matched, [WEIGHT("a", (2, 2), ("a",))], {"a": tensor("a", dtype="I8")}, BACK),
    ),
    (
        NotConvertible,
        "has the tensor names of Mistral's and Meta's own programs",
        *(source.matched, [WEIGHT("b", (2, 2), ("b",))], {}, META),
    ),
    (
        NotConvertible,
        "Its keys turn 4 of the 8 numbers of a head",
        *(to_huggingface._whole_heads_turn, LLAMA, {"llama.rope.dimension_count": 4}, 8),
    ),
    (
        FileBroken,
        "a.gguf has no rope_factors_long.weight with a number in F32 for each of 4 pairs",
        *(to_huggingface._longrope, FREQUENCIES, BACK, {"rope": {}, "head_dim": 8, **WHOLE}),
    ),
    (
        NotConvertible,
        "Its keys stretch attention by 2.0, which transformers only does with YaRN or LongRoPE; use the",
        *(to_huggingface._longrope, {}, BACK, {"rope": {"attention_factor": 2.0}, "head_dim": 8, **WHOLE}),
    ),
    (
        NotConvertible,
        "Its keys stretch attention by 1.5, which transformers only does with YaRN or LongRoPE; use the",
        *(config_back._positions, LLAMA, {"llama.rope.scaling.attn_factor": 1.5}, {}),
    ),
    (
        NotConvertible,
        "Its keys give no attention.sliding_window, and a Gemma3ForCausalLM of transformers has one",
        *(config_back.config_of, architectures.of_gguf("gemma3"), {}, {}),
    ),
    (
        NotConvertible,
        "llama.cpp computes YaRN with truncate true only",
        *(rope.keys, LLAMA, {"rope": {"rope_type": "yarn", "factor": 4.0, "truncate": False}}),
    ),
    (
        NotConvertible,
        "config.json says hidden_act is relu, but llama.cpp computes a Llama with silu only",
        *(differences.refuse, "Llama", "hidden_act", "relu", ("silu",)),
    ),
    (FileBroken, "factor is -1", rope.number, {"factor": -1}, "factor"),
    (NotConvertible, "does not know the pre-tokenizer 5", pretokenizers.steps_of, 5),
]


@pytest.mark.parametrize("error, what, ask, arguments", [(*row[:3], row[3:]) for row in RETURNS])
def test_a_gguf_that_becomes_no_folder(error, what, ask, arguments):
    refused(error, what, ask, *arguments)


def test_blocks_that_nobody_turns_back_into_floats(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(64))
    strange = Tensor("a", "TQ9_9", (4, 4), 64, tmp_path / "a.bin", 0)
    (part,) = to_huggingface._parts(WEIGHT("a", (4, 4), ("a",)), strange, BACK, None, lambda count: None)
    refused(NotConvertible, "cannot turn TQ9_9 back into floats (a); use the original model", list, part.data())


def folder(path, config: dict, *names: str, offset=0) -> Inspection:
    """A LLaVA's folder with these settings and tensors; it says how images are read."""
    (path / "preprocessor_config.json").write_text(json.dumps({"do_center_crop": True}))
    config = {"architectures": [llava.NAME], "text_config": {}, "vision_config": {}} | config
    tensors = tuple(tensor(name, offset=offset) for name in (names or ("lm_head.weight",) * 20))
    return Inspection(path, Identity("Hugging Face folder", "", ""), tensors, {"config": config}, llava.NAME)


SEEN = [
    (FileBroken, "without a vision_config; copy it again", {"vision_config": None}),
    (NotConvertible, "vision_config.hidden_act is relu", {"vision_config": {"hidden_act": "relu"}}),
    (NotConvertible, "vision_feature_select_strategy is full", {"vision_feature_select_strategy": "full"}),
    (NotConvertible, "vision_feature_layer is [-1, -2]", {"vision_feature_layer": [-1, -2]}),
    (FileBroken, "vision_config.patch_size is 0, which cannot be right", {"vision_config": {"patch_size": 0}}),
]


@pytest.mark.parametrize("error, what, config", SEEN, ids=[row[1] for row in SEEN])
def test_a_vision_tower_that_llama_cpp_does_not_run(tmp_path, error, what, config):
    refused(error, what, llava.vision, folder(tmp_path, config))


def test_a_llava_that_lacks_something(tmp_path):
    assert llava.vision(folder(tmp_path, {})).features == [11]
    refused(
        FileBroken, "without a text_config; copy it again", llava.language_model, folder(tmp_path, {"text_config": 1})
    )
    twice = folder(tmp_path, {}, "language_model.model.norm.weight", "model.language_model.norm.weight")
    refused(FileBroken, "norm.weight under two names; copy it again", llava.language_model, twice)
    strange = folder(tmp_path, {}, "audio_tower.weight")
    refused(NotConvertible, "audio_tower.weight is not part of a LLaVA", llava.language_model, strange)
    found = folder(tmp_path, {})
    (tmp_path / "preprocessor_config.json").unlink()
    refused(FileUnreadable, "has no preprocessor_config.json", llava.vision, found)
    other = folder(tmp_path, {"architectures": ["LlamaForCausalLM"]})
    refused(NotConvertible, "cannot find a vision tower in Llava", mmproj.convert, other, tmp_path / "a.gguf")
