"""GGML's blocks: the bytes of llama.cpp's own C."""

import os
import subprocess
import sys
from collections import Counter

import gguf
import numpy as np
import pytest

from llmnotes.errors import MissingPart, NotQuantizable
from llmnotes.formats import inspect, read
from llmnotes.formats.results import DTYPES
from llmnotes.pebble import weights_dir
from llmnotes.quantization import blocks, fast, ggml, old_types, plain, shared_library
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


@pytest.mark.parametrize(
    "quantize", [blocks.quantize, ggml.quantize, pytest.param(fast.quantize, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_bytes_are_those_of_llama_cpp(name, quantize):
    for kind, rows in ROWS.items():
        np.testing.assert_array_equal(quantize(rows, name), quantize_chunk(name, rows), err_msg=kind)
        for weights, importance in IMPORTANCE.items():
            made, theirs = quantize(rows, name, importance), quantize_chunk(name, rows, importance)
            np.testing.assert_array_equal(made, theirs, err_msg=f"{kind}, {weights}")


@pytest.mark.parametrize("name", plain.QUANTIZE)
def test_what_the_course_reads_makes_the_bytes_of_llama_cpp_and_undoes_them(name):
    elements, nbytes = DTYPES[name]
    for kind, rows in ROWS.items():
        with np.errstate(all="ignore"):
            made = plain.QUANTIZE[name](rows.reshape(-1, elements)).reshape(len(rows), -1)
        np.testing.assert_array_equal(made, ggml.quantize(rows, name), err_msg=kind)
    data = RANDOM.integers(0, 60, (40, nbytes), dtype=np.uint8)
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(plain.DEQUANTIZE[name](data), expected)


def matrices_of_pebble():
    inspection = inspect(weights_dir("pebble") / "model.safetensors")
    return {
        tensor.name: blocks.dequantize(b"".join(read(inspection, tensor)), tensor.dtype, tensor.shape)
        for tensor in inspection.tensors
        if len(tensor.shape) == 2
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_all_of_pebble_has_the_bytes_of_llama_cpp(name):
    matrices = matrices_of_pebble()
    assert sum(matrix.size for matrix in matrices.values()) > 3_000_000
    for tensor, matrix in matrices.items():
        expected = quantize_chunk(name, matrix)
        np.testing.assert_array_equal(blocks.quantize(matrix, name), expected, err_msg=tensor)
        np.testing.assert_array_equal(fast.quantize(matrix, name), expected, err_msg=tensor)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_the_bytes_are_those_of_gguf_py(name):
    for kind, rows in ROWS.items():
        np.testing.assert_array_equal(blocks.quantize(rows, name), official(name, rows), err_msg=kind)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_every_kind_of_number_survives_as_in_gguf_py(name):
    bits = RANDOM.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    special = [0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
    rows = np.concatenate([bits, np.array(special, np.uint32)]).view(np.float32)[None, :]
    np.testing.assert_array_equal(blocks.quantize(rows, name), official(name, rows))


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
        blocks.quantize(rows, name)


@pytest.mark.parametrize("name", ["BF16", *BLOCKS])
def test_the_way_back_is_that_of_gguf_py(name):
    for rows in (ROWS["normal"], ROWS["constant"], ROWS["halves"]):
        data = blocks.quantize(rows, name)
        expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
        np.testing.assert_array_equal(blocks.dequantize(data, name, rows.shape), expected.reshape(rows.shape))


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "TQ1_0", "MXFP4"])
def test_any_bytes_are_undone_as_in_gguf_py(name):
    elements, nbytes = DTYPES[name]
    data = RANDOM.integers(0, 60, (40, nbytes * 512 // elements), dtype=np.uint8)
    expected = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(blocks.dequantize(data, name, (40, 512)), expected)


# STACK of the field: relative root mean square error on N(0, 1).
@pytest.mark.parametrize(
    ("name", "error"),
    [("Q8_0", 0.00535), ("Q6_K", 0.0177), ("Q5_K", 0.0361), ("Q4_K", 0.0714), ("Q4_0", 0.0860)],
)
def test_the_error_on_gaussian_weights_is_the_known_one(name, error):
    x = np.random.default_rng(3).standard_normal((256, 1024), dtype=np.float32)
    back = blocks.dequantize(blocks.quantize(x, name), name, x.shape)
    assert np.sqrt(np.mean((back - x) ** 2) / np.mean(x**2)) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("name", BLOCKS)
def test_importance_lowers_the_error_that_counts(name):
    x = np.random.default_rng(4).standard_t(4, (64, 512)).astype(np.float32)
    importance = IMPORTANCE["of a layer"]

    def error(data):
        return (importance * (blocks.dequantize(data, name, x.shape) - x) ** 2).sum()

    with_, without = error(blocks.quantize(x, name, importance)), error(blocks.quantize(x, name))
    assert with_ == without if name == "Q8_0" else with_ < 0.97 * without


@pytest.mark.parametrize("name", ["Q4_0", "Q5_1", "Q4_K", "Q3_K"])
def test_threads_change_nothing(name, monkeypatch):
    monkeypatch.setattr(blocks, "WORTH", 1)
    monkeypatch.setattr(blocks, "PIECE", 1 << 12)
    rows = RANDOM.normal(size=(101, 512)).astype(np.float32)
    for importance in (None, IMPORTANCE["of a layer"]):
        one, *others = (blocks.quantize(rows, name, importance, threads=threads) for threads in (1, 2, 3, 64))
        assert all((one == other).all() for other in others)
        np.testing.assert_array_equal(one, quantize_chunk(name, rows, importance))


@pytest.mark.parametrize("source", ["F32", "F16", "BF16", "Q8_0", "Q6_K"])
@pytest.mark.parametrize("target", blocks.TYPES)
def test_a_stream_is_recoded_whatever_its_pieces(source, target):
    data = blocks.quantize(ROWS["normal"], source).tobytes()
    pieces = [data[start : start + 10_007] for start in range(0, len(data), 10_007)]
    floats = blocks.dequantize(data, source, (100, 512))
    expected = data if source == target else blocks.quantize(floats, target).tobytes()
    assert b"".join(blocks.recoded(pieces, source, target)) == expected
    if source in ("F32", "BF16"):
        weighed = b"".join(blocks.recoded(pieces, source, target, IMPORTANCE["of a layer"]))
        assert source == target or weighed == blocks.quantize(floats, target, IMPORTANCE["of a layer"]).tobytes()


def test_every_bfloat16_becomes_the_nearest_float16():
    every = np.arange(1 << 16, dtype=np.uint16)
    made = np.frombuffer(b"".join(blocks.recoded([every.tobytes()], "BF16", "F16")), np.float16)
    with np.errstate(all="ignore"):
        expected = (every.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
    np.testing.assert_array_equal(made.view(np.uint16), expected.view(np.uint16))


def test_the_sizes_of_blocks_are_those_of_the_formats():
    for name, kind in blocks.TYPES.items():
        assert DTYPES[name] == (kind.elements, kind.nbytes)
        assert gguf.GGMLQuantizationType[name] == kind.number
    for name, (elements, nbytes, _) in old_types.TYPES.items():
        assert DTYPES[name] == (elements, nbytes)


def test_arrays_of_other_kinds_are_taken_as_they_are():
    x = np.random.default_rng(5).normal(size=(64, 512))
    expected = blocks.quantize(x.astype(np.float32), "Q4_K")
    frozen = x.astype(np.float32)
    frozen.setflags(write=False)
    for same in (x, x.tolist(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], frozen, x[None].reshape(64, 512)):
        np.testing.assert_array_equal(blocks.quantize(same, "Q4_K"), expected)
    np.testing.assert_array_equal(blocks.quantize(x.reshape(4, 16, 512), "Q4_K"), expected.reshape(4, 16, -1))
    np.testing.assert_array_equal(blocks.quantize(x[3], "Q4_K"), expected[3])


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 256), np.float32)
    for name, x, word in [
        ("Q8_0", np.zeros((2, 33)), "33"),
        ("Q4_K", np.zeros((2, 288)), "256"),
        ("Q8_0", np.zeros((0, 32)), "no numbers"),
        ("Q8_0", np.zeros((2, 0)), "no numbers"),
        ("Q8_0", np.float32(1), "blocks of 32"),
        ("Q8_0", np.array(["a"]), "real numbers"),
        ("Q8_K", ones, "cannot make"),
    ]:
        with pytest.raises(NotQuantizable, match=word):
            blocks.quantize(x, name)
    for importance in (np.ones(255), np.ones((2, 256)), -np.ones(256), np.full(256, np.nan)):
        with pytest.raises(NotQuantizable, match="importance"):
            blocks.quantize(ones, "Q4_K", importance)
    with pytest.raises(ValueError, match="fill"):
        blocks.dequantize(bytes(35), "Q8_0", (32,))
    with pytest.raises(ValueError, match="left over"):
        list(blocks.recoded([bytes(30)], "F32", "Q8_0"))
    with pytest.raises(KeyError):
        blocks.dequantize(bytes(292), "Q8_K", (256,))


def test_numba_stays_out_of_small_tensors():
    code = "import sys, numpy; from llmnotes.quantization import blocks, fast;"
    code += "[blocks.quantize(numpy.ones((4, 512)), type) for type in blocks.TYPES]; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "False\n"


def test_the_kernels_take_over_when_loading_or_compiling_would_have_paid(monkeypatch):
    monkeypatch.setattr(fast, "_loaded", set())
    for on_disk, least in ((True, fast.LOADING), (False, fast.COMPILING)):
        monkeypatch.setattr(fast, "_made_by_c", Counter())
        monkeypatch.setattr(fast, "on_disk", lambda module, function, on_disk=on_disk: on_disk)
        fast.count_c("Q4_K", fast.LARGE - 1, 1 << 40)  # a small tensor does not count
        fast.count_c("Q4_K", fast.LARGE, least - 1)
        assert not fast.pays("Q4_K", fast.LARGE)
        fast.count_c("Q4_K", fast.LARGE, 1)
        assert fast.pays("Q4_K", fast.LARGE) and not fast.pays("Q4_K", fast.LARGE - 1)
        assert not fast.pays("Q6_K", fast.LARGE), "each type is loaded for itself"
    monkeypatch.setattr(fast, "_made_by_c", Counter())
    fast.quantize(ROWS["normal"], "Q4_K")
    assert fast.pays("Q4_K", 256), "it is in memory now"
    for name in BLOCKS:
        fast._loaded.add(name)
        assert fast.pays(name, 256) == (name not in fast.AS_FAST)
        assert fast.pays(name, 256, importance=True) == (name != "Q8_0")
    monkeypatch.setattr(fast, "_loaded", set())
    fast.count_c("Q4_K", fast.LARGE, fast.COMPILING)
    assert fast.pays("Q4_K", fast.LARGE)
    monkeypatch.setattr(fast, "_imports", lambda: False)
    assert not fast.pays("Q4_K", fast.LARGE), "a numba that does not fit this NumPy"
    monkeypatch.undo()
    monkeypatch.setattr(fast, "_loaded", set())
    monkeypatch.setattr(fast, "_made_by_c", Counter(Q4_K=fast.COMPILING))
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not fast.pays("Q4_K", fast.LARGE)


def test_a_numba_that_cannot_be_imported_is_left_alone():
    code = "import sys; sys.modules['numba'] = None; from llmnotes.quantization import fast; print(fast._imports())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
def test_a_large_tensor_goes_to_the_kernels_also_in_the_middle_of_a_stream(name, monkeypatch):
    used = []
    for layer in (fast, ggml):
        made = layer.quantize
        monkeypatch.setattr(layer, "quantize", lambda *args, own=layer, made=made: used.append(own) or made(*args))
    monkeypatch.setattr(fast, "pays", lambda type, weights, importance: weights >= 40_000)
    rows = ROWS["normal"]
    pieces = [rows[start : start + 20].tobytes() for start in range(0, 100, 20)]
    assert b"".join(blocks.recoded(pieces, "F32", name)) == quantize_chunk(name, rows).tobytes()
    assert used == [ggml, ggml, ggml, fast, fast]
    blocks.quantize(rows, name)
    assert used[5:] == [fast]


def test_without_the_library_three_types_are_made_slowly_and_the_others_say_what_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(shared_library, "find", lambda: None)
    monkeypatch.setattr(fast, "_loaded", set())
    monkeypatch.setattr(fast, "installed", lambda: False)
    ggml._quantize_chunk.cache_clear()
    blocks._say_slow.cache_clear()
    try:
        for name in BLOCKS:
            if name in plain.QUANTIZE:
                made = blocks.quantize(ROWS["normal"], name)
                np.testing.assert_array_equal(made, quantize_chunk(name, ROWS["normal"]))
                with pytest.raises(MissingPart, match="with importance"):
                    blocks.quantize(ROWS["normal"], name, IMPORTANCE["of a layer"])
            else:
                with pytest.raises(MissingPart, match="xllamacpp>="):
                    blocks.quantize(ROWS["normal"], name)
        assert [record.getMessage()[:19] for record in caplog.records] == ["Quantizing in NumPy"]
        monkeypatch.setattr(fast, "installed", lambda: True)
        made = blocks.quantize(ROWS["normal"], "Q5_K")  # numba answers for all types, whatever the size
        np.testing.assert_array_equal(made, fast.quantize(ROWS["normal"], "Q5_K"))
    finally:
        ggml._quantize_chunk.cache_clear()


def test_a_library_that_exports_nothing_is_not_called(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_library, "find", lambda: tmp_path / "xllamacpp.pyd")
    monkeypatch.setattr(fast, "_loaded", set())
    monkeypatch.setattr(fast, "installed", lambda: False)
    ggml._quantize_chunk.cache_clear()
    try:
        assert not ggml.available()
        with pytest.raises(MissingPart, match="numba>="):
            blocks.quantize(ROWS["normal"], "Q5_K")
    finally:
        ggml._quantize_chunk.cache_clear()


def test_a_change_in_one_of_the_compiled_files_compiles_them_all():
    from llmnotes.quantization.fast import k_quants, legacy_blocks, machine_code

    for kernel in (legacy_blocks.to_q4_0, k_quants.to_q4_k):
        assert kernel._cache._cache_file._source_stamp == machine_code.CHANGED > 0


def test_machine_code_on_the_disk_is_found_without_numba(monkeypatch):
    from llmnotes.quantization.fast import machine_code

    fast.quantize(ROWS["constant"], "Q6_K")
    assert machine_code.on_disk("k_quants", "to_q6_k") and not machine_code.on_disk("k_quants", "to_q7_k")
    monkeypatch.setattr(machine_code, "CHANGED", 1 << 62)
    assert not machine_code.on_disk("k_quants", "to_q6_k")


def test_kernels_are_compiled_also_where_nothing_can_be_kept():
    from llmnotes.quantization.fast import compiled

    names = {}
    exec("def thrice(x):\n    return 3 * x", names)  # it lies in no file, so numba finds no folder for its code
    assert compiled.compiled(names["thrice"])(4) == 12
