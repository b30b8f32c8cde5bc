"""The pictures of the lesson "Numbers in fewer bits": one number, eight weights, a row, and its blocks.

Each takes the lesson's own numbers, draws, and shows itself. What Pebble does with fewer bits is drawn in
`fewer_bits_in_pebble`.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llmnotes.plots.drawing import (
    LARGE,
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
)
from llmnotes.plots.drawing_numbers import bits, dots, fall, magnify, minus, nearest, number_line, patch, tiles


def on_the_card(billions: float, card: float, widths: tuple[int, ...] = (16, 8, 4)) -> None:
    """Draw the weights of a model in several widths as tiles of one GB, beside a card."""
    ax = canvas(20)
    x, size = 10, 2.6
    sizes = {width: billions * width / 8 for width in widths}
    ax.add_patch(
        Rectangle(
            (x - 0.5, 0.9),
            card * size + 0.7,
            14.9,
            facecolor=THINGS["old"][1],
            edgecolor=THINGS["old"][0],
            linewidth=1.4,
        )
    )
    note(ax, x + card * size / 2, 17.6, f"your card: {card} GB", NORMAL, bold=True)
    for i, (width, total) in enumerate(sizes.items()):
        y = 12.4 - 4.9 * i
        note(ax, 1, y + 1.1, f"{width} bits", NORMAL, ha="left", bold=True)
        end = tiles(ax, x, y, total, "weight", size, beyond=card)
        note(ax, max(end, x + card * size) + 1.2, y + 1.1, f"{total:g} GB", NORMAL, ha="left")
    off = sizes[widths[0]] - card
    show(
        ax,
        f"One tile is one GB. At 16 bits per weight, {off:g} of the {sizes[16]:g} tiles are off the card. At 8 bits "
        f"the weights fit and leave {card - sizes[8]:g} GB for everything else; at 4 bits they leave "
        f"{card - sizes[4]:g} GB.",
        f"Rows of tiles, one for each GB of a model with {billions} billion weights: "
        + ", ".join(f"{total:g} in {width} bits" for width, total in sizes.items())
        + f". The card has {card} GB, and the first row does not fit.",
    )


def zoom(matrix: np.ndarray, row: int, columns: slice, name: str) -> None:
    """Draw a matrix, one of its rows, and a few of that row's weights with their numbers."""
    ax = canvas(35)
    high, wide = matrix.shape
    limit = 3 * matrix.std()
    patch(ax, 14, 22, 38, 12, matrix, limit)
    y = 34 - 12 * (row + 0.5) / high
    ax.plot((14, 52), (y, y), color="black", linewidth=2, zorder=6)
    note(ax, 13, 29.2, f"{name}\n{high} × {wide}", ha="right")
    note(ax, 53, y, f"row {row}", ha="left", bold=True)
    magnify(ax, (14, 52, 22), (2, 62, 16.6))
    patch(ax, 2, 13.4, 60, 3.2, matrix[row][None], limit)
    first, last = 2 + 60 * columns.start / wide, 2 + 60 * columns.stop / wide
    ax.add_patch(Rectangle((first, 13), last - first, 4, facecolor="none", edgecolor="black", linewidth=1.8, zorder=6))
    magnify(ax, (first, last, 13), (2, 62, 8.6))
    note(ax, 62, 11.6, f"{wide} weights", ha="right")
    values = matrix[row, columns]
    for i, value in enumerate(values):
        cell(ax, 2 + 7.5 * i, 4, 7.5, 4.6, minus(f"{value:.3f}"), "weight", abs(value) / np.abs(values).max())
    note(ax, 32, 1.7, f"our eight weights: row {row}, columns {columns.start} to {columns.stop - 1}")
    show(
        ax,
        "Where our eight weights live. White is 0, and darker is larger in size; the sign is written, not coloured.",
        f"The matrix {name} as a field of green dots; below it row {row} as a stripe; below that its weights "
        f"{columns.start} to {columns.stop - 1} as eight cells with their numbers.",
    )


def anatomy(value: float, pattern: str) -> None:
    """Draw one float32 bit by bit, and what its three parts say."""
    ax = canvas(26)
    power, digits = int(pattern[1:9], 2), pattern[9:]
    fraction = 1 + int(digits, 2) / 2**23
    terms = [f"1/{2 ** (i + 1)}" for i, bit in enumerate(digits) if bit == "1"][:2]
    spans = bits(ax, 1.6, 20.6, pattern, [(1, "token"), (8, "scale"), (23, "code")])
    boxes = (
        (1, 9, "token", "sign", "+" if pattern[0] == "0" else "−"),
        (11, 20, "scale", "exponent, 8 bits", minus(f"{power} - 127 = {power - 127}")),
        (32, 31, "code", "mantissa, 23 bits", f"1 + {' + '.join(terms)} + … = {fraction:.4g}"),
    )
    for span, (x, width, thing, name, says) in zip(spans, boxes, strict=True):
        line(ax, ((span.x + 0.2, 20.1), (span.x + span.w - 0.2, 20.1)), thing, 2)
        spot = box(ax, x, 7.2, width, 6.6, "" if thing == "token" else name, thing, says if thing != "token" else None)
        if thing == "token":
            note(ax, x + width / 2, 11.7, name, bold=True)
            note(ax, x + width / 2, 9.2, says)
        arrow(ax, (span.bottom[0], 19.8), (spot.top[0], spot.top[1] + 0.2), thing=thing)
    note(ax, 32, 3, rf"$+\,{fraction:.8g} \times 2^{{{power - 127}}} \;=\; {value:.9g}$", LARGE + 2)
    show(
        ax,
        "One weight, bit by bit; a dark cell is a 1. The exponent (cyan) says how far the number is stretched, and "
        "the mantissa (magenta) says which number between 1 and 2 gets stretched.",
        f"The 32 bits of the weight {value:.9g}: one sign bit, eight exponent bits that say {power - 127}, and 23 "
        f"mantissa bits that say {fraction:.4g}. The last 16 bits are zeros.",
    )


def all_zero(weights: np.ndarray) -> None:
    """Draw the weights over whole numbers: all of them land on 0."""
    ax = canvas(17.5)
    zeros = int((np.rint(weights) == 0).sum())
    place = number_line(ax, 12, (-1.5, 1.5))
    number_line(ax, 4.4, (-1.5, 1.5), (-1, 0, 1), (-1, 0, 1), "code")
    low, high = float(place(-0.5)), float(place(0.5))
    ax.add_patch(Rectangle((low, 4.4), high - low, 7.6, facecolor=THINGS["old"][1], zorder=0))
    fall(ax, place(weights), place(np.rint(weights)), 12, 4.4)
    dots(ax, place(weights), 12)
    dots(ax, place([-1, 0, 1]), 4.4, "code", square=True)
    note(ax, 2, 15, "our eight weights", NORMAL, "weight", "left", bold=True)
    note(ax, 32, 15, "all between −0.5 and 0.5")
    note(ax, 2, 6.9, "whole numbers", NORMAL, "code", "left", bold=True)
    note(ax, 62, 6.9, f"{zeros} of {len(weights)} become 0", NORMAL, "error", "right", bold=True)
    show(
        ax,
        "Each arrow goes to the nearest whole number. All weights lie between −0.5 and 0.5, so all arrows meet at 0, "
        "and nobody can tell the eight weights apart any more.",
        "Eight weights on a number line between minus 0.5 and 0.5, each with an arrow to the nearest whole number: all "
        "arrows end at 0.",
    )


def stretch(weights: np.ndarray, scale: float, top: int) -> None:
    """Divide by the scale, then round: the weights fan out over the whole numbers from -top to top."""
    ax = canvas(36)
    grid = np.arange(-top, top + 1)
    codes = np.rint(weights / scale)
    small = number_line(ax, 30, (-1.5, 1.5), (-1, 0, 1), (-1, 1))
    wide = number_line(ax, 16.5, (-top - 0.6, top + 0.6))
    number_line(ax, 6, (-top - 0.6, top + 0.6), grid, grid, "code")
    fall(ax, small(weights), wide(weights / scale), 30, 16.5, "scale")
    fall(ax, wide(weights / scale), wide(codes), 16.5, 6)
    dots(ax, small(weights), 30)
    dots(ax, wide(weights / scale), 16.5)
    dots(ax, wide(np.unique(codes)), 6, "code", square=True)
    note(ax, 2, 33.6, "weights $w$", NORMAL, "weight", "left", bold=True)
    note(ax, 2, 23.6, f"stretch: $w / s$\nwith $s$ = {scale:.4f}", NORMAL, "scale", "left", bold=True)
    note(ax, 2, 11.2, "round", NORMAL, "code", "left", bold=True)
    note(ax, 32, 1.4, "codes $q$", NORMAL, "code", bold=True)
    largest = weights[np.abs(weights).argmax()]
    note(ax, 63, 23.6, f"the largest, {largest:.3f},\nlands on {top}", ha="right")
    counts = np.unique(codes, return_counts=True)
    double = minus(int(counts[0][counts[1].argmax()]))
    show(
        ax,
        f"Stretch, then round. The weights fan out until the largest lands on {top}. Then each goes to the nearest "
        f"whole number. Two of them end up on the same one, {double}.",
        f"The same eight weights, divided by the scale {scale:.4f}, fan out from {(weights / scale).min():.2f} to "
        f"{top} and are then rounded to the codes {', '.join(str(int(c)) for c in sorted(codes))}.",
    )


def shared(weights: np.ndarray, codes: np.ndarray, scale: float) -> None:
    """Draw eight weights in bfloat16, each with its own exponent, and in 4 bits with one scale for all."""
    ax = canvas(35.5)
    width, step, x, right = 1.75, 2.75, 7.6, 42.5
    note(ax, x, 33.6, "bfloat16", NORMAL, ha="left", bold=True)
    note(ax, right, 33.6, "codes", NORMAL, "code", ha="left", bold=True)
    for i, (weight, code) in enumerate(zip(weights, codes, strict=True)):
        y = 29.6 - step * i
        pattern = f"{np.float32(weight).view(np.uint32) >> 16:016b}"
        note(ax, 6.9, y + 1.1, minus(f"{weight:.3f}"), colour="weight", ha="right")
        bits(ax, x, y, pattern, [(1, "token"), (8, "scale"), (7, "code")], width, 2.3)
        arrow(ax, (x + 16 * width + 1, y + 1.1), (right - 1, y + 1.1), thing="old")
        for k in range(4):
            cell(ax, right + k * width, y, width, 2.3, "", "code", 0.75)
        note(ax, right + 4 * width + 2, y + 1.1, minus(int(code)), NORMAL, "code", bold=True)
    for k in range(16):
        cell(ax, 63 - (16 - k) * width, 5.9, width, 2.3, "", "scale", 0.75)
    note(ax, 63 - 8 * width, 4.3, f"one scale for all: $s$ = {scale:.4f}", colour="scale")
    n = len(weights)
    exponents = [np.float32(weight).view(np.uint32) >> 23 & 255 for weight in weights]
    differ = int(np.bitwise_or.reduce(exponents) ^ np.bitwise_and.reduce(exponents)).bit_length()
    note(ax, x, 1.4, f"{n} × 16 = {n * 16} bits", NORMAL, ha="left", bold=True)
    note(ax, 63, 1.4, f"{n} × 4 + 16 = {n * 4 + 16} bits", NORMAL, ha="right", bold=True)
    show(
        ax,
        "One cell is one bit, on both sides. On the left each weight has an exponent of its own (cyan), and only "
        f"the last {differ} bits of these differ. On the right one scale serves all eight.",
        f"Left, eight weights in bfloat16, 16 cells each: signs, exponents, mantissas; {n * 16} bits. Right, eight "
        f"codes of 4 bits and one scale of 16 bits; {n * 4 + 16} bits.",
    )


def _grids(weights: np.ndarray, rows: list[tuple[str, str, np.ndarray, np.ndarray]]) -> Axes:
    """Draw the weights over sets of levels, [(title, note on the right, levels, codes), ...]; return the axes."""
    ax = canvas(17.5 * len(rows) + 0.5)
    reach = np.abs(weights).max() * 1.1
    for i, (title, right, levels, codes) in enumerate(rows):
        y = 17.5 * (len(rows) - i) - 11.6
        place = number_line(ax, y + 7.6, (-reach, reach))
        number_line(
            ax,
            y,
            (-reach, reach),
            levels,
            levels,
            "code",
            names=[f"{v + 0.0:.3f}".replace("0.000", "0") for v in levels],
        )
        for code, x in zip(codes, place(levels), strict=True):
            note(ax, float(x), y - 4.2, minus(f"code {code}"), colour="code", bold=True)
        fall(ax, place(weights), place(nearest(weights, levels)), y + 7.6, y)
        dots(ax, place(weights), y + 7.6)
        note(ax, 3, y + 10.2, title, NORMAL, "code", "left", bold=True)
        note(ax, 61, y + 10.2, right, NORMAL, "scale", "right")
    return ax


def three_or_four(weights: np.ndarray) -> None:
    """Draw the same weights over the three levels of our recipe at 2 bits, and over all four."""
    largest = weights[np.abs(weights).argmax()]
    three, four = np.arange(-1, 2) * abs(largest), np.arange(-2, 2) * (largest / -2)
    lost = [int((nearest(weights, levels) == 0).sum()) for levels in (three, four)]
    show(
        _grids(
            weights,
            [
                (
                    f"3 levels: {lost[0]} of {len(weights)} become 0",
                    f"one step: {abs(largest):.3f}",
                    three,
                    np.arange(-1, 2),
                ),
                (
                    f"4 levels: {lost[1]} of {len(weights)} become 0",
                    f"one step: {abs(largest) / 2:.3f}",
                    np.sort(four),
                    np.arange(-2, 2)[np.argsort(four)],
                ),
            ],
        ),
        "Our eight weights in 2 bits; below each level stands its code. Above, the recipe that we know. Below, the "
        "largest weight gets the lowest code, −2: the step is only half as long. It is negative, so codes count from "
        "right to left; on the far left a code 2 is missing.",
        f"The weights over three levels, where {lost[0]} of {len(weights)} become 0, and over four levels, where "
        f"{lost[1]} do.",
    )


def _counts(side: Axes, codes: np.ndarray, top: int) -> None:
    """Draw how many weights get each code from -top to top, as bars to the right."""
    side.set(xticks=(), yticks=range(-top, top + 1), yticklabels=[minus(code) for code in range(-top, top + 1)])
    side.spines["bottom"].set_visible(False)
    side.tick_params(colors=THINGS["code"][0], length=0, pad=2)
    for code in range(-top, top + 1):
        count = int((codes == code).sum())
        side.barh(code, count, color=THINGS["old" if code == 0 else "code"][0], height=0.8)
        if count:
            side.text(
                count + 14,
                code - 0.06,
                f"{count}",
                size=SMALL,
                va="center_baseline",
                color="black" if code else THINGS["error"][0],
                weight="normal" if code else "bold",
            )


def row_on_grid(row: np.ndarray, scale: float, top: int, ours: slice) -> None:
    """Draw a whole row over the levels that its largest weight dictates, and how many weights each level gets."""
    ax = canvas(38)
    codes, at, limit = np.rint(row / scale), np.arange(len(row)), 7.7 * scale
    plot = chart(ax, 6.5, 5, 38.5, 30.5, xlim=(-14, len(row) + 8), ylim=(-limit, limit), xticks=(0, 256, 512, 768))
    for code in range(-top, top + 1):
        plot.axhline(code * scale, color=THINGS["code"][0], linewidth=0.9, alpha=0.6, zorder=0)
    plot.axhspan(-scale / 2, scale / 2, facecolor=THINGS["error"][1], zorder=0)
    for inside, thing in ((codes == 0, "old"), (codes != 0, "weight")):
        plot.scatter(at[inside], row[inside], s=9, color=THINGS[thing][0], linewidth=0, zorder=3)
    for i in np.argsort(-np.abs(row))[:3]:
        plot.scatter([i], [row[i]], s=42, color=THINGS["weight"][0], edgecolor="black", zorder=4)
        note(plot, i + 20, float(row[i]) + 0.01, minus(f"{row[i]:.2f}"), bold=True, ha="left").set_bbox(
            {"facecolor": "white", "edgecolor": "none", "pad": 1}
        )
    plot.add_patch(
        Rectangle(
            (ours.start - 8, -0.36),
            len(row[ours]) + 16,
            0.86,
            facecolor="none",
            edgecolor="black",
            linewidth=1.4,
            zorder=5,
        )
    )
    note(plot, ours.start - 8, 0.78, "our eight", ha="left").set_bbox(
        {"facecolor": "white", "edgecolor": "none", "pad": 1}
    )
    _counts(chart(ax, 49.5, 5, 13, 30.5, xlim=(0, 800), ylim=(-limit / scale, limit / scale)), codes, top)
    note(ax, 6.5, 36.8, f"weights of the row, and the {2 * top + 1} levels", ha="left")
    note(ax, 63.5, 36.8, "code: how many", ha="right", colour="code")
    note(ax, 25.7, 1.2, "column of the row")
    share = np.mean(codes == 0)
    show(
        ax,
        f"All {len(row)} weights of the row (dots) over the 15 levels of 4 bits (lines). The few largest, up to "
        f"{row.max():.2f}, pull the levels so far apart that {share:.0%} of the weights (grey) lie in the red band.",
        f"The {len(row)} weights of the row as dots, over the 15 levels of 4 bits. A few reach up to {row.max():.2f}; "
        f"{int((codes == 0).sum())} of the others lie within the band that is rounded to 0. A histogram at the side "
        "counts the codes.",
    )


def ruined(weights: np.ndarray, codes: np.ndarray, back: np.ndarray) -> None:
    """Draw our eight weights with the scale of the row, as four rows of cells."""
    lost, top = back - weights, np.abs(weights).max()
    rows = (
        ("weight $w$", weights, "{:.3f}", "weight", top),
        ("code $q$", codes, "{:.0f}", "code", 7),
        ("back $s\\,q$", back, "{:.3f}", "weight", top),
        ("error", lost, "{:.3f}", "error", top),
    )
    ax = canvas(22.5)
    for i, (name, values, form, thing, limit) in enumerate(rows):
        y = 18 - 5.6 * i
        note(ax, 0.8, y + 2, name, NORMAL, thing, "left", bold=True)
        for k, value in enumerate(values):
            cell(ax, 13 + 6.25 * k, y, 6.25, 4, minus(form.format(value + 0.0)), thing, min(abs(value) / limit, 1))
    gone, left = int((codes == 0).sum()), np.abs(back).max()
    worst, at = np.abs(lost[codes == 0]).max(), np.abs(lost).argmax()
    show(
        ax,
        f"Our eight weights with the row's scale. {gone} of them are gone, and what's left is either {left:.3f} or "
        f"−{left:.3f}. Where the code is 0 the weight itself is lost, up to {worst:.3f}; "
        + minus(f"and {weights[at]:.3f} became {back[at]:.3f}."),
        f"Four rows of eight cells: the weights, their codes, of which {gone} are 0, what comes back, and the errors.",
    )


def blocks_on_grid(row: np.ndarray, block: int, top: int) -> None:
    """Draw the row cut into blocks, each with levels of its own."""
    ax = canvas(37)
    outlier = int(np.abs(row).argmax())
    plot = chart(ax, 6.5, 5, 56, 29.5, xlim=(0, len(row)), ylim=(-2.75, 2.75), xticks=range(0, len(row) + 1, 128))
    for b in range(len(row) // block):
        levels = np.arange(-top, top + 1) * np.abs(row[b * block : (b + 1) * block]).max() / top
        plot.hlines(levels, b * block + 2, (b + 1) * block - 2, color=THINGS["code"][0], linewidth=0.9, zorder=1)
        if b == outlier // block:
            plot.axvspan(b * block, (b + 1) * block, facecolor=THINGS["error"][1], zorder=0)
    plot.scatter(np.arange(len(row)), row, s=9, color=THINGS["weight"][0], linewidth=0, zorder=3)
    plot.scatter([outlier], [row[outlier]], s=42, color=THINGS["weight"][0], edgecolor="black", zorder=4)
    note(
        plot,
        (outlier // block + 1) * block + 8,
        2.3,
        f"the largest spoils\nthese {block} only",
        NORMAL,
        "error",
        "left",
        bold=True,
    )
    note(ax, 6.5, 35.9, f"the same row, in {len(row) // block} blocks of {block}", ha="left")
    note(ax, 34, 1.2, "column of the row")
    show(
        ax,
        "Each block has 15 levels of its own. Where it has no large weight, its levels sit close together, right where "
        "its weights are.",
        f"The row cut into {len(row) // block} blocks, each with 15 levels: wide apart in the few blocks with a large "
        "weight, close together in all others.",
    )


def packing(low: int, high: int) -> None:
    """Draw how two codes become one byte, with their numbers at every step."""
    ax = canvas(34)
    for x, code, name in ((2, high, "weight 16: high half"), (35, low, "weight 0: low half")):
        note(ax, x, 32.4, name, NORMAL, "code", "left", bold=True)
        cell(ax, x, 26.6, 7, 4, minus(int(code)), "code", 0.25)
        arrow(ax, (x + 7.6, 28.6), (x + 16.4, 28.6), "+ 8")
        cell(ax, x + 17, 26.6, 7, 4, f"{int(code) + 8}", "code", 0.25)
        arrow(ax, (x + 20.5, 26.2), (x + 20.5, 23.6), thing="old")
        bits(ax, x + 12, 19.2, f"{int(code) + 8:04b}", [(4, "code")], 4.2, 4)
    byte = (int(low) + 8) | (int(high) + 8) << 4
    spots = bits(ax, 12, 8.4, f"{byte:08b}", [(4, "code"), (4, "code")], 4.8, 4.6)
    arrow(ax, (22.4, 18.8), (21.6, 13.5), thing="code")
    arrow(ax, (55.4, 18.8), (42, 13.5), thing="code")
    note(ax, 20.4, 16.2, "4 places to the left: << 4", ha="right")
    note(ax, 53.6, 14.9, "join: |", ha="left")
    line(ax, ((spots[1].x, 7.2), (spots[1].x, 14)), "token", 2.4)
    brace(ax, (spots[0].x + 0.3, 7.9), (spots[0].x + spots[0].w - 0.5, 7.9), f"{int(high) + 8} × 16")
    brace(ax, (spots[1].x + 0.5, 7.9), (spots[1].x + spots[1].w - 0.3, 7.9), f"{int(low) + 8}")
    note(
        ax,
        32,
        1.8,
        f"one byte: {int(high) + 8} × 16 + {int(low) + 8} = {byte}, in hexadecimal {byte:02x}",
        NORMAL,
        bold=True,
    )
    show(
        ax,
        "Two codes become one byte. Read upwards, it is the recipe for unpacking: cut the byte in the middle, and take "
        "8 off each half.",
        "Two codes become numbers from 0 to 15 by adding 8; the four bits of one move four places to the left and are "
        f"joined with the four bits of the other into the byte {byte}.",
    )
