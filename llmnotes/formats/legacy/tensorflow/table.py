"""The table in a TensorFlow checkpoint's index: sorted keys in LevelDB's table format, each block with its CRC-32C."""

from collections.abc import Iterable, Iterator

from llmnotes.errors import FileBroken
from llmnotes.formats.files import Source
from llmnotes.formats.legacy.tensorflow.crc32c import crc32c, masked
from llmnotes.formats.protobuf import Message, varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48  # two block handles, padding to 40 bytes, and the magic number
LIMIT = 1 << 24  # bytes of an index: a hundred thousand tensors


def is_table(source: Source) -> bool:
    """Whether a file ends as a table does."""
    return source.size >= FOOTER and source.read(source.size - 8, 8) == MAGIC


def entries(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield every key of a table with its value, in order.

    Raises `FileBroken` for a block that is not where the file says, whose checksum is wrong or that is compressed
    (TensorFlow does not compress), and for keys out of order.
    """
    if source.size > LIMIT:
        raise source.broken(f"its index has more than {LIMIT:,} bytes")
    footer = source.read(source.size - FOOTER, FOOTER)
    about, position = _handle(source, footer, 0)
    list(_block(source, *about))  # about the table itself; TensorFlow writes nothing there
    index, _ = _handle(source, footer, position)
    last, used = None, 0
    for _, place in _block(source, *index):
        block, _ = _handle(source, place, 0)
        used += block[1]
        if used > source.size:
            raise source.broken("its blocks overlap")
        for key, value in _block(source, *block):
            if last is not None and key <= last:
                raise source.broken(f"its key {key[:80]!r} is out of order")
            last = key
            yield key, value


def table(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a table of sorted keys and their values, in one block."""
    out = bytearray()

    def add(pairs) -> bytes:
        """Append a block, and return its handle."""
        body, restarts = bytearray(), []
        for key, value in pairs:  # every key is written whole, so that every entry can be found by bisection
            restarts.append(len(body))
            body += b"\0" + varint(len(key)) + varint(len(value)) + key + value
        for number in (restarts or [0]) + [max(len(restarts), 1)]:
            body += number.to_bytes(4, "little")
        handle = varint(len(out)) + varint(len(body))
        body.append(0)  # not compressed
        out.extend(body + masked(crc32c(bytes(body))).to_bytes(4, "little"))
        return handle

    pairs = list(pairs)
    last = pairs[-1][0] if pairs else b""
    data = add(pairs)
    handles = add([]) + add([(last, data)])
    return bytes(out) + handles.ljust(FOOTER - 8, b"\0") + MAGIC


def _handle(source: Source, data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Return (offset, size) of a block as written at `position`, and the position behind it."""
    message = Message(data)
    try:
        offset, position = message.varint(position, len(data))
        size, position = message.varint(position, len(data))
    except FileBroken:
        raise source.broken("it has a block without a place") from None
    return (offset, size), position


def _block(source: Source, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of one block; each key shares its beginning with the one before."""
    body = source.read(offset, size + 5)
    if masked(crc32c(body[:-4])) != int.from_bytes(body[-4:], "little"):
        raise source.broken(f"the checksum of its block at {offset:,} is wrong")
    if body[size]:
        raise source.broken(f"its block at {offset:,} is compressed, which TensorFlow does not do")
    restarts = int.from_bytes(body[size - 4 : size], "little") if size >= 4 else -1
    end = size - 4 - 4 * restarts
    if restarts < 0 or end < 0:
        raise source.broken(f"its block at {offset:,} has no end")
    message, position, key = Message(body), 0, b""
    while position < end:
        shared, position = message.varint(position, end)
        rest, position = message.varint(position, end)
        length, position = message.varint(position, end)
        if shared > len(key) or position + rest + length > end or shared + rest > 1 << 16:
            raise source.broken(f"a key in its block at {offset:,} has no valid length")
        key = key[:shared] + body[position : position + rest]
        position += rest + length
        yield key, body[position - length : position]
