"""How a byte-level BPE cuts a text into words before its merges, and what llama.cpp calls each way.

A GGUF holds only the name. tokenizer.json holds the steps themselves, so a name is found by comparing steps, never by
what a model is called. Source of the names and of their patterns: llama.cpp's src/llama-vocab.cpp.
"""

import json
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BARE = _BYTES | {"use_regex": False}
_DIGITS = {"type": "Digits", "individual_digits": True}

_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # English short forms
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"  # line breaks, spaces before a word, spaces at the end
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _ENDS
_WORDS = _SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_MARKED = _SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _ENDS
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAMEL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|"
_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _ENDS
_TEKKEN = _CAMEL % ("", "") + r"\p{N}" + _SLASH
_GPT4O = _CAMEL % (_SHORT + "?", _SHORT + "?") + r"\p{N}{1,3}" + _SLASH
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DEEPSEEK = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
_DEEPSEEK += r" ?[\p{P}\p{S}]+[\r\n]*|" + _ENDS
_LETTERS = (  # DeepSeek LLM's alphabets
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ"
    "-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰"
    "-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)


def _split(*patterns: str, last: tuple[dict, ...] = (_BARE,)) -> list[dict]:
    cut = {"type": "Split", "behavior": "Isolated", "invert": False}
    return [cut | {"pattern": {"Regex": pattern}} for pattern in patterns] + list(last)


# tokenizer.ggml.pre -> (the steps of tokenizer.json's pre_tokenizer, whether whole words skip the merges)
PRE = {
    "gpt-2": ([_BYTES], False),
    "smollm": ([_DIGITS, _BYTES], False),
    "llama-bpe": (_split(_WORDS + r"\p{N}{1,3}" + _TAIL), True),
    "smaug-bpe": (_split(_WORDS + r"\p{N}{1,3}" + _TAIL), False),
    "qwen2": (_split(_WORDS + r"\p{N}" + _TAIL), False),
    "stablelm2": (_split(_WORDS + r"\p{N}" + _TAIL), False),
    "qwen35": (_split(_MARKED), False),
    "gpt-4o": (_split(_GPT4O), False),
    "tekken": (_split(_TEKKEN), True),
    "deepseek-v3": (_split(r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK), False),
    "deepseek-llm": (
        _split(
            r"[\r\n]",
            rf"\s?[{_LETTERS}]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            "[一-龥ࠀ-一가-\ud7ff]+",
            last=(_DIGITS, _BARE),
        ),
        False,
    ),
    "default": (_split(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), False),
    "deepseek-coder": (
        _split(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", last=(_DIGITS, _BARE)),
        False,
    ),
}

# Other names that llama.cpp cuts in the same way: all that a GGUF may say, read as one of the above.
_SAME = {
    "gpt-2": "phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert mpt olmo jais trillion "
    "granite-docling exaone4",
    "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    "smaug-bpe": "dbrx glm4 chatglm-bpe",
    "qwen2": "deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open grok-2 bailingmoe bailingmoe2 llada-moe",
    "gpt-4o": "llama4 kanana2 talkie minimax-m2",
    "deepseek-v3": "hunyuan-dense joyai-llm",
}
NAMES = {name: name for name in PRE} | {other: name for name, others in _SAME.items() for other in others.split()}
BEGINS = ("llama-bpe", "tekken")  # where a GGUF does not say, llama.cpp adds BOS

# Spellings of one pattern: each cuts every text as the spelling behind it does, in the patterns above.
_SPELLINGS = {
    "'(?i:[sdmt]|ll|ve|re)": _SHORT,
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])": _SHORT,
    r"\p{N}{1}": r"\p{N}",
    r"]?+": "]?",
    r"]++": "]+",
    r"\s*[\r\n]|": r"\s*[\r\n]+|",
    "\r": r"\r",
    "\n": r"\n",
}
# llama.cpp knows neither the capitals nor the marks of all alphabets where a pattern tells capitals apart.
ROUGH = {"gpt-4o", "tekken"}


def name_of(fast: dict, architecture: str) -> str:
    """Return llama.cpp's name for the way in which the tokenizer.json `fast` cuts a text before its merges.

    Raises `NotConvertible` where no name is known here, with the step that is new: a wrong name gives other tokens.
    """
    step, model = fast.get("pre_tokenizer"), fast["model"]
    found = _plain(step)
    same = [name for name, (steps, _) in PRE.items() if _plain({"type": "Sequence", "pretokenizers": steps}) == found]
    skips = model.get("ignore_merges") is True
    exact = [name for name in same if PRE[name][1] == skips]
    if not exact and same and _reached(model):
        exact = same
    if exact:
        return "stablelm2" if architecture == "stablelm" and exact[0] == "qwen2" else exact[0]
    if same:
        raise NotConvertible(
            f"This tokenizer.json cuts texts as {same[0]} does, but its ignore_merges is {str(skips).lower()} and its "
            "merges do not lead to all of its tokens, so llama.cpp would give other tokens; llmnotes cannot convert it."
        )
    raise NotConvertible(
        f"The pre-tokenizer in tokenizer.json ({_summary(step)}) has no name in llama.cpp that is known here, and a "
        f"wrong one gives other tokens; those known are {', '.join(PRE)}."
    )


def steps_of(name: Any) -> tuple[list[dict], bool]:
    """Return (the steps for which llama.cpp's `name` stands, whether whole words skip the merges)."""
    if not isinstance(name, str) or name not in NAMES:
        raise NotConvertible(
            f"llmnotes does not know the pre-tokenizer {str(name)[:40]}; it knows {', '.join(PRE)} and "
            f"{len(NAMES) - len(PRE)} names that llama.cpp treats alike."
        )
    return PRE[NAMES[name]]


def _plain(step: Any, depth: int = 0) -> list:
    """Return the steps of a pre-tokenizer in one spelling, without what changes positions only."""
    if not isinstance(step, dict):
        return []
    if step.get("type") == "Sequence" and depth < 4:
        parts = step.get("pretokenizers")
        found = [plain for part in parts for plain in _plain(part, depth + 1)] if isinstance(parts, list) else []
        split = [_plain(_split(_GPT2)[0])[0], _BARE]
        at = len(found) - 2
        return found[:at] + [_BYTES] if found[at:] == split else found
    step = {key: value for key, value in step.items() if key != "trim_offsets"}
    if step.get("type") == "ByteLevel":
        return [{"use_regex": True} | step]
    pattern = step.get("pattern")
    if step.get("type") == "Split" and isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        text = pattern["Regex"]
        for spelling, plain in _SPELLINGS.items():
            text = text.replace(spelling, plain)
        step = step | {"pattern": {"Regex": text}}
        # What lies between the matches is removed, which is nothing where a pattern takes every letter, sign and space.
        whole = r"[^\s\p{L}" in text and text.endswith(r"|\s+")
        if whole and step.get("behavior") == "Removed" and step.get("invert") is True:
            step |= {"behavior": "Isolated", "invert": False}
    return [step]


def _reached(model: dict) -> bool:
    """Whether the merges lead to every token: then it makes no difference whether whole words skip them."""
    from tokenizers.models import BPE

    try:
        pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
        bpe = BPE(model["vocab"], [(left, right) for left, right in pairs])
        return all(len(bpe.tokenize(token)) == 1 for token in model["vocab"])
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise FileBroken(
            f"tokenizer.json is damaged: {str(error)[:80]}; copy the folder again from its source."
        ) from None


def _summary(step: Any) -> str:
    """Return the first step that no known way of cutting has, as short JSON."""
    known = [part for name in PRE for part in _plain({"type": "Sequence", "pretokenizers": PRE[name][0]})]
    new = next((part for part in _plain(step) if part not in known), step)
    text = new["pattern"].get("Regex") if isinstance(new, dict) and isinstance(new.get("pattern"), dict) else None
    return (text or json.dumps(new, ensure_ascii=False))[:100]
