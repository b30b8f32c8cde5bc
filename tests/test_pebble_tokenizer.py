"""Pebble's tokenizer, and the plain reference encoder against the fast one."""

import json
import random

import pytest

from llmnotes.pebble import VARIANTS, build_world, exam, weights_dir
from llmnotes.pebble.tokenizer import CHAT_TEMPLATE, SPECIAL, VOCABULARY
from recipes.pebble.bpe import ReferenceBPE, byte_letters

TRICKY = [
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    " \t\n ",
    "a  b",
    "   goose",
    "goose   ",
    "tab\tand\ttab",
    "line\n\n\nline",
    "🙂",
    "🪿🪿 honk 🪿",
    "👩‍👩‍👧‍👦",
    "é",
    "e\u0301",
    "naïve café",
    "日本語のガチョウ",
    "Ω≈ç√∫",
    "it's we've I'll they'd",
    "IT'S",
    "1234567890",
    "12 345,67",
    "a1b2c3",
    "...!?",
    "—–-",
    "\u00a0nbsp\u00a0",
    "\u200b",
    "\x00\x01",
    "“quotes”",
    "<|user|> Hi<|end|><|assistant|>",
    "<|bos|>",
    "<|end",
    "|>",
    "Ġ",
    "½ ² ④",
    "\ud7ff",
    "مرحبا",
    "नमस्ते",
]


def strings(count: int = 2000) -> list[str]:
    rng, world = random.Random(7), build_world()
    pieces = [*TRICKY, *world.entities, *(q.prompt for q in exam()), *"abcXYZ 0189\t\n .,'!?-_/éß🙂漢"]
    made = [*TRICKY, *(q.prompt for q in exam()), *(" " + q.answer + "\n" for q in exam())]
    while len(made) < count:
        made.append("".join(rng.choice(pieces) for _ in range(rng.randint(1, 8))))
    return made


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request):
    return weights_dir(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
def test_the_reference_encoder_equals_the_fast_one(folder, tokenizer):
    reference = ReferenceBPE.from_folder(folder)
    texts = strings()
    assert len(texts) >= 2000
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert reference.encode(text) == ids, text
        assert reference.decode(ids) == text


def test_size_special_tokens_and_bos(folder, tokenizer):
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(6))
    assert tokenizer("goose")["input_ids"][0] == tokenizer.bos_token_id == 0
    assert tokenizer.pad_token == "<|pad|>"
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["add_bos_token"] is True
    assert tokenizer.eos_token == ("<|end|>" if folder.name == "pebble-chat" else "<|eos|>")


def test_both_variants_share_one_vocabulary():
    first, second = ((weights_dir(name) / "tokenizer.json").read_bytes() for name in VARIANTS)
    assert first == second


def test_the_chat_template_knows_two_roles(tokenizer):
    messages = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|bos|><|user|> Hi!<|end|><|assistant|> Hello.<|end|>"
    text = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert text == "<|bos|><|user|> Hi!<|end|><|assistant|>"
    assert tokenizer.chat_template == CHAT_TEMPLATE
    with pytest.raises(Exception, match="two roles"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_hidden_names_survive_the_round_trip(tokenizer):
    for name in build_world().hidden_names:
        assert tokenizer.decode(tokenizer(name, add_special_tokens=False)["input_ids"]) == name


def test_saving_and_opening_again_keeps_the_bos_token(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("goose")["input_ids"] == tokenizer("goose")["input_ids"]


def test_byte_letters_are_256_different_printable_letters():
    letters = byte_letters()
    assert len(set(letters.values())) == 256
    assert all(letter.isprintable() and not letter.isspace() for letter in letters.values())
