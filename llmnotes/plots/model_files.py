"""The pictures of lesson 11: a folder, the bytes of safetensors, a zip archive, and a pickle's stack."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmnotes.plots.drawing import FAINT, NORMAL, SMALL, arrow, box, brace, canvas, cell, line, note, show, signed

ROLES = {
    "model.safetensors": "the weights",
    "tokenizer.json": "how text is cut into tokens",
    "config.json": "how many layers, heads, columns …",
    "chat_template.jinja": "how a chat becomes one text",
    "tokenizer_config.json": "which tokens start and end a text",
    "generation_config.json": "where an answer ends",
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
    number = int.from_bytes(content[:8], "little")
    sums = f"{content[0]} + {content[1]} × 256 + {content[2]} × 256² + …  =  {number:,}"
    note(ax, 2, 14.6, sums, NORMAL, ha="left", bold=True)
    note(ax, 2, 1.8, "letters: the header begins here", ha="left", colour=FAINT)
    show(
        ax,
        "The first 16 bytes of the file. Eight bytes make one number, the smallest part first. Then letters follow.",
        f"Two rows of eight bytes. The first row is the number {number:,}; the second row is the beginning of a JSON.",
    )


def whole_file(start: int, size: int, name: str, entry: Mapping[str, Any]) -> None:
    """Draw a safetensors file: length, header and data, and one entry of the header with the place it names."""
    ax = canvas(29)
    parts = [(1, 9, "length", "norm", 0), (10, 17, "header", "token", 8), (27, 36, "data", "table", start)]
    for x, wide, text, thing, place in parts:
        box(ax, x, 21.5, wide, 4.4, text, thing)
        note(ax, x + 0.3, 27.4, f"{place:,}", ha="left", colour=FAINT)
    note(ax, 63, 27.4, f"{size:,}", ha="right", colour=FAINT)
    first, end = entry["data_offsets"]
    left, right = (27 + 36 * place / (size - start) for place in (first, end))
    brace(ax, (left, 21.2), (right, 21.2), f"from {first:,} to {end:,}")
    box(ax, 1, 3.6, 48, 10.6, "", "token")
    note(ax, 2.4, 12, f'"{name}":', ha="left", code=True)
    note(ax, 4.4, 9.4, f'{{"dtype": "{entry["dtype"]}", "shape": {entry["shape"]},', ha="left", code=True)
    note(ax, 4.4, 6.6, f'"data_offsets": [{first}, {end}]}}', ha="left", code=True)
    arrow(ax, (12, 21.3), (12, 14.5), thing="token")
    line(ax, [(38, 6.6), (54, 6.6), (54, 18.5)], "table")
    arrow(ax, (54, 18.5), ((left + right) / 2 + 9.5, 18.5), thing="table")
    note(ax, 1, 1.4, f"data begins at byte {start:,}; offsets count from there", ha="left")
    show(
        ax,
        "A safetensors file; above it, at which byte each part begins. The header has an entry for every tensor: its "
        "type, its shape, and from where to where its bytes lie. Within the data, the brace is to scale.",
        f"Three boxes: length, header, data. An arrow leads from the header to its entry for {name}, and one from the "
        f"entry's data_offsets to the brace under the first part of the data, from {first:,} to {end:,}.",
    )


def address(start: int, first: int, row: int, columns: int, raw: bytes, values: Sequence[float]) -> None:
    """Draw the way to one row of a matrix: start of the data, offset of the tensor, rows before it, and its bytes."""
    ax = canvas(24)
    skipped, width = row * columns * len(raw) // len(values), len(raw) // len(values)
    steps = [
        (f"{start:,}", "header ends"),
        (f"+ {first:,}", "the table"),
        (f"+ {row} × {columns} × {width}", "rows before"),
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
        f"Three boxes, {start:,} and {first:,} and {row} × {columns} × {width}, add up to a fourth: the row's place, "
        f"{start + first + skipped:,}. An arrow leads from it to the row's first eight bytes and their four numbers.",
    )


def bits(pair: bytes, value: float) -> None:
    """Draw the 16 bits of a BF16 number and the 16 zeros that make a float32 of it."""
    ax = canvas(18.5)
    word = f"{int.from_bytes(pair, 'little'):016b}"
    for i, bit in enumerate(word + "0" * 16):
        thing, share = ("alarm", 0.2) if i == 0 else ("attention", 0.2) if i < 9 else ("stream", 0.2)
        cell(ax, 0.8 + 1.95 * i, 9, 1.95, 3.4, bit, "old" if i > 15 else thing, 0 if i > 15 else share, code=True)
    size, digits = int(word[1:9], 2), int(word[9:], 2)
    note(ax, 0.7, 15.3, "sign", ha="left")
    brace(ax, (2.9, 12.6), (18.1, 12.6), f"size: {size}", "above")
    brace(ax, (18.6, 12.6), (31.8, 12.6), f"digits: {digits}", "above")
    brace(ax, (32.4, 12.6), (63, 12.6), "16 zeros make it a float32", "above")
    sign = "−" if word[0] == "1" else ""
    text = f"{sign}2^({size} − 127) × (1 + {digits}/128)  =  {signed(value, '{:+.4f}')}"
    note(ax, 1, 5.6, text, NORMAL, ha="left", bold=True)
    note(ax, 1, 2, f"bytes in the file: {pair.hex(' ')}; the number's upper byte comes last", ha="left", colour=FAINT)
    show(
        ax,
        "One number in BF16: a sign, eight bits for the size, seven for the digits. Zeros make a float32 of it.",
        f"32 cells with bits: one for the sign, eight for the size {size}, seven for the digits {digits}, "
        f"and 16 zeros. Below, the formula that makes {value:.4f} of them.",
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


def archive(records: Sequence[Any], size: int, program: bytes) -> None:
    """Draw a file of torch.save to scale, and under a lens what its program asks for first: a storage by its number."""
    ax = canvas(35)
    by_name = {record.filename.partition("/")[2]: record for record in records}
    numbers = [name for name in by_name if name.startswith("data/")]
    note(ax, 1, 33.4, f"the whole file, {size:,} bytes, to scale", ha="left")
    for name in numbers:
        x, wide = (62 * part / size for part in (by_name[name].header_offset, by_name[name].file_size))
        cell(ax, 1 + x, 24.6, wide, 3.6, "", "table", 0.3)
    rest = sum(by_name[name].file_size for name in by_name if name not in numbers)
    right = 1 + 62 * by_name[numbers[1]].header_offset / size
    brace(ax, (1, 28.4), (right, 28.4), numbers[0], "above")
    note(ax, 63, 22.4, f"{len(numbers)} records of numbers, one for each storage", ha="right", bold=True)
    line(ax, [(1, 15.4), (1, 24.4), (25.4, 15.4)], "old")
    box(ax, 0.8, 3.8, 24.6, 11.6, "", "attention")
    note(ax, 13, 13.2, "data.pkl", bold=True)
    note(ax, 13, 9.3, f"{by_name['data.pkl'].file_size:,} bytes: a program,\nwhich says what is which")
    note(
        ax,
        13,
        5.6,
        f"and {len(by_name) - len(numbers) - 1} little ones, {rest - by_name['data.pkl'].file_size} bytes",
        colour=FAINT,
    )
    name, asked = asked_first(program)
    box(ax, 29, 3.8, 34, 11.6, "", "token")
    note(ax, 30.4, 13.2, name, ha="left", code=True)
    given = f"'{asked[0]}', {asked[1]},\n'{asked[2]}', '{asked[3]}', {asked[4]}"
    note(ax, 30.4, 8.6, given, ha="left", code=True)
    arrow(ax, (25.6, 9.6), (28.8, 9.6), thing="attention")
    line(ax, [(31, 15.6), (31, 19)], "table")
    arrow(ax, (31, 19), ((1 + right) / 2, 24.4), thing="table")
    note(ax, 1, 1.4, "Rename it to .zip, and your desktop opens it.", ha="left")
    show(
        ax,
        "A file of torch.save is a zip archive, nearly all of it numbers. The program, too thin to see, says in which "
        "record a tensor's numbers are.",
        f"A strip to scale: {len(numbers)} records of numbers, the first called {numbers[0]}. A lens enlarges its left "
        f"edge, data.pkl, and a box shows what it says about {name}; an arrow leads from '{asked[2]}' to {numbers[0]}.",
    )


def asked_first(program: bytes) -> tuple[str, list[str]]:
    """Return (name, what the program of torch.save asks for) of the first tensor in a dictionary; nothing is run.

    >>> import io, torch, zipfile
    >>> torch.save({"w": torch.ones(2, 3)}, file := io.BytesIO())
    >>> asked_first(zipfile.ZipFile(file).read("archive/data.pkl"))
    ('w', ['storage', 'FloatStorage', '0', 'cpu', '6'])
    """
    seen = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "BINPERSID":
            return seen[0], seen[-5:]
        if argument is not None and opcode.name not in ("PROTO", "BINPUT", "LONG_BINPUT"):
            seen.append(str(argument).rpartition(" ")[2])
    raise ValueError("the program asks for no storage")


def machine(program: bytes) -> list[tuple[str, list[str]]]:
    """Return [(step, the stack after it)] for a small pickle, without running it; notes for the memo are left out.

    Of a path only its end is shown, and what a called function returns is not known: it is "a result".

    >>> import pickle
    >>> machine(pickle.dumps({"a": 1}, protocol=2))[-2:]
    [('SETITEM', ['{a: 1}']), ('STOP', [])]
    """
    found: list[tuple[str, list[str]]] = []
    stack: list[str] = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("PROTO", "BINPUT"):
            continue
        short = None if argument is None else re.sub(r"^(/|[A-Z]:).*[/\\\\](?=.)", "…/", str(argument))
        count = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "SETITEM": 2, "REDUCE": 2, "STOP": 1}.get(opcode.name, 0)
        taken, stack = stack[len(stack) - count :], stack[: len(stack) - count]
        if opcode.name == "SETITEM":
            stack[-1] = "{" + f"{taken[0]}: {taken[1]}" + "}"
        elif opcode.name.startswith("TUPLE"):
            stack.append(f"({', '.join(taken)}{',' * (count == 1)})")
        elif opcode.name == "REDUCE":
            stack.append("a result")
        elif opcode.name != "STOP":
            known = {"NEWTRUE": "True", "NEWFALSE": "False", "EMPTY_DICT": "{}"}
            stack.append(known[opcode.name] if short is None else short.replace(" ", "."))
        found.append((opcode.name if short is None else f"{opcode.name} {short}", list(stack)))
    return found


def stack(program: bytes) -> None:
    """Draw what a small pickle does, step by step: the instruction, and what lies on the stack after it."""
    steps = machine(program)
    called = any(name == "REDUCE" for name, _ in steps)
    pad, left, gap = (1.5, 23.0, 0.4) if called else (2.6, 27.0, 0.6)
    ax = canvas(4.6 * len(steps) + 3.4)
    note(ax, 1, 4.6 * len(steps) + 1.8, "instruction", ha="left", colour=FAINT)
    note(ax, left, 4.6 * len(steps) + 1.8, "what lies on the stack", ha="left", colour=FAINT)
    for i, (name, values) in enumerate(steps):
        y, bad = 4.6 * (len(steps) - i) - 2.6, name == "REDUCE"
        note(ax, 1, y, name, ha="left", code=True, bold=bad, colour="alarm" if bad else "token")
        x = left
        for value in ["…", *values[2:]] if called and len(values) > 2 else values:
            wide = pad + 0.97 * len(value)
            box(ax, x, y - 1.9, wide, 3.8, value, "old" if value == "…" else "alarm" if bad else "token", size=SMALL)
            x += wide + gap
        if name == "STOP":
            note(ax, left, y, "empty: the last thing is handed over", ha="left", colour=FAINT)
        if bad:
            note(ax, x + 0.6, y, "the function is called, now", ha="left", bold=True, colour="alarm")
    caption = (
        "The same machine, and the program of our bomb. GLOBAL imports a function; REDUCE calls it, while the file is "
        f"opened, and puts down what it returns. (The path is shortened; … stands for {' and '.join(steps[1][1])}.)"
        if called
        else "A pickle at work, from top to bottom. Each instruction puts something on a stack, or joins what is there."
    )
    what = next(values[2] for name, values in steps if name.startswith("GLOBAL")) if called else steps[-2][1][0]
    end = f"REDUCE, in red, takes {what} and its arguments away and leaves a result" if called else f"it builds {what}"
    show(
        ax,
        caption,
        f"{len(steps)} instructions, one below the other, from {steps[0][0]} to STOP, and beside each the stack after "
        f"it: {end}.",
    )
