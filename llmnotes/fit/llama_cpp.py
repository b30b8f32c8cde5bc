"""What llama.cpp allocates: a model's tensors, its cache by kind of layer, and the buffer of a batch."""

from collections import Counter
from typing import NamedTuple

from llmnotes.errors import BadSettings
from llmnotes.fit.model import Model
from llmnotes.fit.pieces import Cache
from llmnotes.fit.shapes import Shape

UBATCH = 512  # tokens that are computed at once (--ubatch-size)
CELLS = 256  # the cache grows by so many tokens
ALIGNMENT = 32  # bytes
ROW = 32  # numbers in a block of a quantized cache
CACHES = {"F16": 64, "Q8_0": 34, "Q4_0": 18}  # type of the cache -> bytes of 32 numbers


class LlamaCppMemory(NamedTuple):
    """Bytes: of the embedding, of each layer and of its cache, of the output with its norm, and the rest.

    `tied` says whether the output is the embedding once more, `compute` is the buffer in which a batch is computed.
    """

    embedding: int
    layers: list[int]
    caches: list[int]
    output: int
    tied: bool
    compute: int
    vision: int

    @property
    def weights(self) -> int:
        """All tensors once, as they lie in the file."""
        return self.embedding + sum(self.layers) + self.output

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what they are for, under the same names as in transformers; the scales are in the weights."""
        parts = {"weights": self.weights, "scales": 0, "cache": sum(self.caches)}
        return parts | {"compute": self.compute, "vision": self.vision}


def needs(model: Model, file_type: str, context: int, cache: str = "F16") -> LlamaCppMemory:
    """Return what a model needs in llama.cpp; `file_type` is one of `mixtures.FILE_TYPES` or the model's own.

    Counted are one sequence, a `cache` in one of the types of `CACHES`, flash attention where llama.cpp has it, and
    batches of 512 tokens. Some CPUs keep a second, repacked copy of some types (Q4_0, Q4_K, ...). It is not counted,
    because the system can take back the pages of the file that it was made from. The buffer of a batch is that of a
    Llama; other architectures need up to a few dozen MB more. Raises `BadSettings` for heads that the blocks of a
    quantized cache do not fit.

    >>> from llmnotes.fit.model import model_of
    >>> found = needs(model_of("pebble"), "F16", 512)
    >>> found.weights, sum(found.caches), found.compute
    (7349248, 1048576, 7882784)
    """
    shape, count = model.shape, len(model.caches)
    if CACHES[cache] < CACHES["F16"] and shape.head % ROW:
        raise BadSettings(
            f"llama.cpp has no cache in {cache} for {model.name}, whose heads have {shape.head} numbers, which is no "
            f"multiple of {ROW}; leave the cache in F16."
        )
    layers = [0] * count
    embedding = output = 0
    for name, nbytes in model.tensors(file_type).items():
        number = name.removeprefix("blk.").partition(".")[0]
        if name.startswith("blk.") and number.isdigit() and len(number) < 6 and int(number) < count:
            layers[int(number)] += nbytes
        elif name.startswith("token_embd."):
            embedding += nbytes
        else:
            output += nbytes
    cells = -(-context // CELLS) * CELLS
    caches = [_kept(one, cells, cache) for one in model.caches]
    vision = 2 * model.pieces.vision.linear + 4 * model.pieces.vision.others  # mmproj: matrices F16, vectors F32
    buffer = compute(shape, min(UBATCH, context), cells)
    return LlamaCppMemory(embedding, layers, caches, output, model.pieces.tied, buffer, vision)


def _kept(cache: Cache, cells: int, kind: str) -> int:
    """Return the bytes that a layer keeps: a window has room for itself and one batch more, states are float32."""
    if cache.window is not None:
        cells = min(cells, -(-(cache.window + UBATCH) // CELLS) * CELLS)
    return cache.width * cells * CACHES[kind] // ROW + 4 * (cache.state + cache.exact)


class Step(NamedTuple):
    """One operation of a graph; its result takes 0 bytes if it is a view or lies in the cache."""

    result: str
    nbytes: int
    reads: tuple[str, ...]


def compute(shape: Shape, tokens: int, cells: int) -> int:
    """Return the size of llama.cpp's compute buffer for a batch of `tokens` and a cache of `cells` tokens, in bytes.

    GGML places the results of a graph before it runs: in the smallest free gap that is wide enough, or at the end; a
    gap is free again when every step that reads the result is done (ggml-alloc.c). So we go through the graph of a
    Llama in the order in which llama.cpp computes it. Three layers stand for all: each finds the gaps that the one
    before it left.

    >>> from llmnotes.fit.shapes import shape_of
    >>> from llmnotes.pebble import weights_dir
    >>> compute(shape_of(weights_dir("pebble")), tokens=512, cells=512)
    7882784
    """
    hidden = 4 * tokens * shape.hidden
    inputs = {"tokens": 4 * tokens, "other tokens": 4 * tokens, "other embeddings": hidden, "slots": 8 * tokens}
    inputs |= {"positions": 4 * tokens, "k places": 8 * tokens, "v places": 8 * tokens}
    inputs |= {"mask": 2 * tokens * cells, "last": 4}
    graph = [
        Step("x", hidden, ("tokens",)),
        Step("rows", hidden, ("other tokens",)),
        Step("mixed", hidden, ("other embeddings",)),
        Step("set", 0, ("mixed", "rows", "slots")),
    ]
    count = min(shape.layers, 3)
    x = "x"  # what goes from layer to layer
    for layer in range(count):
        graph += _layer(shape, tokens, layer, x, last=layer == count - 1)
        x = f"x {layer}"
    row = 4 * shape.hidden
    graph += [Step("norm", row, (x,)), Step("scaled", row, ("norm",))]
    graph.append(Step("logits", 4 * shape.vocabulary, ("scaled",)))
    graph.append(Step("", 0, ("other embeddings", "mixed")))  # these two are never given back
    return _placed(inputs, graph)


def _layer(shape: Shape, tokens: int, layer: int, x: str, last: bool) -> list[Step]:
    """Return the steps of one decoder layer, which reads `x` and ends in the result "x {layer}"."""
    hidden, queries = 4 * tokens * shape.hidden, 4 * tokens * shape.heads * shape.head
    keys = 4 * tokens * shape.kv_heads * shape.head
    rows = 1 if last else tokens  # after the attention of the last layer, only the last token is computed
    narrow, inner = 4 * rows * shape.hidden, 4 * rows * shape.inner
    own = f" {layer}"  # results of other layers have the same names
    norm, scaled, q, k, v = f"norm{own}", f"scaled{own}", f"q{own}", f"k{own}", f"v{own}"
    mixed, out, total, second = f"attention{own}", f"out{own}", f"sum{own}", f"scaled 2{own}"
    steps = [
        Step(norm, hidden, (x,)),
        Step(scaled, hidden, (norm,)),
        Step(q, queries, (scaled,)),
        Step(f"turned {q}", queries, (q, "positions")),
        Step(v, keys, (scaled,)),
        Step(k, keys, (scaled,)),
        Step(f"turned {k}", keys, (k, "positions")),
        Step(f"kept {k}", 0, (f"turned {k}", "k places")),
        Step(f"kept {v}", 0, (v, "v places")),
        Step(mixed, queries, (f"turned {q}", "mask")),
        Step(out, hidden, (mixed,)),
    ]
    if last:
        steps += [Step(f"row of {out}", narrow, (out, "last")), Step("row of x", narrow, (x, "last"))]
    return steps + [
        Step(total, narrow, (f"row of {out}", "row of x") if last else (out, x)),
        Step(f"norm 2{own}", narrow, (total,)),
        Step(second, narrow, (f"norm 2{own}",)),
        Step(f"gate{own}", inner, (second,)),
        Step(f"up{own}", inner, (second,)),
        Step(f"product{own}", inner, (f"gate{own}", f"up{own}")),
        Step(f"down{own}", narrow, (f"product{own}",)),
        Step(f"x{own}", narrow, (f"down{own}", total)),
    ]


def _placed(inputs: dict[str, int], graph: list[Step]) -> int:
    """Return the bytes that the results of a graph take when they are placed one after the other."""
    sizes = {name: -(-nbytes // ALIGNMENT) * ALIGNMENT for name, nbytes in inputs.items()}
    sizes |= {step.result: -(-step.nbytes // ALIGNMENT) * ALIGNMENT for step in graph}
    readers = Counter(source for step in graph for source in step.reads)
    gaps = [[0, 1 << 62]]  # [start, bytes] in the order of their start; the last has no end
    places: dict[str, int] = {}
    most = 0

    def put(name: str) -> int:
        """Place a result in the smallest gap that holds it, else at the end, and return where it ends."""
        wide = [gap for gap in gaps[:-1] if gap[1] >= sizes[name]]
        gap = min(reversed(wide), key=lambda gap: gap[1]) if wide else gaps[-1]
        places[name] = gap[0]
        gap[0], gap[1] = gap[0] + sizes[name], gap[1] - sizes[name]
        if not gap[1]:
            gaps.remove(gap)
        return places[name] + sizes[name]

    def free(name: str) -> None:
        """Make a gap of a result's place, and one gap of all gaps that touch."""
        gaps.append([places.pop(name), sizes[name]])
        gaps.sort()
        for left, right in zip(gaps[-2::-1], gaps[:0:-1], strict=True):
            if left[0] + left[1] == right[0]:
                left[1] += right[1]
                gaps.remove(right)

    for name in inputs:
        most = max(most, put(name))
    for step in graph:
        if step.nbytes:
            most = max(most, put(step.result))
        for source in step.reads:
            readers[source] -= 1
            if not readers[source] and source in places:
                free(source)
    return most
