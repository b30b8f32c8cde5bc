"""Number formats: every code and every rounding as in torch, NumPy and ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest
import torch

from llmnotes.errors import NotQuantizable, UnknownName
from llmnotes.quantization import number_formats as formats

TORCH = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")}
NUMPY = {"float16": np.float16, "float4_e2m1fn": ml_dtypes.float4_e2m1fn}
BITS = {1: torch.uint8, 2: torch.int16}
SMALL = [name for name in formats.FORMATS if name != "float32"]
RANDOM = np.random.default_rng(0)


def numbers(name: str) -> np.ndarray:
    """Every finite number of a format, every number halfway between two, float32's neighbours of those, and others."""
    found = formats.values(name)
    found = np.unique(found[np.isfinite(found)])
    middles = ((found[:-1].astype(np.float64) + found[1:]) / 2).astype(np.float32)
    top = found[-1].astype(np.float64) * np.array([1 + 2.0**-12, 1 + 2.0**-9, 1.03, 1.04, 1.1, 1.2, 1.5, 2, 1e9])
    top = top[top < 3.4e38]
    with np.errstate(over="ignore"):
        random = RANDOM.integers(0, 1 << 32, 50_000, dtype=np.uint32).view(np.float32)
        spread = RANDOM.normal(size=50_000) * 10.0 ** RANDOM.integers(-9, 9, 50_000)
        every = np.concatenate([found, middles, top, -top, random[~np.isnan(random)], spread, [0, -0.0]])
        every = every.astype(np.float32)
        beside = [np.nextafter(every, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([every, *beside, np.array([np.inf, -np.inf], np.float32)])


def of_torch(x: np.ndarray, name: str) -> np.ndarray:
    made = torch.from_numpy(x).to(TORCH[name])
    return made.view(BITS[made.element_size()]).numpy().view(f"u{made.element_size()}")


@pytest.mark.parametrize("name", TORCH)
def test_the_codes_are_those_of_torch(name):
    x = numbers(name)
    np.testing.assert_array_equal(formats.encode(x, name), of_torch(x, name))


@pytest.mark.parametrize("name", TORCH)
def test_the_number_of_every_code_is_that_of_torch(name):
    codes = np.arange(1 << formats.FORMATS[name].bits).astype(formats.FORMATS[name].dtype)
    expected = torch.from_numpy(codes.view(f"i{codes.itemsize}")).view(TORCH[name]).float().numpy()
    numbers_ = ~np.isnan(expected)
    got = formats.decode(codes, name)
    np.testing.assert_array_equal(np.isnan(got), ~numbers_)
    np.testing.assert_array_equal(got[numbers_].view(np.uint32), expected[numbers_].view(np.uint32))
    np.testing.assert_array_equal(formats.encode(got[numbers_], name), codes[numbers_])


def test_float4_is_that_of_ml_dtypes():
    x = numbers("float4_e2m1fn")
    np.testing.assert_array_equal(
        formats.encode(x, "float4_e2m1fn"), x.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
    )
    codes = np.arange(16, dtype=np.uint8)
    np.testing.assert_array_equal(formats.values("float4_e2m1fn"), codes.view(ml_dtypes.float4_e2m1fn).astype("f4"))


def test_double_precision_is_rounded_once():
    bits = RANDOM.integers(0, 1 << 63, 100_000, dtype=np.uint64).view(np.float64)
    near = RANDOM.normal(size=100_000) * 10.0 ** RANDOM.integers(-46, 39, 100_000)
    with np.errstate(over="ignore"):
        for x in (bits[~np.isnan(bits)], near, np.array([1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 5e-324])):
            np.testing.assert_array_equal(formats.encode(x, "float32"), x.astype(np.float32).view(np.uint32))
            np.testing.assert_array_equal(formats.encode(x, "float16"), x.astype(np.float16).view(np.uint16))
    assert formats.encode(1 + 2.0**-11 + 2.0**-40, "float16") == 0x3C01  # by way of float32 it would be 0x3C00


def test_every_float32_comes_back():
    codes = RANDOM.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    codes = np.concatenate([codes, [0, 1 << 31, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000]])
    x = codes.astype(np.uint32).view(np.float32)
    codes, x = codes[~np.isnan(x)], x[~np.isnan(x)]
    np.testing.assert_array_equal(formats.encode(x, "float32"), codes)
    np.testing.assert_array_equal(formats.decode(codes, "float32").view(np.uint32), codes)


@pytest.mark.parametrize(("name", "low", "high"), [("int8", -128, 127), ("int4", -8, 7)])
def test_whole_numbers_round_to_even_and_saturate(name, low, high):
    x = np.concatenate([numbers(name), np.arange(-600, 600) / 4])
    expected = np.clip(np.rint(x), low, high)
    np.testing.assert_array_equal(formats.decode(formats.encode(x, name), name), expected)
    np.testing.assert_array_equal(np.sort(formats.values(name)), np.arange(low, high + 1))
    assert formats.encode([-1, low], name).tolist() == [high * 2 + 1, high + 1]


@pytest.mark.parametrize("name", ["float32", *TORCH])
def test_what_is_not_a_number_stays_none(name):
    x = np.array([np.nan, -np.nan], np.float32)
    codes = formats.encode(x, name)
    assert np.isnan(formats.decode(codes, name)).all()
    assert (codes >> formats.FORMATS[name].bits - 1).tolist() == [0, 1]


def test_the_limits_are_those_of_torch():
    for name, kind in {**TORCH, "float32": torch.float32}.items():
        info = torch.finfo(kind)
        assert formats.limits(name).largest == info.max and formats.limits(name).smallest_normal == info.tiny
    assert formats.limits("float8_e4m3fn") == (448, 2**-9, 2**-6)
    assert formats.limits("float4_e2m1fn") == (6, 0.5, 1)
    assert formats.limits("int4") == (7, 1, 1)


def test_fields_are_the_bits_of_the_code():
    assert formats.fields(0xC0A00000, "float32") == ("1", "10000001", "01" + "0" * 21)  # -5
    assert formats.fields(0b1011, "int4") == ("1", "", "011")
    assert {len("".join(formats.fields(0, name))) for name in SMALL} == {16, 8, 4}


def test_shapes_and_other_kinds_of_arrays():
    x = RANDOM.normal(size=(3, 4, 5))
    expected = formats.encode(x.astype(np.float32), "bfloat16")
    frozen = x.astype(np.float32)
    frozen.flags.writeable = False
    assert expected.shape == (3, 4, 5) and formats.decode(expected, "bfloat16").shape == (3, 4, 5)
    for other in (frozen, torch.from_numpy(frozen.copy()), frozen.tolist(), frozen.astype(">f4")):
        np.testing.assert_array_equal(formats.encode(other, "bfloat16"), expected)
    np.testing.assert_array_equal(formats.encode(frozen.T, "bfloat16"), expected.T)
    half = expected.view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(formats.encode(half, "bfloat16"), expected)
    assert formats.encode(np.float16(2**-24), "float32") == 0x33800000
    assert formats.encode(np.array([70, 448], np.int16), "float8_e4m3fn").tolist() == [0x69, 0x7E]
    assert formats.encode(0.1, "int8") == 0 and formats.encode([3], "int8").dtype == np.uint8


def test_what_has_no_code_is_said_in_one_sentence():
    for name in ("float4_e2m1fn", "int8", "int4"):
        with pytest.raises(NotQuantizable, match="no code for NaN"):
            formats.encode([1.0, np.nan], name)
    for bad in ([], ["a"], np.zeros(2, complex), torch.zeros(2, dtype=torch.bfloat16)):
        with pytest.raises(NotQuantizable):
            formats.encode(bad, "float16")
    for bad in ([16], [-1], [0.5]):
        with pytest.raises(NotQuantizable, match="from 0 to 15"):
            formats.decode(bad, "float4_e2m1fn")
    with pytest.raises(NotQuantizable, match="from 0 to 255"):
        formats.fields(-1, "int8")
    with pytest.raises(NotQuantizable, match="4,294,967,296"):
        formats.values("float32")
    with pytest.raises(UnknownName, match="float8_e5m2"):
        formats.encode([1], "float7")
