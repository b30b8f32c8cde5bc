"""The memory that training a 7B model takes on a GPU, predicted from its config and measured.

    .venv/bin/python benchmarks/gpu.py       results/gpu.json, the table in README.md
    .venv/bin/python benchmarks/gpu.py --config llmnotes/pebble/weights/pebble/config.json --device cpu --out dry.json

The model has the configuration of Vicuna-7B and random weights, of which memory knows nothing. Each row is trained for
two steps in a process of its own, and torch's allocator tells the peak of the second. Weights in 16 bits are bfloat16,
which takes what float16 takes and does not overflow in training. Needs a GPU of 24 GB: a row that does not fit is kept
as such. The second command is a rehearsal without a GPU: any config, rows of few tokens, no table.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from report import renew

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from llmnotes import hardware  # noqa: E402
from llmnotes.finetuning.memory import measure, predict  # noqa: E402
from llmnotes.finetuning.shapes import Run  # noqa: E402

BOUND = 0.10  # of measured against predicted
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
    "QLoRA, bitsandbytes, checkpointing, 8-bit AdamW": FOUR | BNB | CHECKPOINTED | {"optimizer": "adamw8bit"},
    "QLoRA, bitsandbytes, checkpointing, paged AdamW": FOUR | BNB | CHECKPOINTED | {"optimizer": "paged"},
    "QLoRA, llmnotes, checkpointing": FOUR | CHECKPOINTED,
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
        said = error.stderr.strip().splitlines()
        return found | {"measured": None, "why": said[-1][:300] if said else f"exit status {error.returncode}"}
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
        measured = "does not fit" if each["measured"] is None else f"{each['measured'] / 1e9:.2f}"
        lines.append(
            f"| {name} | {each['predicted'] / 1e9:.2f} | {measured} | {each.get('measured / predicted', '')} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and save; 1 if a prediction misses its bound, 2 where there is nothing to measure on."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, help="another config.json: a rehearsal, which leaves README.md alone")
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--length", type=int, default=512)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    given = arguments.parse_args()
    name = hardware.gpu()[0] if given.device == "cuda" else "a CPU"
    if name is None or "MPS" in name:
        print("There is no CUDA GPU here; give --device cpu and a small --config for a rehearsal.", file=sys.stderr)
        return 2
    config = json.loads(given.config.read_text(encoding="utf-8")) if given.config else VICUNA
    result = {
        "status": "measured",
        "model": str(given.config.parent.name) if given.config else "Vicuna-7B's configuration, random weights",
        "device": name,
        "tokens": given.batch * given.length,
        "versions": {part: version(part) for part in ("torch", "transformers", "bitsandbytes")},
        "rows": {},
    }
    how = {"batch": given.batch, "length": given.length, "rank": given.rank, "dtype": "bfloat16"}
    for label in given.rows:
        result["rows"][label] = row(config, Run(**how, **ROWS[label], device=given.device))
        print(label, result["rows"][label].get("measured / predicted", "does not fit"), flush=True)
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")  # what is measured is not lost
    if given.config is None:
        renew("gpu", table(result))
    print(table(result))
    ratios = [each["measured / predicted"] for each in result["rows"].values() if each["measured"] is not None]
    return int(not ratios or any(abs(ratio - 1) > BOUND for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
