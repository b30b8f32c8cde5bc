"""Tokenizers between a folder and a GGUF: the ids of `tokenizers` against those of llama.cpp, both ways."""

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from llmnotes.errors import FileBroken, ModelBroken, NotConvertible
from llmnotes.formats import convert, gguf, inspect
from llmnotes.formats.files import stored
from llmnotes.formats.gguf import hf_tokenizer, tokenizer, tokenizer_check
from llmnotes.formats.gguf.pretokenizers import NAMES, PRE, ROUGH, name_of
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.gguf.write import write_gguf
from llmnotes.formats.results import PlannedTensor
from llmnotes.llama_cpp import engine
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.models import complete, open_model
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


END = "<|im_end|>"


def test_older_files_name_added_tokens_and_special_ones(folder, tmp_path):
    from transformers import AutoTokenizer

    fast = pieces()
    count = len(fast["model"]["vocab"])
    tokens = {"<|im_start|>": count, END: count + 1, "ordinary": count + 2}
    own = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>", "bos_token": "<s>"}
    older = {"special_tokens_map.json": {"eos_token": {"content": END, "lstrip": False}}, "added_tokens.json": tokens}
    model = folder(fast, **older, **{"tokenizer_config.json": own})
    convert(model, tmp_path / "model.gguf")
    found, tokenizer = keys(tmp_path / "model.gguf"), AutoTokenizer.from_pretrained(model)
    assert found["tokens"][count : count + 3] == list(tokens)
    assert list(found["token_type"][count : count + 3]) == [3, 3, 4]
    assert found["eos_token_id"] == tokenizer.eos_token_id == count + 1
    # Where tokenizer_config.json lists the added tokens itself, transformers passes over both older files.
    listed = own | {"added_tokens_decoder": {"2": {"content": "</s>", "special": True} | PLAIN}}
    (model / "tokenizer_config.json").write_text(json.dumps(listed))
    convert(model, tmp_path / "listed.gguf")
    found, tokenizer = keys(tmp_path / "listed.gguf"), AutoTokenizer.from_pretrained(model)
    assert found["eos_token_id"] == tokenizer.eos_token_id == 2
    assert END not in found["tokens"] and END not in tokenizer.get_vocab()
    (model / "tokenizer_config.json").write_text(json.dumps(own))
    (model / "added_tokens.json").write_text('{"x": "y"}')
    with pytest.raises(FileBroken, match="the number of 'x' is none"):
        convert(model, tmp_path / "none.gguf")


def test_an_ordinary_token_that_is_called_special_becomes_special_with_its_own_number(folder, tmp_path):
    from transformers import AutoTokenizer

    fast = byte_level("gpt-2")
    own = {"bos_token": "<s>", "eos_token": "!", "pad_token": "?", "tokenizer_class": "PreTrainedTokenizerFast"}
    model = folder(fast, {"eos_token_id": 7, "pad_token_id": 8}, **{"tokenizer_config.json": own})
    convert(model, tmp_path / "model.gguf")
    found, tokenizer = keys(tmp_path / "model.gguf"), AutoTokenizer.from_pretrained(model)
    assert (found["eos_token_id"], found["padding_token_id"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert found["token_type"][tokenizer.eos_token_id] == 3
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    back = AutoTokenizer.from_pretrained(tmp_path / "back")
    for text in ("Hello!", "Hello! What? Yes.", "!!"):
        assert back(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    ("ends", "said", "unsaid"),
    [
        ([3], {"eot_token_id": 3}, 0),
        ([2], {"eom_token_id": 2}, 0),
        ([1, 2, 3], {"eom_token_id": 2, "eot_token_id": 3}, 0),
        ([1, 5, 4], {"eom_token_id": 5, "eot_token_id": 4}, 0),
        ([1, 2, 3, 5, 6], {"eom_token_id": 5, "eot_token_id": 6}, 0),
        ([1, 2, 3, 4, 5, 6, 7], {"eom_token_id": 4, "eot_token_id": 5}, 2),
        (1, {}, 0),
    ],
)
@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_every_end_of_a_text_has_a_key_or_is_named(where, ends, said, unsaid, folder, tmp_path):
    special = ("<s>", "</s>", "<|eom_id|>", "<|eot_id|>", "<stop>", "<halt>", "<end>", "<fin>")
    fast = byte_level("llama-bpe", special)
    if where == "config.json":
        model = folder(fast, {"eos_token_id": ends})
    else:
        model = folder(fast, {"eos_token_id": 1}, **{where: {"eos_token_id": ends}})
    done = convert(model, tmp_path / "model.gguf")
    found = keys(tmp_path / "model.gguf")
    assert found["eos_token_id"] == 1
    assert {name: found[name] for name in ("eot_token_id", "eom_token_id") if name in found} == said
    lost = [sentence for sentence in done.lost if "GGUF has no room" in sentence]
    assert len(lost) == bool(unsaid) and all(f"{unsaid} tokens" in sentence for sentence in lost)
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    back = json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"]
    assert back == ([1, *(said[name] for name in ("eot_token_id", "eom_token_id") if name in said)] if said else 1)


@pytest.mark.parametrize("ends", [5, [5, 4], [1, 5], 1])
@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_a_tokenizers_eos_that_does_not_end_a_text_of_the_model_is_named(where, ends, folder, tmp_path):
    fast = byte_level("gpt-2", ("<s>", "</s>", "<a>", "<b>", "<c>", "<d>"))
    if where == "config.json":
        model = folder(fast, {"eos_token_id": ends})
    else:
        model = folder(fast, {"eos_token_id": 1}, **{where: {"eos_token_id": ends}})
    lost = convert(model, tmp_path / "model.gguf").lost
    sentence = "The folder's model does not end a text at '</s>', the tokenizer's EOS, and llama.cpp does."
    assert lost == ((sentence,) if ends in (5, [5, 4]) else ())


@pytest.mark.parametrize(
    ("kind", "change", "taken"),
    [
        ("smollm", {"tokenizer_class": "GPT2Tokenizer"}, "GPT2Tokenizer"),
        ("smollm", {"tokenizer_class": "PreTrainedTokenizerFast"}, None),
        ("llama-bpe", {"tokenizer_class": "GPT2Tokenizer"}, "GPT2Tokenizer"),
        ("gpt-2", {"tokenizer_class": "Qwen2Tokenizer"}, "Qwen2Tokenizer"),
        ("gpt-2", {"tokenizer_class": "GPT2Tokenizer"}, None),
        ("gpt-2", {"split_special_tokens": True}, "TokenizersBackend"),
        ("gpt-2", {}, None),
        ("qwen2", {}, None),
    ],
)
def test_what_autotokenizer_makes_of_a_folder_otherwise_than_its_tokenizer_json_is_named(
    kind, change, taken, folder, tmp_path
):
    own = {"bos_token": "<s>", "eos_token": "</s>"} | change
    model = folder(byte_level(kind), {"eos_token_id": 1}, **{"tokenizer_config.json": own})
    lost = convert(model, tmp_path / "model.gguf").lost
    said = [sentence for sentence in lost if "AutoTokenizer" in sentence]
    assert len(said) == (taken is not None)
    assert all(f"takes {taken} for this folder, which makes other tokens of some texts" in s for s in said)


def test_bos_that_only_tokenizer_json_adds_is_named(folder, tmp_path):
    """AutoTokenizer's class for GPT-NeoX goes by a setting of its own."""
    fast = byte_level("gpt-2")
    first, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    fast["post_processor"] = {"type": "TemplateProcessing", "single": [first, text], "pair": [first, text]}
    fast["post_processor"]["special_tokens"] = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    own = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "GPTNeoXTokenizerFast"}
    done = convert(folder(fast, {"eos_token_id": 1}, **{"tokenizer_config.json": own}), tmp_path / "model.gguf")
    assert keys(tmp_path / "model.gguf")["add_bos_token"] is True
    (sentence,) = done.lost
    assert "AutoTokenizer takes GPTNeoXTokenizer for this folder" in sentence


def test_a_folder_that_autotokenizer_does_not_open_is_said_not_to_be_compared(folder, tmp_path):
    own = {"bos_token": "<s>", "eos_token": "</s>", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    model = folder(byte_level("gpt-2"), {"eos_token_id": 1}, **{"tokenizer_config.json": own})
    (sentence,) = convert(model, tmp_path / "model.gguf").lost
    assert "AutoTokenizer does not open this folder (" in sentence


def test_a_folder_that_names_no_end_is_said_to_have_none(folder, tmp_path):
    model = folder(byte_level("gpt-2"), {"eos_token_id": None}, **{"tokenizer_config.json": {}})
    assert "names no EOS token" in convert(model, tmp_path / "model.gguf").lost[0]


def test_what_gguf_cannot_say_of_an_added_token_is_named(folder, tmp_path):
    fast = pieces()
    rules = {"lstrip": "<left>", "rstrip": "<right>", "single_word": "<alone>", "normalized": "like"}
    for number, (flag, text) in enumerate(rules.items(), len(fast["model"]["vocab"])):
        entry = {"id": number, "content": text, "special": flag != "normalized"} | PLAIN
        fast["added_tokens"].append(entry | {flag: True})
    lost = convert(folder(fast), tmp_path / "model.gguf").lost
    assert [flag for flag in rules if any(f"GGUF cannot say {flag} of 1 added token" in s for s in lost)] == [*rules]


def test_one_token_more_than_the_embedding_has_rows_is_named_as_that(folder, tmp_path):
    fast = byte_level("gpt-2")
    count = len(fast["model"]["vocab"])
    fast["model"]["vocab"] |= {f"word{number}": number for number in range(count, ROWS)}
    fast["added_tokens"].append({"id": ROWS, "content": "[PAD]", "special": True} | PLAIN)
    own = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]"}
    model = folder(fast, **{"tokenizer_config.json": own})
    done = convert(model, tmp_path / "model.gguf")
    assert "1 token more than the embedding has rows (1,024): '[PAD]' (1,024)" in done.lost[0]
    assert "padding_token_id" not in keys(tmp_path / "model.gguf")
    lm = open_model(model, say=lambda line: None)
    assert len(complete(lm, ["Hello", "Hello World, and more"], 2)) == 2  # without the padding that has no row
    with pytest.raises(ModelBroken, match="makes token 1,024 of a prompt, and the embedding's 1,024 rows"):
        complete(lm, ["Hello[PAD]"])
    fast["model"]["vocab"]["zzz"] = ROWS
    fast["added_tokens"].pop()
    (model / "tokenizer.json").write_text(json.dumps(fast))
    with pytest.raises(NotConvertible, match=r"1 token more than the embedding has rows \(1,024\), 'zzz' first"):
        convert(model, tmp_path / "none.gguf")
    fast["model"]["vocab"]["zzz"] = 1000
    fast["added_tokens"][1] |= {"content": "zzz"}
    (model / "tokenizer.json").write_text(json.dumps(fast))
    with pytest.raises(NotConvertible, match="Two tokens are 'zzz'"):
        convert(model, tmp_path / "none.gguf")


TEMPLATES = {"default": "{{ messages[0].content }}", "tool_use": "{{ bos_token }}{% generation %}a{% endgeneration %}"}


@pytest.mark.parametrize("where", ["jinja", "list", "object", "json"])
def test_named_chat_templates_go_there_and_back(where, folder, tmp_path):
    from transformers import AutoTokenizer

    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    stated = {"list": {"chat_template": named}, "object": {"chat_template": TEMPLATES}}
    own = {"bos_token": "<s>", "eos_token": "</s>"} | stated.get(where, {})
    files = {"tokenizer_config.json": own}
    if where == "json":
        files["chat_template.json"] = {"chat_template": named}
    if where == "jinja":
        files |= {"chat_template.jinja": TEMPLATES["default"]}
        files |= {"additional_chat_templates/tool_use.jinja": TEMPLATES["tool_use"]}
    done = convert(folder(byte_level("gpt-2"), {"eos_token_id": 1}, **files), tmp_path / "model.gguf")
    found = keys(tmp_path / "model.gguf")
    assert found["chat_template"] == TEMPLATES["default"] and list(found["chat_templates"]) == ["tool_use"]
    assert found["chat_template.tool_use"] == TEMPLATES["tool_use"] and not done.lost
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    assert AutoTokenizer.from_pretrained(tmp_path / "back").chat_template == TEMPLATES


def test_mistakes_in_chat_templates_are_named_as_that(folder, tmp_path):
    named = {
        "default": "{% if x %}",
        "rag-1": "{% break %}",
        "rag_1": "b",
        "deep": "{{" + "(" * 5000 + ")" * 5000 + "}}",
        "long": "{{ " + "1" * 5000 + " }}",
        "half": "\ud800",
        "digits": "{{ 1.\u0663 }}",
    }
    own = {"eos_token": "</s>", "chat_template": [{"name": a, "template": b} for a, b in named.items()]}
    model = folder(byte_level("gpt-2"), **{"tokenizer_config.json": own})
    lost = convert(model, tmp_path / "model.gguf").lost
    wanted = (
        "'default' is no valid Jinja (line 1",
        "'rag-1' is called 'rag_1' in GGUF",
        "'rag_1' has another one's name",
    )
    wanted += tuple(f"'{name}' is no valid Jinja (it has a number that cannot" for name in ("long", "digits"))
    wanted += ("'half' has half a character, for which GGUF has a “?”; correct it.",)
    for words in (*wanted, "'deep' is no valid Jinja (it is nested too deeply)"):
        assert any(words in sentence for sentence in lost), words
    if importlib.util.find_spec("xllamacpp"):
        with pytest.raises(ModelBroken, match="does not start with model.gguf, whose chat template is no valid Jinja"):
            engine.start(ModelFile.read(tmp_path / "model.gguf"))
    (model / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(FileBroken, match="no text in UTF-8"):
        convert(model, tmp_path / "none.gguf")
    (model / "chat_template.jinja").write_bytes(b" " * (1 << 20) + b" ")
    with pytest.raises(FileBroken, match="more than any chat template"):
        convert(model, tmp_path / "none.gguf")


# Reads templates from standard input, and prints every piece of code that Python is asked to run meanwhile.
WATCHED = """
import json, sys
from llmnotes.formats.gguf.chat_templates import mistake

mistake("{{ 'a' }}")  # imports what it needs
seen = []
sys.addaudithook(lambda event, args: seen.append(f"{event} {args[0]}") if event in ("exec", "os.system") else None)
print(json.dumps([[mistake(text) for text in json.load(sys.stdin)], seen]))
"""


def test_nothing_of_a_chat_template_is_run_not_even_where_it_has_a_mistake():
    out = "{{ ().__class__.__base__.__subclasses__() }}"
    hostile = [out, out + "{% if %}", "{% if x %}", "{{ cycler.__init__.__globals__.os"]
    hostile += ["{{ cycler.__init__.__globals__.os.system('exit') }}", "{% import 'os' as os %}{{ os.system('exit') }}"]
    hostile += ["{{ 1." + "\u0663 }}", "{{ (lambda: 1)() }}", "\n" * 1000 + "{% endif %}", "{{ '\\N{x}' }}"]
    command = [sys.executable, "-c", WATCHED]
    done = subprocess.run(command, input=json.dumps(hostile), capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    found, seen = json.loads(done.stdout)
    assert seen == []
    assert [at for at, wrong in enumerate(found) if wrong is None] == [0, 4, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_a_folder_whose_name_is_no_unicode_is_read_like_any_other(folder, tmp_path):
    model = folder(byte_level("gpt-2"), **{"tokenizer_config.json": {"eos_token": "</s>"}})
    named = shutil.copytree(model, tmp_path / "\udcff")
    convert(named, tmp_path / "\udcfe.gguf")
    convert(model, tmp_path / "plain.gguf")
    assert list(keys(tmp_path / "\udcfe.gguf")["tokens"]) == list(keys(tmp_path / "plain.gguf")["tokens"])


def test_a_vocabulary_of_tiktoken_is_named_as_what_it_is(folder, tmp_path):
    model = folder(None, **{"tokenizer.model": "IQ== 0\nIg== 1\nIw== 2\n"})
    with pytest.raises(NotConvertible, match="is a vocabulary of tiktoken"):
        convert(model, tmp_path / "model.gguf")


def test_a_vocabulary_that_only_transformers_reads_is_named(folder, tmp_path):
    with pytest.raises(NotConvertible, match="does not read vocab.json; let transformers make"):
        convert(folder(None, **{"vocab.json": {"a": 0}, "merges.txt": "a b"}), tmp_path / "model.gguf")


def test_a_tokenizer_that_llama_cpp_would_run_otherwise_is_refused_or_named(folder, tmp_path):
    model, fast = folder(pieces()), pieces()

    def attempt(name: str, **changes) -> tuple[str, ...]:
        (model / "tokenizer.json").write_text(json.dumps(fast | changes))
        return convert(model, tmp_path / f"{name}.gguf").lost

    with pytest.raises(NotConvertible, match="is none of SentencePiece's"):
        attempt("a", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(NotConvertible, match="other tokens than its tokenizer.json does, .Hello"):
        attempt("b", normalizer={"type": "Lowercase"})
    # Its merges do not lead to most of its tokens, as those of a BPE that was trained otherwise.
    with pytest.raises(NotConvertible, match="other tokens than its tokenizer.json does"):
        attempt("c", model=fast["model"] | {"merges": fast["model"]["merges"][:40]})
    without = [pair for pair in fast["model"]["merges"] if "語" not in pair[0] + pair[1]]
    assert "Some texts become other tokens" in attempt("d", model=fast["model"] | {"merges": without})[0]
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "added_tokens_decoder": {}}))
    assert (
        "shortens long texts"
        in attempt("f", truncation=dict(direction="Right", max_length=5, strategy="LongestFirst", stride=0))[0]
    )
    with pytest.raises(NotConvertible, match=r"BPE in tokenizer.json has end_of_word_suffix \(</w>\)"):
        attempt("g", model=fast["model"] | {"end_of_word_suffix": "</w>"})
    with pytest.raises(FileBroken, match="tokenizer.json is damaged: invalid type"):
        attempt("h", version=5)
    gap = {"id": ROWS - 1, "content": "<far>", "special": True} | PLAIN
    with pytest.raises(NotConvertible, match="'<far>' has the number 1,023 in the files of model, and [0-9]+ as"):
        attempt("e", added_tokens=[*fast["added_tokens"], gap])


def trained(path: Path, family: str, **changes: int | str):
    """Write a small tokenizer.model with the settings of a family, and return it opened by SentencePiece."""
    import sentencepiece

    runs = [mark * count for mark in ("\n", "\u2581") for count in (2, 3, 4)]
    settings = {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True, "normalization_rule_name": "identity"}
    settings |= {"remove_extra_whitespaces": False, "split_digits": True, "hard_vocab_limit": False}
    settings |= {"add_dummy_prefix": family == "llama", "user_defined_symbols": runs if family == "gemma" else []}
    settings |= {"allow_whitespace_only_pieces": True, "minloglevel": 2} | changes
    lines = [line for text in TEXTS + MARKS for line in text.splitlines()] * 3
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, **settings)
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


@LLAMA_CPP
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_tokenizer_model_alone_gives_sentencepieces_own_tokens(family, folder, tmp_path):
    from transformers import AutoTokenizer

    oracle = trained(tmp_path / "tokenizer.model", family)
    model = folder(None, **{"added_tokens.json": {"<|user|>": oracle.vocab_size()}})
    shutil.copy(tmp_path / "tokenizer.model", model)
    # Without a tokenizer_config.json, transformers makes a tokenizer that is not SentencePiece's: that is named.
    (sentence,) = convert(model, tmp_path / "model.gguf").lost
    assert "AutoTokenizer takes TokenizersBackend" in sentence
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    back = AutoTokenizer.from_pretrained(tmp_path / "back")
    texts = [*TEXTS, *MARKS, "a\n\nb\n\n\n  c", "x     y"]
    expected = [[1, *oracle.encode(text)] for text in texts]
    after = [[1, oracle.vocab_size(), *ids[1:]] for ids in expected]  # a space comes before the text there, too
    with opened(tmp_path / "model.gguf") as llama:
        assert [t for t, ids in zip(texts, expected, strict=True) if llama.tokens(t) != ids] == []
        assert [t for t, ids in zip(texts, after, strict=True) if llama.tokens("<|user|>" + t) != ids] == []
    assert [t for t, ids in zip(texts, expected, strict=True) if back(t)["input_ids"] != ids] == []
    assert [t for t, ids in zip(texts, after, strict=True) if back("<|user|>" + t)["input_ids"] != ids] == []


def test_what_sentencepiece_does_to_a_text_first_is_named(folder, tmp_path):
    import sentencepiece

    made = io.BytesIO()
    lines = iter(["Hello World"] * 10)
    settings = {"model_type": "bpe", "vocab_size": 300, "byte_fallback": True, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=made, hard_vocab_limit=False, **settings
    )
    model = folder(None)
    (model / "tokenizer.model").write_bytes(made.getvalue())
    assert "this tokenizer.model changes more in a text" in convert(model, tmp_path / "model.gguf").lost[0]
    (model / "tokenizer.json").write_text(json.dumps(pieces() | {"pre_tokenizer": {"type": "Whitespace"}}))
    with pytest.raises(NotConvertible, match="other tokens than its tokenizer.json does"):
        convert(model, tmp_path / "other.gguf")


def test_settings_of_a_ggufs_tokenizer_that_a_folder_has_not_are_named(folder, tmp_path):
    convert(folder(byte_level("gpt-2")), tmp_path / "model.gguf")
    entries = gguf.entries(tmp_path / "model.gguf")
    entries |= {
        "tokenizer.ggml.fim_pre_token_id": Typed("U32", 5),
        "tokenizer.ggml.add_sep_token": Typed("BOOL", False),
    }
    parts = [
        PlannedTensor(t.name, t.dtype, t.shape, partial(stored, t)) for t in inspect(tmp_path / "model.gguf").tensors
    ]
    with (tmp_path / "more.gguf").open("wb") as file:
        write_gguf(file, entries, parts)
    lost = convert(tmp_path / "more.gguf", tmp_path / "back", "huggingface").lost
    assert "The folder does not get what the tokenizer's fim_pre_token_id say." in lost


@LLAMA_CPP
def test_gemmas_runs_of_spaces_are_found_from_tokenizer_json_alone(folder, tmp_path):
    from transformers import AutoTokenizer, GemmaTokenizer

    oracle = trained(tmp_path / "tokenizer.model", "gemma", pad_id=0, eos_id=1, bos_id=2, unk_id=3)
    model = folder(None)
    GemmaTokenizer.from_pretrained(tmp_path).save_pretrained(model)
    convert(model, tmp_path / "model.gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    tokenizer, back = AutoTokenizer.from_pretrained(model), AutoTokenizer.from_pretrained(tmp_path / "back")
    texts = [*TEXTS, *MARKS, "a\n\nb\n\n\n  c"]
    expected = [oracle.encode(text) for text in texts]
    with opened(tmp_path / "model.gguf") as llama:
        assert [t for t, ids in zip(texts, expected, strict=True) if llama.tokens(t) != ids] == []
    assert [t for t, ids in zip(texts, expected, strict=True) if tokenizer(t)["input_ids"] != ids] == []
    assert [t for t, ids in zip(texts, expected, strict=True) if back(t)["input_ids"] != ids] == []
    assert [back.decode(ids) for ids in expected] == [tokenizer.decode(ids) for ids in expected]


def test_a_special_token_that_is_nowhere_gets_the_next_number(folder, tmp_path):
    from transformers import AutoTokenizer

    own = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]", "extra_special_tokens": ["<x>"]}
    model = folder(byte_level("gpt-2"), **{"tokenizer_config.json": own | {"tokenizer_class": "TokenizersBackend"}})
    convert(model, tmp_path / "model.gguf")
    found, tokenizer = keys(tmp_path / "model.gguf"), AutoTokenizer.from_pretrained(model)
    assert found["padding_token_id"] == tokenizer.pad_token_id
    assert found["tokens"][tokenizer.convert_tokens_to_ids("<x>")] == "<x>"


@LLAMA_CPP
def test_spaces_after_the_special_tokens_of_a_phi3_are_stripped_and_of_no_other(folder, tmp_path):
    from transformers import AutoTokenizer

    special = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>", "<|end|>")
    fast = pieces(special=special)
    for entry in fast["added_tokens"]:
        entry["rstrip"] = entry["content"] in ("</s>", "<|user|>", "<|end|>")
    model = folder(fast)
    assert not convert(model, tmp_path / "model.gguf").lost
    convert(tmp_path / "model.gguf", tmp_path / "back", "huggingface")
    texts = ["<|user|>  Hello<|end|> \n World</s> x<s>  y", "<|endoftext|> a <|user|>b"]
    expected = [AutoTokenizer.from_pretrained(model)(text)["input_ids"] for text in texts]
    with opened(tmp_path / "model.gguf") as llama:
        assert [llama.tokens(text) for text in texts] == expected
    assert [AutoTokenizer.from_pretrained(tmp_path / "back")(text)["input_ids"] for text in texts] == expected
    # A name alone changes nothing: llama.cpp does not even load a "phi3" without Phi-3's tokens.
    (model / "tokenizer.json").write_text(json.dumps(byte_level("gpt-2", ("<s>", "<end>"))))
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    other = model.rename(tmp_path / "tiny-phi3")
    convert(other, tmp_path / "other.gguf")
    with opened(tmp_path / "other.gguf") as llama:
        assert llama.tokens("a<s>  b") == AutoTokenizer.from_pretrained(other)("a<s>  b")["input_ids"]


def test_a_tokenizer_with_mistakes_in_it_is_refused_in_one_sentence(folder, tmp_path):
    model, good = folder(byte_level("gpt-2")), byte_level("gpt-2")

    def attempt(size: int = ROWS, **changes) -> None:
        (model / "tokenizer.json").write_text(json.dumps(good | changes))
        tokenizer.keys(model, {"vocab_size": size}, "llama", "tiny")

    one, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
    for words, changes in {
        "a merge is no pair of tokens": {"model": good["model"] | {"merges": [[1]]}},
        "it has no tokens": {"model": good["model"] | {"vocab": {}, "merges": []}, "added_tokens": []},
        "counts 2,000,000 tokens, more than any model has": {"size": 2_000_000},
        "adds two tokens on one side": {"post_processor": template | {"single": [one, one, text]}},
        "adds more than a first and a last token": {"post_processor": template | {"single": [one, text, text]}},
    }.items():
        with pytest.raises((FileBroken, NotConvertible), match=words):
            attempt(**changes)
    attempt()
    found, _ = tokenizer.keys(model, {"vocab_size": ROWS}, "llama", "tiny")
    found["tokenizer.ggml.token_type"] = Typed("[I32]", [1] * ROWS)
    del found["tokenizer.ggml.bos_token_id"]
    with pytest.raises(NotConvertible, match="'<s>' would not be found"):
        tokenizer_check.differences(model, found, told=False)
    with (model / "tokenizer.json").open("wb") as file:
        file.truncate(40_000_001)
    with pytest.raises(FileBroken, match="more than any tokenizer needs"):
        tokenizer.keys(model, {"vocab_size": ROWS}, "llama", "tiny")
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.model").write_bytes(b"\x12\x02\x18\x02")  # the settings of a BPE, and nothing else
    with pytest.raises(FileBroken, match="holds no pieces"):
        tokenizer.keys(model, {"vocab_size": ROWS}, "llama", "tiny")
    trained(model / "tokenizer.model", "llama", model_type="unigram")
    with pytest.raises(NotConvertible, match="tokenizer.model is no BPE"):
        tokenizer.keys(model, {"vocab_size": ROWS}, "llama", "tiny")


def test_keys_of_a_gguf_that_make_no_tokenizer_are_refused_in_one_sentence():
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a"]}
    long = {"tokenizer.ggml.tokens": [f"{n:0400}" for n in range(200)], "tokenizer.ggml.scores": [0.0] * 200}
    for words, metadata in {
        "it has 1 tokens and 0 scores": spm,
        "its tokens are no list": spm | {"tokenizer.ggml.tokens": 5},
        "too long to work out their merges": spm | long,
    }.items():
        with pytest.raises((FileBroken, NotConvertible), match=words):
            hf_tokenizer.parts(metadata, "x.gguf")


def test_a_sentencepiece_model_alone_is_compared_with_what_transformers_makes_of_it(tmp_path, stories):
    folder = shutil.copytree(stories, tmp_path / "alone")
    (folder / "tokenizer.json").unlink()
    lost = convert(folder, tmp_path / "alone.gguf", type="F32").lost
    assert sum("other tokens of some texts than tokenizer.model, " in sentence for sentence in lost) == 1
