"""The memory that training and running a 7B model takes on a GPU, predicted from its config and measured.

    .venv/bin/python benchmarks/gpu.py       results/gpu.json, the tables in README.md
    .venv/bin/python benchmarks/gpu.py --config llmnotes/pebble/weights/pebble/config.json --device cpu --out dry.json

What is trained has the configuration of Vicuna-7B and random weights, of which memory knows nothing. Each row is
trained for two steps in a process of its own, and torch's allocator tells the peak of the second. Weights in 16 bits
are bfloat16, which takes what float16 takes and does not overflow in training. What is run has the configuration of
LLaVA-1.5-7B: it reads a picture and words, and writes some (running.py). Needs a GPU of 24 GB and a disk with 15 GB: a
row that does not fit is kept as such. The second command is a rehearsal without a GPU: any config, that of a LLaVA for
the rows that run one, few tokens, no table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from report import renew

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from llmnotes import hardware  # noqa: E402
from llmnotes.finetuning.measured_memory import measure  # noqa: E402
from llmnotes.fit import fit, models  # noqa: E402
from llmnotes.fit.training import predict  # noqa: E402
from llmnotes.fit.training_run import Run  # noqa: E402
from llmnotes.fit.verdict import DRIVER  # noqa: E402

BOUND = 0.10  # of measured against predicted
CLOSER = 0.05  # the same for running
SMALL = {"8 GB": 8_000_000_000, "8 GiB": 8 * 2**30}  # the second is what a card has that is sold with 8 GB
VICUNA = {  # config.json of lmsys/vicuna-7b-v1.5
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
SIXTEEN, EIGHT, FOUR = {"method": "lora"}, {"method": "qlora", "base": "int8"}, {"method": "qlora", "base": "nf4"}
BNB, CHECKPOINTED = {"kernel": "bitsandbytes"}, {"checkpointing": True}
ROWS = {
    "LoRA on 16 bits": SIXTEEN,
    "LoRA on 16 bits, checkpointing": SIXTEEN | CHECKPOINTED,
    "LoRA on int8": EIGHT | BNB,
    "LoRA on int8, checkpointing": EIGHT | BNB | CHECKPOINTED,
    "QLoRA, bitsandbytes": FOUR | BNB,
    "QLoRA, bitsandbytes, checkpointing": FOUR | BNB | CHECKPOINTED,
    "QLoRA, bitsandbytes, checkpointing, 8-bit AdamW": FOUR | BNB | CHECKPOINTED | {"optimizer": "adamw_8bit"},
    "QLoRA, bitsandbytes, checkpointing, paged AdamW": FOUR | BNB | CHECKPOINTED | {"optimizer": "paged_adamw_8bit"},
    "QLoRA, llmnotes, checkpointing": FOUR | CHECKPOINTED,
}
RUNNING = {"LLaVA in 16 bits": "BF16", "LLaVA in int8": "int8", "LLaVA in NF4": "NF4"}


def child(*arguments) -> str:
    """Return what running.py prints in a process of its own."""
    command = [sys.executable, str(HERE / "running.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def why(error: subprocess.CalledProcessError) -> str:
    """Return the last line that a process said before it failed."""
    said = error.stderr.strip().splitlines()
    return said[-1][:300] if said else f"exit status {error.returncode}"


def run_row(folder: Path, config: dict, precision: str, context: int, device: str) -> dict:
    """Return what `fit` predicts for one precision, what is measured, and whether that stays under 8 GB."""
    options = fit(config, ram="999GB", context=context, precision=precision).options
    option = next(one for one in options if one.engine == "transformers")
    found = {"precision": precision, "context": context, "predicted": option.total, "parts": option.parts}
    found["bits per weight"] = option.bits_per_weight
    try:
        measured = json.loads(child(folder, precision, context, device).splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return found | {"measured": None, "why": why(error)}
    weights = sum(option.parts[part] for part in ("weights", "scales", "vision"))
    peak, taken = measured["peak"], measured["reserved"] + DRIVER
    return found | {
        "measured": peak,
        "measured / predicted": round(peak / option.total, 4),
        "weights, measured / predicted": round(measured["weights"] / weights, 4),
        "with the driver": taken,
        "under": {name: taken < size for name, size in SMALL.items()},
    }


def row(config: dict, run: Run) -> dict:
    """Return what is predicted for one run, and what is measured, or why it is not."""
    memory = predict(config, **asdict(run))
    found = {
        "run": asdict(run),
        "predicted": memory.total,
        "moment": memory.peak,
        "parts": {name: part.bytes for name, part in memory.parts.items()},
    }
    try:
        measured = measure(config, [run])[0].peak
    except subprocess.CalledProcessError as error:
        return found | {"measured": None, "why": why(error)}
    return found | {"measured": measured, "measured / predicted": round(measured / memory.total, 4)}


def table(result: dict) -> str:
    """Return the README's table of a result."""
    lines = [
        f"{result['model']}, {result['tokens']} tokens at once, on {result['device']}.",
        "",
        "| training | predicted GB | measured GB | measured / predicted |",
        "|---|---:|---:|---:|",
    ]
    for name, each in result["rows"].items():
        if name in RUNNING:
            continue
        measured = "does not fit" if each["measured"] is None else f"{each['measured'] / 1e9:.2f}"
        lines.append(
            f"| {name} | {each['predicted'] / 1e9:.2f} | {measured} | {each.get('measured / predicted', '')} |"
        )
    return "\n".join(lines)


def running_table(result: dict) -> str:
    """Return the README's table of the rows that run a model."""
    lines = [
        f"{result['run']}, {result['context']:,} tokens with a picture, on {result['device']}. Under 8 GB: with the "
        "blocks that torch has reserved and 0.5 GB for the driver.",
        "",
        "| weights | bits | predicted GB | measured GB | measured / predicted | under 8 GB | under 8 GiB |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name, each in result["rows"].items():
        if name in RUNNING:
            measured = "does not fit" if each["measured"] is None else f"{each['measured'] / 1e9:.2f}"
            under = ["yes" if fits else "no" for fits in each.get("under", dict.fromkeys(SMALL, False)).values()]
            cells = [name, each["bits per weight"], f"{each['predicted'] / 1e9:.2f}", measured]
            lines.append("| " + " | ".join(map(str, [*cells, each.get("measured / predicted", ""), *under])) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure and save; 1 if a prediction misses its bound, 2 where there is nothing to measure on."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, help="another config.json: a rehearsal, which leaves README.md alone")
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--length", type=int, default=512)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--context", type=int, default=2048, help="tokens of the rows that run a model")
    arguments.add_argument("--rows", nargs="+", choices=[*ROWS, *RUNNING], metavar="ROW")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    given = arguments.parse_args()
    name = hardware.gpu()[0] if given.device == "cuda" else "a CPU"
    if name is None or "MPS" in name:
        print("There is no CUDA GPU here; give --device cpu and a small --config for a rehearsal.", file=sys.stderr)
        return 2
    config = json.loads(given.config.read_text(encoding="utf-8")) if given.config else None
    rows = given.rows or [*ROWS, *(RUNNING if config is None or "vision_config" in config else ())]
    result = {
        "status": "measured",
        "model": str(given.config.parent.name) if given.config else "Vicuna-7B's configuration, random weights",
        "run": str(given.config.parent.name) if given.config else "LLaVA-1.5-7B's configuration, random weights",
        "device": name,
        "tokens": given.batch * given.length,
        "context": given.context,
        "versions": {part: version(part) for part in ("torch", "transformers", "bitsandbytes")},
        "rows": {},
    }
    how = {"batch": given.batch, "length": given.length, "rank": given.rank, "dtype": "bfloat16"}
    with tempfile.TemporaryDirectory() as folder:
        llava = config or models()["llava-1.5-7b"]["config"]
        if not set(rows).isdisjoint(RUNNING):
            Path(folder, "settings.json").write_text(json.dumps(llava), encoding="utf-8")
            child("--write", Path(folder, "llava"), Path(folder, "settings.json"), given.device)
        for label in rows:
            if label in RUNNING:
                found = run_row(Path(folder, "llava"), llava, RUNNING[label], given.context, given.device)
            else:
                found = row(config or VICUNA, Run(**how, **ROWS[label], device=given.device))
            result["rows"][label] = found
            print(label, found.get("measured / predicted", "does not fit"), flush=True)
            given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")  # what is measured is not lost
    for section, make, kinds in (("gpu", table, ROWS), ("running", running_table, RUNNING)):
        if not set(rows).isdisjoint(kinds):
            print(make(result))
            if config is None:
                renew(section, make(result))
    ratios = {
        label: each["measured / predicted"] for label, each in result["rows"].items() if each["measured"] is not None
    }
    off = [abs(ratio - 1) > (CLOSER if label in RUNNING else BOUND) for label, ratio in ratios.items()]
    return int(not off or any(off))


if __name__ == "__main__":
    sys.exit(main())
