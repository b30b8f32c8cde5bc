"""The `.bin` files of llama2.c: numbers, then the weights field after field, all layers of a field together.

The layout is that of export.py and run.c in https://github.com/karpathy/llama2.c. Version 0 has no signature: such a
file is recognized only when its size is, to the byte, the one that its seven numbers imply.
"""

import struct
from collections.abc import Iterator

from llmnotes.formats.files import CHUNK, Source
from llmnotes.formats.format import Format
from llmnotes.formats.results import Identity, Inspection, Tensor, size_of

MAGIC = b"24ka"  # the number that its author wrote as “ak42”
HEADER = 256  # bytes before the weights in versions 1 and 2
NUMBERS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
LIMITS = (1 << 20, 1 << 20, 1 << 10, 1 << 16, 1 << 16, 1 << 24, 1 << 24)


def identify(source: Source) -> Identity | None:
    """Return the identity of a file of llama2.c, or None; `FileBroken` for a version that never was."""
    head = source.head(28)
    if head[:4] == MAGIC:
        version = int.from_bytes(head[4:8], "little")
        if version not in (1, 2) or len(head) < 28:
            raise source.broken(f"it begins as llama2.c's files do, and there never was a version {version}")
        return Identity("llama2.c", str(version), f"the bytes “24ka”, then the number {version}")
    numbers = _numbers(head) if len(head) == 28 else None
    if numbers is None or 28 + sum(size_of(*entry[1:]) for entry in _fields(numbers, 0, 0)) != source.size:
        return None
    return Identity("llama2.c", "0", f"seven numbers that imply a file of {source.size:,} bytes, which it has")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return the fields of `TransformerWeights` in run.c, the layers as the first side.

    In version 2 each matrix has a name with its layer, `wq.0`, in int8, and its scales after it, `wq.0.scales`. Scales,
    and version 0's tables of rotations, are no parameters.
    Raises `FileBroken` if the numbers contradict each other or imply another size than the file has.
    """
    version, group = int(identity.version), 0
    at, first = (28, 0) if version == 0 else (HEADER, 8)
    numbers = _numbers(source.read(first, 28))
    if numbers is None:
        raise source.broken("the numbers in its header contradict each other")
    if version > 0:
        shared, group = struct.unpack("<Bi", source.read(36, 5))
        if numbers["vocab_size"] < 0 or shared > 1:
            raise source.broken("the numbers in its header contradict each other")
        numbers["vocab_size"] *= 1 if shared else -1  # as version 0 says it: a negative size has a `wcls` of its own
        group = group if version == 2 else 0
        if version == 2 and (group < 1 or any(side % group for side in (numbers["dim"], numbers["hidden_dim"]))):
            raise source.broken(f"its groups of {group:,} weights do not divide its rows")
    tensors = []
    for name, dtype, shape in _fields(numbers, version, group):
        nbytes = size_of(dtype, shape)
        counts = not name.startswith("freq_cis") and not name.endswith(".scales")
        tensors.append(Tensor(name, dtype, shape, nbytes, source.path, at, counts=counts))
        at += nbytes
        if at > source.size:
            raise source.broken(f"{name} reaches beyond the end")
    if at != source.size:
        raise source.broken(f"its weights end at {at:,}, and the file at {source.size:,}")
    metadata = numbers | {"vocab_size": abs(numbers["vocab_size"]), "shared_classifier": numbers["vocab_size"] > 0}
    metadata |= {"group_size": group} if group else {}
    return Inspection(source.path, identity, tuple(tensors), metadata, "llama")


def read(inspection: Inspection, tensor: Tensor) -> Iterator[bytes]:
    """Yield the float32 numbers for which an int8 matrix of version 2 stands: each weight times its group's scale."""
    import numpy as np

    with Source(inspection.path) as source:
        identity = identify(source)
        found = {} if identity is None else {one.name: one for one in inspect(source, identity).tensors}
        codes, scales = found.get(tensor.name), found.get(f"{tensor.name}.scales")
        if codes is None or scales is None or codes.offset is None or scales.offset is None:
            raise source.broken(f"it no longer holds {tensor.name[:80]!r}")
        group = codes.nbytes // scales.elements
        step = CHUNK // group * group or group
        for at in range(0, codes.nbytes, step):
            count = min(step, codes.nbytes - at)
            weights = np.frombuffer(source.read(codes.offset + at, count), np.int8).reshape(-1, group)
            factors = np.frombuffer(source.read(scales.offset + 4 * (at // group), 4 * (count // group)), "<f4")
            yield (weights * factors[:, None]).astype("<f4").tobytes()


FORMAT = Format(identify, inspect, read)


def _numbers(head: bytes) -> dict[str, int] | None:
    """Return the seven numbers by name, or None where they are those of no model."""
    numbers = struct.unpack("<7i", head)
    if not all(1 <= abs(number) <= limit for number, limit in zip(numbers, LIMITS, strict=True)):
        return None
    if min(numbers[:5]) < 0 or numbers[6] < 0 or numbers[0] % numbers[3] or numbers[3] % numbers[4]:
        return None
    return dict(zip(NUMBERS, numbers, strict=True))


def _fields(numbers: dict[str, int], version: int, group: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield (name, dtype, shape) in the order of the file; with a negative vocab_size it has a `wcls` of its own."""
    dim, hidden, layers, heads, kv_heads, vocabulary, length = numbers.values()
    kv, half = dim // heads * kv_heads, dim // heads // 2
    embeddings = ("token_embedding_table", (abs(vocabulary), dim))
    norms = [("rms_att_weight", (layers, dim)), ("rms_ffn_weight", (layers, dim)), ("rms_final_weight", (dim,))]
    attention = [(name, (layers, rows, dim)) for name, rows in (("wq", dim), ("wk", kv), ("wv", kv), ("wo", dim))]
    feed = [("w1", (layers, hidden, dim)), ("w2", (layers, dim, hidden)), ("w3", (layers, hidden, dim))]
    last = [("wcls", (abs(vocabulary), dim))] if vocabulary < 0 else []
    if version == 0:
        rotations = [(name, (length, half)) for name in ("freq_cis_real", "freq_cis_imag")]
        order = [embeddings, norms[0], *attention, norms[1], *feed, norms[2], *rotations, *last]
    else:
        order = [*norms, embeddings, *attention, *feed, *last]
    for name, shape in order:
        if version < 2 or name.startswith("rms"):
            yield name, "F32", shape
            continue
        for layer in range(shape[0] if len(shape) == 3 else 1):
            matrix = f"{name}.{layer}" if len(shape) == 3 else name
            yield matrix, "I8", shape[-2:]
            yield f"{matrix}.scales", "F32", (*shape[-2:-1], shape[-1] // group)
