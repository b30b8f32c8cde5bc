"""The same command in two processes."""

import json
import sys

import pytest
import yaml

from llmnotes.cli.main import main
from llmnotes.finetuning.distributed import run, torchrun

pytestmark = pytest.mark.slow


def test_torchrun_trains_in_two_processes_with_the_same_command(tiny_folder, tmp_path):
    """Twice the rows at a step, the same loss as one process with twice the batch; only the first one writes."""
    data, config = tmp_path / "data.jsonl", tmp_path / "config.yaml"
    data.write_text("".join(json.dumps({"text": f"{i} {i}"}) + "\n" for i in range(8)), encoding="utf-8")
    values = {"model": str(tiny_folder), "data": str(data), "output": str(tmp_path / "out"), "steps": 4}
    values |= {"held_out": 0.3, "learning_rate": 0.02, "batch_size": 1, "gradient_accumulation": 2}
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--local_addr", "127.0.0.1"]
    run([*start, *torchrun("-m", "llmnotes.cli", "finetune", str(config), processes=2)], 2, 120)
    alone = tmp_path / "alone.yaml"
    alone.write_text(
        yaml.safe_dump(values | {"batch_size": 4, "gradient_accumulation": 1, "output": str(tmp_path / "alone")}),
        encoding="utf-8",
    )
    assert main(["finetune", str(alone)]) == 0
    logs = [(tmp_path / name / "training_log.jsonl").read_text().splitlines() for name in ("out", "alone")]
    both, one = ([json.loads(line) for line in log] for log in logs)
    assert len(both) == len(one) == 6 and json.loads((tmp_path / "out" / "run.json").read_text())["processes"] == 2
    for two, single in zip(both, one, strict=True):
        assert two["step"] == single["step"] and two.get("tokens") == single.get("tokens")
        name = "loss" if "loss" in single else "eval_loss"
        assert two[name] == pytest.approx(single[name], rel=1e-4)
    assert one[-1]["eval_loss"] < 0.995 * one[0]["eval_loss"]
