"""GGUF's ancestors, March to August 2023: `ggml` without a version, `ggmf`, `ggjt` 1 to 3, and `ggla` for adapters.

There is no specification; the layout is that of llama.cpp's loaders of the time: seven numbers, the vocabulary, and
then one tensor after another, each behind a head of its own. The numbers are little-endian.
"""

import struct
from array import array

from llmnotes.formats.files import METADATA_LIMIT, Source
from llmnotes.formats.format import Format
from llmnotes.formats.gguf.types import TYPES, Texts
from llmnotes.formats.results import Identity, Inspection, Tensor, divides, size_of

# The first four bytes are a number, so the letters stand backwards -> (format, versions)
MAGICS = {b"lmgg": ("GGML", ()), b"fmgg": ("GGMF", (1,)), b"tjgg": ("GGJT", (1, 2, 3)), b"algg": ("GGLA", (1,))}
NUMBERS = ("n_vocab", "n_embd", "n_mult", "n_head", "n_layer", "n_rot", "ftype")
ALIGNED = ("GGJT", "GGLA")  # tensors begin at multiples of 32
VOCABULARY_LIMIT = 1_000_000  # tokens
TOKEN_LIMIT = 4096  # bytes
TENSOR_LIMIT = 100_000
OTHER = (
    "Its numbers are not those of a LLaMA model (GPT-2, GPT-J, Whisper and others began with the same four bytes), "
    "so its tensors are not listed."
)
PART = "Its tensors are smaller than its numbers say: it is one of several files of a model that was split."


def identify(source: Source) -> Identity | None:
    """Return the identity of a GGML, GGMF, GGJT or GGLA file, or None; `FileBroken` for a version that never was."""
    head = source.head(8)
    if head[:4] not in MAGICS:
        return None
    name, versions = MAGICS[head[:4]]
    if not versions:
        return Identity(name, "", f"the bytes “{head[:4].decode()}”, and no version")
    version = int.from_bytes(head[4:], "little")
    if version not in versions or len(head) < 8:
        raise source.broken(f"it begins as {name} does, and there never was a version {version}")
    return Identity(name, str(version), f"the bytes “{head[:4].decode()}”, then the number {version}")


def inspect(source: Source, identity: Identity) -> Inspection:
    """Return what the heads of the tensors say; blocks of old layouts have names of their own (Q4_0_V1, Q4_0_V2).

    Raises `FileBroken` for counts that the file has no room for, unknown types, names that stand twice, and tensors
    that reach beyond the end. Lists no tensors of a GGML file that holds another model than LLaMA: `notes` says so.
    """
    if identity.format == "GGLA":
        rank, alpha = struct.unpack("<2I", source.read(8, 8))
        tensors = _tensors(source, 16, True, 3)
        return Inspection(source.path, identity, tensors, {"lora_r": rank, "lora_alpha": alpha}, "llama")
    # Seven numbers; those of another model than LLaMA have other meanings.
    start = 8 if identity.version else 4
    numbers: dict[str, int] = dict(zip(NUMBERS, struct.unpack("<7I", source.read(start, 28)), strict=True))
    if identity.format == "GGML" and not _llama(numbers):
        return Inspection(source.path, identity, (), {"numbers": list(numbers.values())}, None, (OTHER,))
    layout = int(identity.version) if identity.format == "GGJT" else 1
    if numbers["ftype"] >= 1000:  # written by the tools of ggml, which kept a version of the blocks there
        numbers["ggml_qnt_version"], numbers["ftype"] = divmod(numbers["ftype"], 1000)
        layout = min(numbers["ggml_qnt_version"] + 1, 3)
    # Then the vocabulary, then the tensors up to the end.
    tokens, scores, end = _vocabulary(source, start + 28, numbers["n_vocab"], identity.format != "GGML")
    metadata = {**numbers, "tokens": tokens} | ({"scores": scores} if scores else {})
    tensors = _tensors(source, end, identity.format in ALIGNED, layout)
    whole = {tensor.name: tensor.shape for tensor in tensors}.get("tok_embeddings.weight")
    notes = () if whole in (None, (numbers["n_vocab"], numbers["n_embd"])) else (PART,)
    return Inspection(source.path, identity, tensors, metadata, "llama", notes)


FORMAT = Format(identify, inspect)


def _llama(numbers: dict[str, int]) -> bool:
    """Tell LLaMA's seven numbers from those of other models: only there does n_rot follow from two others."""
    return numbers["n_rot"] > 0 and numbers["n_rot"] * numbers["n_head"] == numbers["n_embd"]


def _vocabulary(source: Source, at: int, count: int, scored: bool) -> tuple[Texts, array, int]:
    """Return the tokens, their scores (none in GGML), and where they end."""
    room = 8 if scored else 4
    if count > VOCABULARY_LIMIT or count * room > source.size - at:
        raise source.broken(f"its vocabulary claims {count:,} tokens, more than the file has room for")
    tokens, ends, scores = bytearray(), array("I"), array("f")
    window, here = b"", 0  # bytes of the file from `at` on, and where we are in them
    for _ in range(count):
        if len(window) - here < TOKEN_LIMIT + 8:
            at, here = at + here, 0
            window = source.read(at, min(1 << 18, source.size - at))
        # A token is its length, its bytes and, in all formats but the first, its score.
        length = int.from_bytes(window[here : here + 4], "little")
        begin, end = here + 4, here + 4 + length
        here += room + length
        if length > TOKEN_LIMIT or here > len(window):
            raise source.broken(f"a token of its vocabulary claims {length:,} bytes")
        tokens += window[begin:end]
        ends.append(len(tokens))
        if scored:
            scores.frombytes(window[end:here])
        if len(tokens) > METADATA_LIMIT:
            raise source.broken("its vocabulary is longer than any model's")
    return Texts(bytes(tokens), ends, 0), scores, at + here


def _tensors(source: Source, at: int, aligned: bool, layout: int) -> tuple[Tensor, ...]:
    """Go from the head of one tensor to that of the next, up to the end of the file."""
    found = {}
    while at < source.size:
        sides, length, number = struct.unpack("<3I", source.read(at, 12))
        if not 1 <= sides <= 4 or not 1 <= length <= 1024 or len(found) >= TENSOR_LIMIT:
            raise source.broken(f"there is no tensor at byte {at:,}, where the one before it ends")
        head = source.read(at + 12, 4 * sides + length)
        shape = struct.unpack(f"<{sides}I", head[: 4 * sides])[::-1]
        name = head[4 * sides :].decode("utf-8", "replace")
        dtype = dtype_of(number, layout)
        if dtype is None or name in found:
            raise source.broken(f"{name[:80]!r} {'stands twice' if dtype else f'is of the unknown type {number}'}")
        if not divides(dtype, shape):
            raise source.broken(f"the rows of {name[:80]!r}, {list(shape)}, do not divide into the blocks of {dtype}")
        nbytes = size_of(dtype, shape)
        at += 12 + len(head)
        at += -at % 32 if aligned else 0
        if at + nbytes > source.size:
            raise source.broken(f"{name[:80]!r} reaches beyond the end")
        found[name] = Tensor(name, dtype, shape, nbytes, source.path, at)
        at += nbytes
    return tuple(found.values())


def dtype_of(number: int, layout: int) -> str | None:
    """Return what GGML's type `number` meant in a file of this `layout` of blocks (1 to 3), or None.

    >>> dtype_of(2, 1), dtype_of(2, 2), dtype_of(2, 3), dtype_of(6, 2)
    ('Q4_0_V1', 'Q4_0_V2', 'Q4_0', 'Q5_0')
    """
    if layout == 3 or number in (0, 1):
        return TYPES.get(number) if number <= 15 else None  # the later types have never been in these files
    old = {2: f"Q4_0_V{layout}", 3: f"Q4_1_V{layout}", 8: "Q8_0_V1"}
    old |= {4: "Q4_2", 5: "Q4_3", 6: "Q5_0_V1", 7: "Q5_1_V1"} if layout == 1 else {6: "Q5_0", 7: "Q5_1"}
    return old.get(number)
