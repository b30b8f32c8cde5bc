"""The figures of notebook 11: where the bytes lie, and what survives a conversion."""

import numpy as np
from matplotlib.figure import Figure

from llmnotes.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, one_panel

COLOURS = {"sign": ORANGE, "names": SKY, "program": PURPLE, "tokenizer": GREEN, "numbers": BLUE}


LAYOUTS = {  # file -> (what stands there, kind, width) from its first byte to its last
    "safetensors": [
        ("length", "sign", 1),
        ("JSON: names, types,\nshapes, places", "names", 2.5),
        ("numbers of the tensors", "numbers", 5.5),
    ],
    "PyTorch .pt": [
        ("pickle: a program\nthat builds the names", "program", 2.6),
        ("a record\nof numbers", "numbers", 1.6),
        ("a record", "numbers", 1.4),
        ("a record", "numbers", 1.4),
        ("list of the\nrecords", "names", 2),
    ],
    "GGUF": [
        ("GGUF,\ncounts", "sign", 1),
        ("settings", "names", 1.2),
        ("tokenizer", "tokenizer", 1.4),
        ("names, types,\nshapes, places", "names", 1.8),
        ("numbers of the tensors", "numbers", 3.6),
    ],
    "ONNX": [
        ("version", "sign", 1),
        ("operations:\nwhat to do with what", "program", 2.8),
        ("name, shape, numbers", "numbers", 2.6),
        ("name, shape, numbers", "numbers", 2.6),
    ],
}


def layouts() -> Figure:
    """Return the figure of what lies where in four kinds of files, a drawing that is not to scale."""
    figure, panel = one_panel(9.2, 3.6)
    for row, parts in enumerate(reversed(LAYOUTS.values())):
        left, scale = 0.0, 1 / sum(width for _, _, width in parts)
        for label, kind, width in parts:
            width *= scale
            panel.barh(row, width, left=left, height=0.66, color=COLOURS[kind], edgecolor="white", linewidth=2)
            colour = "white" if kind == "numbers" else BLACK
            panel.text(left + width / 2, row, label, ha="center", va="center", fontsize=9, color=colour)
            left += width
    panel.set_yticks(range(len(LAYOUTS)), list(reversed(LAYOUTS)))
    panel.set(xlim=(0, 1), xticks=[], xlabel="from the first byte to the last; not to scale")
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.tick_params(length=0)
    return figure


def survival(names: list[str], differences: np.ndarray, same_text: np.ndarray) -> Figure:
    """Return the figure of the largest logit difference between every two forms of a model, (forms, forms).

    The brighter a field, the larger the difference; a field says the number, and whether the greedy texts differ.
    """
    figure, panel = one_panel(8.2, 5.8)
    floor = -8.0
    shown = np.log10(np.maximum(differences, 10**floor))
    image = panel.imshow(shown, cmap="cividis", vmin=floor, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            value = differences[row, column]
            text = (
                "same"
                if row == column
                else "0"
                if value == 0
                else f"{value:.1g}"
                if value > 1e-3
                else f"{value:.0e}".replace("e-0", "e-")
            )
            if not same_text[row, column]:
                text += "\nother text"
            dark = shown[row, column] > -3
            panel.text(column, row, text, ha="center", va="center", fontsize=9, color=BLACK if dark else "white")
    panel.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor", fontsize=9)
    panel.set_yticks(range(len(names)), names, fontsize=9)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    bar = figure.colorbar(image, label="largest difference of a logit", ticks=range(-8, 2, 2))
    bar.ax.set_yticklabels(["0", "1e-6", "1e-4", "0.01", "1"])
    return figure
