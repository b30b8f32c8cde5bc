"""Tokenizers between a folder and a GGUF: the ids of `tokenizers` against those of llama.cpp, both ways."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import convert, gguf
from llmnotes.formats.gguf.pretokenizers import NAMES, PRE, ROUGH, name_of
from tests.llama_cpp import opened

LLAMA_CPP = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed")
ROWS = 1024  # of the embedding: the tokenizers below have fewer tokens

TEXTS = (
    "Hello World|Hello, y'all! How are you 😁 ?我想在apple工作1314151天～|3|33|333|3333333|"
    "3.14 and 1,000,000|w048 7tuijk dsdf|"
    "I've, we'LL, 'RE you SURE? 'm not; he's|ied 4 ½ months|```````\"\"\"\"......!!!!!!??????|нещо на Български|"
    "日本語のテキスト と カタカナ|中文，标点。混合English文字|한국어 문장|ελληνικά Άλφα|CamelCaseWords HTTPServer|"
    "/usr/local/bin/x/|a_b-c+d=e<f>g|www.example.com/?q=1&r=2|🚀 (normal) 😶\u200d🌫️ ✅ 🦙🦙|€5 £6 ¥7|tab\tand\t\ttabs|"
    "x\r\ny| Hello|  Hello|   Hello\n    Hello|\n =|\n\n|\n\n\n|\t\n\n \n|a  b   c    d|trailing |trailing  |"
    "\xa0no break\xa0space|!|\n"
).split("|")
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
MARKS = ["naïve e\u0301cole", "Cửa Việt", "កាន់តែពិសេសអាច", "हिन्दी में", "écoleÉcole"]


def byte_level(pre: str, special: tuple[str, ...] = ("<s>", "</s>")) -> dict:
    """Return a tokenizer.json that cuts as `pre` does; its merges reach across words, so a wrong cut shows."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    digits = pre_tokenizers.Digits(individual_digits=True)  # no model joins digits that its steps keep apart
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, whole] if pre == "deepseek-llm" else [whole])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=ROWS - 24, special_tokens=list(special), initial_alphabet=alphabet)
    tokenizer.train_from_iterator((TEXTS + MARKS) * 2, trainer)
    made = json.loads(tokenizer.to_str())
    steps, skips = PRE[pre]
    steps = [step | {"trim_offsets": False} if step["type"] == "ByteLevel" else step for step in steps]
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    made["model"]["ignore_merges"] = skips
    made["normalizer"] = {"type": "NFC"} if pre == "qwen2" else None
    return made


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with a tiny random Llama and no tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("weights") / "tiny"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **sizes, max_position_embeddings=256)).save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return folder


@pytest.fixture
def folder(weights, tmp_path):
    """A function that writes files beside a copy of the weights, JSON from dictionaries, and returns the folder."""

    def write(fast: dict | None, config: dict | None = None, **files) -> Path:
        path = tmp_path / "model"
        shutil.copytree(weights, path)
        settings = json.loads((path / "config.json").read_text()) | (config or {})
        files |= {"config.json": settings} | ({"tokenizer.json": fast} if fast else {})
        files = {"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>"}} | files
        for name, content in files.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def keys(path: Path) -> dict:
    """Return the tokenizer's keys of a GGUF without their prefix."""
    prefix = "tokenizer."
    found = {name: entry.value for name, entry in gguf.entries(path).items() if name.startswith(prefix)}
    return {name.removeprefix(prefix).removeprefix("ggml."): value for name, value in found.items()}


def ids(folder: Path) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [encoding.ids for encoding in tokenizer.encode_batch(TEXTS + MARKS)]


@LLAMA_CPP
@pytest.mark.parametrize("pre", [name for name in PRE if name != "stablelm2"])
def test_every_known_way_of_cutting_gives_the_same_tokens_in_llama_cpp_and_back_in_a_folder(pre, folder, tmp_path):
    model = folder(byte_level(pre))
    convert(model, tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    expected = ids(model)
    assert keys(tmp_path / "model.gguf")["pre"] == pre
    assert ids(tmp_path / "back") == expected
    with opened(tmp_path / "model.gguf") as llama:
        wrong = [t for t, tokens in zip(TEXTS + MARKS, expected, strict=True) if llama.tokens(t) != tokens]
    assert [text for text in wrong if text not in MARKS] == []
    assert bool(wrong) == (pre in ROUGH | {"qwen2"})  # llama.cpp composes no accents


def test_other_names_and_spellings_of_known_ways_are_recognized():
    assert len(NAMES) > 55
    short, possessive = "'(?i:[sdmt]|ll|ve|re)", r"|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
    tiktoken = short + possessive + r"\s*[\r\n]|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": tiktoken}, "behavior": "Removed", "invert": True}
    bare = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    gpt2 = split | {"pattern": {"Regex": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"}}
    model = {"ignore_merges": False, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    for steps, name in ([split, bare], "smaug-bpe"), ([gpt2, bare], "gpt-2"):
        fast = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": model}
        assert name_of(fast, "llama") == name
    # Whether whole words skip the merges makes no difference where merges lead to every word.
    fast = byte_level("tekken") | {"model": model}
    assert name_of(fast, "llama") == "tekken"
    with pytest.raises(NotConvertible, match="ignore_merges is false"):
        name_of(fast | {"model": model | {"merges": []}}, "llama")
    with pytest.raises(FileBroken, match="tokenizer.json is damaged"):
        name_of(fast | {"model": model | {"merges": ["x y"]}}, "llama")
    with pytest.raises(NotConvertible, match=r"pre-tokenizer in tokenizer.json \(\\w\+\) has no name"):
        name_of({"pre_tokenizer": split | {"pattern": {"Regex": r"\w+"}}, "model": model}, "llama")


def pieces(prefix: bool = True, special: tuple[str, ...] = ("<unk>", "<s>", "</s>")) -> dict:
    """Return a tokenizer.json as it is made from a SentencePiece BPE: every pair that makes a token is a merge."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    tokenizer.train_from_iterator((TEXTS + MARKS) * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    cuts = [(token, token[:at], token[at:]) for token in model["vocab"] for at in range(1, len(token))]
    merges = [[a, b] for _, a, b in cuts if a in model["vocab"] and b in model["vocab"]]
    prepend = [{"type": "Prepend", "prepend": "\u2581"}] if prefix else []
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    added = [{"id": n, "content": text, "special": True} | PLAIN for n, text in enumerate(special)]
    model |= {"vocab": vocab, "merges": merges, "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, mark]},
        "pre_tokenizer": None,
        "model": model,
    }


@LLAMA_CPP
@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_comes_back_with_the_tokens_of_llama_cpp(prefix, folder, tmp_path):
    from transformers import AutoTokenizer

    fast = pieces(prefix, ("<unk>", "<s>", "</s>", "<|user|>"))
    if not prefix:  # Gemma's tokenizer.json: its Split finds no spaces, as the normalizer has taken them all
        fast["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
        fast["pre_tokenizer"]["invert"] = False
        fast["normalizer"] = fast["normalizer"]["normalizers"][0]
    model = folder(fast)
    convert(model, tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    back = AutoTokenizer.from_pretrained(tmp_path / "back")
    texts = TEXTS + MARKS + [f"{text}<|user|>{text}</s> {text}" for text in TEXTS]
    with opened(tmp_path / "model.gguf") as llama:
        expected = [llama.tokens(text) for text in texts]
    assert [t for t, tokens in zip(texts, expected, strict=True) if back(t)["input_ids"] != tokens] == []
    assert keys(tmp_path / "model.gguf").get("add_space_prefix", True) == prefix
    assert ids(model) == expected[: len(TEXTS + MARKS)]
