"""How the answers to the exercises of notebook 13 are checked: on small arrays of their own, side by side."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from llmnotes.exercises.exercise import Answer, ToDo, Verdict, judge

Offer = tuple[int, int]  # bits, and the weights of a block

TRIALS = ([-0.16, 0.264, 0.011, 0.342], [0.5, -0.25, 0.1, 0.0], [-1.0, 0.3, 0.2, -0.7], [2.5, 0.1, -2.5, 0.3])
MODELS = {  # weights, and bytes of memory per token of text
    "Qwen2.5-7B": (7.62e9, 57_344),
    "Llama-2-7B": (6.74e9, 524_288),
    "a 13B": (13e9, 819_200),
}
OFFERS: dict[Offer, float] = {  # (bits, block): error of a matrix of Pebble, in no order
    (5, 64): 0.0623,
    (4, 16): 0.0946,
    (6, 768): 0.0467,
    (3, 32): 0.2598,
    (6, 32): 0.0257,
    (5, 768): 0.0963,
    (4, 32): 0.1132,
    (6, 16): 0.0215,
    (5, 16): 0.0443,
    (4, 64): 0.1331,
    (3, 64): 0.3024,
    (6, 64): 0.0302,
    (5, 32): 0.0529,
}
BUDGETS = (
    ("Qwen2.5-7B", 4000, 7.6e9),
    ("Qwen2.5-7B", 16000, 6.0e9),
    ("Qwen2.5-7B", 4000, 5.02e9),
    ("Llama-2-7B", 4000, 7.6e9),
    ("Llama-2-7B", 4000, 6.5e9),
    ("a 13B", 4000, 7.6e9),
)


def check_store(answer: Answer) -> str | Verdict | None:
    """Return None for codes and scales that bring every weight back to half a step, or what is wrong with them."""
    lines, good, same = [], True, []
    for trial in TRIALS:
        w = np.array(trial, np.float32)
        found = answer(w.copy())
        if not isinstance(found, tuple | list) or len(found) != 2:
            return "two"
        q, s = np.asarray(found[0]), np.asarray(found[1])
        if q.ndim == 0 and s.ndim:
            return "swapped"
        s = float(s)
        if q.dtype != np.int8:
            return "unsigned" if q.dtype == np.uint8 else "int8"
        back = q.astype(np.float64) * s
        worst = int(np.abs(back - w).argmax())
        lost, allowed = abs(back[worst] - w[worst]), abs(s) / 2
        far, coarse = lost > allowed * 1.001, allowed * 2 > np.abs(w).max() / 126.9
        says = "too far off" if far else "8 bits allow a finer step" if coarse else "ok"
        good &= not (far or coarse)
        same.append(any(np.allclose(back, _clipped(w, low), atol=1e-6) for low in (-128, -127)))
        lines.append(f"{w[worst]:>8.3f}{back[worst]:>8.3f}{lost:>8.4f}{allowed:>9.4f}  {says}")
    if good:
        return None
    if all(same):
        return "clipped"
    table = "\n".join(["  weight    back   error    half", *lines])
    return Verdict("far", f"here is the worst weight of each trial, with half a step:\n{table}")


def _clipped(w: np.ndarray, low: int) -> np.ndarray:
    """Return what comes back if the code 128 is cut off at 127."""
    s = np.abs(w).max() / 128
    return np.clip(np.rint(w / s), low, 127) * s


def check_block_scales(answer: Answer) -> str | Verdict | None:
    """Return None for a scale for each block, (blocks, 1), or which mistake the numbers look like."""
    random = np.random.default_rng(1)
    cases = [
        (random.normal(size=64).astype(np.float32), 4, 32),
        (random.normal(size=(6, 16)).astype(np.float32), 8, 32),
        (-np.arange(1, 25, dtype=np.float32).reshape(4, 6), 2, 4),
    ]

    def scales(w: np.ndarray, bits: int, block: int, size=np.abs, top=None, axis: int | None = 1, keep=True):
        largest = size(w.reshape(-1, block)).max(axis=axis, keepdims=keep)
        return largest / (2 ** (bits - 1) - 1 if top is None else top(bits))

    mistakes: Mapping[str, Answer] = {
        "sign": partial(scales, size=lambda x: x),
        "whole": partial(scales, axis=None, keep=False),
        "whole ": partial(scales, axis=None),
        "columns": partial(scales, axis=0),
        "columns ": partial(scales, axis=0, keep=False),
        "flat": partial(scales, keep=False),
        "seven": partial(scales, top=lambda bits: 7),
        "one_more": partial(scales, top=lambda bits: 2 ** (bits - 1)),
        "bits": partial(scales, top=lambda bits: bits),
    }
    verdict = judge(answer, scales, cases, mistakes)
    return verdict.strip() if isinstance(verdict, str) else verdict


def check_read(answer: Answer) -> str | Verdict | None:
    """Return None for the codes of packed bytes, or in which block and where they differ first."""
    codes = np.random.default_rng(0).integers(-8, 8, (3, 32))
    packed = ((codes[:, :16] + 8) | (codes[:, 16:] + 8) << 4).astype(np.uint8)
    low, high = (packed & 15).astype(int), (packed >> 4).astype(int)
    found = np.asarray(answer(packed.copy()))
    if found.shape != codes.shape:
        return Verdict("shape", f"the right answer has the shape {codes.shape}, yours {found.shape}")
    if np.array_equal(found, codes):
        return None
    mistakes = {
        "neighbours": np.stack([low, high], axis=-1).reshape(3, 32) - 8,
        "offset": np.concatenate([low, high], axis=1),
        "swapped": np.concatenate([high, low], axis=1) - 8,
        "blocks": np.concatenate([low, high]).reshape(3, 32) - 8,
        "unsigned": np.concatenate([low, high], axis=1).astype(np.uint8) - np.uint8(8),
    }
    for key, numbers in mistakes.items():
        if np.array_equal(found, numbers):
            return key
    block, first = (int(i) for i in np.argwhere(found != codes)[0])
    start = min(first // 8 * 8, 24)
    rows = [" ".join(f"{int(code):>3}" for code in one[block, start : start + 8]) for one in (codes, found)]
    where = f"three blocks were packed; weights {start} to {start + 7} of block {block} should be\n"
    return Verdict("other", f"{where}{rows[0]}\nand yours are\n{rows[1]}")


def best_offer(
    weights: float,
    per_token: float,
    tokens: int,
    free: float,
    offers: Mapping[Offer, float],
    scale: float = 16,
    byte: float = 8,
    choose: Callable[[list[Offer]], Any] | None = None,
) -> Any:
    """Return the offer with the smallest error that fits, or "nothing"; `scale`, `byte` and `choose` make mistakes.

    >>> best_offer(7e9, 0, 0, 5e9, {(4, 32): 0.11, (5, 32): 0.05, (6, 32): 0.03})
    (5, 32)
    """
    fits = [offer for offer in offers if weights * (offer[0] + scale / offer[1]) / byte + tokens * per_token <= free]
    best = choose or (lambda some: min(some, key=lambda offer: offers[offer]))
    return best(fits) if fits else "nothing"


def check_pick(answer: Answer) -> str | Verdict | None:
    """Return None if the choice is right for each model and card, or which mistake it looks like."""
    cases = [(*MODELS[name], tokens, free) for name, tokens, free in BUDGETS]

    def all_of(function: Answer, **change: Any) -> list[str]:
        return [_said(function, *case, dict(OFFERS), **change) for case in cases]

    right, found = all_of(best_offer), all_of(answer)
    if found == right:
        return None
    if set(found) == {"None"}:  # nothing is written yet
        answer(*cases[0], dict(OFFERS))
    if found == [choice.replace("nothing", "None") for choice in right]:
        return "none"
    mistakes: dict[str, dict[str, Any]] = {
        "no_scale": {"scale": 0},
        "bits": {"byte": 1},
        "most_bits": {"choose": max},
        "most_bits ": {"choose": lambda some: max(some, key=lambda offer: (offer[0], -offer[1]))},
        "first": {"choose": lambda some: some[0]},
        "last": {"choose": lambda some: some[-1]},
        "smallest": {"choose": lambda some: min(some, key=lambda offer: offer[0] + 16 / offer[1])},
        "error": {"choose": lambda some: min(OFFERS[offer] for offer in some)},
    }
    for key, change in mistakes.items():
        if found == all_of(best_offer, **change):
            return key.strip()
    if found == all_of(lambda weights, _, tokens, free, offers: best_offer(weights, 0, tokens, free, offers)):
        return "no_text"
    lines = [
        f"{name}, {tokens:,} tokens, {free / 1e9:.2f} GB free\n  {wanted}, yours {given[:44]}"
        for (name, tokens, free), wanted, given in zip(BUDGETS, right, found, strict=True)
        if wanted != given
    ]
    return Verdict("other", "these should be\n" + "\n".join(lines))


def _said(function: Answer, *case: Any, **change: Any) -> str:
    """Return what a function answers to a case, as text: a choice, None, or the error that it raises."""
    try:
        found = function(*case, **change)
    except ToDo:
        return "None"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return str(tuple(found) if isinstance(found, list) else found)
