"""How fast weights are quantized: the three layers of `llmnotes.quantization` side by side, and other libraries.

    .venv/bin/python benchmarks/quantization.py       five rounds, results/quantization.json, the table in README.md

Each round runs every contender once, every other round in the opposite order. What is compared is the processor time,
of all threads together: it hardly depends on what else the machine is doing, and the wall time does. All contenders of
a row must give the same bytes, which is checked before the first round; whatever is compiled is compiled by that.

A row of the table is one entry of `rows()`: {contender: function that quantizes the weights it has}.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from report import renew

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from formats import make_model, measure  # noqa: E402 - the benchmark beside this one

from llmnotes.quantization import fast, ggml, nf4, plain  # noqa: E402
from llmnotes.quantization.threads import in_threads  # noqa: E402

COLUMNS, PIECE = 1024, 64  # of the weights; rows that are quantized at a time, as `blocks` does it
WEIGHTS, FEW = 1 << 24, 1 << 19  # so many for each contender, and for the readable layer
SECONDS = 0.5  # a run that is shorter is repeated until it takes about as long
FILES = ("Q8_0", "Q4_0", "Q4_K_M")
COMPILED = ("Q4_K", "Q6_K")  # whose loading and compiling is measured

# row -> {(contender, other): how many times the other's processor time it may take}
BARS = {
    "Q4_K": {("fast", "ggml"): 1 / 3},
    "Q6_K": {("fast", "ggml"): 1 / 3},
    "Q8_0": {("fast", "ggml"): 1.3, ("fast", "gguf-py"): 1 / 3},
    "Q4_0": {("fast", "ggml"): 1.3, ("fast", "gguf-py"): 1 / 3},
    "NF4": {("llmnotes", "bitsandbytes"): 1 / 2},
}


class Contender(NamedTuple):
    """`work()` quantizes `weights` weights and returns their bytes."""

    weights: int
    work: Callable[[], np.ndarray]


def in_pieces(quantize: Callable[[np.ndarray], np.ndarray], x: np.ndarray, threads: int) -> np.ndarray:
    """Return the rows of `x` quantized piece by piece, each thread with its share."""

    def work(first: int, last: int) -> list[np.ndarray]:
        return [quantize(x[start : min(start + PIECE, last)]) for start in range(first, last, PIECE)]

    return np.concatenate([piece for share in in_threads(work, len(x), threads) for piece in share])


def in_numpy(x: np.ndarray, type: str) -> np.ndarray:
    """Return rows quantized by the layer that the course reads."""
    return plain.QUANTIZE[type](x.reshape(-1, ggml.TYPES[type].elements)).reshape(len(x), -1)


def rows() -> dict[str, dict[str, Contender]]:
    """Return all rows of the table and their contenders."""
    import gguf

    random = np.random.default_rng(0)
    x = random.standard_normal((WEIGHTS // COLUMNS, COLUMNS), dtype=np.float32) * np.float32(0.02)
    few, importance = x[: FEW // COLUMNS], random.chisquare(1, COLUMNS).astype(np.float32)
    layers = {"ggml": ggml.quantize, "fast": fast.quantize}
    found: dict[str, dict[str, Contender]] = {}
    for type in ggml.TYPES:
        row = found[type] = {}
        for name, quantize in layers.items():
            row[name] = Contender(WEIGHTS, partial(in_pieces, partial(quantize, type=type), x, 1))
        if type in plain.QUANTIZE:
            row["plain"] = Contender(FEW, partial(in_pieces, partial(in_numpy, type=type), few, 1))
        if type.endswith(("_0", "_1")):
            row["gguf-py"] = Contender(WEIGHTS, partial(gguf.quantize, x, gguf.GGMLQuantizationType[type]))
        found[f"{type}, 2 threads"] = {
            name: Contender(WEIGHTS, partial(in_pieces, partial(quantize, type=type), x, 2))
            for name, quantize in layers.items()
        }
        weighed = {name: partial(quantize, type=type, importance=importance) for name, quantize in layers.items()}
        found[f"{type}, importance"] = {
            name: Contender(WEIGHTS // 4, partial(in_pieces, quantize, x[: len(x) // 4], 1))
            for name, quantize in weighed.items()
        }
    found["NF4"] = four_bits(x)
    return found


def four_bits(x: np.ndarray) -> dict[str, Contender]:
    """NF4 in blocks of 64: bitsandbytes on the processor, with one thread as we have."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    torch.set_num_threads(1)
    theirs = torch.from_numpy(x)
    return {
        "llmnotes": Contender(x.size, lambda: nf4.quantize(x, threads=1).codes),
        "bitsandbytes": Contender(
            x.size, lambda: quantize_4bit(theirs, blocksize=64, quant_type="nf4")[0].numpy().ravel()
        ),
    }


def kernels(rounds: int) -> dict[str, dict[str, list[dict]]]:
    """Return {row: {contender: its runs}}; a run is its weights and the seconds of processor and wall time."""
    found = {}
    for name, contenders in rows().items():
        times, made = {}, {}
        for contender, (_, work) in contenders.items():
            work()  # compiles and warms up
            start = time.process_time()
            made[contender] = work().reshape(-1)
            times[contender] = math.ceil(SECONDS / max(time.process_time() - start, 1e-6))
        shortest = min(map(len, made.values()))
        first = next(iter(made.values()))[:shortest]
        assert all((data[:shortest] == first).all() for data in made.values()), f"{name}: other bytes"
        runs: dict[str, list[dict]] = {contender: [] for contender in contenders}
        for turn in range(rounds):
            for contender, (weights, work) in list(contenders.items())[:: -1 if turn % 2 else 1]:
                cpu, wall = time.process_time(), time.perf_counter()
                for _ in range(times[contender]):
                    work()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                runs[contender].append({"weights": weights * times[contender], "cpu": cpu, "wall": wall})
        found[name] = runs
        print(name, {contender: round(speed(runs[contender])) for contender in runs}, flush=True)
    return found


def starting() -> dict[str, dict[str, float]]:
    """Return what a kernel's first call takes in a new process: when it is compiled, and when it lies on the disk."""
    code = "import sys, time, numpy; from llmnotes.quantization import fast; x = numpy.ones((1, 256), numpy.float32);"
    code += "start = time.process_time(); fast.quantize(x, sys.argv[1]); print(time.process_time() - start)"
    found = {}
    for type in COMPILED:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": str(HERE.parent)}
            command = [sys.executable, "-c", code, type]
            compiling, loading = (
                float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
                for _ in range(2)
            )
        found[type] = {"compiling": compiling, "loading": loading}
    return found


def files() -> dict[str, dict]:
    """Return what whole conversions of a model of 250 million parameters in bfloat16 take."""
    with tempfile.TemporaryDirectory() as name:
        model, target = Path(name) / "model", Path(name) / "out.gguf"
        # In a process of its own: a command's peak memory is never less than that of the process that starts it.
        subprocess.run([sys.executable, __file__, "--make", str(model)], check=True)
        nbytes = (model / "model.safetensors").stat().st_size
        found = {}
        for kind in FILES:
            command = [sys.executable, "-m", "llmnotes.cli", "convert", str(model), str(target), "--type", kind]
            figures = json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--measure", *command], check=True, capture_output=True, text=True
                ).stdout
            )
            target.unlink()
            found[kind] = figures | {"peak / source": figures["peak"] / nbytes}
        return found


def speed(runs: list[dict], of: str = "cpu") -> float:
    """Return millions of weights a second, the median of the runs."""
    return statistics.median(run["weights"] / run[of] for run in runs) / 1e6


def ratio(runs: dict[str, list[dict]], contender: str, other: str) -> float:
    """Return the contender's processor time for a weight over the other's, the median pair by pair."""
    pairs = zip(runs[contender], runs[other], strict=True)
    return statistics.median(a["cpu"] / a["weights"] * b["weights"] / b["cpu"] for a, b in pairs)


def bars(result: dict) -> dict[str, tuple[float, float]]:
    """Return each bar's (figure, bound), the figure to be at most the bound; a row that was not measured has no bar."""
    found = {}
    for name, bounds in BARS.items():
        for (contender, other), bound in bounds.items():
            if {contender, other} <= result["kernels"].get(name, {}).keys():
                figure = ratio(result["kernels"][name], contender, other)
                found[f"processor time of {name}, {contender} / {other}"] = (figure, bound)
    for kind, figures in result["files"].items():
        found[f"peak memory of convert --type {kind} / source"] = (figures["peak / source"], 0.5)
    return found


def table(result: dict) -> str:
    """Return the README's table of a result."""
    columns = ("plain", "ggml", "fast", "gguf-py")
    lines = [
        "| million weights a second of processor time | " + " | ".join(columns) + " | ggml / fast, processor time |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    measured = result["kernels"]
    for name, runs in measured.items():
        if "fast" in runs and "threads" not in name:
            cells = [
                f"{speed(runs[column]):.{int(speed(runs[column]) < 10)}f}" if column in runs else ""
                for column in columns
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {1 / ratio(runs, 'fast', 'ggml'):.1f} |")
    lines += ["", "| million weights a second of wall time | 1 thread | 2 threads |", "|---|---:|---:|"]
    for name in measured:
        if f"{name}, 2 threads" in measured:
            for layer in ("ggml", "fast"):
                pair = [speed(measured[row][layer], "wall") for row in (name, f"{name}, 2 threads")]
                lines.append(f"| {name}, {layer} | {pair[0]:.0f} | {pair[1]:.0f} |")
    if "NF4" in measured:
        lines += ["", "| NF4, million weights a second of processor time | |", "|---|---:|"]
        lines += [f"| {name} | {speed(runs):.0f} |" for name, runs in measured["NF4"].items()]
    lines += ["", "| a kernel's first call, processor s | compiled | kept on the disk |", "|---|---:|---:|"]
    for type, row in result.get("starting", {}).items():
        lines.append(f"| {type} | {row['compiling']:.1f} | {row['loading']:.1f} |")
    lines += ["", "| file to file | wall s | processor s | peak MB |", "|---|---:|---:|---:|"]
    for kind, row in result["files"].items():
        lines.append(f"| {kind} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['peak'] / 1e6:.0f} |")
    lines += ["", "| bar | measured | bound |", "|---|---:|---:|"]
    lines += [f"| {label} | {figure:.2f} | {bound:.2f} |" for label, (figure, bound) in bars(result).items()]
    load = result.get("load", 0.0)
    if load > 1:
        lines += ["", f"Measured while the machine was busy with something else (load {load:.1f})."]
    return "\n".join(lines)


def main() -> int:
    """Measure, save, and print the table; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--measure", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.make:
        make_model(given.make)
        return 0
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return 0
    machine = {"system": platform.platform(terse=True), "python": platform.python_version(), "cores": os.cpu_count()}
    result = {"rounds": given.rounds, "load": os.getloadavg()[0], "machine": machine}
    result |= {"kernels": kernels(given.rounds), "starting": starting(), "files": files()}
    (HERE / "results" / "quantization.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    renew("quantization", table(result))
    print(table(result))
    return int(any(figure > bound for figure, bound in bars(result).values()))


if __name__ == "__main__":
    sys.exit(main())
