"""The pictures of lesson 11: a folder, the bytes of safetensors, shards, a zip archive, and a pickle's stack."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmnotes.plots.drawing import FAINT, NORMAL, SMALL, arrow, box, brace, canvas, cell, line, note, show, signed

ROLES = {
    "model.safetensors": "the weights",
    "tokenizer.json": "how text is cut into tokens",
    "config.json": "how many layers, heads, columns …",
    "chat_template.jinja": "how a conversation becomes one text",
    "tokenizer_config.json": "which tokens start and end a text",
    "generation_config.json": "how the next token is chosen",
}


def folder(path: Path) -> None:
    """Draw the files of a model's folder: what each is for, how large it is, and its share of the whole."""
    sizes = {file.name: file.stat().st_size for file in path.iterdir() if file.name in ROLES}
    names = sorted(sizes, key=lambda name: -sizes[name])
    ax = canvas(4.3 * len(names) + 8)
    for i, name in enumerate(names):
        y = 4.3 * (len(names) - i) + 7.4
        box(ax, 1, y - 3.6, 23, 3.6, name, "token", size=SMALL)
        note(ax, 25.5, y - 1.8, ROLES[name], ha="left")
        note(ax, 63, y - 1.8, f"{sizes[name]:,} bytes", ha="right", bold=i == 0)
    total, at = sum(sizes.values()), 1.0
    for i, name in enumerate(names[:2]):
        wide = 62 * sizes[name] / total
        cell(ax, at, 3.4, wide, 2.4, "", "table" if i == 0 else "token", 0.5)
        at += wide
    weights, cutting = (sizes[name] / total for name in names[:2])
    note(ax, 1, 1.6, f"all bytes, to scale: {weights:.0%} are weights", ha="left")
    note(ax, 63, 1.6, f"the tokenizer: {cutting:.0%}", ha="right")
    show(
        ax,
        "Pebble's folder. One file has the weights, the others tell a program what to do with them.",
        f"{len(names)} files with their tasks and sizes, and one bar: nearly all bytes belong to model.safetensors.",
    )


def first_bytes(content: bytes) -> None:
    """Draw the first 16 bytes of a safetensors file: a number of eight bytes, then letters."""
    ax = canvas(23.5)
    for half in range(2):
        for i in range(8):
            byte, x, y = content[8 * half + i], 2 + 7.6 * i, 17 - 11 * half
            cell(
                ax, x, y, 7, 3.6, f"{byte:02x}", "table" if half == 0 else "token", 0.25 if half == 0 else 0, code=True
            )
            note(ax, x + 3.5, y + 4.8, str(8 * half + i), colour=FAINT)
            if half:
                note(ax, x + 3.5, y - 1.8, chr(byte), NORMAL, code=True, bold=True)
    low, high = content[0], content[1]
    number = int.from_bytes(content[:8], "little")
    note(ax, 2, 14.6, f"{low} + {high} × 256 + 0 × 256² + …  =  {number:,}", NORMAL, ha="left", bold=True)
    note(ax, 2, 1.8, "letters: the header begins here", ha="left", colour=FAINT)
    show(
        ax,
        "The first 16 bytes of the file. Eight bytes make one number, the smallest part first. Then letters follow.",
        f"Two rows of eight bytes. The first row is the number {number:,}; the second row is the beginning of a JSON.",
    )


def whole_file(start: int, size: int, name: str, entry: Mapping[str, Any]) -> None:
    """Draw a safetensors file: length, header and data, and one entry of the header with the place it names."""
    ax = canvas(27)
    parts = [(1, 9, "length", "norm", 0), (10, 17, "header", "token", 8), (27, 36, "data", "table", start)]
    for x, wide, text, thing, place in parts:
        box(ax, x, 19.5, wide, 4.4, text, thing)
        note(ax, x + 0.3, 25.4, f"{place:,}", ha="left", colour=FAINT)
    note(ax, 63, 25.4, f"{size:,}", ha="right", colour=FAINT)
    first, end = entry["data_offsets"]
    box(ax, 1, 3.6, 62, 10.6, "", "token")
    note(ax, 2.4, 12, f'"{name}":', ha="left", code=True)
    note(ax, 4.4, 9.4, f'{{"dtype": "{entry["dtype"]}", "shape": {entry["shape"]},', ha="left", code=True)
    note(ax, 4.4, 6.6, f'"data_offsets": [{first}, {end}]}}', ha="left", code=True)
    line(ax, [(10, 19.5), (1.4, 14.2)], "old")
    line(ax, [(27, 19.5), (62.6, 14.2)], "old")
    arrow(ax, (40, 6.6), (49, 6.6), thing="table")
    note(ax, 50, 6.6, "in data", ha="left")
    note(ax, 1, 1.4, f"data begins at byte {start:,}; offsets count from there", ha="left")
    show(
        ax,
        "A safetensors file, not to scale; above it, at which byte each part begins. The header has an entry for every "
        "tensor: its type, its shape, and from where to where its bytes lie.",
        f"Three boxes: length, header, data. Below, the header's entry for {name}, whose offsets point into the data.",
    )


def address(start: int, first: int, row: int, columns: int, raw: bytes, values: Sequence[float]) -> None:
    """Draw the way to one row of a matrix: start of the data, offset of the tensor, rows before it, and its bytes."""
    ax = canvas(24)
    skipped = row * columns * 2
    steps = [
        (f"{start:,}", "header ends"),
        (f"+ {first:,}", "the table"),
        (f"+ {row} × {columns} × 2", "rows before"),
        (f"= {start + first + skipped:,}", "our row"),
    ]
    for i, (text, small) in enumerate(steps):
        x, wide = ((1, 12), (13.6, 10), (24.2, 23.6), (48.8, 14.2))[i]
        box(ax, x, 15.4, wide, 6.4, text, "table" if i < 3 else "stream", small, size=SMALL)
    for i in range(4):
        x = 3 + 15 * i
        cell(ax, x, 7.6, 6, 3.4, f"{raw[2 * i]:02x}", "stream", 0.15, code=True)
        cell(ax, x + 6, 7.6, 6, 3.4, f"{raw[2 * i + 1]:02x}", "stream", 0.15, code=True)
        brace(ax, (x, 7.4), (x + 12, 7.4), signed(values[i], "{:+.4f}"))
    arrow(ax, (55.9, 15.2), (55.9, 12.6), thing="stream")
    line(ax, [(55.9, 12.6), (3, 12.6)], "stream")
    arrow(ax, (3.2, 12.6), (3.2, 11.2), thing="stream")
    note(ax, 1, 2, f"two bytes make a number; the row goes on for {columns} of them", ha="left", colour=FAINT)
    show(
        ax,
        "Where the row of ␣a lies: skip the header, go to the table, skip the rows before. Two bytes make a number.",
        "Three boxes whose numbers add up to the place of the row. Below, its first eight bytes and the four numbers.",
    )


def bits(pair: bytes, value: float) -> None:
    """Draw the 16 bits of a BF16 number and the 16 zeros that make a float32 of it."""
    ax = canvas(18.5)
    word = f"{int.from_bytes(pair, 'little'):016b}"
    for i, bit in enumerate(word + "0" * 16):
        thing, share = ("alarm", 0.2) if i == 0 else ("attention", 0.2) if i < 9 else ("stream", 0.2)
        cell(ax, 0.8 + 1.95 * i, 9, 1.95, 3.4, bit, "old" if i > 15 else thing, 0 if i > 15 else share, code=True)
    exponent, fraction = int(word[1:9], 2), int(word[9:], 2)
    note(ax, 0.7, 15.3, "sign", ha="left")
    brace(ax, (2.9, 12.6), (18.1, 12.6), f"exponent: {exponent}", "above")
    brace(ax, (18.6, 12.6), (31.8, 12.6), f"fraction: {fraction}", "above")
    brace(ax, (32.4, 12.6), (63, 12.6), "16 zeros make it a float32", "above")
    sign = "−" if word[0] == "1" else ""
    text = f"{sign}2^({exponent} − 127) × (1 + {fraction}/128)  =  {signed(value, '{:+.4f}')}"
    note(ax, 1, 5.6, text, NORMAL, ha="left", bold=True)
    note(ax, 1, 2, f"bytes in the file: {pair.hex(' ')}; the number's upper byte comes last", ha="left", colour=FAINT)
    show(
        ax,
        "One number in BF16: a sign, eight bits for the size, seven for the digits. Zeros make a float32 of it.",
        f"32 cells with bits. The first 16 are those of the file, the others are zeros. Together they are {value:.4f}.",
    )


def padding(text: bytes) -> None:
    """Draw the last bytes of a header, which spaces fill up so that the data begins at a multiple of eight."""
    ax = canvas(15)
    shown = text[-16:]
    words = len(text.rstrip(b" "))
    for i, byte in enumerate(shown):
        place = len(text) - 16 + i
        filled = place >= words
        cell(
            ax,
            1 + 2.9 * i,
            7,
            2.9,
            3.4,
            "␣" if filled else chr(byte),
            "norm" if filled else "token",
            0.3 * filled,
            True,
        )
    box(ax, 48.4, 6.5, 14.6, 4.4, "data …", "table")
    note(ax, 48.4, 12.4, f"byte {8 + len(text):,}", ha="left")
    note(ax, 1, 12.4, f"byte {8 + len(text) - 16:,}", ha="left", colour=FAINT)
    spaces = len(text) - words
    if spaces:
        brace(ax, (1 + 2.9 * (16 - spaces), 6.6), (47.4, 6.6), f"{spaces} spaces")
    note(ax, 1, 1.6, f"{8 + len(text):,} = {(8 + len(text)) // 8:,} × 8", ha="left")
    show(
        ax,
        "The end of Pebble's header. Spaces fill it up, so that the data begins at a multiple of eight bytes.",
        f"The last 16 letters of the JSON, {spaces} of them spaces, and behind them the data.",
    )


def shards(index: Mapping[str, Any], place: Path, tied: str, table: str) -> None:
    """Draw an index that says which shard has which tensor, and a name that no shard has because it is tied."""
    ax = canvas(28)
    sizes = {file.name: file.stat().st_size for file in sorted(place.glob("*.safetensors"))}
    names = list(sizes)
    front = box(ax, 15, 22, 34, 4.8, "model.safetensors.index.json", "token", size=SMALL)
    for i, name in enumerate(names):
        held = [tensor for tensor, file in index["weight_map"].items() if file == name]
        x = 1 + 21.2 * i
        spot = box(
            ax, x, 10.8, 19.6, 5.4, f"…{name[5:-12]}", "table", f"{len(held)} tensors, {sizes[name] / 1e6:.1f} MB"
        )
        arrow(ax, front.bottom, spot.top)
        if table in held:
            note(ax, x + 9.8, 8.9, table.removeprefix("model."), colour=FAINT)
            away = box(ax, 1, 1.6, 19.6, 3.8, tied, "old", size=SMALL)
            arrow(ax, away.top, (away.top[0], 7.7), thing="old")
    note(ax, 22.4, 4.3, "no bytes of its own: the same table,", ha="left", colour=FAINT)
    note(ax, 22.4, 1.9, "used once more at the end", ha="left", colour=FAINT)
    show(
        ax,
        "The index says which shard has which tensor. The table's second name stands in none of them.",
        f"An index with arrows to {len(names)} files. A pale box, {tied}, points to the table in one of them.",
    )


def archive(records: Sequence[Any], size: int) -> None:
    """Draw a file of torch.save: a zip archive with a program and the tensors' bytes."""
    ax = canvas(19)
    by_name = {record.filename.partition("/")[2]: record for record in records}
    numbers = [name for name in by_name if name.startswith("data/")]
    shown = [("data.pkl", 14, "attention"), (numbers[0], 17, "table"), (numbers[1], 10, "table"), ("…", 4, "table")]
    x = 1.0
    for name, wide, thing in [*shown, ("directory", 16, "token")]:
        spot = box(ax, x, 8.6, wide, 5, name, thing, size=SMALL)
        if name in by_name:
            note(ax, spot.centre[0], 15.4, f"{by_name[name].file_size:,} B", colour=FAINT)
        x += wide + 0.2
    note(ax, 8, 6.4, "a program:\nwhat is which", bold=True)
    note(ax, 32, 6.4, f"{len(numbers)} records, one for each tensor\nthat has bytes of its own", bold=True)
    note(ax, 55, 6.4, "of the zip")
    note(ax, 63, 17.4, f"{size:,} bytes in all", ha="right", colour=FAINT)
    note(ax, 1, 1.8, "Rename it to .zip, and your desktop opens it.", ha="left")
    show(
        ax,
        "A file of torch.save is a zip archive: the tensors' bytes, and a pickle that says what they are.",
        f"A strip with data.pkl, records of numbers and the directory of the archive. It has {len(numbers)} records.",
    )


def machine(program: bytes) -> list[tuple[str, list[str]]]:
    """Return [(step, the stack after it)] for a small pickle, without running it; notes for the memo are left out.

    >>> import pickle
    >>> machine(pickle.dumps({"a": 1}, protocol=2))[-2:]
    [('SETITEM', ['{a: 1}']), ('STOP', [])]
    """
    found: list[tuple[str, list[str]]] = []
    stack: list[str] = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("PROTO", "BINPUT"):
            continue
        if opcode.name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1] = "{" + f"{key}: {value}" + "}"
        elif opcode.name == "TUPLE1":
            stack[-1] = f"({stack[-1]},)"
        elif opcode.name == "REDUCE":
            given, function = stack.pop(), stack.pop()
            stack.append(f"{function}{given.replace(',)', ')')}")
        elif opcode.name == "STOP":
            stack.pop()
        else:
            stack.append("{}" if argument is None else str(argument).replace(" ", "."))
        found.append((opcode.name if argument is None else f"{opcode.name} {argument}", list(stack)))
    return found


def stack(program: bytes, alarm: str = "REDUCE") -> None:
    """Draw what a small pickle does, step by step: the instruction, and what lies on the stack after it."""
    steps = machine(program)
    ax = canvas(4.6 * len(steps) + 3.4)
    note(ax, 1, 4.6 * len(steps) + 1.8, "instruction", ha="left", colour=FAINT)
    note(ax, 27, 4.6 * len(steps) + 1.8, "what lies on the stack", ha="left", colour=FAINT)
    for i, (name, values) in enumerate(steps):
        y, bad = 4.6 * (len(steps) - i) - 2.6, name == alarm
        note(ax, 1, y, name, ha="left", code=True, bold=bad, colour="alarm" if bad else "token")
        x = 27.0
        for value in values:
            wide = 2.6 + 0.97 * len(value)
            box(ax, x, y - 1.9, wide, 3.8, value, "alarm" if bad else "token", size=SMALL)
            x += wide + 0.6
        if name == "STOP":
            note(ax, 27, y, "empty: the last thing is handed over", ha="left", colour=FAINT)
        if bad:
            note(ax, x + 0.6, y, "is called, now", ha="left", bold=True, colour="alarm")
    called = any(name == alarm for name, _ in steps)
    caption = (
        "The same machine, another program. GLOBAL imports a function; REDUCE calls it, while the file is opened."
        if called
        else "A pickle at work, from top to bottom. Each instruction puts something on a stack, or joins what is there."
    )
    show(
        ax,
        caption,
        f"{len(steps)} instructions, one below the other, and beside each the stack of values after it.",
    )


def bomb() -> None:
    """Draw what a pickle bomb does that makes a folder called canary; nothing is run."""

    class Bomb:
        def __reduce__(self) -> tuple:
            return os.makedirs, ("canary",)

    stack(pickle.dumps(Bomb(), protocol=2))


def numbers_of(raw: bytes) -> np.ndarray:
    """Return the BF16 numbers in `raw` as float32.

    >>> numbers_of(bytes.fromhex("043c88be"))
    array([ 0.00805664, -0.265625  ], dtype=float32)
    """
    halves = np.frombuffer(raw, "<u2").astype("<u4")
    return (halves << 16).view("<f4")
