"""GGML's blocks: the bytes of gguf-py, which are those of llama.cpp."""

import gguf
import numpy as np
import pytest

from llmnotes.formats.files import DTYPES
from llmnotes.quantization import blocks

RANDOM = np.random.default_rng(0)
ROWS = {
    "normal": RANDOM.normal(size=(300, 512)),
    "wide": RANDOM.normal(size=(64, 512)) * 10.0 ** RANDOM.integers(-30, 30, size=(64, 1)),
    "constant": np.full((2, 64), -0.3),
    "zeros": np.zeros((2, 64)),
    "minus zero": -np.zeros((2, 64)),
    "one weight": np.eye(64)[:3],
    "huge": np.full((2, 64), 3.4e38) * RANDOM.choice([-1, 1], (2, 64)),
    "halves": np.concatenate([[127.0], np.arange(63) - 31.5])[None, :],
    "just below a half": np.concatenate([[127.0], np.full(31, 0.49999997)])[None, :],
    "smallest normal": np.full((1, 32), 1.2e-38),
    "denormal": np.linspace(-1, 1, 64)[None, :] * 1e-41,
}
ROWS = {name: rows.astype(np.float32) for name, rows in ROWS.items()}


def official(name, rows):
    with np.errstate(all="ignore"):
        return gguf.quantize(rows, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(len(rows), -1)


@pytest.mark.parametrize("name", blocks.TYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_the_bytes_are_those_of_gguf_py(name, rows):
    ours = blocks.quantize(name, ROWS[rows])
    np.testing.assert_array_equal(ours, official(name, ROWS[rows]))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_every_kind_of_number_survives_as_in_gguf_py(name):
    bits = RANDOM.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    special = [0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
    rows = np.concatenate([bits, np.array(special, np.uint32)]).view(np.float32)[None, :]
    np.testing.assert_array_equal(blocks.quantize(name, rows), official(name, rows))


def test_infinite_and_missing_weights_do_not_stop_a_conversion():
    rows = np.array([[np.inf] * 32, [np.nan] * 32, [1e-41] * 32, [-np.inf] + [1] * 31], np.float32)
    back = blocks.dequantize("Q8_0", blocks.quantize("Q8_0", rows), rows.shape)
    assert not np.isfinite(back[:2]).any()
    assert (back[2] == 0).all()


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_the_way_back_is_that_of_gguf_py(name):
    for rows in (ROWS["normal"], ROWS["constant"], ROWS["halves"]):
        data = official(name, rows)
        expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
        np.testing.assert_array_equal(blocks.dequantize(name, data, rows.shape), expected.reshape(rows.shape))


@pytest.mark.parametrize("name", ["Q2_K", "Q4_K", "Q6_K", "IQ4_XS", "TQ1_0", "MXFP4"])
def test_other_types_are_undone_by_gguf_py(name):
    elements, nbytes = DTYPES[name]
    data = RANDOM.integers(0, 60, (40, nbytes * 512 // elements), dtype=np.uint8)
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(blocks.dequantize(name, data, (40, 512)), expected)


@pytest.mark.parametrize("source", ["F32", "F16", "BF16", "Q8_0", "Q6_K"])
@pytest.mark.parametrize("target", blocks.TYPES)
def test_a_stream_is_recoded_whatever_its_pieces(source, target):
    data = official("Q8_0", ROWS["normal"]) if source == "Q8_0" else None
    if source == "Q6_K":
        data = RANDOM.integers(0, 60, (300, 420), dtype=np.uint8)
    data = (blocks.quantize(source, ROWS["normal"]) if data is None else data).tobytes()
    pieces = [data[start : start + 10_007] for start in range(0, len(data), 10_007)]
    floats = blocks.dequantize(source, data, (300, 512))
    expected = data if source == target else blocks.quantize(target, floats).tobytes()
    assert b"".join(blocks.recoded(pieces, source, target)) == expected


def test_every_bfloat16_becomes_the_nearest_float16():
    every = np.arange(1 << 16, dtype=np.uint16)
    made = np.frombuffer(b"".join(blocks.recoded([every.tobytes()], "BF16", "F16")), np.float16)
    with np.errstate(all="ignore"):
        expected = (every.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
    np.testing.assert_array_equal(made.view(np.uint16), expected.view(np.uint16))


def test_the_sizes_of_blocks_are_those_of_the_formats():
    for name, kind in blocks.TYPES.items():
        assert DTYPES[name] == (kind.elements, kind.nbytes)
    for name, (elements, nbytes, _) in blocks.UNDONE.items():
        assert DTYPES[name] == (elements, nbytes)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="33"):
        blocks.quantize("Q8_0", np.zeros((2, 33), np.float32))
    with pytest.raises(ValueError, match="fill"):
        blocks.dequantize("Q8_0", bytes(35), (32,))
    with pytest.raises(ValueError, match="left over"):
        list(blocks.recoded([bytes(30)], "F32", "Q8_0"))
    with pytest.raises(KeyError):
        blocks.quantize("Q4_K", np.zeros((1, 256), np.float32))
    with pytest.raises(KeyError):
        blocks.dequantize("Q8_K", bytes(292), (256,))
