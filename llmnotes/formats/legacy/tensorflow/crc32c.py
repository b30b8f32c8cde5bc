"""CRC-32C, the checksum of TensorFlow's files (RFC 3720, section B.4), in NumPy."""

from functools import cache

POLYNOMIAL = 0x82F63B78  # Castagnoli's, with the lowest power first
LANE = 1024  # bytes that one lane of the vectorized sum runs through


def crc32c(data: bytes, crc: int = 0) -> int:
    """Return the CRC-32C of `data`, continued from the one of the bytes before it.

    The register takes one byte after the other, so a long text cannot simply be vectorized. But the sum is linear:
    NumPy runs through lanes of 1,024 bytes side by side, and their sums are joined afterwards.

    >>> hex(crc32c(b"123456789")), crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")
    ('0xe3069283', True)
    """
    register = crc ^ 0xFFFFFFFF
    if len(data) <= 32 * LANE:  # from there on the lanes are faster
        row = _row()
        for byte in data:
            register = row[(register ^ byte) & 255] ^ register >> 8
        return register ^ 0xFFFFFFFF
    import numpy as np

    # Cut the bytes into lanes, as many as a power of two, and run through all of them at once.
    lanes = 1 << (-(-len(data) // LANE) - 1).bit_length()
    padded = np.zeros(lanes * LANE, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)  # zeros in front leave a register of zero as it is
    columns = np.ascontiguousarray(padded.reshape(lanes, LANE).T)  # (LANE, lanes)
    row, sums = np.array(_row(), np.uint32), np.zeros(lanes, np.uint32)
    for column in columns:
        sums = row[(sums ^ column) & 255] ^ (sums >> 8)
    # Join neighbours until one sum is left.
    power = LANE.bit_length() - 1
    while len(sums) > 1:  # the left of two neighbours moves on by the length of the right
        moved = np.zeros(len(sums) // 2, np.uint32)
        for bit, image in enumerate(_shift(power)):
            moved ^= ((sums[::2] >> np.uint32(bit)) & np.uint32(1)) * np.uint32(image)
        sums, power = moved ^ sums[1::2], power + 1
    # The register from before the data moves on by their length.
    for power in range(len(data).bit_length()):
        if len(data) >> power & 1:
            register = _apply(_shift(power), register)
    return register ^ int(sums[0]) ^ 0xFFFFFFFF


@cache
def _row() -> tuple[int, ...]:
    """Return what each byte does to the register."""
    row = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        row.append(value)
    return tuple(row)


@cache
def _shift(power: int) -> tuple[int, ...]:
    """Return what 2**power bytes of zero make of each of the register's 32 bits."""
    if power:
        half = _shift(power - 1)
        return tuple(_apply(half, image) for image in half)
    return tuple(_row()[1 << bit & 255] ^ (1 << bit) >> 8 for bit in range(32))


def _apply(shift: tuple[int, ...], register: int) -> int:
    out = 0
    for bit in range(32):
        if register >> bit & 1:
            out ^= shift[bit]
    return out


def masked(crc: int) -> int:
    """Return a checksum as it is stored: turned and shifted, because sums of data that hold sums are troublesome.

    >>> hex(masked(crc32c(b"123456789")))
    '0xc78ab0e5'
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
