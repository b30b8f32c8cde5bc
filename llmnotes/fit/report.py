"""The answer of `fit` as a table for the terminal."""

from llmnotes.errors import visible
from llmnotes.fit.results import Fit, Option
from llmnotes.fit.sizes import format_bytes


def fit_text(found: Fit) -> str:
    """Return what `fit` found as text: a line for each option, then what to change."""
    gpus = ", ".join(map(format_bytes, found.vram)) or "none"
    aside = "0.5 GB of each GPU and " * bool(found.vram) + "2 GB of main memory are set aside"
    job = f"{found.train} training on rows of {found.context:,} tokens" if found.train else f"{found.context:,} tokens"
    lines = [
        f"{visible(found.model)}: {found.parameters / 1e6:,.1f} million parameters, {found.layers} layers; {job}",
        f"GPU memory: {gpus}; main memory: {format_bytes(found.ram)}; {aside}",
        "",
    ]
    names = list(found.options[0].parts)
    lines.append(f"{'':14}{'':8}{'bits':>6}" + "".join(f"{name:>13}" for name in names) + f"{'total':>11}  fits")
    for option in found.options:
        row = f"{option.engine:14}{option.precision:8}{option.bits_per_weight:6.2f}"
        row += "".join(f"{format_bytes(size) if size else '-':>13}" for size in option.parts.values())
        lines.append(row + f"{format_bytes(option.total):>11}  {_where(option)}")
    return "\n".join(lines + [""] * bool(found.advice) + list(found.advice))


def _where(option: Option) -> str:
    where = {"GPU": "on the GPU", "GPU and RAM": "in part on the GPU", "RAM": "in main memory", "no": "no"}
    text = where[option.verdict]
    if sum(size > 0 for size in option.gpus) > 1:
        text = text.replace("the GPU", f"{sum(size > 0 for size in option.gpus)} GPUs")
    if option.n_gpu_layers and option.verdict != "no":
        text += f", n_gpu_layers={option.n_gpu_layers}"
    if option.device_map and len(option.device_map) > 1:
        text += f", {_counts(option.device_map)}"
    return text + ", with gradient checkpointing" * (option.checkpointing and option.verdict != "no")


def _counts(device_map: dict[str, int | str]) -> str:
    """Return how many layers lie on each device."""
    counts: dict[int | str, int] = {}
    for name, device in device_map.items():
        if ".layers." in name:
            counts[device] = counts.get(device, 0) + 1
    return ", ".join(
        f"{count} layers on {'GPU ' if device != 'cpu' else ''}{device}" for device, count in counts.items()
    )


def catalogue_text(known: dict[str, dict[str, dict]]) -> str:
    """Return the built-in models and machines as text, one a line."""
    lines = [
        f"{name:16}{entry['parameters'] / 1e6:>10,.1f} million parameters" for name, entry in known["models"].items()
    ]
    return "\n".join([*lines, "", *(f"{name:16}{entry['about']}" for name, entry in known["machines"].items())])
