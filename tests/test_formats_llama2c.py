"""llama2.c's files, with the weights of stories260K: in each version, and where they are cut or lie."""

import json
import struct

import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, UnknownFormat
from llmnotes.formats import convert

FIELDS = {
    "rms_att_weight": "input_layernorm",
    "wq": "self_attn.q_proj",
    "wk": "self_attn.k_proj",
    "wv": "self_attn.v_proj",
    "wo": "self_attn.o_proj",
    "rms_ffn_weight": "post_attention_layernorm",
    "w1": "mlp.gate_proj",
    "w2": "mlp.down_proj",
    "w3": "mlp.up_proj",
}


@pytest.fixture(scope="module")
def weights(stories):
    """The fields of run.c, layers stacked, and the seven numbers."""
    from safetensors.numpy import load_file

    config, stored = json.loads((stories / "config.json").read_text()), load_file(stories / "model.safetensors")
    found = {
        "token_embedding_table": stored["model.embed_tokens.weight"],
        "rms_final_weight": stored["model.norm.weight"],
    }
    for field, name in FIELDS.items():
        layers = [stored[f"model.layers.{layer}.{name}.weight"] for layer in range(config["num_hidden_layers"])]
        if field in ("wq", "wk"):  # rows of each head: the two halves become neighbours
            heads = config["num_attention_heads" if field == "wq" else "num_key_value_heads"]
            layers = [w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape) for w in layers]
        found[field] = np.stack(layers)
    angles = np.arange(512)[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8)
    found |= {"freq_cis_real": np.cos(angles), "freq_cis_imag": np.sin(angles)}
    return {name: array.astype(np.float32) for name, array in found.items()}, (64, 172, 5, 8, 4, 512, 512)


LAYERS = ["rms_att_weight", "wq", "wk", "wv", "wo", "rms_ffn_weight", "w1", "w2", "w3"]
ORDER = {
    0: ["token_embedding_table", *LAYERS, "rms_final_weight", "freq_cis_real", "freq_cis_imag"],
    1: ["rms_att_weight", "rms_ffn_weight", "rms_final_weight", "token_embedding_table"]
    + ["wq", "wk", "wv", "wo", "w1", "w2", "w3"],
}
ORDER[2] = ORDER[1]


def craft(weights, version, shared=True, group=4):
    """The bytes of a file, as export.py writes it."""
    fields, numbers = weights
    numbers = (*numbers[:5], numbers[5] if shared or version else -numbers[5], numbers[6])
    out = struct.pack("<7i", *numbers)
    if version:
        out = (b"24ka" + struct.pack("<i", version) + out + struct.pack("<B", shared)).ljust(256, b"\0")
    if version == 2:
        out = out[:37] + struct.pack("<i", group) + out[41:]
    for name in ORDER[version] + ([] if shared else ["token_embedding_table"]):
        if version < 2 or name.startswith("rms"):
            out += fields[name].tobytes()
            continue
        for matrix in fields[name] if fields[name].ndim == 3 else [fields[name]]:
            scales = np.abs(matrix.reshape(-1, group)).max(axis=1) / np.float32(127)
            out += np.rint(matrix.reshape(-1, group) / scales[:, None]).astype(np.int8).tobytes() + scales.tobytes()
    return out


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_the_float_versions_hold_the_weights(tmp_path, weights, version, shared):
    (tmp_path / "a").write_bytes(craft(weights, version, shared))
    found = formats.inspect(tmp_path / "a")
    assert (found.identity.format, found.identity.version, found.architecture) == ("llama2.c", str(version), "llama")
    assert found.metadata["shared_classifier"] == shared and found.metadata["vocab_size"] == 512
    assert found.parameters == 260_032 + (0 if shared else 512 * 64)  # as PyTorch counts them: no tables
    assert [t.name for t in found.tensors] == ORDER[version] + ([] if shared else ["wcls"])
    for tensor in found.tensors:
        expected = weights[0][tensor.name.replace("wcls", "token_embedding_table")]
        assert tensor.shape == expected.shape
        assert b"".join(formats.read(found, tensor)) == expected.tobytes()


def test_the_int8_version_comes_back_within_its_rounding(tmp_path, weights):
    (tmp_path / "a").write_bytes(craft(weights, 2, shared=False))
    found = formats.inspect(tmp_path / "a")
    assert found.identity.version == "2" and found.metadata["group_size"] == 4
    assert found.parameters == 260_032 + 512 * 64 and 16 < found.bits_per_weight < 16.1  # a byte, and a quarter scale
    stored = {
        t.name: np.frombuffer(b"".join(formats.read(found, t)), {"I8": "i1", "F32": "<f4"}[t.dtype])
        for t in found.tensors
    }
    for name, expected in (("w2.3", weights[0]["w2"][3]), ("wcls", weights[0]["token_embedding_table"])):
        made = stored[name].reshape(-1, 4) * stored[f"{name}.scales"][:, None]
        assert np.abs(made.reshape(expected.shape) - expected).max() < np.abs(expected).max() / 250
    shapes = {t.name: t.shape for t in found.tensors}
    assert shapes["w2.3"] == (64, 172) and shapes["w2.3.scales"] == (64, 43)


def test_it_becomes_safetensors(tmp_path, weights):
    from safetensors.numpy import load_file

    (tmp_path / "a").write_bytes(craft(weights, 0))
    convert(tmp_path / "a", tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["w1"], weights[0]["w1"])


@pytest.mark.parametrize("version", [0, 1, 2])
def test_any_other_size_is_refused(tmp_path, weights, version):
    whole = craft(weights, version)
    for data in (whole + b"\0", whole[:-1], whole[:300], whole[:100], whole[:28], whole[:6]):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(FileBroken if version else (UnknownFormat, FileBroken)):
            formats.inspect(tmp_path / "a")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_numbers_that_cannot_be_are_refused(tmp_path, weights, version):
    whole = craft(weights, version)
    start = 8 if version else 0
    for at in range(7 - (version > 0)):  # versions 1 and 2 store nothing for the length of a text
        for value in (0, -64, 63, 1 << 30, -(1 << 31)):
            (tmp_path / "a").write_bytes(
                whole[: start + 4 * at] + struct.pack("<i", value) + whole[start + 4 * at + 4 :]
            )
            with pytest.raises((UnknownFormat, FileBroken)):
                formats.inspect(tmp_path / "a")
    for version_, group in ((3, 4), (0, 4), (2, 0), (2, -4), (2, 5)):
        header = b"24ka" + struct.pack("<8iBi", version_, *weights[1], 1, group)
        (tmp_path / "a").write_bytes(header + craft(weights, 2)[41:])
        with pytest.raises(FileBroken):
            formats.inspect(tmp_path / "a")
