"""Weights that GPTQ, FP8 or compressed-tensors have quantized, as the numbers that they stand for.

Each weight is scale · (code - zero point); what differs is how codes are packed and which weights share a scale.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import causes
from llmnotes.formats.results import Inspection, PlannedTensor
from llmnotes.quantization import number_formats
from llmnotes.quantization.blocks import dequantize

Given = dict[str, PlannedTensor]
FLOATS8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
SCALES = (".weight_scale_inv", ".weight_scale")
PLAIN = ("float-quantized", "int-quantized", "naive-quantized")  # compressed-tensors with a byte for each weight
ROWS = 1 << 20  # weights that are float32 at a time
IDLE = {
    (
        "input_scale",
        "activation_scale",
        "input_zero_point",
        "output_scale",
    ): "of quantized activations: a GGUF has none",
    ("k_scale", "v_scale"): "of a quantized key-value cache: llama.cpp chooses its own",
}


def unpacked(inspection: Inspection, given: Given) -> tuple[Given, dict[str, str], list[str]]:
    """Return (`given` with its packed weights as F32 tensors, {tensor left out: why}, what to say of it).

    A folder that nothing quantized, or something else than GPTQ, FP8 and compressed-tensors, comes back as it is. A
    tensor is read when it is written, one at a time.

    Raises `NotConvertible` for a packing of these three that is not known here.
    """
    config = causes.settings_of(inspection)
    unpack = METHODS.get(str(config.get("quant_method")))
    if unpack is None:
        return given, {}, []
    made = unpack(config, given, inspection.path.name)
    used = {source for tensor in made.values() for source in tensor.sources}
    left = {}
    for names, why in IDLE.items():
        idle = [tensor for name, tensor in given.items() if name.rpartition(".")[2] in names]
        left |= {source: why for tensor in idle for source in tensor.sources}
    kept = {name: tensor for name, tensor in given.items() if not {*tensor.sources} & (used | left.keys())}
    said = [f"The weights were quantized ({causes.quantized_by(inspection)}), and keep the errors of that."]
    if config.get("activation_scheme") or any(group.get("input_activations") for group in _groups(config)):
        said.append("The model quantizes its activations while it runs; llama.cpp does not.")
    return kept | made, left, said


def _gptq(config: dict, given: Given, folder: str) -> Given:
    """Return the weights of GPTQ's layout in `llmnotes.quantization.gptq_layout`, versions 1 and 2."""
    bits, form = config.get("bits"), config.get("checkpoint_format") or "gptq"
    group = config.get("group_size") if isinstance(config.get("group_size"), int) else None
    if config.get("dynamic") or bits not in (2, 3, 4, 8) or form not in ("gptq", "gptq_v2"):
        raise _unknown(folder, f"GPTQ with {str(bits)[:8]} bits in the format {str(form)[:40]}")
    found = {}
    for name in [name for name in given if name.endswith(".qweight")]:
        base = name.removesuffix("qweight")
        parts = {key: given[base + key] for key in ("qweight", "qzeros", "scales", "g_idx") if base + key in given}
        if len(parts) < 3 or len(parts["qweight"].shape) != 2:
            raise _unfit(name, parts["qweight"].shape, tuple(parts))
        words, outputs = parts["qweight"].shape
        shape = (outputs, words * 32 // bits)
        data = partial(_gptq_layer, parts, bits, 1 if form == "gptq" else 2, group, shape)
        found[f"{base}weight"] = _made(f"{base}weight", shape, data, *parts.values())
    return found


def _gptq_layer(parts: Given, bits: int, version: int, group: int | None, shape: tuple[int, int]) -> Iterator[bytes]:
    from llmnotes.quantization import gptq_layout

    tensors = {key: _array(tensor) for key, tensor in parts.items()}
    if "g_idx" not in tensors:  # columns in their order
        size = shape[1] if not group or group < 0 else group
        tensors["g_idx"] = (np.arange(shape[1]) // size).astype(np.int32)
    layer = gptq_layout.unpack(tensors, bits, version)
    step = max(ROWS // shape[1], 1)
    for start in range(0, shape[0], step):
        yield layer.rows(start, start + step).dequantize().numpy().tobytes()


def _scaled_bytes(config: dict, given: Given, folder: str) -> Given:
    """Return the weights that are a byte each: FP8, or compressed-tensors with 8 bits."""
    block, found = _block(config.get("weight_block_size")), {}
    for name, tensor in given.items():
        base = name.removesuffix(".weight")
        scale = next((given[base + end] for end in SCALES if base + end in given), None)
        if base == name or scale is None or tensor.dtype not in (*FLOATS8, "I8") or len(tensor.shape) != 2:
            continue
        zero = given.get(f"{base}.weight_zero_point")
        parts = [tensor, scale] + ([zero] if zero else [])
        codes = partial(_bytes, tensor)
        data = partial(_scaled, name, codes, tensor.shape, scale, partial(_zeros, zero), block)
        found[name] = _made(name, tensor.shape, data, *parts)
    return found


def _compressed(config: dict, given: Given, folder: str) -> Given:
    """Return the weights of compressed-tensors: a byte each, or whole numbers packed into words of 32 bits."""
    groups = [_dict(group.get("weights")) for group in _groups(config)]
    form, sparse = config.get("format"), str(_dict(config.get("sparsity_config")).get("format", "dense"))[:40]
    bits = {width if isinstance(width := group.get("num_bits"), int) else 0 for group in groups}
    blocks = {_block(group.get("block_structure")) or _block([1, group.get("group_size")]) for group in groups}
    status = config.get("quantization_status", "compressed")
    known = form in PLAIN or (form == "pack-quantized" and len(bits) == 1 and bits <= {2, 4, 8})
    if not known or sparse != "dense" or len(blocks) > 1 or config.get("transform_config") or status != "compressed":
        raise _unknown(folder, f"compressed-tensors ({str(form)[:40]}, {sparse}, {str(status)[:20]})")
    block = next(iter(blocks), None)
    if form in PLAIN:
        return _scaled_bytes({"weight_block_size": block}, given, folder)
    width, found = bits.pop(), {}
    for name in [name for name in given if name.endswith(".weight_packed")]:
        base = name.removesuffix("_packed")
        ends = ("packed", "shape", "scale", "zero_point", "g_idx")
        parts = {end: given[f"{base}_{end}"] for end in ends if f"{base}_{end}" in given}
        shape = tuple(int(side) for side in _array(parts["shape"])) if {"shape", "scale"} <= parts.keys() else ()
        if len(shape) != 2 or parts["packed"].shape != (shape[0], -(-shape[1] * width // 32)):
            raise _unfit(base, parts["packed"].shape, shape)
        codes, zero = partial(_words, parts["packed"], width, shape), parts.get("zero_point")
        zeros = partial(_word_zeros, zero, width, shape[0])
        data = partial(_scaled, base, codes, shape, parts["scale"], zeros, block, parts.get("g_idx"))
        found[base] = _made(base, shape, data, *parts.values())
    return found


METHODS: dict[str, Callable[[dict, Given, str], Given]] = {
    "gptq": _gptq,
    "fp8": _scaled_bytes,
    "fbgemm_fp8": _scaled_bytes,
    "compressed-tensors": _compressed,
}


def _scaled(
    name: str, codes: Callable, shape: tuple, scale: PlannedTensor, zeros: Callable, block=None, columns=None
) -> Iterator[bytes]:
    """Yield scale · (code - zero point) of a matrix, some rows at a time."""
    numbers, factors, zero = codes(), _matrix(_array(scale)), zeros()
    if factors.ndim != 2 or (zero is not None and _matrix(zero).shape not in (factors.shape, (1, 1))):
        raise _unfit(name, factors.shape, shape)
    zero = None if zero is None else np.broadcast_to(_matrix(zero), factors.shape)
    rows, cols = _places(name, factors.shape, shape, block)
    if columns is not None and (_array(columns) >= 0).all():  # -1: the columns are in their order
        cols = _array(columns)
    step = max(ROWS // max(shape[1], 1), 1)
    for start in range(0, shape[0], step):
        some, part = rows[start : start + step], numbers[start : start + step].astype(np.float32)
        if zero is not None:
            part -= zero[some][:, cols]
        yield (part * factors[some][:, cols]).astype("<f4").tobytes()


def _places(name: str, scales: tuple, shape: tuple, block) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column of the scale for each row and each column of the weights."""
    found = []
    for axis in (0, 1):
        size = shape[axis] // max(scales[axis], 1)
        if block is not None and -(-shape[axis] // block[axis]) == scales[axis]:
            size = block[axis]  # the last block may be smaller
        elif scales[axis] != 1 and size * scales[axis] != shape[axis]:
            raise _unfit(name, scales, shape)
        found.append(np.zeros(shape[axis], int) if scales[axis] == 1 else np.arange(shape[axis]) // size)
    return found[0], found[1]


def _groups(config: dict) -> list[dict]:
    return [_dict(group) for group in _dict(config.get("config_groups")).values()]


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _block(value: object) -> tuple[int, int] | None:
    """Return the rows and columns of a block that shares a scale, if there are such."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value):
        return value[0], value[1]
    return None


def _bytes(tensor: PlannedTensor) -> np.ndarray:
    codes = np.frombuffer(b"".join(tensor.data()), np.uint8).reshape(tensor.shape)
    if tensor.dtype == "I8":
        return codes.view(np.int8)
    return number_formats.decode(np.arange(256, dtype=np.uint8), FLOATS8[tensor.dtype])[codes]


def _words(tensor: PlannedTensor, bits: int, shape: tuple) -> np.ndarray:
    """Return the codes that lie along the rows of 32-bit words, the first in the lowest bits."""
    words = _array(tensor).view(np.uint32)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    codes = (words[:, :, None] >> shifts) & np.uint32((1 << bits) - 1)
    return codes.reshape(len(words), -1)[:, : shape[1]].astype(np.uint8)


def _word_zeros(tensor: PlannedTensor | None, bits: int, rows: int) -> np.ndarray:
    """Return the zero points, packed down the columns; without them the codes are signed numbers, moved up by half."""
    if tensor is None:
        return np.full((1, 1), 1 << (bits - 1), np.float32)
    words = _array(tensor).view(np.uint32)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)[None, :, None]
    codes = (words[:, None, :] >> shifts) & np.uint32((1 << bits) - 1)
    return codes.reshape(-1, words.shape[1])[:rows].astype(np.float32)


def _zeros(tensor: PlannedTensor | None) -> np.ndarray | None:
    return None if tensor is None else _array(tensor).astype(np.float32)


def _matrix(values: np.ndarray) -> np.ndarray:
    """Return one number, or one for each row, as a matrix."""
    return values.reshape(-1, 1) if values.ndim < 2 else values


def _array(tensor: PlannedTensor) -> np.ndarray:
    """Return a whole small tensor: floats as float32, whole numbers as they are."""
    data = b"".join(tensor.data())
    if tensor.dtype in ("F32", "F16", "BF16"):
        return dequantize(data, tensor.dtype, tensor.shape)
    kinds = {"I32": "<i4", "I64": "<i8", "I8": "i1"}
    if tensor.dtype not in kinds:
        raise NotConvertible(
            f"{tensor.name[:80]} is stored as {tensor.dtype}; take the model in its original precision."
        )
    return np.frombuffer(data, kinds[tensor.dtype]).reshape(tensor.shape)


def _made(name: str, shape: tuple, data: Callable, *parts: PlannedTensor) -> PlannedTensor:
    return PlannedTensor(name, "F32", shape, data, tuple(source for part in parts for source in part.sources))


def _unknown(folder: str, what: str) -> NotConvertible:
    return NotConvertible(
        f"{folder} is quantized by {what}, which llmnotes does not unpack; take its original precision."
    )


def _unfit(name: str, one: tuple, other: tuple) -> FileBroken:
    return FileBroken(
        f"The scales or codes of {name[:80]} are {one}, and do not fit {other}; take both from one model."
    )
