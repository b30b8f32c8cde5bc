"""Convert the tokenizer keys of a GGUF to tokenizer.json, tokenizer_config.json and the chat template."""

import json
import re
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.gguf import chat_templates, pretokenizers
from llmnotes.formats.gguf.pieces import CONTROL, SPACE, UNKNOWN, UNSTRIPPED, UNUSED, USER_DEFINED
from llmnotes.formats.gguf.tokenizer import SPECIAL

LONGEST = 400  # characters of a token that is joined from others; the longest in published models are rows of spaces
KNOWN = set("model pre tokens token_type scores merges add_space_prefix add_bos_token add_eos_token".split())
KNOWN |= {f"{name}_token_id" for name in ("eot", "eom", *SPECIAL.values())}
CUTS = 20_000_000  # characters that are looked at to find the pairs of which tokens are made


def files(metadata: dict[str, Any], name: str) -> dict[str, str]:
    """Return {file name: text} of a tokenizer that gives the tokens of the GGUF called `name`; raises as `parts`."""
    fast, own = parts(metadata, name)
    templates = chat_templates.of_gguf(metadata)
    made = {"tokenizer.json": json.dumps(fast, ensure_ascii=False, indent=1)}
    if templates.keys() - {"default"}:
        own["chat_template"] = [{"name": short, "template": text} for short, text in templates.items()]
    elif templates:
        made["chat_template.jinja"] = templates["default"]
    return made | {"tokenizer_config.json": json.dumps(own, ensure_ascii=False, indent=2)}


def parts(metadata: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what stands in tokenizer.json and in tokenizer_config.json, without chat templates.

    Raises `NotConvertible` for a tokenizer that is not a BPE or whose pre-tokenizer llmnotes does not know,
    `FileBroken` for lists that do not match each other. Does not restore what GGUF never held: whether a word must
    stand alone, how texts are normalized (except for qwen2, whose normalization is known), names of further special
    tokens.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens = _texts(metadata, "tokens", name)
    kinds = _list(metadata, "token_type", name) or [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise _broken(name, f"it has {len(tokens):,} tokens and {len(kinds):,} types of tokens")
    if kind == "gpt2":
        steps = _byte_level(metadata.get("tokenizer.ggml.pre", "default"))  # as llama.cpp does, with a warning
        merges = [text.split(" ", 1) for text in _texts(metadata, "merges", name)]
    elif kind == "llama":
        scores = _list(metadata, "scores", name)
        if len(scores) != len(tokens):
            raise _broken(name, f"it has {len(tokens):,} tokens and {len(scores):,} scores")
        merges = _merges(tokens, scores, kinds)
        steps = _sentencepiece(metadata.get("tokenizer.ggml.add_space_prefix") is not False)
    else:
        raise NotConvertible(
            f"llmnotes does not know tokenizers of the kind {str(kind)[:40]}; it knows gpt2 and llama."
        )
    ids = {short: metadata.get(f"tokenizer.ggml.{long}_token_id") for short, long in SPECIAL.items()}
    special = {f"{short}_token": tokens[n] for short, n in ids.items() if type(n) is int and 0 <= n < len(tokens)}
    vocab = {token: number for number, token in enumerate(tokens) if kinds[number] != UNUSED}
    if len(vocab) != sum(number != UNUSED for number in kinds):
        raise _broken(name, "a token stands twice in its vocabulary")
    fast = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(n, tokens[n], kinds[n]) for n in range(len(tokens)) if _is_added(n, kinds, ids)],
        **steps,
    }
    if re.search("phi-?3", str(metadata.get("general.name")).lower()):  # by which llama.cpp strips spaces, too
        for entry in fast["added_tokens"]:
            entry["rstrip"] = entry["content"] not in UNSTRIPPED
    fast["post_processor"] = _template(metadata, kind, special, vocab)
    fast["model"] |= {"vocab": vocab, "merges": merges}
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | special
    own |= {key: _adds(metadata, kind, key) for key in ("add_bos_token", "add_eos_token")}
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    own |= {"model_max_length": context} if type(context) is int else {}
    return fast, own


def losses(metadata: dict[str, Any]) -> list[str]:
    """Return sentences that name what a GGUF says of its tokenizer and a folder does not get."""
    found = [
        f"The folder does not get {key.removeprefix('tokenizer.ggml.')} {number:,}: the vocabulary has {size:,} tokens."
        for key, number, size in _outside(metadata)
    ]
    said = [key for key in metadata if key.startswith("tokenizer.") and metadata[key] is not False]
    names = {key.removeprefix("tokenizer.ggml.") for key in said if not key.startswith(chat_templates.KEY)} - KNOWN
    return found + [f"The folder does not get what the tokenizer's {', '.join(sorted(names)[:5])} say."] * bool(names)


def _outside(metadata: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Return (key, number, size of the vocabulary) of each special token whose number no token of it has."""
    size = len(_list(metadata, "tokens", "The GGUF"))
    keys = [f"tokenizer.ggml.{name}_token_id" for name in (*SPECIAL.values(), "eot", "eom")]
    found = [(key, metadata.get(key)) for key in keys]
    return [(key, number, size) for key, number in found if size and type(number) is int and not 0 <= number < size]


def special_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's ids of special tokens; EOS is a list where a turn or a message ends in another token.

    A number that no token has is left out, as llama.cpp does it.
    """
    metadata = metadata | {key: None for key, _, _ in _outside(metadata)}
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding", "eot", "eom")}
    ends = list(dict.fromkeys(ids[name] for name in ("eos", "eot", "eom") if type(ids[name]) is int))
    eos = ends if len(ends) > 1 else ends[0] if ends and ids["eos"] is None else ids["eos"]
    return {"bos_token_id": ids["bos"], "eos_token_id": eos, "pad_token_id": ids["padding"]}


def _byte_level(pre: Any) -> dict[str, Any]:
    steps, skips = pretokenizers.steps_of(pre)
    steps = [step | {"trim_offsets": True} if step["type"] == "ByteLevel" else step for step in steps]
    cut = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": cut,
        "post_processor": None,
        "decoder": level,
        "model": _model(byte_fallback=False, ignore_merges=skips),
    }


def _sentencepiece(prefix: bool) -> dict[str, Any]:
    mark = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    steps = [mark, {"type": "ByteFallback"}, {"type": "Fuse"}]
    steps += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    # A normalizer works on each piece between special tokens, and so does llama.cpp; a pre-tokenizer would leave out
    # the first space where a text begins with one.
    normalizers = [{"type": "Prepend", "prepend": "\u2581"}, SPACE] if prefix else [SPACE]
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": _model(byte_fallback=True, ignore_merges=False),
    }


def _model(byte_fallback: bool, ignore_merges: bool) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": byte_fallback,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
    }


def _merges(tokens: list[str], scores: list[float], kinds: list[int]) -> list[list[str]]:
    """Return the pairs that make each token, the token with the best score first."""
    vocab = {token: number for number, token in enumerate(tokens)}
    left, pairs = CUTS, []
    for number in sorted(range(len(tokens)), key=lambda number: -scores[number]):
        token = tokens[number]
        if kinds[number] != 1 or not 1 < len(token) <= LONGEST:
            continue
        left -= len(token) ** 2
        if left < 0:
            raise NotConvertible("Its tokens are too long to work out their merges; use the original folder.")
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        found = [(vocab[a], vocab[b], a, b) for a, b in cuts if a in vocab and b in vocab]
        pairs += [[a, b] for _, _, a, b in sorted(found)]
    return pairs


def _is_added(number: int, kinds: list[int], ids: dict) -> bool:
    return kinds[number] in (UNKNOWN, CONTROL, USER_DEFINED) or number in ids.values()


def _added(number: int, text: str, kind: int) -> dict[str, Any]:
    entry = {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
    return entry | {"normalized": False, "special": kind != USER_DEFINED}


def _adds(metadata: dict[str, Any], kind: str, key: str) -> bool:
    """Return whether a token is added; where a file does not say, llama.cpp adds BOS to a SentencePiece text."""
    pre = pretokenizers.NAMES.get(str(metadata.get("tokenizer.ggml.pre")))
    default = key == "add_bos_token" and (kind == "llama" or pre in pretokenizers.BEGINS)
    said = metadata.get(f"tokenizer.ggml.{key}")
    return said if isinstance(said, bool) else default


def _template(metadata: dict[str, Any], kind: str, special: dict[str, str], vocab: dict[str, int]) -> dict[str, Any]:
    def shape(*names: str) -> list[dict]:
        out = []
        for type_id, name in enumerate(names):
            first = [special["bos_token"]] if bos else []
            last = [special["eos_token"]] if eos else []
            out += [{"SpecialToken": {"id": token, "type_id": type_id}} for token in first]
            out += [{"Sequence": {"id": name, "type_id": type_id}}]
            out += [{"SpecialToken": {"id": token, "type_id": type_id}} for token in last]
        return out

    bos = _adds(metadata, kind, "add_bos_token") and "bos_token" in special
    eos = _adds(metadata, kind, "add_eos_token") and "eos_token" in special
    used = [special[f"{short}_token"] for short, adds in (("bos", bos), ("eos", eos)) if adds]
    entries = {token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in used}
    return {"type": "TemplateProcessing", "single": shape("A"), "pair": shape("A", "B"), "special_tokens": entries}


def _texts(metadata: dict[str, Any], key: str, name: str) -> list[str]:
    texts = _list(metadata, key, name)
    empty = not texts and (key != "merges" or f"tokenizer.ggml.{key}" not in metadata)  # bytes alone need no merges
    if empty or not all(isinstance(text, str) for text in texts):
        raise _broken(name, f"its {key} are missing, or no texts")
    return texts


def _list(metadata: dict[str, Any], key: str, name: str) -> list:
    found = metadata.get(f"tokenizer.ggml.{key}", ())
    if isinstance(found, str | bytes | int | float):
        raise _broken(name, f"its {key} are no list")
    return list(found)


def _broken(name: str, what: str) -> FileBroken:
    return FileBroken(f"{name} is damaged: {what}; copy or download it again.")
