"""How much memory a training step takes, byte by byte, from a config.json alone.

`llmnotes.finetuning.measured_memory` measures the same.

The model is a Llama-like decoder: an RMS norm before each half of a layer, rotary positions, attention by sdpa, a gated
MLP. Its activations are what autograd keeps for the backward pass (Korthikanti et al., Reducing Activation
Recomputation in Large Transformer Models, 2022, section 4, count them for GPT). With gradient checkpointing a layer
keeps its input alone, and computes the rest again (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmnotes.fit.shapes import Shape, shape_of
from llmnotes.fit.training_run import Run, adapted, trained
from llmnotes.fit.weights import SHARED, Part, in_8_bits, scales, weights

PARTS = ("weights", "scales", "adapters", "optimizer", "gradients", "activations", "passing")
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")  # these read the same input
MLP, DOWN = ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"
SMALL = 4096  # a tensor with fewer numbers keeps its averages in 32 bits in the 8-bit optimizer
PAGED = 100_000  # and one with fewer is not paged


@dataclass(frozen=True)
class TrainingMemory:
    """What a training step holds at its fullest moments: `moments` maps each to its parts, by the names in `PARTS`.

    "loss": the forward pass is over, and the backward pass is at the logits. "top layer", "bottom layer": the backward
    pass is inside the MLP of the last layer, and of the first. "embedding": the backward pass is over. "step": the
    optimizer moves the weights. What is "passing" lives for a moment only: gradients of activations, a weight that was
    made dense from its 4 bits.
    """

    moments: dict[str, dict[str, Part]]

    @property
    def peak(self) -> str:
        """The moment that holds most."""
        return max(self.moments, key=self.at)

    @property
    def parts(self) -> dict[str, Part]:
        """The parts at the peak."""
        return self.moments[self.peak]

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.at(self.peak)

    def at(self, moment: str) -> int:
        """Bytes at a moment."""
        return sum(part.bytes for part in self.moments[moment].values())


def predict(config: Shape | Mapping | str | Path, method: str, batch: int, length: int, **how: Any) -> TrainingMemory:
    """Return what a training step takes in memory, from a config or a shape; `how` are the other fields of `Run`.

    Counted is what torch's allocator holds from the second step on, in the loop of `llmnotes.finetuning.train`: the
    loss is computed on the logits of all tokens, in float32.

    Raises `ModelBroken` for a config that is not that of a Llama, `BadSettings` for a run that does not exist. Does not
    count Python and torch themselves (some hundred MB), a GPU's context, what loading and quantizing take before, or
    what the norms of q and k in a Qwen3 keep for the backward pass (about 4% more for Pebble's size).

    >>> from llmnotes.pebble import weights_dir
    >>> memory = predict(weights_dir("pebble"), "full", batch=8, length=128)
    >>> memory.parts["optimizer"]
    Part(bytes=29378560, formula='2 averages of 3,672,320 numbers, 4 bytes each')
    >>> memory.peak, round(memory.total / 1e6)
    ('loss', 161)
    """
    shape = config if isinstance(config, Shape) else shape_of(config)
    run = Run(method, batch, length, **how)
    adapters = adapted(shape, run)

    # What learns: the sizes of its tensors, layer by layer, and then those outside the layers
    layers = [trained(shape, run, names) for names in adapters]
    outside = shape.outside if run.full else [run.rows * shape.hidden] if run.rows else []
    sizes = [size for layer in layers for size in layer] + outside
    count = sum(sizes)

    # What lies in memory all the time
    always = {
        "weights": weights(shape, run.size, run.quantized),
        "scales": scales(shape, run.quantized, run.double),
        "adapters": Part(0, "none") if run.full else Part(4 * count, f"{count:,} × 4 bytes"),
        "optimizer": _optimizer(run, sizes),
    }
    gradients = Part(run.trained_size * count, f"{count:,} × {run.trained_size} bytes")

    # What the forward pass keeps for the backward pass
    kept = [
        sum(kept_in_layer(shape, run, names, first=not i and not run.rows).values()) for i, names in enumerate(adapters)
    ]
    stream = run.tokens * shape.hidden * run.size  # what goes from layer to layer
    mask = 4 * run.batch * run.length**2 * run.packed

    def moment(collected: Part, activations: Part, passing: Part) -> dict[str, Part]:
        collected = gradients if run.accumulation > 1 else collected  # those of the batches before
        return always | {"gradients": collected, "activations": activations, "passing": passing}

    def loss() -> dict[str, Part]:
        each, note = (stream, " (its input)") if run.checkpointing else (sum(kept) // shape.layers, "")
        last = run.tokens * 4 * (shape.hidden + 1) + 2 * stream * run.full  # the last norm; what the head learns from
        if run.rows:  # which tokens are among the rows that learn
            last += stream * shape.tied + 4 * run.tokens * run.rows
        logits = 4 * run.tokens * shape.vocabulary
        return moment(
            Part(0, "none yet"),
            Part(
                shape.layers * each + last + logits + mask,
                f"{shape.layers} layers × {run.tokens:,} tokens × {each // run.tokens:,} bytes{note}, last norm "
                f"{last:,}, log-probabilities {run.tokens:,} × {shape.vocabulary:,} × 4 bytes",
            ),
            Part(2 * logits, f"2 gradients of logits, {run.tokens:,} × {shape.vocabulary:,} × 4 bytes each"),
        )

    def inside(layer: int) -> dict[str, Part]:
        # The gradients of all layers above are there, those of the head with the last norm, and that of `down`
        head = shape.table + shape.hidden + shape.inner * shape.hidden
        above = sum(map(sum, layers[layer + 1 :])) + head * run.full
        # The layers below still hold what they kept; the input of `down` is free already
        inputs = stream * (layer + (run.size < 4))  # in float32 the norm keeps the layer's own input in any case
        below = inputs if run.checkpointing else sum(kept[:layer])
        freed = kept_in_layer(shape, run, adapters[layer])["input of down"]
        return moment(
            Part(
                run.trained_size * above,
                f"those of {shape.layers - 1 - layer} layers" + " and of the head" * run.full,
            ),
            Part(
                below + kept[layer] - freed + mask,
                f"{'the inputs of ' * run.checkpointing}{layer} layers and all of one, without {freed:,}",
            ),
            _in_mlp(shape, run, DOWN in adapters[layer]),
        )

    tied = 2 * shape.table * run.size * (run.full and shape.tied)
    over = Part(0, "none any more")
    return TrainingMemory(
        {
            "loss": loss(),
            "top layer": inside(shape.layers - 1),
            "bottom layer": inside(0),
            "embedding": moment(gradients, over, Part(tied, "two gradients of one table, before they are added")),
            "step": moment(gradients, over, _scratch(run, sizes)),
        }
    )


def kept_in_layer(shape: Shape, run: Run, adapters: frozenset[str], first: bool = False) -> dict[str, int]:
    """Return the bytes that autograd keeps of a decoder layer for the backward pass, by their place in it.

    `adapters` are the layers that have one; `first` is the layer after the embedding. What only the gradient of a
    frozen weight needs is not kept, what two need (the input of q, k and v) is kept once, and the table of attention is
    computed again. Does not know attention by "eager", which keeps that table.

    >>> from llmnotes.pebble import weights_dir
    >>> shape, run = shape_of(weights_dir("pebble")), Run("full", batch=1, length=1)
    >>> {name: size for name, size in kept_in_layer(shape, run, frozenset()).items() if "silu" in name}
    {'gate, silu(gate), up': 9216}
    """
    tokens, size = run.tokens, run.size
    stream, wide = tokens * shape.hidden * size, tokens * shape.inner * size
    queries = tokens * shape.heads * shape.head * size
    keys = queries if run.packed else tokens * shape.kv_heads * shape.head * size  # a mask: k and v are repeated
    norm = tokens * (shape.hidden + 1) * 4 + stream * run.full  # x and 1/rms in float32; x/rms if its weight learns

    def learns(*names: str) -> bool:
        return run.full or (not run.dropout and any(name in adapters for name in names))

    kept = {
        "norms": norm * (1 if first and not run.full else 2),  # nothing below the first norm learns
        "inputs of q, k, v and of gate, up": stream * (learns(*ATTENTION) + learns(*MLP)),
        "q, k, v": queries + 2 * keys,
        "output of attention": queries + tokens * shape.heads * 4,
        "gate, silu(gate), up": 3 * wide,
        "input of down": wide * learns(DOWN),
        "adapters": 0,
    }
    for out, inside in (shape.linears[name] for name in adapters):
        kept["adapters"] += run.rank * tokens * size
        kept["adapters"] += run.rank * (out + inside) * size * (size < 4)  # A and B in the type of their input
        kept["adapters"] += 2 * tokens * inside * size * (run.dropout > 0)  # the mask, and the input that it leaves
    return kept


def _optimizer(run: Run, sizes: list[int]) -> Part:
    """Return AdamW's states: two running averages of each trained number, of its gradient and of the square."""
    count = sum(sizes)
    if run.optimizer == "adamw":
        return Part(2 * count * run.trained_size, f"2 averages of {count:,} numbers, {run.trained_size} bytes each")
    total = sum(2 * in_8_bits(n) if n >= SMALL else 8 * n for n in sizes)
    if run.optimizer == "paged_adamw_8bit" and run.device == "cuda":
        paged = 2 * sum(n for n in sizes if n >= PAGED)
        return Part(total - paged, f"scales and the averages of small tensors; {paged:,} bytes in main memory")
    return Part(total, f"2 averages of {count:,} numbers, 1 byte each, and {SHARED} share 4")


def _scratch(run: Run, sizes: list[int]) -> Part:
    """Return the copies that an optimizer makes while it moves the weights."""
    if run.optimizer == "adamw" or run.device == "cuda":
        return Part(0, "none: the step is one fused operation")
    return Part(5 * 4 * max(sizes), f"5 copies of the largest tensor, {max(sizes):,} × 4 bytes")


def _in_mlp(shape: Shape, run: Run, adapter: bool) -> Part:
    """Return the gradients that are on their way inside an MLP, with the dense weight of `down` if it is made anew."""
    stream, wide = run.tokens * shape.hidden * run.size, run.tokens * shape.inner * run.size
    gradients = f"gradients of {run.tokens:,} × {shape.inner:,} activations"
    if run.method != "qlora":
        return Part(stream + 3 * wide, gradients)
    # `down` is made dense for the gradient of its input: our kernel looks its levels up in float32 first
    first = 4 if run.kernel == "llmnotes" and run.base == "nf4" else run.size
    weight = shape.inner * shape.hidden
    making = weight * (first + (run.size if first != run.size else 0))
    return Part(
        stream + max(3 * wide, wide * adapter + making, wide * adapter + weight * run.size + wide),
        f"{gradients}; a weight of {shape.inner:,} × {shape.hidden:,} made dense",
    )
