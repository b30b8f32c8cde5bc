"""Quantization-aware training: train a model with rounded weights, so that rounding costs little in the end.

In the forward pass each weight is rounded to the few numbers it may become; in the backward pass the rounding is
taken for the identity (the straight-through estimator: Bengio et al. 2013, Estimating or Propagating Gradients
Through Stochastic Neurons, section 5). The scale of each group is learned with the weights (LSQ: Esser et al. 2019,
section 2.1).
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.utils import parametrize
from tqdm import tqdm

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.arrays import QuantizedArray, finite
from llmnotes.training import optimize, trapezoid

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def quantize(weight: ArrayLike, bits: int, group_size: int = 64) -> QuantizedArray:
    """Round a float matrix (rows, columns) without training, each group of a row with the scale that errs least.

    A weight becomes scale · (code - 2^(bits-1)), and at one and two bits, which have no level to spend on zero, scale ·
    (code - 2^(bits-1) + ½) (as in Liu et al. 2025, ParetoQ, section 3). Scales are float16, (rows · groups in a row,),
    each the best of 60 by squared error.
    Raises `NotQuantizable` for numbers that are not finite, for rows that `group_size` does not divide, and for `bits`
    outside 1 to 8. Does not look at activations: GPTQ does.

    >>> made = quantize([[0.5, -0.5, 0.5, 0.5]], bits=1, group_size=4)
    >>> made.codes.tolist(), made.dequantize().tolist()
    ([[1, 0, 1, 1]], [[0.5, -0.5, 0.5, 0.5]])
    """
    weight = torch.from_numpy(np.array(_matrix(weight, bits, group_size)))
    return _codes(weight, _best_scales(weight, bits, group_size), bits)


class StraightThrough(torch.autograd.Function):
    """Rounding whose derivative is 1 within the range and 0 beyond it; the scale's is that of LSQ (equation 3)."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
        """Round `weight` (groups, n) with `scale` (groups, 1)."""
        exact = weight / scale
        level = _levels(exact, bits)
        ctx.save_for_backward(exact, level)
        ctx.bits = bits
        return level * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Pass the gradient through, and gather that of the scale."""
        (gradient,) = gradients
        exact, level = ctx.saved_tensors
        half, offset = 2 ** (ctx.bits - 1), _offset(ctx.bits)
        inside = (exact > offset - half - 0.5) & (exact < offset + half - 0.5)
        of_scale = (gradient * (level - exact * inside)).sum(-1, keepdim=True)
        return gradient * inside, of_scale, None


class FakeQuantize(nn.Module):
    """Rounds a weight in the forward pass and leaves it a float; `scale`, (groups, 1), is a parameter."""

    def __init__(self, weight: torch.Tensor, bits: int, group_size: int):
        super().__init__()
        self.bits, self.group_size = bits, group_size
        self.scale = nn.Parameter(_best_scales(weight.detach().float(), bits, group_size))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the rounded weight, of the same shape."""
        scale = self.scale + (_stored(self.scale) - self.scale).detach()
        return StraightThrough.apply(weight.reshape(-1, self.group_size), scale, self.bits).view_as(weight)


def prepare(model: PreTrainedModel, bits: int, group_size: int = 64) -> PreTrainedModel:
    """Return a copy of `model` in which each linear layer but the head rounds its weight whenever it is used.

    Only these weights and their scales are trained. Raises `NotQuantizable` as `quantize` does.

    >>> from llmnotes.models import open_model
    >>> student = prepare(open_model("pebble", say=lambda line: None).model, bits=2)
    >>> student.model.layers[0].mlp.up_proj.weight[0].unique().numel() <= 4 * 4  # four groups of four numbers
    True
    """
    student = copy.deepcopy(model).requires_grad_(False)
    for layer in _layers(student).values():
        _matrix(layer.weight.detach().cpu().numpy(), bits, group_size)
        layer.weight.requires_grad_(True)
        parametrize.register_parametrization(layer, "weight", FakeQuantize(layer.weight, bits, group_size))
    return student


def train(
    student: PreTrainedModel,
    rows: np.ndarray,
    steps: int,
    learning_rate: float = 5e-4,
    batch: int = 2,
    teacher: PreTrainedModel | None = None,
    pad: int | None = None,
) -> list[float]:
    """Train what `prepare` made, in place, on token ids `rows` (n, length), and return the loss of each step in nats.

    With `teacher`, the original model, the loss is KL(teacher ‖ student) of the next-token distributions (distillation:
    Hinton et al. 2015); without, the cross-entropy of the text. `learning_rate` is that of the weights and falls to
    zero over the last 70% of the steps; scales learn at a tenth of it. Tokens equal to `pad` count for nothing. Rows
    are read in order and again from the start. Raises `NotQuantizable` if there is no row, and `TrainingFailed` if the
    loss is NaN or infinite. Keeps no optimizer state.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> student = prepare(lm.model, bits=2)
    >>> len(train(student, pebble_rows(lm.tokenizer, 2), steps=1, teacher=lm.model, pad=lm.tokenizer.pad_token_id))
    1
    """
    if not len(rows):
        raise NotQuantizable("There is no row of tokens to train on; give at least one.")
    trained = {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
    scales = [weight for name, weight in trained.items() if name.endswith(".scale")]
    weights = [weight for name, weight in trained.items() if not name.endswith(".scale")]
    groups = [{"params": weights}, {"params": scales, "lr_scale": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def backward(step: int) -> torch.Tensor:
        at = np.arange(step * batch, (step + 1) * batch) % len(rows)
        ids = torch.from_numpy(np.asarray(rows)[at].astype(np.int64)).to(student.device)  # (batch, length)
        loss = _loss(student, teacher, ids, pad)
        loss.backward()
        return loss

    def rate(step: int) -> float:
        return learning_rate * trapezoid(step, steps, warmup=steps / 20, decay=0.7)

    taken = optimize(optimizer, backward, rate, steps, clipped=weights)
    return [step.loss for step in tqdm(taken, total=steps, desc="training", mininterval=1, leave=False, disable=None)]


def convert(student: PreTrainedModel) -> dict[str, QuantizedArray]:
    """Return what is stored of a trained model: codes and scales of each weight, by the original's names.

    `{name: weight.dequantize() for name, weight in convert(student).items()}` are the weights that the student computes
    with, to the bit, and what `ruler.with_weights` puts into a copy of the original. Does not pack codes into bytes.
    """
    found = {}
    for name, layer in _layers(student).items():
        parametrization = layer.get_submodule("parametrizations.weight")
        fake, weight = parametrization.get_submodule("0"), parametrization.get_parameter("original")
        assert isinstance(fake, FakeQuantize), f"{name} was not prepared"
        found[f"{name}.weight"] = _codes(weight.detach().float().cpu(), fake.scale.detach().cpu(), fake.bits)
    return found


def pebble_rows(tokenizer: PreTrainedTokenizerBase, count: int, length: int = 256, seed: int = 0) -> np.ndarray:
    """Return `count` rows of Pebble's training text as token ids, int16 (count, length), padded at their ends.

    The text comes from the generator of the training corpus with another seed: the same facts, new sentences. Does
    not contain an exam question, nor a document of the ruler's.
    """
    from llmnotes.pebble.corpus import documents
    from llmnotes.pebble.packing import pack

    texts = [document.text for document in documents(16 + count * length // 50, seed=1_000 + seed)]
    return pack(tokenizer(texts, add_special_tokens=False)["input_ids"], length)[:count]


def _loss(student, teacher, ids, pad):
    """Return the mean loss over the tokens that count; on a GPU, the matrix products are taken in bfloat16.

    Many processors have no bfloat16: torch imitates it there, and a step takes ten times as long as in float32 or more.
    """
    gpu = ids.device.type == "cuda"
    real = torch.ones_like(ids, dtype=torch.bool) if pad is None else ids != pad
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=gpu):
        scores = student(input_ids=ids, use_cache=False).logits
    if teacher is None:
        counts = real[:, 1:]
        return nn.functional.cross_entropy(scores[:, :-1][counts].float(), ids[:, 1:][counts])
    with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16, enabled=gpu):
        goal = teacher(input_ids=ids, use_cache=False).logits
    goal, found = goal[real].float().log_softmax(-1), scores[real].float().log_softmax(-1)
    return nn.functional.kl_div(found, goal, log_target=True, reduction="batchmean")


def _layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    head = model.get_output_embeddings()
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}


def _offset(bits: int) -> float:
    """Return how far the levels lie above whole numbers: one and two bits get no zero."""
    return 0.5 if bits <= 2 else 0.0


def _levels(exact, bits: int):
    """Return the level nearest to each of `exact` (weights over their scale)."""
    half, offset = 2 ** (bits - 1), _offset(bits)
    return (exact - offset).round().clamp(-half, half - 1) + offset


def _stored(scale):
    """Return a scale as float16 keeps it, never below the smallest number that it has at full precision."""
    return scale.clamp(2.0**-14, 65504.0).half().float()


def _best_scales(weight, bits: int, group_size: int):
    """Return for each group the scale with the least error, of 60 around the one that fits its largest weight.

    At one bit the best is known: the mean magnitude, twice (Rastegari et al. 2016, XNOR-Net, equation 6).
    """
    x = weight.reshape(-1, group_size)
    if bits == 1:
        return _stored(2 * x.abs().mean(-1, keepdim=True))
    top = x.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1 + _offset(bits))
    best, least = top, torch.full_like(top, math.inf)
    for share in torch.linspace(0.2, 1.05, 60):
        scale = _stored(top * share)
        error = (_levels(x / scale, bits) * scale - x).square().sum(-1, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def _codes(weight, scale, bits: int) -> QuantizedArray:
    rows, columns = weight.shape
    scale = _stored(scale)
    level = _levels(weight.reshape(len(scale), -1) / scale, bits)
    zero = 2 ** (bits - 1) - _offset(bits)
    number = (level + zero).to(torch.uint8)
    return QuantizedArray(number.reshape(rows, columns).numpy(), scale.half().reshape(-1).numpy(), zero, bits)


def _matrix(weight: ArrayLike, bits: int, group_size: int) -> np.ndarray:
    """Return a weight as float32 if it can be rounded."""
    weight = finite(weight)
    if not 1 <= bits <= 8:
        raise NotQuantizable(f"A code of {bits} bits does not fit here; choose 1 to 8 bits.")
    if weight.ndim != 2 or group_size < 1 or weight.shape[1] % group_size:
        raise NotQuantizable(
            f"Groups of {group_size} do not fit weights of the shape {weight.shape}; give a matrix whose rows they "
            "divide."
        )
    return weight
