"""Typical wrong answers to the exercises of lesson 15: {exercise: {key of its hint: source}}."""

_MAKE_UP = '''import numpy as np


def make_up(inputs, weights, rounded):
    """Return the other weights, moved to where the outputs err least."""
    first, others = inputs[:, 0], inputs[:, 1:]
    {line}'''
_FIT = "return np.linalg.lstsq(others, inputs @ weights - first * rounded, rcond=None)[0]"


def _make_up_source(line: str = _FIT) -> str:
    return _MAKE_UP.format(line=line)


_UNPACK = '''def unpack(words):
    """Return the 3-bit codes in int32 words, lowest bits first."""
    {whole}
    {last}'''
_WHOLE = "whole = sum((int(word) & 0xFFFFFFFF) << 32 * place for place, word in enumerate(words))"
_SHIFTS = "return [whole >> 3 * place & 7 for place in range(len(words) * 32 // 3)]"


def _unpack_source(whole: str = _WHOLE, last: str = _SHIFTS) -> str:
    return _UNPACK.format(whole=whole, last=last)


_READ = '''import numpy as np


def read_layer(codes, scales, zeros, g_idx):
    """Return the weights of a GPTQ layer, (outputs, inputs)."""
    return {line}'''
_WEIGHTS = "(scales[g_idx] * (codes - (zeros[g_idx] + 1))).T"


def _read_source(old: str, new: str) -> str:
    assert old in _WEIGHTS
    return _READ.format(line=_WEIGHTS.replace(old, new))


WRONG = {
    "15.1": {
        "unmoved": _make_up_source("return weights[1:]"),
        "moves": _make_up_source(_FIT + " - weights[1:]"),
        "wrong_way": _make_up_source(
            "move = np.linalg.lstsq(others, first * (rounded - weights[0]), rcond=None)[0]\n"
            "    return weights[1:] + move"
        ),
        "first_left_out": _make_up_source("return np.linalg.lstsq(others, inputs @ weights, rcond=None)[0]"),
        "fit_to_error": _make_up_source(
            "return np.linalg.lstsq(others, first * (rounded - weights[0]), rcond=None)[0]"
        ),
        "each_alone": _make_up_source(
            "error = rounded - weights[0]\n"
            "    return weights[1:] - error * (first @ others) / (others ** 2).sum(axis=0)"
        ),
        "all": _make_up_source("return np.append(rounded, " + _FIT.removeprefix("return ") + ")"),
        "rounded": _make_up_source("return np.round(" + _FIT.removeprefix("return ") + ")"),
        "other": _make_up_source("return weights[1:] * weights[0] / rounded"),
    },
    "15.2": {
        "per_word": _unpack_source(
            "words = [int(word) & 0xFFFFFFFF for word in words]",
            "return [word >> 3 * place & 7 for word in words for place in range(10)]",
        ),
        "highest_first": _unpack_source(
            'text = "".join(f"{int(word) & 0xFFFFFFFF:032b}" for word in words)',
            "return [int(text[3 * i:3 * i + 3], 2) for i in range(len(text) // 3)]",
        ),
        "last_word_first": _unpack_source(_WHOLE.replace("enumerate(words)", "enumerate(words[::-1])")),
        "four_bits": _unpack_source(last="return [whole >> 4 * place & 15 for place in range(len(words) * 32 // 4)]"),
        "signed": _unpack_source(_WHOLE.replace("(int(word) & 0xFFFFFFFF)", "int(word)")),
        "centred": _unpack_source(last=_SHIFTS.replace("[whole >> 3 * place & 7", "[(whole >> 3 * place & 7) - 4")),
        "first_32": _unpack_source(last=_SHIFTS.replace("len(words) * 32 // 3", "32")),
        "other": _unpack_source(last=_SHIFTS.replace("3 * place", "2 * place")),
    },
    "15.3": {
        "no_one": _read_source("(zeros[g_idx] + 1)", "zeros[g_idx]"),
        "one_less": _read_source("+ 1", "- 1"),
        "no_zero": _read_source("(codes - (zeros[g_idx] + 1))", "codes"),
        "middle": _read_source("(zeros[g_idx] + 1)", "8"),
        "order": _read_source("scales[g_idx]", "scales[np.arange(len(g_idx)) * len(scales) // len(g_idx)]").replace(
            "zeros[g_idx]", "zeros[np.arange(len(g_idx)) * len(scales) // len(g_idx)]"
        ),
        "sign": _read_source("codes - (zeros[g_idx] + 1)", "zeros[g_idx] + 1 - codes"),
        "unturned": _read_source(".T", ""),
        "other": _read_source("scales[g_idx] *", "scales[g_idx] ** 2 *"),
    },
}
