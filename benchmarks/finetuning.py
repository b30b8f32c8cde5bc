"""A step of fine-tuning, measured in turn with PEFT, with bitsandbytes, and with a loop that has nothing around it.

    .venv/bin/python benchmarks/finetuning.py       fifteen rounds, results/finetuning.json, the table in README.md

Each round runs every contender once, every other round in the opposite order. What is compared is the processor time,
of all threads together: it hardly depends on what else the machine is doing, and the wall time does. Contenders start
from the same weights and learn all the while; the first steps of each are not counted.

A row of the table is one function under `ROWS`: it returns {contender: function that takes some steps} and how many
tokens these steps read; the first contender is ours.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from report import renew

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits in a loop would count as work
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from llmnotes.finetuning.data import Row  # noqa: E402
from llmnotes.finetuning.lora import LoRA, attach, trainable  # noqa: E402
from llmnotes.finetuning.qlora import quantize_base  # noqa: E402
from llmnotes.finetuning.train import Plan, steps  # noqa: E402
from llmnotes.models import open_model  # noqa: E402

Contenders = tuple[dict[str, Callable], int]
LENGTH, VOCABULARY = 128, 2048
STEPS = {"Pebble": 3, "30M": 1}  # in a row, of 16 rows and of 8
BATCH = {"Pebble": 16, "30M": 8}


def model_of(name: str):
    """Return Pebble, or a random Llama of 30 million parameters."""
    if name == "Pebble":
        return open_model("pebble", say=lambda line: None).model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=9,
            num_attention_heads=8,
            num_key_value_heads=8,
        )
    )


def random_ids(rows: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


def stepper(model, ids: torch.Tensor, count: int, autocast: bool) -> Callable:
    """Return a function that takes `count` steps: forward, backward, AdamW over what learns."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def work():
        for _ in range(count):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return work


def against_peft(name: str, autocast: bool) -> Contenders:
    """LoRA of rank 8 beside all linear layers: ours, and PEFT's."""
    import peft

    base, ids, count = model_of(name), random_ids(BATCH[name]), STEPS[name]
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    models = {
        "llmnotes": attach(copy.deepcopy(base), LoRA(r=8, alpha=16)),
        "PEFT": peft.get_peft_model(copy.deepcopy(base), config),
    }
    sizes = {sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models.values()}
    assert len(sizes) == 1, "the contenders train different numbers of parameters"
    return {key: stepper(model, ids, count, autocast) for key, model in models.items()}, count * ids.numel()


def against_bitsandbytes(name: str) -> Contenders:
    """The same adapters beside a base in NF4: ours, and bitsandbytes'."""
    base, ids, count = model_of(name), random_ids(BATCH[name]), STEPS[name]
    found = {}
    for by in ("llmnotes", "bitsandbytes"):
        model = attach(quantize_base(copy.deepcopy(base), by), LoRA(r=8, alpha=16))
        found[by] = stepper(model, ids, count, False)
    return found, count * ids.numel()


def against_a_bare_loop(method: str) -> Contenders:
    """`train.steps`, and the loop that one writes by hand: the same rows, loss, clipping, schedule and optimizer."""
    base, batch, count = model_of("Pebble"), 8, 10
    ids = random_ids(20 * batch)
    models = [copy.deepcopy(base) for _ in range(2)]
    if method == "LoRA":
        models = [attach(model, LoRA(r=8, alpha=16)) for model in models]
    rows = [Row(tuple(row), tuple(row), (len(row),)) for row in ids.tolist()]
    plan = Plan(steps=count, learning_rate=1e-4, batch_size=batch)

    def ours():
        return [step.loss for step in steps(models[0], rows, plan)]

    def bare():
        models[1].train()
        learning = list(trainable(models[1]).values())
        optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=count)
        losses = []
        for chosen in torch.randperm(len(ids))[: count * batch].split(batch):
            rows = ids[chosen]
            logits = models[1](input_ids=rows, use_cache=False).logits
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses

    return {"llmnotes": ours, "bare loop": bare}, count * batch * LENGTH


ROWS = {
    "LoRA step, Pebble": partial(against_peft, "Pebble", False),
    "LoRA step, Pebble, bfloat16": partial(against_peft, "Pebble", True),
    "LoRA step, 30M": partial(against_peft, "30M", False),
    "LoRA step, 30M, bfloat16": partial(against_peft, "30M", True),
    "QLoRA step, 30M": partial(against_bitsandbytes, "30M"),
    "loop, LoRA on Pebble": partial(against_a_bare_loop, "LoRA"),
    "loop, all of Pebble": partial(against_a_bare_loop, "full"),
}
# row -> how many times the other's processor time ours may take
BARS = {row: 1.05 if row.startswith("loop") else 1.0 for row in ROWS if not row.startswith("QLoRA")}


def measured(contenders: dict[str, Callable], rounds: int) -> dict:
    """Return the seconds of every run, (processor, wall), and the median of the ratios pair by pair."""
    runs = {name: [] for name in contenders}
    for work in contenders.values():
        work()
    for turn in range(rounds):
        for name, work in list(contenders.items())[:: -1 if turn % 2 else 1]:
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            runs[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    ours, other = runs
    ratios = [a[0] / b[0] for a, b in zip(runs[ours], runs[other], strict=True)]
    return {"runs": runs, "ratio": statistics.median(ratios), "quartiles": statistics.quantiles(ratios)[::2]}


def table(result: dict) -> str:
    """Return the README's table of a result."""
    lines = [
        "| tokens a second (of processor time) | llmnotes | other | processor time of ours / other | bound |",
        "|---|---:|---|---|---:|",
    ]
    for label, row in result["rows"].items():
        speed = {}
        for name, runs in row["runs"].items():
            cpu, wall = (statistics.median(run[part] for run in runs) for part in (0, 1))
            speed[name] = f"{row['tokens'] / wall:,.0f} ({row['tokens'] / cpu:,.0f})"
        ours, other = speed
        low, high = row["quartiles"]
        ratio = f"{row['ratio']:.3f} (half of the rounds: {low:.3f} to {high:.3f})"
        bound = f"{BARS[label]:.2f}" if label in BARS else ""
        lines.append(f"| {label} | {speed[ours]} | {other} {speed[other]} | {ratio} | {bound} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, save, and print the table; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--only", default="", help="measure the rows whose names hold this, and save nothing")
    given = arguments.parse_args()
    machine = {
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    result = {"rounds": given.rounds, "machine": machine, "rows": {}}
    for label, row in ROWS.items():
        if given.only in label:
            contenders, tokens = row()
            result["rows"][label] = {"tokens": tokens, **measured(contenders, given.rounds)}
    print(table(result))
    if not given.only:
        (HERE / "results" / "finetuning.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        renew("finetuning", table(result))
    return int(any(result["rows"][label]["ratio"] > bound for label, bound in BARS.items() if label in result["rows"]))


if __name__ == "__main__":
    sys.exit(main())
