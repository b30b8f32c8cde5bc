"""GGML's blocks: the bytes of llama.cpp's own C."""

import json
import os
import subprocess
import sys

import gguf
import numpy as np
import pytest

from llmnotes.errors import MissingPart, NotQuantizable
from llmnotes.formats import inspect, read
from llmnotes.formats.files import DTYPES
from llmnotes.pebble import weights_dir
from llmnotes.quantization import blocks, unpacking
from tests.llama_cpp import quantize_chunk

RANDOM = np.random.default_rng(0)
SIZE = (40, 512)
ROWS = {
    "normal": RANDOM.normal(size=(100, 512)),
    "heavy tails": RANDOM.standard_t(2, SIZE),
    "outliers": RANDOM.normal(size=SIZE) + 1000 * (RANDOM.random(SIZE) < 0.005),
    "sparse": RANDOM.normal(size=SIZE) * (RANDOM.random(SIZE) < 0.05),
    "wide": RANDOM.normal(size=SIZE) * 10.0 ** RANDOM.integers(-37, 37, size=(40, 1)),
    "wide within": RANDOM.normal(size=SIZE) * 10.0 ** RANDOM.uniform(-37, 37, SIZE),
    "offset": RANDOM.normal(size=SIZE) + 100,
    "positive": RANDOM.uniform(0, 1, SIZE),
    "negative": -RANDOM.uniform(0, 1, SIZE),
    "constant": np.full((2, 512), -0.3),
    "zeros": np.zeros((2, 512)),
    "zeros of both signs": RANDOM.choice([0.0, -0.0], SIZE),
    "one weight": np.eye(512)[:40],
    "ties": RANDOM.choice([-1.0, 1.0, 0.5, -0.5, 0], SIZE),
    "two values": RANDOM.choice([-1.0, 1.0], SIZE),
    "alternating": np.tile([1.0, -1.0], (4, 256)),
    "alternating rows": np.where(np.arange(40)[:, None] % 2, 1, -1) * np.abs(RANDOM.normal(size=SIZE)),
    "halves": np.tile(np.concatenate([[127.0], np.arange(63) - 31.5]), (2, 8)),
    "just below a half": np.tile(np.concatenate([[127.0], np.full(31, 0.49999997)]), (1, 16)),
    "whole numbers": RANDOM.integers(-40, 40, SIZE),
    "huge": np.full((2, 512), 3.4e38) * RANDOM.choice([-1, 1], (2, 512)),
    "squares overflow": RANDOM.normal(size=SIZE) * 1e19,
    "scales overflow": RANDOM.normal(size=SIZE) * 65504 * 8,
    "small": RANDOM.normal(size=SIZE) * 1e-7,
    "nearly nothing": RANDOM.normal(size=SIZE) * 1e-15,
    "tiny": RANDOM.normal(size=SIZE) * 1e-38,
    "smallest normal": np.full((1, 512), 1.2e-38),
    "denormal": RANDOM.normal(size=SIZE) * 1e-40,
    "last bits": RANDOM.integers(-5, 6, SIZE) * 1.4e-45,
}
ROWS = {name: rows.astype(np.float32) for name, rows in ROWS.items()}
IMPORTANCE = {
    "of a layer": RANDOM.chisquare(1, 512),
    "the same for all": np.ones(512),
    "none for half": RANDOM.chisquare(1, 512) * (RANDOM.random(512) < 0.5),
    "none at all": np.zeros(512),
    "wide": 10.0 ** RANDOM.uniform(-6, 6, 512),
}
IMPORTANCE = {name: numbers.astype(np.float32) for name, numbers in IMPORTANCE.items()}
BLOCKS = [name for name, kind in blocks.TYPES.items() if kind.elements > 1]


def official(name, rows):
    with np.errstate(all="ignore"):
        return gguf.quantize(rows, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(len(rows), -1)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_bytes_are_those_of_llama_cpp(name):
    for kind, rows in ROWS.items():
        np.testing.assert_array_equal(blocks.quantize(name, rows), quantize_chunk(name, rows), err_msg=kind)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_bytes_are_those_of_llama_cpp_where_columns_matter(name):
    for kind, rows in ROWS.items():
        for weights, importance in IMPORTANCE.items():
            ours, theirs = blocks.quantize(name, rows, importance), quantize_chunk(name, rows, importance)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{kind}, {weights}")


@pytest.mark.parametrize("name", BLOCKS)
def test_all_of_pebble_has_the_bytes_of_llama_cpp(name):
    inspection = inspect(weights_dir("pebble") / "model.safetensors")
    matrices = {
        tensor.name: blocks.dequantize(tensor.dtype, b"".join(read(inspection, tensor)), tensor.shape)
        for tensor in inspection.tensors
        if len(tensor.shape) == 2
    }
    assert sum(matrix.size for matrix in matrices.values()) > 3_000_000
    for tensor, matrix in matrices.items():
        np.testing.assert_array_equal(blocks.quantize(name, matrix), quantize_chunk(name, matrix), err_msg=tensor)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_the_bytes_are_those_of_gguf_py(name):
    for kind, rows in ROWS.items():
        np.testing.assert_array_equal(blocks.quantize(name, rows), official(name, rows), err_msg=kind)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_every_kind_of_number_survives_as_in_gguf_py(name):
    bits = RANDOM.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    special = [0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
    rows = np.concatenate([bits, np.array(special, np.uint32)]).view(np.float32)[None, :]
    np.testing.assert_array_equal(blocks.quantize(name, rows), official(name, rows))


def test_scales_become_float16_as_numpy_makes_them():
    from llmnotes.quantization.fast.compiled import half, whole

    floats = RANDOM.integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32)
    edges = [0, 1, 0x33000000, 0x33000001, 0x33800000, 0x387FEFFF, 0x387FF000, 0x38800000, 0x477FEFFF, 0x477FF000]
    edges = np.array(edges + [0x47800000, 0x7F800000, 0x80000000], np.uint32).view(np.float32)
    floats = np.concatenate([floats, edges, RANDOM.normal(size=20_000).astype(np.float32) * np.float32(6e-5)])
    floats = floats[~np.isnan(floats)]
    with np.errstate(over="ignore"):
        expected = floats.astype(np.float16)
    assert [half(value) for value in floats] == expected.view(np.uint16).tolist()
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    back = np.array([whole(np.int64(bits)) for bits in every.view(np.uint16)], np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), every.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(name, bad):
    rows = ROWS["normal"].copy()
    rows[17, 300] = bad
    with pytest.raises(NotQuantizable, match="infinity or a NaN"):
        blocks.quantize(name, rows)


@pytest.mark.parametrize("name", ["BF16", *BLOCKS])
def test_the_way_back_is_that_of_gguf_py(name):
    for rows in (ROWS["normal"], ROWS["constant"], ROWS["halves"]):
        data = blocks.quantize(name, rows)
        expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
        np.testing.assert_array_equal(blocks.dequantize(name, data, rows.shape), expected.reshape(rows.shape))


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0", "MXFP4"])
def test_any_bytes_are_undone_as_in_gguf_py(name):
    elements, nbytes = DTYPES[name]
    data = RANDOM.integers(0, 60, (40, nbytes * 512 // elements), dtype=np.uint8)
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(blocks.dequantize(name, data, (40, 512)), expected)


# STACK of the field: relative root mean square error on N(0, 1).
@pytest.mark.parametrize(
    ("name", "error"),
    [("Q8_0", 0.00535), ("Q6_K", 0.0177), ("Q5_K", 0.0361), ("Q4_K", 0.0714), ("Q4_0", 0.0860)],
)
def test_the_error_on_gaussian_weights_is_the_known_one(name, error):
    x = np.random.default_rng(3).standard_normal((256, 1024), dtype=np.float32)
    back = blocks.dequantize(name, blocks.quantize(name, x), x.shape)
    assert np.sqrt(np.mean((back - x) ** 2) / np.mean(x**2)) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("name", BLOCKS)
def test_importance_lowers_the_error_that_counts(name):
    x = np.random.default_rng(4).standard_t(4, (64, 512)).astype(np.float32)
    importance = IMPORTANCE["of a layer"]

    def error(data):
        return (importance * (blocks.dequantize(name, data, x.shape) - x) ** 2).sum()

    with_, without = error(blocks.quantize(name, x, importance)), error(blocks.quantize(name, x))
    assert with_ == without if name == "Q8_0" else with_ < 0.97 * without


@pytest.mark.parametrize("name", ["Q4_0", "Q5_1", "Q4_K", "Q3_K"])
def test_threads_change_nothing(name, monkeypatch):
    monkeypatch.setattr(blocks, "WORTH", 1)
    monkeypatch.setattr(blocks, "PIECE", 1 << 12)
    rows = RANDOM.normal(size=(101, 512)).astype(np.float32)
    for importance in (None, IMPORTANCE["of a layer"]):
        one, *others = (blocks.quantize(name, rows, importance, threads=threads) for threads in (1, 2, 3, 64))
        assert all((one == other).all() for other in others)
        np.testing.assert_array_equal(one, quantize_chunk(name, rows, importance))


@pytest.mark.parametrize("source", ["F32", "F16", "BF16", "Q8_0", "Q6_K"])
@pytest.mark.parametrize("target", blocks.TYPES)
def test_a_stream_is_recoded_whatever_its_pieces(source, target):
    data = blocks.quantize(source, ROWS["normal"]).tobytes()
    pieces = [data[start : start + 10_007] for start in range(0, len(data), 10_007)]
    floats = blocks.dequantize(source, data, (100, 512))
    expected = data if source == target else blocks.quantize(target, floats).tobytes()
    assert b"".join(blocks.recoded(pieces, source, target)) == expected
    if source in ("F32", "BF16"):
        weighed = b"".join(blocks.recoded(pieces, source, target, IMPORTANCE["of a layer"]))
        assert source == target or weighed == blocks.quantize(target, floats, IMPORTANCE["of a layer"]).tobytes()


def test_every_bfloat16_becomes_the_nearest_float16():
    every = np.arange(1 << 16, dtype=np.uint16)
    made = np.frombuffer(b"".join(blocks.recoded([every.tobytes()], "BF16", "F16")), np.float16)
    with np.errstate(all="ignore"):
        expected = (every.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
    np.testing.assert_array_equal(made.view(np.uint16), expected.view(np.uint16))


def test_the_sizes_of_blocks_are_those_of_the_formats():
    for name, kind in blocks.TYPES.items():
        assert DTYPES[name] == (kind.elements, kind.nbytes)
    for name, (elements, nbytes, _) in unpacking.UNDONE.items():
        assert DTYPES[name] == (elements, nbytes)


def test_arrays_of_other_kinds_are_taken_as_they_are():
    x = np.random.default_rng(5).normal(size=(64, 512))
    expected = blocks.quantize("Q4_K", x.astype(np.float32))
    frozen = x.astype(np.float32)
    frozen.setflags(write=False)
    for same in (x, x.tolist(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], frozen, x[None].reshape(64, 512)):
        np.testing.assert_array_equal(blocks.quantize("Q4_K", same), expected)
    np.testing.assert_array_equal(blocks.quantize("Q4_K", x.reshape(4, 16, 512)), expected.reshape(4, 16, -1))
    np.testing.assert_array_equal(blocks.quantize("Q4_K", x[3]), expected[3])


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 256), np.float32)
    for name, x, word in [
        ("Q8_0", np.zeros((2, 33)), "33"),
        ("Q4_K", np.zeros((2, 288)), "256"),
        ("Q8_0", np.zeros((0, 32)), "no numbers"),
        ("Q8_0", np.zeros((2, 0)), "no numbers"),
        ("Q8_0", np.float32(1), "blocks of 32"),
        ("Q8_0", np.array(["a"]), "real numbers"),
        ("Q8_K", ones, "no way"),
    ]:
        with pytest.raises(NotQuantizable, match=word):
            blocks.quantize(name, x)
    for importance in (np.ones(255), np.ones((2, 256)), -np.ones(256), np.full(256, np.nan)):
        with pytest.raises(NotQuantizable, match="importance"):
            blocks.quantize("Q4_K", ones, importance)
    with pytest.raises(ValueError, match="fill"):
        blocks.dequantize("Q8_0", bytes(35), (32,))
    with pytest.raises(ValueError, match="left over"):
        list(blocks.recoded([bytes(30)], "F32", "Q8_0"))
    with pytest.raises(KeyError):
        blocks.dequantize("Q8_K", bytes(292), (256,))


def test_numba_is_imported_when_it_is_needed_and_missed_in_a_sentence(monkeypatch):
    code = "import sys, json, numpy; from llmnotes.quantization import blocks; a = 'numba' in sys.modules;"
    code += "blocks.quantize('F16', numpy.ones((1, 32))); print(json.dumps([a, 'numba' in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(done.stdout) == [False, False]
    blocks._load.cache_clear()
    for module in ("compiled", "legacy_blocks", "scale_search", "k_quants"):
        monkeypatch.delitem(sys.modules, f"llmnotes.quantization.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingPart, match="pip install"):
        blocks.quantize("Q8_0", np.ones((1, 32)))
    blocks._load.cache_clear()


def test_a_change_in_one_of_the_compiled_files_compiles_them_all():
    from llmnotes.quantization.fast import compiled, k_quants, legacy_blocks

    for kernel in (legacy_blocks.to_q4_0, k_quants.to_q4_k):
        assert kernel._cache._cache_file._source_stamp == compiled.CHANGED > 0
