"""The layout in which gptqmodel, transformers and vLLM read GPTQ: codes as a stream of bits in 32-bit words.

Each layer has four tensors: `qweight` int32 (inputs · bits / 32, outputs), `qzeros` int32 (groups, outputs · bits /
32), `scales` float16 (groups, outputs), and `g_idx` int32 (inputs,), the group of each column. In a word the first code
has the lowest bits; where the bits do not divide 32, a code may lie in two words. Version 1 ("gptq") stores zero points
less one; version 2 ("gptq_v2") stores them as they are.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from llmnotes.errors import NotQuantizable
from llmnotes.quantization.grouped import BITS, QuantizedMatrix

VERSIONS = {1: "gptq", 2: "gptq_v2"}
WORD = 32


def pack(layer: QuantizedMatrix, version: int = 1) -> dict[str, np.ndarray]:
    """Return the four tensors of a layer by their names.

    Raises `NotQuantizable` where inputs or outputs do not fill whole words of 32 bits (multiples of 32 always do), and
    for a zero point of 0 in version 1, which has no number for it: `version` of this module chooses.

    >>> from llmnotes.quantization.grouped import round_to_nearest
    >>> import torch
    >>> {name: x.shape for name, x in pack(round_to_nearest(torch.ones(64, 256), 3)).items()}
    {'qweight': (24, 64), 'qzeros': (2, 6), 'scales': (2, 64), 'g_idx': (256,)}
    """
    zeros = layer.zeros.cpu().numpy().T  # (groups, outputs)
    if version == 1:
        if not zeros.all():
            raise NotQuantizable("A zero point is 0, which version 1 of the layout cannot store; write version 2.")
        zeros = zeros - 1
    return {
        "qweight": _words(layer.codes.cpu().numpy().T, layer.bits),
        "qzeros": np.ascontiguousarray(_words(zeros.T, layer.bits).T),
        "scales": np.ascontiguousarray(layer.scales.cpu().numpy().T.astype(np.float16)),
        "g_idx": layer.group_of.cpu().numpy().astype(np.int32),
    }


def unpack(tensors: Mapping[str, np.ndarray], bits: int, version: int = 1) -> QuantizedMatrix:
    """Return the layer that `tensors` hold: the inverse of `pack`.

    In version 1 the one is added to whole words, and to single zero points at 3 bits, as gptqmodel does, so that the
    zero points of 0 that it writes come back. Raises `NotQuantizable` for tensors that do not belong together.
    """
    import torch

    if bits not in BITS or version not in VERSIONS:
        raise NotQuantizable(f"GPTQ has no layout for {bits} bits in version {version}; see what the config says.")
    try:
        words, qzeros, scales, g_idx = (np.asarray(tensors[name]) for name in ("qweight", "qzeros", "scales", "g_idx"))
    except KeyError as error:
        raise NotQuantizable(f"The layer has no {error.args[0]}; give qweight, qzeros, scales and g_idx.") from None
    inputs = len(g_idx)
    groups, outputs = scales.shape if scales.ndim == 2 else (-1, -1)
    if words.shape != (inputs * bits // WORD, outputs) or qzeros.shape != (groups, outputs * bits // WORD):
        raise NotQuantizable(
            f"qweight {words.shape}, qzeros {qzeros.shape}, scales {scales.shape} and {inputs} columns do not belong "
            f"together at {bits} bits; check the bits in the config."
        )
    if not inputs or g_idx.min() < 0 or g_idx.max() >= groups:
        raise NotQuantizable("g_idx names a group that has no scale; read the layer again from its file.")
    if version == 1 and bits != 3:
        qzeros = qzeros.view(np.uint32) + np.uint32(sum(1 << at for at in range(0, WORD, bits)))
    zeros = _codes(np.ascontiguousarray(qzeros.T), bits)  # (outputs, groups)
    if version == 1 and bits == 3:
        zeros = (zeros + 1) & 7
    return QuantizedMatrix(
        torch.from_numpy(np.ascontiguousarray(_codes(words, bits).T)),
        torch.from_numpy(np.ascontiguousarray(scales.T.astype(np.float32))),
        torch.from_numpy(np.ascontiguousarray(zeros)),
        torch.from_numpy(g_idx.astype(np.int32)),
        bits,
    )


def version(layers: Iterable[QuantizedMatrix]) -> int:
    """Return the version of the layout that can hold the layers: 1, which more programs read, if no zero point is 0."""
    return 1 if all(layer.zeros.all() for layer in layers) else 2


def settings(layers: Mapping[str, QuantizedMatrix], group_size: int | None, symmetric: bool) -> dict:
    """Return what config.json says under `quantization_config` of a model with these layers.

    `group_size` and `symmetric` are what the layers were made with. `desc_act` says whether a column's group is not the
    one of its place, which programs need to know before they read a layer. Raises `NotQuantizable` for no layers, and
    for layers of several widths of code.
    """
    widths = sorted({layer.bits for layer in layers.values()})
    if len(widths) != 1:
        raise NotQuantizable(f"The config of a model has one number of bits, and these layers have {widths or 'none'}.")
    scattered = any((layer.group_of.diff() < 0).any() for layer in layers.values())
    return {
        "bits": widths[0],
        "group_size": -1 if group_size is None else group_size,
        "desc_act": bool(scattered),
        "sym": symmetric,
        "lm_head": False,
        "quant_method": "gptq",
        "checkpoint_format": VERSIONS[version(layers.values())],
        "pack_dtype": "int32",
        "meta": {"quantizer": ["llmnotes:0.1.0"]},
    }


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes, uint8 (n, columns), as int32 (n · bits / 32, columns): down a column, bit after bit."""
    count, columns = codes.shape
    if count * bits % WORD:
        raise NotQuantizable(
            f"{count} codes of {bits} bits do not fill words of {WORD} bits; this layout needs multiples of 32."
        )
    stream = np.unpackbits(np.ascontiguousarray(codes)[:, None], axis=1, bitorder="little", count=bits)
    stream = stream.reshape(count * bits // 8, 8, columns)  # (bytes, bits of each, columns)
    octets = np.packbits(stream, axis=1, bitorder="little").reshape(-1, 4, columns)
    return np.ascontiguousarray(octets.transpose(0, 2, 1)).view("<i4")[:, :, 0]


def _codes(words: np.ndarray, bits: int) -> np.ndarray:
    """Return the codes in `words`: the inverse of `_words`."""
    octets = np.ascontiguousarray(words[:, :, None]).view(np.uint8).transpose(0, 2, 1)  # (words, 4, columns)
    stream = np.unpackbits(np.ascontiguousarray(octets)[:, :, None], axis=2, bitorder="little")
    stream = stream.reshape(-1, bits, words.shape[1])  # (codes, bits of each, columns)
    return np.packbits(stream, axis=1, bitorder="little")[:, 0]
