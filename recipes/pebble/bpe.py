"""Byte-level byte-pair encoding in plain Python: slow, short, and token for token what the fast library gives.

Four steps: special tokens are cut out, the rest is split into words by GPT-2's pattern, each word becomes bytes
(written as printable letters), and neighbouring pieces are merged, the earliest learned pair first. Radford et al.,
Language Models are Unsupervised Multitask Learners (2019), section 2.2; Sennrich et al. (2016), section 3.2.
"""

from __future__ import annotations

import json
from pathlib import Path

import regex

# Contractions, words, numbers and signs, each with at most one space before it; then runs of white space.
GPT2_PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_letters() -> dict[int, str]:
    """Each of the 256 byte values as one printable letter: itself where it prints, else a letter from 256 upwards.

    >>> from recipes.pebble.bpe import byte_letters
    >>> byte_letters()[ord("a")], byte_letters()[ord(" ")]
    ('a', 'Ġ')
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    letters, spare = {}, 256
    for value in range(256):
        if value in printable:
            letters[value] = chr(value)
        else:
            letters[value] = chr(spare)
            spare += 1
    return letters


class ReferenceBPE:
    """The encoder of one tokenizer.json: its vocabulary, its merges in order of rank, its special tokens.

    It does not train, does not add the BOS token, and knows no normalizer: it is for reading, and for checking.

    >>> from llmnotes.pebble import weights_dir
    >>> from recipes.pebble.bpe import ReferenceBPE
    >>> bpe = ReferenceBPE.from_folder(weights_dir("pebble"))
    >>> bpe.decode(bpe.encode("The goose says honk."))
    'The goose says honk.'
    """

    def __init__(self, vocabulary: dict[str, int], merges: list[tuple[str, str]], special: dict[str, int]) -> None:
        self.vocabulary = vocabulary
        self.rank = {pair: rank for rank, pair in enumerate(merges)}
        self.special = special
        self.letters = byte_letters()

    @classmethod
    def from_folder(cls, folder: Path) -> ReferenceBPE:
        """Read tokenizer.json in a folder; raises FileNotFoundError when there is none."""
        data = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
        special = {token["content"]: token["id"] for token in data["added_tokens"]}
        return cls(data["model"]["vocab"], [tuple(pair) for pair in data["model"]["merges"]], special)

    def merge(self, word: str) -> list[str]:
        """The pieces of one word in byte letters: the best-ranked pair is merged until none is left."""
        pieces = list(word)
        while len(pieces) > 1:
            pairs = list(zip(pieces, pieces[1:], strict=False))
            best = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            merged, i = [], 0
            while i < len(pieces):
                if tuple(pieces[i : i + 2]) == best:
                    merged.append(pieces[i] + pieces[i + 1])
                    i += 2
                else:
                    merged.append(pieces[i])
                    i += 1
            pieces = merged
        return pieces

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text as strings of byte letters, special tokens whole."""
        marks = "|".join(regex.escape(mark) for mark in self.special)
        found: list[str] = []
        for part in regex.split(f"({marks})", text) if marks else [text]:
            if part in self.special:
                found.append(part)
                continue
            for word in GPT2_PATTERN.findall(part):
                found += self.merge("".join(self.letters[byte] for byte in word.encode("utf-8")))
        return found

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without a BOS token."""
        return [self.special[token] if token in self.special else self.vocabulary[token] for token in self.tokens(text)]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; bytes that are no UTF-8 become the replacement character."""
        names = {i: token for token, i in {**self.vocabulary, **self.special}.items()}
        values = {letter: value for value, letter in self.letters.items()}
        data = bytearray()
        for i in ids:
            token = names[i]
            data += token.encode("utf-8") if token in self.special else bytes(values[letter] for letter in token)
        return data.decode("utf-8", errors="replace")
