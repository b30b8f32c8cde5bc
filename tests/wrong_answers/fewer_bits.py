"""Typical wrong answers to the exercises of notebook 13: {exercise: {key of its hint: source}}."""

from llmnotes.exercises.fewer_bits import EXERCISES

_STORE, _SCALES, _READ, _PICK = (exercise.solution for exercise in EXERCISES)
_ROUNDED, _TOP, _LARGEST = "np.rint(w / s)", "2 ** (bits - 1) - 1", "np.abs(w.reshape(-1, block))"
_CHOICE = "min(fits, key=fits.get)"


def _changed(source: str, old: str, new: str) -> str:
    assert old in source, old
    return source.replace(old, new)


WRONG: dict[str, dict[str, str]] = {
    "13.1": {
        "two": _changed(_STORE, "return q, s", "return q * s"),
        "int8": _changed(_STORE, ".astype(np.int8)", ".astype(int)"),
        "unsigned": _changed(_STORE, "np.int8", "np.uint8"),
        "swapped": _changed(_STORE, "return q, s", "return s, q"),
        "clipped": _changed(_changed(_STORE, "/ 127", "/ 128"), _ROUNDED, f"np.clip({_ROUNDED}, -128, 127)"),
    },
    "13.2": {
        "sign": _changed(_SCALES, _LARGEST, "w.reshape(-1, block)"),
        "whole": _changed(_SCALES, f"{_LARGEST}.max(axis=1, keepdims=True)", "np.abs(w).max()"),
        "columns": _changed(_SCALES, "axis=1", "axis=0"),
        "flat": _changed(_SCALES, ", keepdims=True", ""),
        "seven": _changed(_SCALES, f"({_TOP})", "7"),
        "one_more": _changed(_SCALES, f"({_TOP})", "2 ** (bits - 1)"),
        "bits": _changed(_SCALES, f"({_TOP})", "bits"),
    },
    "13.3": {
        "neighbours": _changed(
            _READ, "np.concatenate([low, high], axis=1)", "np.stack([low, high], axis=-1).reshape(-1, 32)"
        ),
        "offset": _changed(_READ, ".astype(int) - 8", ".astype(int)"),
        "swapped": _changed(_READ, "[low, high]", "[high, low]"),
        "blocks": _changed(_READ, "[low, high], axis=1)", "[low, high]).reshape(-1, 32)"),
        "unsigned": _changed(_READ, ".astype(int) - 8", " - np.uint8(8)"),
    },
    "13.4": {
        "no_scale": _changed(_PICK, " + 16 / block", ""),
        "no_text": _changed(_PICK, " + tokens * per_token", ""),
        "bits": _changed(_PICK, " / 8 +", " +"),
        "most_bits": _changed(_PICK, _CHOICE, "max(fits, key=lambda offer: (offer[0], -offer[1]))"),
        "first": _changed(_PICK, _CHOICE, "next(iter(fits))"),
        "last": _changed(_PICK, _CHOICE, "list(fits)[-1]"),
        "smallest": _changed(_PICK, _CHOICE, "min(fits, key=lambda offer: offer[0] + 16 / offer[1])"),
        "error": _changed(_PICK, _CHOICE, "min(fits.values())"),
        "none": _changed(_PICK, '"nothing"', "None"),
    },
}
