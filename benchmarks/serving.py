"""Tokens a second: our runtime, which asks llama.cpp in a process beside it, against the bare library in this process.

python benchmarks/serving.py [--rounds 9]

The library is xllamacpp's server, called without HTTP. Both run the same file on one thread with the same settings, in
turn, and the prompt is not kept from one call to the next. Pebble is the hard case: a token takes it less than a
millisecond, so that all that lies around it shows. The larger model is a Llama of 250 million weights that are zeros,
which takes as long as others. Processor time is that of both processes.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from report import renew

from llmnotes.fit.empty_gguf import write_empty
from llmnotes.fit.shapes import Shape
from llmnotes.formats import convert
from llmnotes.llama_cpp.engine import start
from llmnotes.pebble import weights_dir
from llmnotes.serving import ModelFile, load

REQUEST = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, "cache_prompt": False}
LARGER = Shape(1024, 2816, 16, 16, 8, 64, 32000, False)
BAR = 0.95
HERE = Path(__file__).parent


def measure(name: str, file: Path, rounds: int, calls: int, tokens: int) -> list[dict]:
    """Return the tokens a second of each round for each way to ask: `calls` answers of `tokens` tokens."""
    bare = start(ModelFile.read(file), n_threads=1, n_ctx=512)
    rows = []
    with load(file, n_threads=1, n_ctx=512) as runtime:
        processes = [psutil.Process(), psutil.Process(runtime._child.process.pid)]
        request = REQUEST | {"model": runtime.file.name, "max_tokens": tokens}
        ways = {
            "llmnotes": lambda: runtime.ask("/completions", **request),
            "llmnotes, streamed": lambda: list(runtime._events("/completions", request | {"stream": True})),
            "library": lambda: bare.handle_completions(request),
            "library, streamed": lambda: _streamed(bare, request | {"stream": True}),
        }

        def processor() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        for number in range(rounds + 1):
            row = {"model": name}
            for way, ask in ways.items():
                before, clock = processor(), time.perf_counter()
                assert all(_written(ask()) == tokens for _ in range(calls))
                wall = time.perf_counter() - clock
                row[way] = {"wall": calls * tokens / wall, "processor": calls * tokens / (processor() - before)}
            if number:  # the first warms up
                rows.append(row)
    return rows


def _streamed(bare, request: dict) -> list[dict]:
    events = []
    bare.handle_completions(request, events.append)
    return events


def _written(answer) -> int:
    """Return how many tokens an answer has, or a list of events."""
    return (answer[-1] if isinstance(answer, list) else answer)["usage"]["completion_tokens"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pebble, larger = Path(folder) / "pebble.gguf", Path(folder) / "larger.gguf"
        convert(weights_dir("pebble"), pebble, type="Q8_0")
        write_empty(larger, pebble, LARGER, "Q8_0")
        for name, file, calls, tokens in (("Pebble, Q8_0", pebble, 4, 400), ("250M, Q8_0", larger, 4, 32)):
            rows += measure(name, file, rounds, calls, tokens)
    lines = ["| tokens a second (of processor time) | llmnotes | library | ours / library | bound |"]
    lines.append("|---|---:|---:|---|---:|")
    worst = 9.0
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        for way, peer in (("llmnotes", "library"), ("llmnotes, streamed", "library, streamed")):
            speed = {
                who: [statistics.median(row[who][kind] for row in mine) for kind in ("wall", "processor")]
                for who in (way, peer)
            }
            ratios = sorted(row[way]["processor"] / row[peer]["processor"] for row in mine)
            ratio = statistics.median(ratios)
            worst = min(worst, ratio)
            quarter = len(ratios) // 4
            spread = f"{ratio:.3f} (half of the rounds: {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})"
            cells = [f"{speed[who][0]:,.0f} ({speed[who][1]:,.0f})" for who in (way, peer)]
            kind = f"{name}, streamed" if "streamed" in way else name
            lines.append(f"| {kind} | {cells[0]} | {cells[1]} | {spread} | {BAR} |")
    print("\n".join(lines))
    renew("serving", "\n".join(lines))
    result = {"worst": worst, "rows": rows}
    (HERE / "results" / "serving.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(worst < BAR)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the library's own server may wait for ever for its end
