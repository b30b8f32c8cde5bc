"""What llama.cpp allocates: a model's tensors, its key-value cache, and the buffer that a batch is computed in."""

from functools import lru_cache
from typing import NamedTuple

from llmnotes.fit.model import Model
from llmnotes.fit.shapes import Shape
from llmnotes.formats.files import size_of
from llmnotes.formats.gguf.architectures import LAYER
from llmnotes.quantization.mixtures import types

UBATCH = 512  # tokens that are computed at once (--ubatch-size)
CELLS = 256  # the cache grows by so many tokens
ALIGNMENT = 32  # bytes


class Needs(NamedTuple):
    """Bytes: of the embedding, of each layer, of the output with its norm, of the cache of a layer, and the rest."""

    embedding: int
    layers: list[int]
    output: int
    tied: bool
    cache: int
    compute: int
    vision: int

    @property
    def weights(self) -> int:
        """All tensors once, as they lie in the file."""
        return self.embedding + sum(self.layers) + self.output


def needs(model: Model, file_type: str, context: int) -> Needs:
    """Return what a model needs in llama.cpp; `file_type` is one of `mixtures.FILE_TYPES` or the model's own.

    One sequence, a cache in F16, flash attention where it is to be had, batches of 512 tokens. A CPU with instructions
    for it keeps a second, repacked copy of some types (Q4_0, Q4_K, ...): the pages of the file that it was made from
    are free to go, so it is not counted here.

    >>> from llmnotes.fit.model import model_of
    >>> found = needs(model_of("pebble"), "F16", 512)
    >>> found.weights, found.cache * 4, found.compute
    (7349248, 1048576, 7882784)
    """
    shape = model.shape
    sizes = {tensor.name: tensor.nbytes for tensor in model.stored} if file_type == model.file_type else None
    if sizes is None:
        sizes = {name: one[2] for name, one in sizes_and_types(shape, file_type, model.extra).items()}
    layers = [0] * shape.layers
    embedding = output = 0
    for name, nbytes in sizes.items():
        number = name.removeprefix("blk.").partition(".")[0]
        if name.startswith("blk.") and number.isdigit() and len(number) < 6 and int(number) < shape.layers:
            layers[int(number)] += nbytes
        elif name.startswith("token_embd"):
            embedding += nbytes
        else:
            output += nbytes
    cells = -(-context // CELLS) * CELLS
    cache = 2 * 2 * cells * shape.kv_heads * shape.head
    vision = 2 * model.vision[0] + 4 * model.vision[2]  # mmproj: matrices in F16, vectors in F32
    return Needs(embedding, layers, output, shape.tied, cache, compute(shape, min(UBATCH, context), cells), vision)


def compute(shape: Shape, tokens: int, cells: int) -> int:
    """Return the size of llama.cpp's compute buffer for a batch of `tokens` and a cache of `cells` tokens, in bytes.

    GGML places the results of a graph before it runs: in the smallest free gap that is wide enough, or at the end; a
    gap is free again when all who read the result are done (ggml-alloc.c). So the graph of a Llama is gone through
    here in the order in which llama.cpp computes it. Three layers stand for all: each finds the gaps of the one before.
    """
    hidden, inner = 4 * tokens * shape.hidden, 4 * tokens * shape.inner
    queries, keys = 4 * tokens * shape.heads * shape.head, 4 * tokens * shape.kv_heads * shape.head
    inputs = {"tokens": 4 * tokens, "other tokens": 4 * tokens, "other embeddings": hidden, "slots": 8 * tokens}
    inputs |= {"positions": 4 * tokens, "k places": 8 * tokens, "v places": 8 * tokens}
    inputs |= {"mask": 2 * tokens * cells, "last": 4}
    graph = [  # (result, bytes, what it reads); results of 0 bytes are views or lie in the cache
        ("x", hidden, ("tokens",)),
        ("rows", hidden, ("other tokens",)),
        ("mixed", hidden, ("other embeddings",)),
        ("set", 0, ("mixed", "rows", "slots")),
    ]
    x, layers = "x", min(shape.layers, 3)
    for layer in range(layers):
        last = layer == layers - 1  # of the last layer only the last token goes on
        share = tokens if last else 1
        steps = [
            ("norm", hidden, (x,)),
            ("scaled", hidden, ("norm",)),
            ("q", queries, ("scaled",)),
            ("turned q", queries, ("q", "positions")),
            ("v", keys, ("scaled",)),
            ("k", keys, ("scaled",)),
            ("turned k", keys, ("k", "positions")),
            ("k kept", 0, ("turned k", "k places")),
            ("v kept", 0, ("v", "v places")),
            ("attention", queries, ("turned q", "mask")),
            ("out", hidden, ("attention",)),
        ]
        if last:
            steps += [("out row", hidden // share, ("out", "last")), ("x row", hidden // share, (x, "last"))]
        steps += [
            ("sum", hidden // share, ("out row", "x row") if last else ("out", x)),
            ("norm 2", hidden // share, ("sum",)),
            ("scaled 2", hidden // share, ("norm 2",)),
            ("gate", inner // share, ("scaled 2",)),
            ("up", inner // share, ("scaled 2",)),
            ("product", inner // share, ("gate", "up")),
            ("down", hidden // share, ("product",)),
            ("x", hidden // share, ("down", "sum")),
        ]
        own = {name for name, *_ in steps} - {x}
        rename = {name: f"{name} {layer}" for name in own | {"x"}}
        after = f"x {layer}"
        graph += [
            (
                after if place == len(steps) - 1 else rename[name],
                size,
                tuple(source if source == x else rename.get(source, source) for source in sources),
            )
            for place, (name, size, sources) in enumerate(steps)
        ]
        x = after
    row = 4 * shape.hidden
    graph += [("norm", row, (x,)), ("scaled", row, ("norm",)), ("logits", 4 * shape.vocabulary, ("scaled",))]
    graph.append(("", 0, ("other embeddings", "mixed")))  # these two are never given back
    return _placed(inputs, graph)


def _placed(inputs: dict[str, int], graph: list[tuple[str, int, tuple[str, ...]]]) -> int:
    """Return the bytes that the results of a graph take when they are placed one after the other."""
    sizes, readers, place = dict(inputs), {}, {}
    gaps, most = [[0, 1 << 62]], 0  # (start, bytes) in the order of their start; the last has no end

    def put(name: str) -> int:
        size = -(-sizes[name] // ALIGNMENT) * ALIGNMENT
        wide = [gap for gap in gaps[:-1] if gap[1] >= size]
        gap = min(reversed(wide), key=lambda gap: gap[1]) if wide else gaps[-1]
        place[name] = gap[0]
        gap[0], gap[1] = gap[0] + size, gap[1] - size
        if not gap[1]:
            gaps.remove(gap)
        return place[name] + size

    for name in inputs:
        most = max(most, put(name))
    for name, size, sources in graph:
        sizes[name] = size
        for source in sources:
            readers[source] = readers.get(source, 0) + 1
    for name, size, sources in graph:
        if size:
            most = max(most, put(name))
        for source in sources:
            readers[source] -= 1
            if not readers[source] and source in place:
                gaps.append([place.pop(source), -(-sizes[source] // ALIGNMENT) * ALIGNMENT])
                gaps.sort()
                for left, right in zip(gaps[-2::-1], gaps[:0:-1], strict=True):
                    if left[0] + left[1] == right[0]:
                        left[1] += right[1]
                        gaps.remove(right)
    return most


@lru_cache(32)
def sizes_and_types(
    shape: Shape, file_type: str, extra: tuple[int, int] = (0, 0)
) -> dict[str, tuple[tuple[int, ...], str, int]]:
    """Return {name in GGUF: (shape, type, bytes)} of the tensors that a model has when it is written in a file type.

    `extra` are numbers of a layer, and of the rest, for which there is no name here: biases, norms of q and k.
    """
    shapes = {"token_embd.weight": (shape.vocabulary, shape.hidden), "output_norm.weight": (shape.hidden,)}
    if not shape.tied:
        shapes["output.weight"] = (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        for name, sides in shape.linears.items():
            shapes[f"blk.{layer}.{LAYER[name]}.weight"] = sides
        shapes |= {f"blk.{layer}.{name}.weight": (shape.hidden,) for name in ("attn_norm", "ffn_norm")}
        if more := sum(shape.small) - 2 * shape.hidden + extra[0]:
            shapes[f"blk.{layer}.others"] = (more,)
    if extra[1]:
        shapes["others"] = (extra[1],)
    groups = max(shape.heads // shape.kv_heads, 1)
    found, _ = types(file_type, shapes, groups, shape.layers == 80 and groups > 1)
    return {name: (sides, found[name], size_of(found[name], sides)) for name, sides in shapes.items()}
