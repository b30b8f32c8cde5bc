"""Convert a Hugging Face tokenizer to keys of GGUF: tokens, types, scores or merges, special tokens, chat templates."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import METADATA_LIMIT
from llmnotes.formats.gguf import chat_templates, pieces, pretokenizers, tokenizer_files
from llmnotes.formats.gguf.pieces import CONTROL, MARK, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Row
from llmnotes.formats.gguf.tokenizer_files import Added, Files
from llmnotes.formats.gguf.types import Typed
from llmnotes.formats.results import counted

SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}

# The texts at which llama.cpp ends what a model writes, whatever else a GGUF says; the first ones end a turn.
TURNS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<EOT>", "_<EOT>", "[EOT]")
ENDS = (*TURNS, "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>", "[EOS]", "<|end_of_text|>")
ENDS += ("<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[")


def keys(folder: Path, config: dict, architecture: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return (GGUF's keys for the tokenizer of a folder, sentences about what GGUF cannot hold of it).

    One of the keys is the model's `name`, for llama.cpp strips spaces after the special tokens of a model that is
    called Phi-3, and of no other: it is changed where it would say otherwise than the folder.

    A byte-level BPE comes from tokenizer.json; a SentencePiece BPE from tokenizer.model, or from tokenizer.json if
    that has byte fallback. Raises `NotConvertible` for another kind and for a pre-tokenizer whose name in llama.cpp is
    not known: a wrong name silently gives other tokens. Does not read vocab.json with merges.txt.
    """
    files, size = tokenizer_files.read(folder, config), config["vocab_size"]
    found, rows, lost = _vocabulary(files, architecture)
    numbers = {text: number for number, (text, _, _) in rows.items()}
    added = tokenizer_files.complete(files, numbers)
    numbers |= {entry.text: number for number, entry in reversed(added.items())}
    found |= _lists(rows, {number: entry for number, entry in added.items() if number < size}, size)
    if found["tokenizer.ggml.model"] == "gpt2":
        del found["tokenizer.ggml.scores"]
    strips = _strips_as_phi3(added, found)
    lost += _unfit(added, size, files.fast, strips)
    found["general.name"] = _named(name, strips)
    ids = _special_ids(files.own, config, numbers, size)
    ends, more = _ends(files, ids.get("tokenizer.ggml.eos_token_id"), found["tokenizer.ggml.tokens"].value)
    found |= ids | ends
    bos, eos = _adds(files.fast, files.own)
    found |= {"tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos}
    templates, mistakes = chat_templates.to_keys(chat_templates.of_folder(folder, files.own))
    return found | templates, lost + more + mistakes


def _vocabulary(files: Files, architecture: str) -> tuple[dict[str, Any], dict[int, Row], list[str]]:
    """Return (the keys that say how a text is cut into tokens, the tokens by number, sentences on what is lost)."""
    model, path = _part(files.fast, "model"), files.path / "tokenizer.model"
    byte_level = model.get("byte_fallback") is not True
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}
    # SentencePiece's own file goes before a tokenizer.json that was made from it.
    if path.is_file() and (not model or not byte_level):
        read = pieces.of_model(path)
        return spm | pieces.prefix(files, read), read.rows, pieces.unlike(files, read)
    unread = [name for name in ("vocab.json", "tekken.json", "tiktoken.model") if (files.path / name).is_file()]
    if not files.fast and unread:
        raise NotConvertible(
            f"llmnotes does not read {unread[0]}; let transformers make a tokenizer.json of it: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        )
    if model.get("type") != "BPE":
        raise NotConvertible(
            f"llmnotes cannot convert the tokenizer of {files.path.name} to GGUF; put a tokenizer.json with a BPE, or "
            "the tokenizer.model of a SentencePiece BPE, beside config.json."
        )
    merges = _merges(model)
    if not byte_level:
        return spm | pieces.prefix(files, None), pieces.of_json(model, merges), pieces.unlike(files, None)
    pre, lost = pretokenizers.name_of(files.fast, architecture), []
    if files.fast.get("normalizer"):
        lost.append("llama.cpp does not normalize text as tokenizer.json does: some accents become other tokens.")
    if pre in pretokenizers.ROUGH:
        lost.append(
            f"llama.cpp cuts texts only roughly as {pre} says: words with combining marks, or with accented capitals "
            "inside, may become other tokens."
        )
    joined = [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in merges]
    found: dict[str, Any] = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre}
    found["tokenizer.ggml.merges"] = Typed("[STRING]", joined)
    return found, {number: (token, 0.0, NORMAL) for token, number in model["vocab"].items()}, lost


def _merges(model: dict) -> list[list[str]]:
    """Return the merges in a tokenizer.json, once they and its vocabulary are what they should be."""
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise _broken("tokenizer.json", "its BPE has no vocabulary or no merges")
    for setting in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(setting):
            raise NotConvertible(
                f"The BPE in tokenizer.json has {setting} ({str(model[setting])[:40]}), and llama.cpp has none; "
                "llmnotes cannot convert it."
            )
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair) for pair in merges):
        raise _broken("tokenizer.json", "a merge is no pair of tokens")
    if not all(type(number) is int and number >= 0 for number in vocab.values()):
        raise _broken("tokenizer.json", "a token's number is none")
    return merges


def _lists(rows: dict[int, Row], added: dict[int, Added], size: int) -> dict[str, Any]:
    """Return the three lists of a vocabulary of `size`; numbers without a token are marked unused."""
    if size > METADATA_LIMIT // 40:
        raise _broken("config.json", f"it counts {size:,} tokens, more than any model has")
    if not rows:
        raise _broken("tokenizer.json", "it has no tokens")
    beyond = sorted(number for number in rows if number >= size)
    if beyond:
        raise NotConvertible(
            f"The tokenizer has {counted(len(beyond), 'token')} more than the embedding has rows ({size:,}), "
            f"{rows[beyond[0]][0][:40]!r} first, which the model cannot read; use the tokenizer it was trained with."
        )
    full = [rows.get(number, (f"[PAD{number}]", -10000.0, UNUSED)) for number in range(size)]
    for number, entry in added.items():
        text, _, kind = full[number]
        if text == entry.text and kind in (UNKNOWN, CONTROL):
            continue  # it is special already
        special = entry.special or _looks_special(entry.text)
        text = entry.text if special else entry.text.replace(MARK, " ")
        full[number] = (text, -1000.0, CONTROL if special else USER_DEFINED)
    names, scores, kinds = zip(*full, strict=True)
    if len(set(names)) < size:
        twice = Counter(names).most_common(1)[0][0]
        raise NotConvertible(f"Two tokens are {twice[:40]!r}, which llama.cpp does not load; give one another name.")
    return {
        "tokenizer.ggml.tokens": Typed("[STRING]", list(names)),
        "tokenizer.ggml.scores": Typed("[F32]", list(scores)),
        "tokenizer.ggml.token_type": Typed("[I32]", list(kinds)),
    }


def _strips_as_phi3(added: dict[int, Added], found: dict[str, Any]) -> bool:
    """Whether spaces are stripped after just those tokens after which llama.cpp strips them in a Phi-3."""
    tokens, kinds = found["tokenizer.ggml.tokens"].value, found["tokenizer.ggml.token_type"].value
    special = {text for text, kind in zip(tokens, kinds, strict=True) if kind in (UNKNOWN, CONTROL, USER_DEFINED)}
    stripped = {entry.text for entry in added.values() if entry.rstrip}
    return {"</s>", *pieces.UNSTRIPPED} <= special and stripped == special - {*pieces.UNSTRIPPED}


def _named(name: str, strips: bool) -> str:
    """Return the model's name with "Phi-3" in it, or without.

    >>> _named("Phi3 Mini", strips=True), _named("Tiny", strips=True), _named("Phi3 Mini", strips=False)
    ('Phi-3 Mini', 'Tiny (Phi-3)', 'Phi 3 Mini')
    """
    if not strips:
        return re.sub("(?i)phi-?3", "Phi 3", name)
    found = re.sub("(?i)phi[- ]?3", "Phi-3", name)
    return found if "Phi-3" in found else f"{found} (Phi-3)"


def _unfit(added: dict[int, Added], size: int, fast: dict, strips: bool) -> list[str]:
    """Return sentences about added tokens without a row, and about rules that GGUF cannot say."""
    lost = []
    beyond = [f"{entry.text[:40]!r} ({number:,})" for number, entry in sorted(added.items()) if number >= size]
    if beyond:
        lost.append(
            f"The tokenizer has {counted(len(beyond), 'token')} more than the embedding has rows ({size:,}): "
            f"{', '.join(beyond[:3])}; the model cannot read them, and they are left out."
        )
    if fast.get("truncation"):
        lost.append("tokenizer.json shortens long texts; llama.cpp does not.")
    prepends = "Prepend" in str(fast.get("normalizer"))
    said = {"rstrip": strips, "normalized": not prepends}
    for flag in RULES:
        entries = [entry for entry in added.values() if getattr(entry, flag) and not said.get(flag)]
        if entries:
            lost.append(
                f"GGUF cannot say {flag} of {counted(len(entries), 'added token')}, {entries[0].text[:40]!r} first: "
                f"{RULES[flag]}."
            )
    return lost


RULES = {
    "lstrip": "llama.cpp keeps the spaces before it as tokens",
    "rstrip": "llama.cpp keeps the spaces after it as tokens",
    "single_word": "llama.cpp also finds it inside of words",
    "normalized": "llama.cpp also finds it without a space before it",
}


def _looks_special(token: str) -> bool:
    """Whether llama.cpp's converter takes a token for a control token, whatever type the file gives it."""
    if token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    return any(token.startswith(a) and token.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))


def _special_ids(own: dict, config: dict, numbers: dict[str, int], size: int) -> dict[str, Any]:
    """Return the keys for the special tokens: what the tokenizer's settings name, or else the ids in config.json."""
    found = {}
    for kind, name in SPECIAL.items():
        number = numbers.get(tokenizer_files.content(own.get(f"{kind}_token")) or "")
        number = config.get(f"{kind}_token_id") if number is None else number
        number = number[0] if isinstance(number, list) and number else number
        if type(number) is int and 0 <= number < size:
            found[f"tokenizer.ggml.{name}_token_id"] = number
    return found


def _ends(files: Files, eos: int | None, tokens: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys for further tokens at which a text ends, and sentences about those without a place.

    GGUF has room for two beside EOS: the end of a turn and the end of a message. llama.cpp knows the usual ones by
    their texts.
    """
    ends = dict.fromkeys(number for number in files.ends if number < len(tokens) and number != eos)
    ends = sorted(ends, key=lambda number: tokens[number] in ENDS)  # those that need the room first
    two, unsaid = ends[:2], [tokens[number] for number in ends[2:] if tokens[number] not in ENDS]
    two.sort(key=lambda number: tokens[number] in TURNS)
    names = ("eom", "eot") if len(two) == 2 or (two and tokens[two[0]] not in TURNS) else ("eot",)
    found = {f"tokenizer.ggml.{name}_token_id": number for name, number in zip(names, two, strict=False)}
    lost = []
    if unsaid:
        lost.append(
            f"GGUF has no room for {counted(len(unsaid), 'token')} that also end a text, {unsaid[0][:40]!r} first."
        )
    if eos is not None and files.ends and eos not in files.ends:
        lost.append(
            f"The folder's model does not end a text at {tokens[eos][:40]!r}, the tokenizer's EOS, and llama.cpp does."
        )
    if eos is None:
        lost.append("The folder names no EOS token, and llama.cpp then takes one by its number; set eos_token.")
    return found, lost


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


def _part(value: dict, key: str) -> dict:
    return value[key] if isinstance(value.get(key), dict) else {}


def _broken(name: str, what: str) -> FileBroken:
    return FileBroken(f"{name} is damaged: {what}; copy the folder again from its source.")
