"""SentencePiece's BPE, from tokenizer.model or from a tokenizer.json that was made of one, as GGUF's rows of tokens."""

import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmnotes.errors import NotConvertible
from llmnotes.formats.files import Source
from llmnotes.formats.gguf.tokenizer_files import Files
from llmnotes.formats.protobuf import VOCABULARY_LIMIT, Message, signed

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MARK = "\u2581"  # SentencePiece writes it for a space
SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
UNSTRIPPED = ("<unk>", "<s>", "<|endoftext|>")  # where llama.cpp keeps the spaces behind a token of a Phi-3
SPECIAL = ("<unk>", "<s>", "</s>")  # what Llama's tokenizers call special without saying so

Row = tuple[str, float, int]  # a token's text, score and type


@dataclass
class Pieces:
    """A tokenizer.model: {id: row}, whether a space comes before the text, and how texts are changed first."""

    rows: dict[int, Row] = field(default_factory=dict)
    prefix: bool = True
    rule: str = ""
    squeezes: bool = True


def of_model(path: Path) -> Pieces:
    """Return what a tokenizer.model says. Raises `FileBroken`, and `NotConvertible` for another algorithm than BPE."""
    found, algorithm = Pieces(), 1
    with Source(path) as source:
        if _tiktoken(source):
            raise NotConvertible(
                f"{path.name} is a vocabulary of tiktoken (a token in base64 and its rank on each line) and no "
                "SentencePiece model; put the tokenizer.json that transformers makes of it beside config.json."
            )
        message = Message(source, VOCABULARY_LIMIT)
        for part in message.fields():
            if part.number == 1:
                found.rows[len(found.rows)] = _piece(message, part)
            elif part.number == 2:  # the settings of training
                kinds = [inner.value for inner in message.inside(part) if inner.number == 3]
                algorithm = signed(kinds[-1]) if kinds and kinds[-1] is not None else algorithm
            elif part.number == 3:  # what is done to a text first
                for inner in message.inside(part):
                    if inner.number == 1:
                        found.rule = message.text(inner)
                    elif inner.number == 3:
                        found.prefix = bool(inner.value)
                    elif inner.number == 4:
                        found.squeezes = bool(inner.value)
        if not found.rows:
            raise source.broken("it holds no pieces")
    if algorithm != 2:
        raise NotConvertible(f"{path.name} is no BPE, and llama.cpp would cut texts in another way; use a BPE model.")
    return found


def of_json(model: dict, merges: list[list[str]]) -> dict[int, Row]:
    """Return {id: row} of the `model` in a tokenizer.json with byte fallback.

    SentencePiece joins the pair with the best score first, so the rank of its merge is a token's score.
    """
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    rows = {}
    for token, number in model["vocab"].items():
        special = CONTROL if token in SPECIAL else NORMAL
        kind = BYTE if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token) else special
        rows[number] = (token, float(-ranks.get(token, len(merges))), kind)
    return rows


def prefix(files: Files, pieces: Pieces | None) -> dict[str, Any]:
    """Return the key that says whether a space comes before the text; llama.cpp reads a missing key as yes."""
    said = files.own.get("add_prefix_space")
    if said is None and files.fast:
        first = any(step.get("type") == "Prepend" for step in _normalizers(files.fast))
        wanted = first or _scheme(files.fast) in ("first", "always")
    else:
        wanted = said is not False and (said is True or pieces is None or pieces.prefix)
    return {"tokenizer.ggml.add_space_prefix": wanted} if said is not None or not wanted else {}


def unlike(files: Files, pieces: Pieces | None) -> list[str]:
    """Return a sentence for each thing that is done with a text and that llama.cpp does not do.

    Raises `NotConvertible` for a pre-tokenizer that SentencePiece has not, unless tokenizer.model says what is right.
    """
    fast, lost = files.fast, []
    step = fast.get("pre_tokenizer")
    spaces = isinstance(step, dict) and step.get("type") == "Split" and step.get("pattern") == {"String": " "}
    marks = any(step == SPACE for step in _normalizers(fast))
    if step and not (spaces and marks) and (not isinstance(step, dict) or step.get("type") != "Metaspace"):
        if pieces is None:
            raise NotConvertible(
                f"The pre-tokenizer in tokenizer.json ({json.dumps(step)[:80]}) is none of SentencePiece's, and "
                "llama.cpp would give other tokens; llmnotes cannot convert it."
            )
        lost.append("tokenizer.json cuts a text before its merges; the GGUF has tokenizer.model, which does not.")
    if _scheme(fast) in ("first", "always"):
        lost.append(
            "llama.cpp, like SentencePiece, also puts a space before text that begins with one, and before text that "
            "follows a special token; this tokenizer.json does not."
        )
    changes = any(step.get("type") != "Prepend" and step != SPACE for step in _normalizers(fast))
    if changes or (not fast and pieces is not None and (pieces.squeezes or pieces.rule not in ("", "identity"))):
        lost.append(
            f"llama.cpp only marks spaces; this {'tokenizer.json' if fast else 'tokenizer.model'} changes more in a "
            "text, so several spaces or accents may become other tokens."
        )
    return lost


def _piece(message: Message, part: Any) -> Row:
    piece, score, kind = "", 0.0, NORMAL
    for inner in message.inside(part):
        if inner.number == 1:
            piece = message.text(inner)
        elif inner.number == 2 and inner.value is not None:
            score = struct.unpack("<f", struct.pack("<I", inner.value & 0xFFFFFFFF))[0]
        elif inner.number == 3 and inner.value is not None:
            kind = inner.value if inner.value in range(1, 7) else NORMAL
    # llama.cpp looks for these in the text as it is, with its spaces.
    return (piece.replace(MARK, " ") if kind == USER_DEFINED else piece), score, kind


def _tiktoken(source: Source) -> bool:
    """Whether a file begins with lines of base64 and a number."""
    lines = source.head(200).split(b"\n")[:2]
    return all(re.fullmatch(rb"[A-Za-z0-9+/]+={0,2} \d{1,7}\r?", line) for line in lines)


def _scheme(fast: dict) -> str | None:
    step = fast.get("pre_tokenizer")
    return step.get("prepend_scheme") if isinstance(step, dict) else None


def _normalizers(fast: dict) -> list[dict]:
    """Return the steps that change a text before it is cut."""
    first = fast.get("normalizer")
    steps = first.get("normalizers", [first]) if isinstance(first, dict) else []
    return [step for step in steps if isinstance(step, dict) and step] if isinstance(steps, list) else []
