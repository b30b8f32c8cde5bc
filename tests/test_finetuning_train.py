"""The loop: what a step is, what follows from the seed; and checkpoints, which are whole or passed over."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from llmnotes.errors import MissingPart, TrainingFailed
from llmnotes.finetuning import train
from llmnotes.finetuning.data import IGNORE, Row, collate
from llmnotes.finetuning.job import checkpoints
from llmnotes.finetuning.lora import LoRA, attach
from llmnotes.finetuning.train import Plan, fit, held_out_loss, optimizer_of, steps, summed_loss

from .counting import calls

ROOT = Path(__file__).parent.parent
PLAN = Plan(steps=6, batch_size=4, learning_rate=1e-2, seed=3)


def tiny_model(wide: int = 32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=wide,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def some_rows(count=10, seed=0) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for length in rng.integers(4, 12, count):
        ids = tuple(rng.integers(0, 64, length).tolist())
        rows.append(Row(ids, (IGNORE, IGNORE, *ids[2:]), (length,)))
    return rows


def weights(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_is_that_of_the_library_on_the_same_rows():
    model, other, rows = tiny_model(), tiny_model(), some_rows(4)
    plan = Plan(steps=3, batch_size=4, learning_rate=1e-2, schedule="constant", max_grad_norm=0.5, weight_decay=0.1)
    done = fit(model, rows, plan, progress=False)
    decay = [p for p in other.parameters() if p.ndim >= 2], [p for p in other.parameters() if p.ndim < 2]
    groups = [{"params": decay[0], "weight_decay": 0.1}, {"params": decay[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    for step in done:
        loss = other(**collate(rows)).loss  # transformers' own mean over the learned tokens
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert step.loss == pytest.approx(loss.item(), rel=1e-5) and step.grad_norm == pytest.approx(norm.item(), 1e-4)
    for name, value in weights(model).items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert [step.number for step in done] == [1, 2, 3] and not model.training
    assert done[0].tokens == sum(len(row.ids) for row in rows)


def test_accumulated_batches_are_one_batch():
    models = [tiny_model() for _ in range(2)]
    one = fit(models[0], some_rows(), replace(PLAN, batch_size=6), progress=False)
    two = fit(models[1], some_rows(), replace(PLAN, batch_size=2, gradient_accumulation=3), progress=False)
    for a, b in zip(one, two, strict=True):  # rows of different lengths: a mean of means would differ
        assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.tokens == b.tokens


def test_every_row_comes_once_in_an_epoch_and_the_seed_decides_when():
    order = train._Order(10, replace(PLAN, batch_size=3))
    taken = [place for step in range(10) for place in order.take(step, 1)]
    assert all(sorted(taken[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert taken[:10] != taken[10:20]
    again = train._Order(10, replace(PLAN, batch_size=3))
    assert [again.take(step, 1) for step in (9, 0)] == [taken[27:], taken[:3]]  # from any step on
    assert train._Order(10, replace(PLAN, batch_size=3, seed=4)).take(0, 1) != taken[:3]
    halves = train._Order(10, replace(PLAN, batch_size=3)).take(1, 2)
    assert halves == taken[6:12]  # two processes take what one takes in two steps


def test_dropout_follows_from_the_step_whatever_happens_between():
    ends = []
    for disturb in (False, True):
        model = attach(tiny_model(), LoRA(r=2, dropout=0.5), seed=1) or tiny_model()
        losses = []
        for step in steps(model, some_rows(), PLAN):
            losses.append(step.loss)
            if disturb:
                torch.rand(7)
                held_out_loss(model, some_rows(3, seed=9))  # leaves it in evaluation mode
        ends.append((losses, weights(model)))
    assert ends[0][0] == ends[1][0] and same(ends[0][1], ends[1][1])
    assert held_out_loss(model, some_rows()) == held_out_loss(model, some_rows()) != ends[0][0][-1]


def test_the_schedules():
    plan = Plan(steps=10, learning_rate=2.0, warmup_steps=4)
    assert [plan.rate(step) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert plan.rate(7) == 1.0 and plan.rate(9) == pytest.approx(2 / 6)
    assert [replace(plan, schedule="constant").rate(step) for step in (4, 9)] == [2.0, 2.0]
    cosine = replace(plan, schedule="cosine")
    assert cosine.rate(7) == pytest.approx(1.0) and cosine.rate(5) > plan.rate(5) and cosine.rate(9) < plan.rate(9)


def test_a_loss_that_is_no_number_stops_before_the_weights_change(monkeypatch):
    model, seen = tiny_model(), []
    real = train.summed_loss
    monkeypatch.setattr(train, "summed_loss", lambda *a: real(*a) * (math.nan if len(seen) == 3 else 1))
    with pytest.raises(TrainingFailed, match=r"The loss at step 4 is nan.*lower learning_rate \(now 0.01\)"):
        for _ in steps(model, some_rows(), PLAN):
            seen.append(weights(model))
    assert len(seen) == 3 and same(seen[-1], weights(model))


def test_a_gradient_that_overflows_stops_it_as_well():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e25)
    with pytest.raises(TrainingFailed, match="step 1 is"):
        fit(model, some_rows(), PLAN, progress=False)


def test_held_out_loss_is_the_mean_over_the_learned_tokens():
    model, rows = tiny_model().eval(), some_rows(7)
    with torch.no_grad():
        total = sum(model(**collate([row])).loss.item() * row.learned for row in rows)
    expected = total / sum(row.learned for row in rows)
    assert held_out_loss(model, rows, batch_size=3) == pytest.approx(expected, rel=1e-5)
    assert summed_loss(model, collate(rows)).item() == pytest.approx(total, rel=1e-5)


def test_the_callers_autocast_is_kept():
    model, batch = tiny_model(), collate(some_rows())
    exact = summed_loss(model, dict(batch)).item()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = summed_loss(model, dict(batch)).item()
    assert rounded != exact == summed_loss(model, dict(batch)).item() and rounded == pytest.approx(exact, rel=1e-2)


# Checkpoints


def trained(folder: Path, until: int, every: int = 1, model=None, first: int = 0, optimizer=None):
    model = model or tiny_model()
    optimizer = optimizer or optimizer_of(model, PLAN)
    for step in steps(model, some_rows(), PLAN, optimizer, first):
        if step.number % every == 0:
            checkpoints.save(folder, step.number, model, optimizer, "run")
        if step.number == until:
            break
    return weights(model)


def resumed(folder: Path):
    """Resume from a folder and train to the end; return the step, what was said, and the weights."""
    model, said = tiny_model(), []
    optimizer = optimizer_of(model, PLAN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)  # whatever it was opened with
    first = checkpoints.resume(folder, model, optimizer, "run", said.append)
    return first, said, trained(folder.parent / "later", 6, 9, model, first, optimizer)


def test_a_checkpoint_goes_on_bit_for_bit_and_two_are_kept(tmp_path):
    expected = trained(tmp_path / "whole", 6)
    assert [path.name for path in checkpoints.found(tmp_path / "whole")] == ["step-00000006", "step-00000005"]
    trained(tmp_path / "cut", 4)
    first, said, found = resumed(tmp_path / "cut")
    assert first == 4 and said == [] and same(found, expected)
    check = ["sha256sum", "--check", "--strict", checkpoints.SUMS]
    assert subprocess.run(check, cwd=tmp_path / "cut" / "step-00000004", capture_output=True).returncode == 0
    first, _, _ = resumed(tmp_path / "none")
    assert first == 0


# What is sound by its checksum: of another model, of another type, of another format.
SOUND = {
    "foreign": (b"model.norm.weight", b"model.norm.weighs"),
    "whole numbers": (b'"F32"', b'"I32"'),
    "no safetensors": (b'{"', b'["'),
}


def damage(path: Path, how: str) -> None:
    state = path / checkpoints.STATE
    content = bytearray(state.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "cut":
        del content[-100:]
    elif how == "empty":
        content.clear()
    elif how == "sum":
        (path / checkpoints.SUMS).write_text("0" * 64)
    elif how == "gone":
        state.unlink()
        return
    elif how == "not a folder":
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_bytes(b"")
        return
    elif how in SOUND:
        old, new = SOUND[how]
        content[:] = bytes(content).replace(old, new)
        (path / checkpoints.SUMS).write_text(f"{hashlib.sha256(content).hexdigest()}  {checkpoints.STATE}\n")
    state.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "sum", "gone", "not a folder", *SOUND])
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(tmp_path, how):
    expected = trained(tmp_path / "whole", 6)
    folder = tmp_path / "cut"
    trained(folder, 4)
    damage(folder / "step-00000004", how)
    first, said, found = resumed(folder)
    assert first == 3 and same(found, expected) and len(said) == 1
    assert said[0].startswith("The checkpoint step-00000004 is passed over, and training goes on from the one before")
    damage(folder / "step-00000003", "flipped")
    first, said, found = resumed(folder)
    assert first == 0 and len(said) == 2
    model = tiny_model()
    trained(folder, 4, 4, model)  # what is damaged makes room for what is not
    assert checkpoints.resume(folder, model, optimizer_of(model, PLAN), "run", pytest.fail) == 4


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trained(tmp_path / "cut", 2)
    model = tiny_model()
    with pytest.raises(TrainingFailed, match="belongs to another training; give another output"):
        checkpoints.resume(tmp_path / "cut", model, optimizer_of(model, PLAN), "other")


def test_averages_in_8_bits_are_bitsandbytes_and_go_on_bit_for_bit(tmp_path):
    from bitsandbytes.optim import AdamW8bit

    plan, rows = replace(PLAN, optimizer="adamw_8bit", weight_decay=0.1), some_rows()
    whole, library, cut = (tiny_model(wide=256) for _ in range(3))  # 16 · 256 numbers: the least that get 8 bits
    list(steps(whole, rows, plan))
    decays = {"params": [p for p in library.parameters() if p.ndim > 1], "weight_decay": 0.1}
    others = {"params": [p for p in library.parameters() if p.ndim < 2], "weight_decay": 0.0}
    list(steps(library, rows, plan, AdamW8bit([decays, others])))
    assert same(weights(whole), weights(library))

    optimizer = optimizer_of(cut, plan)
    for step in steps(cut, rows, plan, optimizer):
        if step.number == 4:
            break
    path = checkpoints.save(tmp_path / "8", 4, cut, optimizer, "run")
    kept = load_file(path / checkpoints.STATE)
    up, norm = "model.layers.0.mlp.up_proj.weight", "model.norm.weight"
    assert kept[f"state1/{up}"].dtype == torch.uint8 and kept[f"absmax2/{up}"].shape == (16,)
    assert kept[f"state1/{norm}"].dtype == torch.float32 and kept[f"step/{norm}"] == 4
    other = tiny_model(wide=256)
    optimizer = optimizer_of(other, plan)
    assert checkpoints.resume(tmp_path / "8", other, optimizer, "run", pytest.fail) == 4
    list(steps(other, rows, plan, optimizer, first=4))
    assert same(weights(other), weights(whole)) and not same(weights(other), weights(cut))

    said = []  # and one of another optimizer is not sound
    assert checkpoints.resume(tmp_path / "8", other, optimizer_of(other, PLAN), "run", said.append) == 0
    assert "its tensors are not those that the model learns" in said[0]


def test_without_bitsandbytes_8_bits_are_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    with pytest.raises(MissingPart, match="bitsandbytes is missing; bring it with: .*bitsandbytes>="):
        optimizer_of(tiny_model(), replace(PLAN, optimizer="adamw_8bit"))


@pytest.mark.slow
def test_the_loop_costs_next_to_nothing_beside_a_bare_one():
    """In calls; benchmarks/finetuning.py has the time."""
    model, rows, plan = tiny_model(), some_rows(8), Plan(steps=40, batch_size=8, learning_rate=1e-4)
    batch = collate(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def bare() -> None:
        for _ in range(plan.steps):
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    def ours() -> None:
        fit(model, rows, plan, progress=False)

    bare(), ours()  # what happens once, at the first use, does not count
    extra = (calls(ours) - calls(bare)) / plan.steps
    assert extra < 8_000, f"{extra:.0f} calls more for each step, which are a few milliseconds"
