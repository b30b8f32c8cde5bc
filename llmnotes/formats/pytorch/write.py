"""Writing PyTorch's zip archive without PyTorch, to the byte as `torch.save` 2.13 writes it on Linux."""

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

from llmnotes.formats.files import DTYPES
from llmnotes.formats.pytorch.tensors import NAMES, STORAGES
from llmnotes.formats.safetensors import Part

ALIGNMENT = 64
BATCH = 1000  # entries of a dictionary that pickle sets at a time
WIDE = 0xFFFFFFFF  # what a four-byte size cannot say

CLASSES = {dtype: f"{word}Storage" for word, dtype in STORAGES.items() if word != "Untyped"}
TORCH = {dtype: name for name, dtype in reversed(NAMES.items()) if dtype not in CLASSES}


def write(file: BinaryIO, parts: list[Part], ties: dict[str, str] | None = None, name: str = "archive") -> None:
    """Write a state dict with `parts`, in their order, to `file`; one piece of a tensor is held at a time.

    `ties` is {further name: name of the part whose storage it shares}; the further names stand last. `name` is the
    folder inside the archive, for which torch takes the file's name without its ending. The bytes equal those of
    `torch.save({...}, file)` with contiguous tensors and a plain dict. On other systems torch writes another
    `serialization_id`, since it hashes with the C++ library of the system; nothing reads that record to load a file.

    Raises `ValueError` for a name that stands twice, a dtype that torch does not have, or data that does not fill its
    shape. Does not write optimizer states or other values.
    """
    ties = ties or {}
    numbers = {part.name: number for number, part in enumerate(parts)}
    if len(numbers) + len(ties) != len(numbers.keys() | ties) or len(numbers) != len(parts):
        raise ValueError("a name stands twice")
    archive = _Archive(file, name)
    tensors = [(part.name, part, number) for number, part in enumerate(parts)]
    tensors += [(other, parts[numbers[kept]], numbers[kept]) for other, kept in ties.items()]
    archive.add("data.pkl", [_state_dict(tensors)])
    archive.add(".format_version", [b"1"])
    archive.add(".storage_alignment", [str(ALIGNMENT).encode()])
    archive.add("byteorder", [b"little"])
    for number, part in enumerate(parts):
        archive.add(f"data/{number}", part.data(), part.nbytes)
    archive.add("version", [b"3\n"])
    archive.add(".data/serialization_id", [archive.serialization_id()])
    archive.close()


def _state_dict(tensors: list[tuple[str, Part, int]]) -> bytes:
    """Return the pickle of {name: tensor}, instruction for instruction as Python's pickler writes protocol 2."""
    out, memo = bytearray(b"\x80\x02}"), {}

    def remember(what=None) -> None:  # every text, name, tuple and object gets the next number of the memo
        number = len(memo)
        memo[number if what is None else what] = number
        out.extend(b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number))

    def once(what, instruction: bytes) -> None:
        if what not in memo:
            out.extend(instruction)
            remember(what)
        else:
            number = memo[what]
            out.extend(b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number))

    def text(value: str) -> bytes:
        data = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(data)) + data

    def sizes(values: Iterable[int]) -> None:
        values = list(values)
        if not values:
            out.extend(b")")
            return
        out.extend(b"(" * (len(values) > 3) + b"".join(map(_integer, values)))
        out.extend({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t"))
        remember()

    def tensor(part: Part, number: int) -> None:
        kind, count = CLASSES.get(part.dtype), part.nbytes // DTYPES[part.dtype][1]
        function = "_rebuild_tensor_v2" if kind else "_rebuild_tensor_v3"
        once(function, b"ctorch._utils\n" + function.encode() + b"\n")
        out.extend(b"((")
        once("storage", text("storage"))
        kind, module, count = (kind, "torch", count) if kind else ("UntypedStorage", "torch.storage", part.nbytes)
        once(kind, f"c{module}\n{kind}\n".encode())
        once(("key", number), text(str(number)))
        once("cpu", text("cpu"))
        out.extend(_integer(count) + b"t")
        remember()
        out.extend(b"QK\0")  # the reference to the storage, and the tensor's first element in it
        sizes(part.shape)
        sizes(_strides(part.shape))
        out.extend(b"\x89")  # requires no gradient
        once("OrderedDict", b"ccollections\nOrderedDict\n")
        out.extend(b")R")  # hooks: none
        remember()
        if part.dtype in TORCH:
            once(("dtype", part.dtype), f"ctorch\n{TORCH[part.dtype]}\n".encode())
        elif part.dtype not in CLASSES:
            raise ValueError(f"torch has no {part.dtype}")
        out.extend(b"t")
        remember()
        out.extend(b"R")
        remember()

    remember()
    for first in range(0, len(tensors) + (len(tensors) % BATCH == 0 and bool(tensors)), BATCH):
        batch = tensors[first : first + BATCH]
        out.extend(b"(" * (len(tensors) > 1))
        for name, part, number in batch:
            out.extend(text(name))
            remember()
            tensor(part, number)
        out.extend(b"u" if len(tensors) > 1 else b"s")
    return bytes(out + b".")


def _integer(value: int) -> bytes:
    if value < 1 << 8:
        return b"K" + bytes([value])
    if value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(data)]) + data


def _strides(shape: tuple[int, ...]) -> list[int]:
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= max(side, 1)
    return strides[::-1]


class _Archive:
    """A zip archive as PyTorch's writer makes it: nothing compressed, each entry at a multiple of 64 bytes."""

    def __init__(self, file: BinaryIO, name: str):
        self.file, self.name, self.at = file, name, 0
        self.directory, self.records = [], []

    def put(self, data: bytes) -> None:
        self.file.write(data)
        self.at += len(data)

    def add(self, record: str, pieces: Iterable[bytes], size: int | None = None) -> None:
        pieces = pieces if size is not None else list(pieces)
        size = sum(map(len, pieces)) if size is None else size
        name, first = f"{self.name}/{record}".encode(), self.at
        wide = struct.pack("<QQ", size, size) if size >= WIDE else b""
        wide += struct.pack("<Q", first) if first >= WIDE else b""
        extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
        padding = -(first + 30 + len(name) + len(extra) + 4) % ALIGNMENT
        flags = 0x808 if size else 0x800  # checksum and sizes follow the data; names are in UTF-8
        header = struct.pack("<4s5H3I2H", b"PK\3\4", 0, flags, 0, 0, 0, 0, 0, 0, len(name), len(extra) + 4 + padding)
        self.put(header + name + extra + b"FB" + struct.pack("<H", padding) + b"Z" * padding)
        crc, start = 0, self.at
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            self.put(piece)
        if self.at - start != size:
            raise ValueError(f"{record} has {self.at - start:,} bytes, and {size:,} were promised")
        if size:
            self.put(b"PK\7\x08" + struct.pack("<IQQ" if wide else "<III", crc, size, size))
        low = min(size, WIDE)
        fields = (0x02014B50, 0, 0, flags, 0, 0, 0, crc, low, low, len(name), len(extra), 0, 0, 0, 0, min(first, WIDE))
        self.directory.append(struct.pack("<I6H3I5H2I", *fields) + name + extra)
        self.records.append((record, crc))

    def close(self) -> None:
        start, count = self.at, len(self.directory)
        for entry in self.directory:
            self.put(entry)
        size, end = self.at - start, self.at
        self.put(b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 0x31E, 45, 0, 0, count, count, size, start))
        self.put(b"PK\6\7" + struct.pack("<IQI", 0, end, 1))
        few = min(count, 0xFFFF)
        self.put(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, few, few, min(size, WIDE), min(start, WIDE), 0))

    def serialization_id(self) -> bytes:
        """Return two numbers of 20 digits: a hash of the records' names, and one of their checksums."""
        names = sums = 0
        for value in _order([_murmur(record.encode()) for record, _ in self.records]):
            names = _combine(names, value)
        for _, crc in self.records:
            sums = _combine(sums, crc) if crc else sums  # torch leaves empty records out
        return f"{names:020d}{sums:020d}".encode()


MASK = (1 << 64) - 1
# How many buckets the hash table of GNU's C++ library has, one size after the other.
BUCKETS = (13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061, 712697, 1447153)


def _combine(seed: int, value: int) -> int:
    return seed ^ ((value + 0x9E3779B9 + (seed << 6) + (seed >> 2)) & MASK)


def _murmur(data: bytes) -> int:
    """Return the hash of a text in GNU's C++ library: MurmurHash64A of Austin Appleby with that library's seed."""
    factor = 0xC6A4A7935BD1E995
    whole = len(data) & ~7
    state = 0xC70F6907 ^ (len(data) * factor & MASK)
    for (word,) in struct.iter_unpack("<Q", data[:whole]):
        word = word * factor & MASK
        word = (word ^ word >> 47) * factor & MASK
        state = (state ^ word) * factor & MASK
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * factor & MASK
    state = (state ^ state >> 47) * factor & MASK
    return state ^ state >> 47


def _order(hashes: list[int]) -> list[int]:
    """Return the hashes in the order in which that library's hash table hands them out after these insertions.

    The table is one chain: a new bucket goes to its front, a new member to the front of its bucket. Growing walks the
    chain and inserts everything anew.
    """
    sizes = iter(BUCKETS)
    size, buckets = next(sizes), {}

    def walk() -> list[int]:
        return [value for bucket in reversed(buckets.values()) for value in reversed(bucket)]

    for count, value in enumerate(hashes):
        if count == size:
            size, chain, buckets = next(sizes), walk(), {}
            for other in chain:
                buckets.setdefault(other % size, []).append(other)
        buckets.setdefault(value % size, []).append(value)
    return walk()
