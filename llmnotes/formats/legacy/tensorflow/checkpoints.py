"""Convert TensorFlow checkpoints to safetensors or PyTorch files, and tensors to a checkpoint."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import repack
from llmnotes.formats.legacy.tensorflow import table as tf_table
from llmnotes.formats.legacy.tensorflow.bundle import TYPES, Entry, read_index
from llmnotes.formats.legacy.tensorflow.crc32c import crc32c, masked
from llmnotes.formats.protobuf import FIXED32, field, varint
from llmnotes.formats.registry import read
from llmnotes.formats.results import Conversion, Inspection, PlannedTensor, Tensor
from llmnotes.formats.safe_write import new_file
from llmnotes.formats.safetensors import in_unicode, write_safetensors
from llmnotes.formats.targets import keep_types

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def to_safetensors(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write the variables of a checkpoint as safetensors, each compared with its checksum; see `_to`."""
    return _to("safetensors", inspection, dst, type)


def to_pytorch(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write the variables of a checkpoint as a PyTorch state dict, each compared with its checksum; see `_to`."""
    return _to("pytorch", inspection, dst, type)


def _to(to: str, inspection: Inspection, dst: Path, type: str | None) -> Conversion:
    """Write all variables but texts, without the ending "/.ATTRIBUTES/VARIABLE_VALUE" of their names.

    Raises `NotConvertible` if a `type` is asked for: values stay as they are. Does not turn matrices over: TensorFlow
    keeps a dense layer's weights as (in, out), and PyTorch as (out, in).
    """
    from llmnotes.formats.pytorch import write as pytorch_write

    keep_types(type)
    entries = read_index(inspection.path).entries
    short = {tensor.name: tensor.name.removesuffix(SUFFIX) for tensor in inspection.tensors}
    if len(set(short.values())) < len(short):
        short = {name: name for name in short}
    texts = [tensor.name for tensor in inspection.tensors if tensor.dtype == "STRING"]
    ties = {short[tensor.name]: short[tensor.alias] for tensor in inspection.tensors if tensor.alias}
    parts = [
        PlannedTensor(short[t.name], t.dtype, t.shape, partial(_checked, inspection, t, entries[t.name]), (t.name,))
        for t in inspection.tensors
        if t.dtype != "STRING" and not t.alias
    ]
    with new_file(dst) as file:
        if to == "safetensors":
            write_safetensors(file, parts, {"format": "tf"} | ties)
        else:
            pytorch_write.write(file, parts, ties)
    lost = ["The graph of objects, and with it which variable is whose, is not in it."] * (
        "object_graph" in inspection.metadata
    )
    left = dict.fromkeys(texts, "of texts")
    return Conversion.of(inspection, dst, to, parts, lost, left=left, ties=ties)


def _checked(inspection: Inspection, tensor: Tensor, entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of a variable; `FileBroken` at their end if they do not have the checksum of the index."""
    crc = 0
    for piece in read(inspection, tensor):
        crc = crc32c(piece, crc)
        yield piece
    if not entry.slices and masked(crc) != entry.crc:
        path = tensor.path or inspection.path
        raise FileBroken(f"{path.name} is damaged: the checksum of {tensor.name} is wrong; copy it again.")


def from_tensors(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Write all tensors as a checkpoint that `tf.train.load_checkpoint` reads: DST.index and one shard beside it.

    Names stay as they are (a "name-based" checkpoint, without a graph of objects). Tied tensors share their bytes.
    Raises `NotConvertible` for a type that TensorFlow has no name for, and if a `type` is asked for.
    """
    keep_types(type)
    numbers = {name: number for number, name in TYPES.items() if name != "STRING"}
    parts, ties = repack.parts_and_ties(inspection)
    strange = next((part for part in parts if part.dtype not in numbers), None)
    if strange is not None:
        raise NotConvertible(f"TensorFlow has no name for the type {strange.dtype} of {strange.name}; leave it out.")
    in_unicode("a TensorFlow checkpoint", [*(part.name for part in parts), *ties])
    prefix = dst.with_name(dst.name.removesuffix(".index"))
    index, shard = (prefix.with_name(prefix.name + end) for end in (".index", ".data-00000-of-00001"))
    values, at = {}, 0
    # The index is named last: without it there is no checkpoint.
    with new_file(index) as index_file, new_file(shard) as shard_file:
        for part in sorted(parts, key=lambda part: part.name.encode()):
            start, crc = at, 0
            for piece in part.data():
                crc = crc32c(piece, crc)
                at += shard_file.write(piece)
            shape = b"".join(field(2, field(1, side) if side else b"") for side in part.shape)
            values[part.name] = field(1, numbers[part.dtype]) + field(2, shape)
            values[part.name] += (field(4, start) if start else b"") + (field(5, at - start) if at > start else b"")
            values[part.name] += varint(6 << 3 | FIXED32) + masked(crc).to_bytes(4, "little")
        values |= {name: values[first] for name, first in ties.items()}
        header = field(1, 1) + field(3, field(1, 1))  # one shard, little-endian, written as version 1
        pairs = sorted((name.encode(), value) for name, value in values.items())
        index_file.write(tf_table.table([(b"", header), *pairs]))
    lost = ("The checkpoint holds only tensors: the settings, the tokenizer and the metadata are not in it.",)
    lost += repack.values_left(inspection)
    return Conversion.of(inspection, (index, shard), "tensorflow", parts, lost, left=inspection.beside, ties=ties)
