"""Quantizing 250 million weights, measured in turn with the libraries that people use for it.

    .venv/bin/python benchmarks/quantization.py       three rounds, results/quantization.json, the table in README.md

Each round runs every contender once, every other round in the opposite order. What is compared is the processor time,
of all threads together: it hardly depends on what else the machine is doing, and the wall time does. Whatever is
compiled at its first use is compiled before the first round.

A row of the table is one function under `ROWS`: it takes the weights, float32 (rows, 1024), and the number of threads,
and returns {contender: function that quantizes them}; the first contender is ours.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from report import renew

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from formats import make_model, measure  # noqa: E402 - the benchmark beside this one

from llmnotes.formats.gguf.types import NUMBERS  # noqa: E402
from llmnotes.formats.results import DTYPES  # noqa: E402
from llmnotes.quantization import blocks, nf4  # noqa: E402

WEIGHTS, TIMES = 62_500_864, 4  # so many weights, so many times: 250 million, with 250 MB of them in memory
FILES = ("Q8_0", "Q4_0", "Q4_K_M")


@cache
def quantize_chunk():
    """Return `ggml_quantize_chunk` from the library in xllamacpp."""
    import xllamacpp

    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp.*.so"))))
    function = library.ggml_quantize_chunk
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function


def in_c(name: str, x: np.ndarray, threads: int) -> np.ndarray:
    """Return `x` quantized by llama.cpp, each thread with its share of the rows."""
    elements, nbytes = DTYPES[name]
    out = np.empty((len(x), x.shape[1] // elements * nbytes), np.uint8)

    def work(part, made):
        quantize_chunk()(NUMBERS[name], part.ctypes.data, made.ctypes.data, 0, *part.shape, None)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, np.array_split(x, threads), np.array_split(out, threads)))
    return out


def ggml(name: str, x: np.ndarray, threads: int) -> dict[str, Callable]:
    """A block type of GGML: llama.cpp's C, and gguf-py where it can."""
    import gguf

    found = {"llmnotes": partial(blocks.quantize, x, name, threads=threads), "C": partial(in_c, name, x, threads)}
    if name in ("Q8_0", "Q4_0") and threads == 1:
        found["gguf-py"] = partial(gguf.quantize, x, gguf.GGMLQuantizationType[name])
    return found


def four_bits(x: np.ndarray, threads: int) -> dict[str, Callable]:
    """NF4 in blocks of 64: bitsandbytes on the processor."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    torch.set_num_threads(threads)
    peer = partial(quantize_4bit, torch.from_numpy(x), blocksize=64, quant_type="nf4")
    return {"llmnotes": partial(nf4.quantize, x, threads=threads), "bitsandbytes": peer}


ROWS = {name: partial(ggml, name) for name in ("Q8_0", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")}
ROWS["NF4"] = four_bits
# row -> {contender: how many times its processor time ours may take, on one thread}
BARS = {
    "Q8_0": {"C": 1.3, "gguf-py": 1 / 3},
    "Q4_0": {"C": 1.3, "gguf-py": 1 / 3},
    "Q6_K": {"C": 1.5},
    "Q4_K": {"C": 1.5},
    "NF4": {"bitsandbytes": 1 / 2},
}


def kernels(rounds: int) -> dict[str, dict]:
    """Return for each row and number of threads the seconds of every run and the ratios pair by pair."""
    x = np.random.default_rng(0).standard_normal((WEIGHTS // 1024, 1024), dtype=np.float32) * np.float32(0.02)
    found = {}
    for name, row in ROWS.items():
        for threads in (1, 2):
            contenders = row(x, threads)
            small = row(x[:512], threads)
            for contender in small.values():
                contender()  # compiles
            runs = {contender: [] for contender in contenders}
            for turn in range(rounds):
                for contender, work in list(contenders.items())[:: -1 if turn % 2 else 1]:
                    cpu, wall = time.process_time(), time.perf_counter()
                    for _ in range(TIMES):
                        work()
                    runs[contender].append((time.process_time() - cpu, time.perf_counter() - wall))
            ours = next(iter(runs))
            ratios = {
                other: statistics.median(a[0] / b[0] for a, b in zip(runs[ours], runs[other], strict=True))
                for other in list(runs)[1:]
            }
            found[f"{name}, {threads} thread{'s' * (threads > 1)}"] = {"runs": runs, "ratios": ratios}
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


def bars(result: dict) -> dict[str, tuple[float, float]]:
    """Return each bar's (figure, bound): the figure is to be at most the bound."""
    found = {}
    for name, bounds in BARS.items():
        for other, bound in bounds.items():
            ratio = result["kernels"][f"{name}, 1 thread"]["ratios"][other]
            found[f"processor time of {name} / {other}"] = (ratio, bound)
    for kind, figures in result["files"].items():
        found[f"peak memory of convert --type {kind} / source"] = (figures["peak / source"], 0.5)
    return found


def table(result: dict) -> str:
    """Return the README's table of a result."""
    weights = WEIGHTS * TIMES / 1e6
    lines = [
        "| million weights a second of processor time | llmnotes | others | llmnotes takes |",
        "|---|---:|---|---|",
    ]
    for label, row in result["kernels"].items():
        speed = {name: weights / statistics.median(cpu for cpu, _ in runs) for name, runs in row["runs"].items()}
        ours = next(iter(speed))
        others = ", ".join(f"{name} {value:.0f}" for name, value in speed.items() if name != ours)
        ratios = ", ".join(f"{ratio:.2f} of {name}" for name, ratio in row["ratios"].items())
        lines.append(f"| {label} | {speed[ours]:.0f} | {others} | {ratios} |")
    lines += ["", "| file to file | wall s | processor s | peak MB |", "|---|---:|---:|---:|"]
    for kind, row in result["files"].items():
        lines.append(f"| {kind} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['peak'] / 1e6:.0f} |")
    lines += ["", "| bar | measured | bound |", "|---|---:|---:|"]
    lines += [f"| {label} | {figure:.2f} | {bound:.2f} |" for label, (figure, bound) in bars(result).items()]
    return "\n".join(lines)


def main() -> int:
    """Measure, save, and print the table; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=3)
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
    result = {"rounds": given.rounds, "machine": machine, "files": files(), "kernels": kernels(given.rounds)}
    (HERE / "results" / "quantization.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    renew("quantization", table(result))
    print(table(result))
    return int(any(figure > bound for figure, bound in bars(result).values()))


if __name__ == "__main__":
    sys.exit(main())
