"""The answer of `fit` as a table for the terminal, 80 columns wide."""

import textwrap

from llmnotes.errors import visible
from llmnotes.fit.results import Fit, Option
from llmnotes.fit.sizes import format_bytes

WIDTH = 80
# Column -> the parts that it adds up; those of running come first, then those of training
COLUMNS = {
    "weights": ("weights", "scales", "vision"),
    "cache": ("cache",),
    "compute": ("compute",),
    "learning": ("adapters", "optimizer", "gradients"),
    "activations": ("activations", "passing"),
}


def fit_text(found: Fit) -> str:
    """Return what `fit` found as text: a line for each option, then what to change."""
    gpus = ", ".join(map(format_bytes, found.vram)) or "none"
    aside = "0.5 GB of each GPU and " * bool(found.vram) + "2 GB of main memory are set aside"
    job = f"{found.train} training on rows of {found.context:,} tokens" if found.train else f"{found.context:,} tokens"
    head = f"{visible(found.model)}: {found.parameters / 1e6:,.1f} million parameters, {found.layers} layers; {job}"
    lines = [head, f"GPU memory: {gpus}; main memory: {format_bytes(found.ram)}; {aside}", ""]
    columns = [name for name, parts in COLUMNS.items() if set(parts) & set(found.options[0].parts)]
    engine, widths = None, [max(10, len(name) + 2) for name in [*columns, "total"]]
    for option in found.options:
        if option.engine != engine:
            engine = option.engine
            lines.append(f"{engine:13}{'bits':>5}{''.join(map(str.rjust, [*columns, 'total'], widths))}  fits")
        sizes = [sum(option.parts.get(part, 0) for part in COLUMNS[name]) for name in columns]
        row = f"  {option.precision:11}{option.bits_per_weight:5.1f}"
        texts = [format_bytes(size) if size else "-" for size in [*sizes, option.total]]
        lines.append(f"{row}{''.join(map(str.rjust, texts, widths))}  {_where(option, found.layers)}")
    lines += [""] * bool(found.advice) + list(found.advice)
    return "\n".join(part for line in lines for part in wrapped(line))


def wrapped(line: str) -> list[str]:
    """Return the lines that a line becomes in 80 columns."""
    return textwrap.wrap(line, WIDTH, break_on_hyphens=False) if len(line) > WIDTH else [line]


def _where(option: Option, layers: int) -> str:
    """Return in few words where an option lies; llama.cpp counts the output as one layer more than there are."""
    text = {"GPU": "GPU", "GPU and RAM": "partly", "RAM": "RAM", "no": "no"}[option.verdict]
    used = sum(size > 0 for size in option.gpus)
    if option.verdict == "GPU" and used > 1:
        text = f"{used} GPUs"
    if option.verdict == "GPU and RAM" and option.n_gpu_layers:
        text += f", {option.n_gpu_layers} of {layers + 1}"
    elif option.verdict == "GPU and RAM" and option.device_map:
        inside = sum(place != "cpu" and name[-1:].isdigit() for name, place in option.device_map.items())
        text += f", {inside} of {layers}"
    return text + ", checkpointed" * (option.checkpointing and option.verdict != "no")


def catalogue_text(known: dict[str, dict[str, dict]]) -> str:
    """Return the built-in models and machines as text, one a line; machines of one chip stand together."""
    lines = [
        f"{name:22}{entry['parameters'] / 1e6:>11,.1f} million parameters" for name, entry in known["models"].items()
    ]
    lines.append("")
    for name, entry in known["machines"].items():
        lines += wrapped(f"{name:16}{entry['about']}")
    return "\n".join(lines)
