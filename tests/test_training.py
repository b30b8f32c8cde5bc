"""The loop that all training here shares, and the packer: against the library, and against the plain rule."""

import math
import random

import pytest
import torch
from torch import nn

from llmnotes.errors import TrainingFailed
from llmnotes.packing import best_fit
from llmnotes.training import adamw, optimize, trapezoid


def regression(seed: int):
    """Return a small model, its loss at a step, and a `backward` that uses it."""
    torch.manual_seed(seed)
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), torch.randn(6, 5, 3)

    def loss_at(step: int) -> torch.Tensor:
        return (model(inputs[step % 6]) - 2).square().mean()

    def backward(step: int) -> torch.Tensor:
        loss = loss_at(step)
        loss.backward()
        return loss

    return model, loss_at, backward


def test_a_group_with_a_scale_learns_at_its_share_and_only_what_is_clipped_is_clipped():
    (model, _, backward), (other, loss_at, _) = regression(1), regression(1)
    head, body = list(model[2].parameters()), [*model[0].parameters(), *model[1].parameters()]
    groups = [{"params": body}, {"params": head, "lr_scale": 0.25}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    taken = list(optimize(optimizer, backward, lambda step: 0.1 / (step + 1), 4, max_grad_norm=0.01, clipped=body))

    groups = [{"params": [*other[0].parameters(), *other[1].parameters()]}, {"params": list(other[2].parameters())}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for step in range(4):
        loss = loss_at(step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(groups[0]["params"], 0.01)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.param_groups[1]["lr"] = 0.25 * 0.1 / (step + 1)
        optimizer.step()
        optimizer.zero_grad()
        assert (taken[step].number, taken[step].loss, taken[step].grad_norm) == (step + 1, loss.item(), norm.item())
        assert taken[step].learning_rate == 0.1 / (step + 1)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_matrices_decay_and_what_is_frozen_is_left_out():
    model, _, _ = regression(0)
    model[2].weight.requires_grad_(False)
    groups = adamw(model, 1e-3, weight_decay=0.1, betas=(0.8, 0.9)).param_groups
    shapes = [[tuple(p.shape) for p in group["params"]] for group in groups]
    assert shapes == [[(4, 3)], [(4,), (4,), (4,), (1,)]]
    assert [(group["weight_decay"], group["betas"], group["lr"]) for group in groups] == [
        (0.1, (0.8, 0.9), 1e-3),
        (0.0, (0.8, 0.9), 1e-3),
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_no_number_is_not_taken(bad):
    model, loss_at, backward = regression(2)

    def spoiled(step: int) -> torch.Tensor:
        if step < 2:
            return backward(step)
        loss = loss_at(step) * bad
        loss.backward()
        return loss

    before, taken = {}, 0
    with pytest.raises(TrainingFailed, match=r"The loss at step 3 is (nan|inf).*lower learning_rate \(now 0.1\)"):
        for step in optimize(adamw(model, 0.1), spoiled, lambda step: 0.05, 5):
            before, taken = {name: value.clone() for name, value in model.state_dict().items()}, step.number
    assert taken == 2 and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_run_from_the_middle_takes_the_rest():
    model, _, backward = regression(3)
    assert [step.number for step in optimize(adamw(model, 0.1), backward, lambda step: 0.1, 5, first=3)] == [4, 5]


def test_a_trapezoid_rises_stays_and_falls():
    shares = [trapezoid(step, 20, warmup=4, decay=0.5) for step in range(20)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0] and set(shares[4:11]) == {1.0}
    assert shares[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert trapezoid(0, 20, warmup=0, decay=0) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_packer_is_best_fit_and_keeps_every_item(seed):
    rng = random.Random(seed)
    lengths = [rng.randint(1, 40) for _ in range(300)]
    rows: list[list[int]] = []
    left: list[tuple[int, int]] = []  # of each row: its free space, and the item that left it
    for item, length in enumerate(lengths):  # the plain rule: look at every row
        fitting = [(space, -last, row) for row, (space, last) in enumerate(left) if space >= length]
        row = min(fitting)[2] if fitting else len(rows)
        if not fitting:
            rows.append([])
            left.append((64, item))
        rows[row].append(item)
        left[row] = (left[row][0] - length, item)
    found = best_fit(lengths, 64)
    assert found == rows and sorted(item for row in found for item in row) == list(range(300))
    assert best_fit([], 8) == [] and best_fit([99, 8, 1], 8) == [[0], [1], [2]]
