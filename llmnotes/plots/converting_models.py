"""The pictures of lesson 12: a GGUF's bytes, the order of rows, and what a conversion changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmnotes.plots.drawing import (
    FAINT,
    INK,
    NORMAL,
    SMALL,
    THINGS,
    arrow,
    box,
    brace,
    canvas,
    cell,
    chart,
    line,
    note,
    show,
    signed,
)

HELD = ("weights", "settings", "tokenizer", "computation")
FILES = {
    "safetensors": (True, False, False, False),
    "pytorch_model.bin": (True, False, False, False),
    "GGUF": (True, True, True, False),
    "ONNX": (True, False, False, True),
    "TF checkpoint": (True, False, False, False),
    "TF SavedModel": (True, False, False, True),
}
HISTORY = (
    ("GGML", "March 2023", "the first"),
    ("GGMF", "March 2023", "a version"),
    ("GGJT", "March to August 2023", "can be mapped"),
    ("GGUF", "since August 2023", "names for all"),
)


def two_files(safe: bytes, whole: bytes, first: str, data: int) -> None:
    """Draw safetensors and GGUF as strips with the places at which their parts begin.

    `first` is the name of the GGUF's first tensor, `data` the byte at which its tensors begin.
    """
    ax = canvas(23)
    start = 8 + int.from_bytes(safe[:8], "little")
    tokenizer, entries = (whole.find(name.encode()) - 8 for name in ("tokenizer.ggml.model", first))
    rows = {
        "safetensors": [(13, 8, "length", "norm", 0), (21, 16, "header", "token", 8), (37, 26, "data", "table", start)],
        "GGUF": [
            (13, 8, "head", "norm", 0),
            (21, 10, "settings", "token", 24),
            (31, 11, "tokenizer", "mlp", tokenizer),
            (42, 9, "entries", "token", entries),
            (51, 12, "data", "table", data),
        ],
    }
    for y, (name, parts), end in zip((14.6, 4.6), rows.items(), (len(safe), len(whole)), strict=True):
        note(ax, 12.4, y + 2.2, name, ha="right", bold=True)
        for x, wide, text, thing, place in parts:
            box(ax, x, y, wide, 4.4, text, thing, size=SMALL)
            note(ax, x + 0.3, y + 5.6, f"{place:,}", ha="left", colour=FAINT)
        note(ax, 63, y - 1.6, f"{end:,} bytes", ha="right", colour=FAINT)
    show(
        ax,
        "The same model in two kinds of file, not to scale; above each part its first byte. A GGUF holds settings and "
        "tokenizer, too.",
        "Two strips. safetensors has length, header, data; GGUF has head, settings, tokenizer, entries, data.",
    )


def pair(raw: bytes, key: str) -> None:
    """Draw one key and its value as they stand in a GGUF: length, letters, kind, a whole number of four bytes."""
    ax = canvas(15.5)
    count = len(key.encode())
    value = int.from_bytes(raw[12 + count : 16 + count], "little")
    parts = [
        (1, 16, raw[:8].hex(" ")[:11] + " …", f"length: {count}", "norm"),
        (17, 20, f"{key}", f"{count} letters", "token"),
        (37, 13, raw[8 + count : 12 + count].hex(" "), f"kind {raw[8 + count]}", "attention"),
        (50, 13, raw[12 + count : 16 + count].hex(" "), f"value: {value}", "table"),
    ]
    for x, wide, text, under, thing in parts:
        cell(ax, x, 8.4, wide, 4, text, thing, 0.12, code=True)
        brace(ax, (x + 0.4, 8.2), (x + wide - 0.4, 8.2), under)
    note(ax, 1, 1.6, "kind 4 is a whole number of four bytes; 8 is a text, 9 a list", ha="left", colour=FAINT)
    show(
        ax,
        "One setting in the file. A text has its length in front; a value has its kind in front.",
        f"Four groups of bytes: a length of {count}, the name {key}, a kind, and the value {value}.",
    )


def rows_of_a_head(order: Sequence[int]) -> None:
    """Draw where the rows of one head go: `order` has the PyTorch row of each row in the file."""
    ax, count = canvas(3.2 * len(order) + 5), len(order)
    top = 3.2 * count + 1.2
    note(ax, 13, top + 2, "q in PyTorch", NORMAL, bold=True)
    note(ax, 49, top + 2, "q in the GGUF", NORMAL, bold=True)
    for i in range(count):
        thing = "attention" if i < count // 2 else "stream"
        cell(ax, 6, top - 3.2 * (i + 1), 14, 2.8, f"row {i}", thing, 0.2)
    for i, row in enumerate(order):
        thing = "attention" if row < count // 2 else "stream"
        y = top - 3.2 * (i + 1) + 1.4
        cell(ax, 42, y - 1.4, 14, 2.8, f"row {row}", thing, 0.2)
        arrow(ax, (20.4, top - 3.2 * (row + 1) + 1.4), (41.4, y), thing=thing)
    for i in range(count // 2):
        y = top - 6.4 * i - 3.2
        line(ax, [(57, y + 2.6), (58, y + 2.6), (58, y - 2.2), (57, y - 2.2)], "old")
    for i in range(count // 2):
        note(ax, 58.8, top - 6.4 * i - 3, "pair", ha="left", colour=FAINT) if i == 0 else None
    show(
        ax,
        "The rows of one head of eight. transformers turns row 0 with row 4, llama.cpp turns neighbours. So the "
        "rows change places, and the pairs stay the same.",
        f"Eight rows at the left, orange and blue; arrows to the right, where they alternate: {list(order)}.",
    )


def gaps(found: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    """Draw the largest difference of a logit for each form, on a scale where each step is ten times as much."""
    ax = canvas(4.2 * len(found) + 9.4)
    floor, right = -6.0, 1.0
    left, wide = 20.0, 28.0
    rounded = sum(gap > 0 for gap in found.values())
    for tick in range(-5, 0, 2):
        x = left + wide * (tick - floor) / (right - floor)
        line(ax, [(x, 6.2), (x, 4.2 * rounded + 6)], "old", 0.7)
        note(ax, x, 4.6, f"{10.0**tick:g}", colour=FAINT)
    for i, (name, gap) in enumerate(found.items()):
        y = 4.2 * (len(found) - i) + 4.4
        note(ax, left - 1, y, f"{name}, {sizes[name] / 1e6:.1f} MB", ha="right")
        if gap == 0:
            note(ax, left + 0.6, y, "0: every bit is the same", ha="left", bold=True)
            continue
        reach = wide * (np.log10(gap) - floor) / (right - floor)
        cell(ax, left, y - 1.3, reach, 2.6, "", "stream", 0.7)
        note(ax, left + reach + 0.8, y, f"{gap:.2g}", ha="left")
    note(ax, left, 1.9, "largest difference of a logit", ha="left", colour=FAINT)
    show(
        ax,
        "The largest difference between a form's logits and the folder's. Each grid line is 100 times the last.",
        "Horizontal bars on a logarithmic scale: " + ", ".join(found) + ". The first ones have none.",
    )


def by_position(words: Sequence[str], differences: np.ndarray, base: float, wrong: float) -> None:
    """Draw how far the logits are off at each position of a text, when the base of the positions is wrong."""
    ax = canvas(24)
    top = float(differences.max())
    plot = chart(ax, 8, 8.6, 54, 13, xlim=(-0.6, len(words) - 0.4), ylim=(0, top * 1.12))
    plot.bar(range(len(words)), differences, color=THINGS["alarm"][0], width=0.6)
    plot.set_xticks(
        range(len(words)), words, rotation=55, ha="right", rotation_mode="anchor", family="DejaVu Sans Mono"
    )
    note(
        ax, 1, 22.6, f"largest difference of a logit, base {wrong:,.0f} in place of {base:,.0f}", ha="left", colour=INK
    )
    show(
        ax,
        "What the wrong base does at each position. The first token has nobody to look back at.",
        f"Bars above {len(words)} tokens. The first is 0, later ones are up to {top:.0f}.",
    )


def ancestors() -> None:
    """Draw the formats before GGUF with the first four bytes of their files, oldest first."""
    signs = HISTORY
    ax = canvas(7.4 * len(signs) + 1.4)
    for i, (name, when, new) in enumerate(signs):
        first = name.encode() if name == "GGUF" else name.lower().encode()[::-1]
        y = 7.4 * (len(signs) - 1 - i) + 1.6
        last = i == len(signs) - 1
        spot = box(ax, 1, y, 11, 4.8, name, "table" if last else "old")
        cell(ax, 14, y + 0.6, 11, 3.6, first.decode(), "table" if last else "old", 0.15, code=True)
        note(ax, 26.5, y + 2.4, when, ha="left", colour=FAINT)
        note(ax, 45, y + 2.4, new, ha="left")
        if not last:
            arrow(ax, spot.bottom, (spot.bottom[0], spot.bottom[1] - 2.6))
    show(
        ax,
        "GGUF and its ancestors. In the second column, the first four bytes as letters. The older ones wrote "
        "their name as a number, so it stands backwards.",
        "Four formats one below the other: "
        + ", ".join(name for name, *_ in signs)
        + ", with their first four letters.",
    )


def what_is_where() -> None:
    """Draw the table of kinds of files and what each holds."""
    held = FILES
    ax = canvas(4 * len(held) + 5)
    top = 4 * len(held) + 1
    for j, head in enumerate(HELD):
        note(ax, 26.5 + 10.6 * j, top + 2, head, bold=True)
    for i, (name, answers) in enumerate(held.items()):
        y = top - 4 * (i + 1)
        note(ax, 20, y + 1.8, name, ha="right", code=True)
        for j, yes in enumerate(answers):
            cell(ax, 21.6 + 10.6 * j, y, 9.8, 3.6, "yes" if yes else "–", "mlp" if yes else "old", 0.3 if yes else 0)
    show(
        ax,
        "What is in which file. Only a GGUF has all that a chat needs: llama.cpp brings the computation.",
        f"A table of {len(held)} kinds of files and {len(HELD)} columns: " + ", ".join(HELD) + ".",
    )


def delta(base: float, difference: float, total: float, tuned: float) -> None:
    """Draw one weight of a base, the difference that is published, their sum, and what the tuned model has."""
    ax = canvas(15.5)
    heads = (("the base", base, "old"), ("the delta, rounded", difference, "attention"), ("their sum", total, "table"))
    for i, (head, number, thing) in enumerate(heads):
        box(ax, 1 + 22 * i, 6.4, 18, 5.6, signed(number, "{:+.7f}"), thing, head)
    note(ax, 21, 9.2, "+", NORMAL, bold=True)
    note(ax, 43, 9.2, "=", NORMAL, bold=True)
    note(ax, 54, 3.6, signed(tuned, "{:+.7f}"), bold=True)
    note(ax, 54, 1.4, "in the tuned model", colour=FAINT)
    show(
        ax,
        "One weight that doesn't come back. The difference was rounded to BF16, so the sum lands beside the target.",
        "Three boxes with one number each: base, plus delta, gives a sum; below it the target, another number.",
    )
