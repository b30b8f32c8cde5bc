"""Convert a Hugging Face tokenizer to keys of GGUF: tokens, types, scores or merges, special tokens, chat template."""

import re
import struct
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import METADATA_LIMIT, Source
from llmnotes.formats.gguf import pretokenizers
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.protobuf import VOCABULARY_LIMIT, Message, signed

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}

SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}  # SentencePiece's mark


def keys(folder: Path, config: dict, architecture: str) -> tuple[dict[str, Any], list[str]]:
    """Return (GGUF's keys for the tokenizer of a folder, sentences about what GGUF cannot hold of it).

    A byte-level BPE comes from tokenizer.json; a SentencePiece BPE from tokenizer.model, or from tokenizer.json if
    that has byte fallback. Raises `NotConvertible` for another kind and for a pre-tokenizer whose name in llama.cpp is
    not known: a wrong name silently gives other tokens. Does not read vocab.json with merges.txt.
    """
    fast, own = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
    found, lost = _vocabulary(folder, fast, own, config["vocab_size"], architecture)
    if found["tokenizer.ggml.model"] == "llama":
        found |= _space_prefix(fast, own)
        lost += _unlike_sentencepiece(fast)
    found |= _special_ids(fast, own, config, len(found["tokenizer.ggml.tokens"].value))
    bos, eos = _adds(fast, own)
    found |= {"tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos}
    template = _template(folder, own)
    return found | ({"tokenizer.chat_template": template} if template else {}), lost


def _vocabulary(folder: Path, fast: dict, own: dict, size: int, architecture: str) -> tuple[dict[str, Any], list[str]]:
    """Return (the keys that say which tokens there are and how a text is cut into them, sentences on what is lost)."""
    model, pieces = _part(fast, "model"), folder / "tokenizer.model"
    byte_level = model.get("byte_fallback") is not True
    # SentencePiece's own file goes before a tokenizer.json that was made from it.
    if pieces.is_file() and (not model or not byte_level):
        tokens = _pieces(pieces, size)
        later = {at: entry for at, entry in _added(fast, {}).items() if tokens.get(at, ("", 0, NORMAL))[2] == NORMAL}
        found = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}
        return found | _lists(tokens, later | _added({}, own), size), []
    if model.get("type") == "BPE":
        pre = pretokenizers.name_of(fast, architecture) if byte_level else "default"
        found = {"tokenizer.ggml.model": "gpt2" if byte_level else "llama", "tokenizer.ggml.pre": pre}
        lost = []
        if byte_level and fast.get("normalizer"):
            lost.append("llama.cpp does not normalize text as tokenizer.json does: some accents become other tokens.")
        return found | _from_json(fast, model, byte_level, size, _specials(own)), lost
    raise NotConvertible(
        f"llmnotes cannot convert the tokenizer of {folder.name} to GGUF; put a tokenizer.json with a BPE, or the "
        "tokenizer.model of a SentencePiece BPE, beside config.json."
    )


def _space_prefix(fast: dict, own: dict) -> dict[str, Any]:
    """Return the key that says whether a space comes before the text; llama.cpp reads a missing key as yes."""
    prefix = _prefix(fast, own)
    stated = own.get("add_prefix_space") is not None or not prefix
    return {"tokenizer.ggml.add_space_prefix": prefix} if stated else {}


def _unlike_sentencepiece(fast: dict) -> list[str]:
    """Return a sentence for each thing that a tokenizer.json does with a text and llama.cpp does not."""
    lost = []
    if _scheme(fast) == "first":
        lost.append(
            "llama.cpp, like SentencePiece, also puts a space before text that begins with one, and before text that "
            "follows a special token; this tokenizer.json does not."
        )
    if any(step.get("type") != "Prepend" and step != SPACE for step in _normalizers(fast)):
        lost.append(
            "llama.cpp only marks spaces; this tokenizer.json changes more in a text, so several spaces or accents may "
            "become other tokens."
        )
    return lost


def _from_json(fast: dict, model: dict, byte_level: bool, size: int, specials: set[str]) -> dict[str, Any]:
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise _broken("tokenizer.json", "its BPE has no vocabulary or no merges")
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair) for pair in merges):
        raise _broken("tokenizer.json", "a merge is no pair of tokens")
    if not all(type(number) is int for number in vocab.values()):
        raise _broken("tokenizer.json", "a token's number is none")
    added = _added(fast, {})
    if byte_level:
        tokens = {number: (token, 0.0, NORMAL) for token, number in vocab.items()}
        found = _lists(tokens, added, size)
        del found["tokenizer.ggml.scores"]
        joined = [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in merges]
        return found | {"tokenizer.ggml.merges": Typed("[STRING]", joined)}
    # SentencePiece joins the pair with the best score first, so the rank of its merge is a token's score.
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    tokens = {}
    for token, number in vocab.items():
        special = CONTROL if token in specials else NORMAL
        kind = BYTE if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token) else special
        tokens[number] = (token, float(-ranks.get(token, len(merges))), kind)
    return _lists(tokens, {number: entry for number, entry in added.items() if number not in tokens}, size)


def _pieces(path: Path, size: int) -> dict[int, tuple[str, float, int]]:
    """Return {id: (piece, score, type)} of a SentencePiece model."""
    tokens, algorithm = {}, 1
    with Source(path) as source:
        message = Message(source, VOCABULARY_LIMIT)
        for field in message.fields():
            if field.number == 1:
                piece, score, kind = "", 0.0, NORMAL
                for part in message.inside(field):
                    if part.number == 1:
                        piece = message.text(part)
                    elif part.number == 2 and part.value is not None:
                        score = struct.unpack("<f", struct.pack("<I", part.value & 0xFFFFFFFF))[0]
                    elif part.number == 3 and part.value is not None:
                        kind = part.value
                tokens[len(tokens)] = (piece, score, kind if kind in range(1, 7) else NORMAL)
            elif field.number == 2:
                for part in message.inside(field):
                    algorithm = signed(part.value) if part.number == 3 and part.value is not None else algorithm
        if not tokens:
            raise source.broken("it holds no pieces")
    if algorithm != 2:
        raise NotConvertible(f"{path.name} is no BPE, and llama.cpp would cut texts in another way; use a BPE model.")
    return {number: token for number, token in tokens.items() if number < size}


def _lists(tokens: dict[int, tuple], added: dict[int, tuple], size: int) -> dict[str, Any]:
    """Return the three lists of a vocabulary of `size`; numbers without a token are marked unused."""
    highest = max([*tokens, *added, -1])
    if not all(type(n) is int and n >= 0 for n in tokens) or len(tokens) == 0 or highest >= size:
        raise _broken("tokenizer.json", f"a token has the number {highest:,}, and config.json counts {size:,} tokens")
    if size > METADATA_LIMIT // 40:
        raise _broken("config.json", f"it counts {size:,} tokens, more than any model has")
    rows = [tokens.get(number) for number in range(size)]
    for number, (text, special) in added.items():
        special = special or _looks_special(text)
        rows[number] = (text, -1000.0, CONTROL) if special else (text.replace("\u2581", " "), -1000.0, USER_DEFINED)
    rows = [row or (f"[PAD{number}]", -10000.0, UNUSED) for number, row in enumerate(rows)]
    names, scores, kinds = zip(*rows, strict=True)
    return {
        "tokenizer.ggml.tokens": Typed("[STRING]", list(names)),
        "tokenizer.ggml.scores": Typed("[F32]", list(scores)),
        "tokenizer.ggml.token_type": Typed("[I32]", list(kinds)),
    }


def _added(fast: dict, own: dict) -> dict[int, tuple[str, bool]]:
    """Return {id: (token, whether it is special)} of all added tokens."""
    entries = fast.get("added_tokens") or []
    older = own.get("added_tokens_decoder") or {}
    found = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and type(entry.get("id")) is int and entry["id"] >= 0:
            found[entry["id"]] = (str(entry.get("content", "")), bool(entry.get("special")))
    for number, entry in older.items() if isinstance(older, dict) else ():
        if number.isdecimal() and len(number) < 9 and isinstance(entry, dict):
            found.setdefault(int(number), (str(entry.get("content", "")), bool(entry.get("special"))))
    return found


def _looks_special(token: str) -> bool:
    """Whether llama.cpp's converter takes a token for a control token, whatever type the file gives it."""
    if token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    return any(token.startswith(a) and token.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))


def _content(entry: Any) -> str | None:
    entry = entry.get("content") if isinstance(entry, dict) else entry
    return entry if isinstance(entry, str) else None


def _specials(own: dict) -> set[str]:
    """Return the tokens that transformers counts as special in a SentencePiece tokenizer."""
    return {"<s>", "</s>", "<unk>"} | {text for kind in SPECIAL if (text := _content(own.get(f"{kind}_token")))}


def _special_ids(fast: dict, own: dict, config: dict, count: int) -> dict[str, Any]:
    numbers = {text: number for number, (text, _) in reversed(_added(fast, own).items())}
    found = {}
    for kind, name in SPECIAL.items():
        number = numbers.get(_content(own.get(f"{kind}_token")) or "")
        number = config.get(f"{kind}_token_id") if number is None else number
        if type(number) is int and 0 <= number < count:
            found[f"tokenizer.ggml.{name}_token_id"] = number
    return found


def _adds(fast: dict, own: dict) -> tuple[bool, bool]:
    """Return whether BOS and EOS are added to a text, from what tokenizer.json does with it.

    transformers follows tokenizer.json's post-processor and passes over the words in tokenizer_config.json, which
    count only where there is no tokenizer.json.
    """
    if not fast:
        return own.get("add_bos_token") is not False, own.get("add_eos_token") is True
    post = _part(fast, "post_processor")
    steps = post.get("processors") if post.get("type") == "Sequence" else [post]
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, dict) or step.get("type") in (None, "ByteLevel"):
            continue
        single = step.get("single")
        shape = [next(iter(part), "") for part in single if isinstance(part, dict)] if isinstance(single, list) else []
        if step.get("type") != "TemplateProcessing" or shape.count("Sequence") != 1 or len(shape) > 3:
            raise NotConvertible(
                "The post-processor in tokenizer.json adds more than a first and a last token, which GGUF cannot say; "
                "give it a template with at most BOS, the text and EOS."
            )
        at = shape.index("Sequence")
        if at <= 1 and len(shape) - at <= 2:
            return at == 1, len(shape) - at == 2
        raise NotConvertible(
            "tokenizer.json adds two tokens on one side, which GGUF cannot say; keep BOS and EOS alone."
        )
    return False, False


def _scheme(fast: dict) -> str | None:
    return _part(fast, "pre_tokenizer").get("prepend_scheme")


def _prefix(fast: dict, own: dict) -> bool:
    """Return whether a SentencePiece tokenizer puts a space before the text."""
    if own.get("add_prefix_space") is not None or not fast:
        return own.get("add_prefix_space") is not False
    prepends = any(step.get("type") == "Prepend" for step in _normalizers(fast))
    return prepends or _scheme(fast) in ("first", "always")


def _normalizers(fast: dict) -> list[dict]:
    """Return the steps that change a text before it is cut."""
    first = _part(fast, "normalizer")
    steps = first.get("normalizers", [first])
    return [step for step in steps if isinstance(step, dict) and step] if isinstance(steps, list) else []


def _template(folder: Path, own: dict) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        with Source(path) as source:
            return source.read(0, min(source.size, 1 << 20)).decode("utf-8", "replace")
    template = own.get("chat_template")
    if isinstance(template, list):  # several named templates: take the default one
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[-1].get("template") if named else None
    return template if isinstance(template, str) else None


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    with Source(path) as source:
        if source.size > METADATA_LIMIT:
            raise source.broken(f"it has {source.size:,} bytes, more than any tokenizer needs")
        return source.parse(source.read(0, source.size), unique=False)


def _part(value: dict, key: str) -> dict:
    return value[key] if isinstance(value.get(key), dict) else {}


def _broken(name: str, what: str) -> FileBroken:
    return FileBroken(f"{name} is damaged: {what}; copy the folder again from its source.")
