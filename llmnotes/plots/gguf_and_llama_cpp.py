"""The figures of notebook 22: what a type costs in KL, and what of a model lies on a GPU."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from llmnotes.fit.llama_cpp import LlamaCppMemory
from llmnotes.plots import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, note, one_panel, several_panels

PARTS = {"output": RED, "layers": BLUE, "cache": ORANGE, "compute buffer": PURPLE, "token table": GREEN}


def pareto(points: Mapping[str, tuple[float, float]]) -> Figure:
    """Return the figure of KL from F32 against bits per weight; `points` is {type: (bits per weight, KL)}.

    A grey line joins the types that no other beats in both.
    """
    figure, panel = one_panel(6.8, 3.8)
    best, front = float("inf"), []
    for bits, far in sorted(points.values()):
        if far < best:
            best = far
            front.append((bits, far))
    panel.plot(*zip(*front, strict=True), color="#999999", lw=1, zorder=0)
    for place, (name, (bits, far)) in enumerate(sorted(points.items(), key=lambda point: point[1])):
        on_front = (bits, far) in front
        panel.plot(bits, far, "o" if on_front else "s", color=BLUE if on_front else RED, markersize=6)
        at, side = ((7, 4), "left") if place % 2 else ((-7, -11), "right")  # neighbours on different sides
        note(panel, name, (bits, far), at, fontsize=9, ha=side)
    panel.set(xscale="log", yscale="log", xlabel="bits per weight, scales included")
    panel.set_ylabel("KL from F32, nats per token")
    ticks = (3, 4, 5, 6, 8, 16)
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(min(point[0] for point in points.values()) * 0.87, 20)
    panel.grid(alpha=0.25)
    return figure


def places(models: Mapping[str, LlamaCppMemory], counts: Mapping[str, int], vram: float = 8e9) -> Figure:
    """Return the figure of what lies on a GPU of `vram` bytes and what in main memory, a bar for each type.

    `models` is {type: what `llmnotes.fit.llama_cpp.needs` returns}, `counts` {type: n_gpu_layers}.
    """
    figure, (left, right) = several_panels(9.0, 0.5 * len(models) + 1.5, columns=2)
    for name, one in models.items():
        blocks, count = len(one.layers), counts[name]
        there = max(blocks + 1 - count, 0)  # the first layer on the GPU
        head = one.output + one.embedding * one.tied
        gpu = {
            "output": head if count else 0,
            "layers": sum(one.layers[there:]),
            "cache": sum(one.caches[there:]),
            "compute buffer": one.compute if count else 0,
        }
        ram = {
            "output": 0 if count else one.output,
            "layers": sum(one.layers[:there]),
            "cache": sum(one.caches[:there]),
            "compute buffer": one.compute,
            "token table": one.embedding,
        }
        for panel, parts in ((left, gpu), (right, ram)):
            start = 0.0
            for part, size in parts.items():
                panel.barh(name, size / 1e9, left=start, color=PARTS[part], height=0.6, edgecolor="white", lw=0.5)
                start += size / 1e9
    left.axvline(vram / 1e9, color="black", lw=1, ls="--")
    left.axvspan(vram / 1e9 - 0.5, vram / 1e9, color=SKY, alpha=0.35, lw=0)
    widest = max(left.get_xlim()[1], right.get_xlim()[1])
    for panel, title in ((left, "on the GPU of 8 GB"), (right, "in main memory")):
        panel.invert_yaxis()
        panel.set(xlim=(0, widest), xlabel="GB", title=title)
    right.set_yticks([])
    handles = [Patch(color=colour, label=part) for part, colour in PARTS.items()]
    handles.append(Patch(color=SKY, alpha=0.35, lw=0, label="the driver's"))
    figure.legend(handles=handles, frameon=False, ncols=6, loc="outside upper center", fontsize=9)
    return figure
