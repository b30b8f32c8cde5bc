"""Rounding, GPTQ and quantization-aware training of Pebble at 1 to 4 bits, for three seeds, on the ruler.

example: python benchmarks/qat.py --steps 120     (writes benchmarks/results/qat.json after each row)
"""

import argparse
import copy
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from report import renew

from llmnotes.evaluation import Ruler, matrices, table
from llmnotes.models import open_model
from llmnotes.pebble.corpus import documents
from llmnotes.quantization import integers
from llmnotes.quantization.models import gptq, layerwise, qat

RESULT = Path(__file__).parent / "results" / "qat.json"
COLUMNS = (("kl", ".4f"), ("exam", ".0%"))
RATES = {1: 1e-3, 2: 5e-4, 3: 3e-4, 4: 1e-4}


def main() -> None:
    """Measure every method at every width, and write the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="training steps of two rows of 256 tokens")
    parser.add_argument("--group", type=int, default=64, help="weights that share a scale")
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 1, 3, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    lm = open_model("pebble", say=lambda line: None)
    rows, ruler = [], Ruler(lm.model, lm.tokenizer)
    group, real = options.group, {"pad": lm.tokenizer.pad_token_id}

    def note(row, method, bits, seed, seconds):
        print(table([row]).splitlines()[1], f"{seconds:.0f} s", flush=True)
        rows.append(
            {"method": method, "bits": bits, "group": group, "seed": seed, "cpu_seconds": round(seconds, 1)}
            | {"bits_per_weight": row.bits, "kl": row.kl, "kl_noise": row.noise.kl, "perplexity": row.perplexity}
            | {"exam": row.exam, "exam_noise": row.noise.exam, "weight_error": row.weight_error}
            | {"output_error": row.output_error, "steps": options.steps if "trained" in method else 0}
        )
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    def stored(found):
        return {name: one.dequantize() for name, one in found.items()}

    for bits in options.bits:
        size = bits + 16 / group
        if bits > 1:
            plain = {n: integers.absmax(w, bits, group).dequantize() for n, w in matrices(lm.model).items()}
            note(ruler.measure_weights(f"absmax {bits}", plain, size), "absmax", bits, None, 0)
        best = stored({name: qat.quantize(weight, bits, group) for name, weight in matrices(lm.model).items()})
        note(ruler.measure_weights(f"best scale {bits}", best, size), "best scale", bits, None, 0)
        for seed in options.seeds:
            if bits > 1:
                start, other = time.process_time(), copy.deepcopy(lm.model)
                texts = (document.text for document in documents(2_000, seed=1_000 + seed))
                gptq.quantize_model(other, layerwise.token_windows(texts, lm.tokenizer), bits, group)
                note(ruler.measure(f"GPTQ {bits}", other, size), "GPTQ", bits, seed, time.process_time() - start)
            for method, teacher in (("trained, distilled", lm.model), ("trained on text", None)):
                if teacher is None and seed != options.seeds[0]:
                    continue
                start = time.process_time()
                text = qat.pebble_rows(lm.tokenizer, 2 * options.steps, seed=seed)
                student = qat.prepare(lm.model, bits, group)
                qat.train(student, text, options.steps, RATES.get(bits, 1e-4), teacher=teacher, **real)
                seconds = time.process_time() - start
                row = ruler.measure_weights(f"{method} {bits}", stored(qat.convert(student)), size)
                note(row, method, bits, seed, seconds)
    renew("qat", by_method(rows))
    print(f"{torch.get_num_threads()} threads, {np.sum([row['cpu_seconds'] for row in rows]):.0f} s of training")


def _spread(values: list[float], form: str) -> str:
    """Return the least and the most of some values, or the one that they are."""
    return " to ".join(dict.fromkeys(format(value, form) for value in (min(values), max(values))))


def by_method(rows: list[dict]) -> str:
    """Return the README's table: for each method, KL and exam at each width, the least and the most of its seeds."""
    widths = sorted({row["bits"] for row in rows})
    lines = ["| KL, exam | " + " | ".join(f"{bits} bit{'s' * (bits > 1)}" for bits in widths) + " |"]
    lines.append("|---|" + "---:|" * len(widths))
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for bits in widths:
            found = [row for row in rows if (row["method"], row["bits"]) == (method, bits)]
            cells.append(
                ", ".join(_spread([row[key] for row in found], form) for key, form in COLUMNS) if found else ""
            )
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
