"""Rank, alpha and learning rate of LoRA on Pebble's lessons: one training each, judged by both exams.

    python benchmarks/fine_tuning_sweep.py      (about 10 minutes of processor time; goes on where it was stopped)

Writes llmnotes/fine_tuning_sweep.json, which notebook 17 draws.
"""

import json
from pathlib import Path

from llmnotes.finetuning import data, lora, token_rows, train
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer
from llmnotes.pebble.lessons import lessons, rehearsal

TARGET = Path(__file__).parents[1] / "llmnotes" / "fine_tuning_sweep.json"
RATES = (1e-3, 4e-3, 1.6e-2)
SETTINGS = [(r, 2 * r, rate) for r in (1, 4, 16, 64) for rate in RATES]
SETTINGS += [(16, alpha, rate) for alpha in (4, 256) for rate in RATES]


def point(r: int, alpha: float, rate: float) -> dict:
    """Train one adapter and return its marks; the plan is the one of notebook 15."""
    lm = open_model("pebble", say=lambda line: None)
    rows = data.encode(data.examples(lessons() * 8 + rehearsal(1000)), lm.tokenizer, 64)
    tokens = token_rows.untrained(lm.model, {token for row in rows for token in row.ids})
    lora.attach(lm.model, lora.LoRA(r=r, alpha=alpha, tokens=tokens))
    plan = train.Plan(steps=150, learning_rate=rate, batch_size=16, warmup_steps=10)
    done = train.fit(lm.model, rows, plan, progress=False)
    ask = answerer(lm.model, lm.tokenizer, chat=True)
    new, old = (score(ask, questions, chat=True).accuracy for questions in (exam(hidden=True), exam()[::5]))
    found = {"r": r, "alpha": alpha, "learning_rate": rate, "new": round(new, 4), "old": round(old, 4)}
    return found | {"loss": round(sum(step.loss for step in done[-10:]) / 10, 4)}


def main() -> None:
    """Train what is not in the file yet."""
    points = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else []
    known = {(p["r"], p["alpha"], p["learning_rate"]) for p in points}
    for setting in SETTINGS:
        if setting not in known:
            points.append(point(*setting))
            print(points[-1], flush=True)
            TARGET.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
