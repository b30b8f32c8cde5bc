"""llama2.c's files, with the weights of stories260K: in each version, and where they are cut or lie."""

import json
import struct

import numpy as np
import pytest
import torch

from llmnotes import formats
from llmnotes.errors import FileBroken, NotConvertible, UnknownFormat
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


def tokenizer_bin(stories) -> bytes:
    """The vocabulary as llama2.c's tokenizer.py writes it."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(str(stories / "tokenizer.model"))
    rows = []
    for number in range(len(pieces)):
        text = pieces.id_to_piece(number).replace("\u2581", " ")
        rows.append((f"\n{text}\n" if number in (1, 2) else text, pieces.get_score(number)))
    longest = max(len(text.encode()) for text, _ in rows)
    packed = (struct.pack("<fi", score, len(text.encode())) + text.encode() for text, score in rows)
    return struct.pack("<i", longest) + b"".join(packed)


def trained(stories, **changes) -> dict:
    """A checkpoint as llama2.c's train.py writes it: Meta's names, the moments of an optimizer, settings."""
    from safetensors.torch import load_file

    config, weights = json.loads((stories / "config.json").read_text()), {}
    ours = {"embed_tokens": "tok_embeddings", "norm": "norm", **{new: old for old, new in NAMES.items()}}
    for name, tensor in load_file(stories / "model.safetensors").items():
        name = name.removeprefix("model.").removesuffix(".weight")
        layer, stem = ("", name) if not name.startswith("layers.") else (name[:9], name[9:])
        if stem in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = config["num_attention_heads" if "q_proj" in stem else "num_key_value_heads"]
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        weights[f"_orig_mod.{layer}{ours[stem]}.weight"] = tensor
    weights["_orig_mod.output.weight"] = weights["_orig_mod.tok_embeddings.weight"]
    said = {"dim": 64, "n_layers": 5, "n_heads": 8, "n_kv_heads": 4, "vocab_size": 512, "multiple_of": 4}
    said |= {"max_seq_len": 512, "dropout": 0.0} | changes
    moments = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    return {"model": weights, "optimizer": moments, "model_args": said, "iter_num": 9}


NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@pytest.fixture(params=["0", "0 with a head", "1", "2", "checkpoint"])
def source(request, tmp_path, weights, stories):
    """A model of each kind, its tokenizer beside it."""
    folder = tmp_path / "source"
    folder.mkdir()
    if request.param == "checkpoint":
        torch.save(trained(stories), folder / "model.pt")
        (folder / "tokenizer.model").write_bytes((stories / "tokenizer.model").read_bytes())
        return folder / "model.pt"
    (folder / "model.bin").write_bytes(craft(weights, int(request.param[0]), "head" not in request.param))
    (folder / "tok512.bin").write_bytes(tokenizer_bin(stories))
    return folder / "model.bin"


def rounded(stories, exact: bool) -> dict:
    """The weights of the folder that a model was made from, or what int8 leaves of them."""
    from safetensors.torch import load_file

    found = load_file(stories / "model.safetensors")
    if exact:
        return found
    for name, tensor in found.items():
        if tensor.ndim == 2:
            groups = tensor.reshape(-1, 4)
            scales = groups.abs().amax(1, keepdim=True) / 127
            found[name] = ((groups / scales).round() * scales).reshape(tensor.shape)
    return found


def test_a_model_becomes_the_folder_that_it_was(source, stories, tmp_path):
    from safetensors.torch import load_file
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = convert(source, tmp_path / "folder", to="huggingface")
    int8 = source.read_bytes()[:5] == b"24ka\2"
    found, expected = load_file(tmp_path / "folder" / "model.safetensors"), rounded(stories, not int8)
    if ("wcls",) in done.made.values():
        expected["lm_head.weight"] = expected["model.embed_tokens.weight"]
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=0)
    config, was = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "folder", stories))
    same = ("rms_norm_eps", "num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id")
    assert [config[key] for key in same] == [was[key] for key in same]
    text = "Once upon a time, Lily saw 2 dogs."
    ids = [1, *SentencePieceProcessor(str(stories / "tokenizer.model")).encode(text)]
    assert AutoTokenizer.from_pretrained(tmp_path / "folder")(text)["input_ids"] == ids
    with torch.no_grad():
        one, two = (
            AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits
            for folder in (tmp_path / "folder", stories)
        )
    assert (one - two).abs().max() < (0.2 if int8 else 1e-4)
    assert any("run.c ends a text" in sentence for sentence in done.lost)


def test_a_model_becomes_a_gguf_that_tells_the_same_story(source, stories, tmp_path):
    done = convert(source, tmp_path / "a.gguf", type="F32")
    convert(source, tmp_path / "folder", to="huggingface")
    convert(tmp_path / "folder", tmp_path / "b.gguf", type="F32")
    one, two = (formats.inspect(tmp_path / name) for name in ("a.gguf", "b.gguf"))
    assert {t.name: b"".join(formats.read(one, t)) for t in one.tensors} == {
        t.name: b"".join(formats.read(two, t)) for t in two.tensors
    }
    keys = {key for key in one.metadata if key.startswith("llama.")}
    assert keys <= two.metadata.keys() and all(one.metadata[key] == two.metadata[key] for key in keys)
    assert (
        done.left.keys() == {"freq_cis_real", "freq_cis_imag"}
        or "optimizer.state.0.exp_avg" in done.left
        or not done.left
    )
    if source.suffix == ".pt":
        from tests.llama_cpp import opened

        with opened(tmp_path / "a.gguf") as a, opened(tmp_path / "b.gguf") as b:
            assert a.tokens("Once upon a time") == b.tokens("Once upon a time")
            assert a.greedy("Once upon a time", 16) == b.greedy("Once upon a time", 16)
    convert(source, tmp_path / "q.gguf", type="Q8_0")
    assert {t.dtype for t in formats.inspect(tmp_path / "q.gguf").tensors} >= {"Q8_0", "F32"}


def test_a_tokenizer_that_is_missing_or_another_models_is_said(tmp_path, weights, stories):
    (tmp_path / "a.bin").write_bytes(craft(weights, 1))
    done = convert(tmp_path / "a.bin", tmp_path / "folder", to="huggingface")
    assert any("No tokenizer lies beside" in sentence for sentence in done.lost)
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"config.json", "model.safetensors"}
    with pytest.raises(NotConvertible, match="in a file of its own"):
        convert(tmp_path / "a.bin", tmp_path / "a.gguf")
    whole = tokenizer_bin(stories)
    short = whole[: 4 + 8 + len("<unk>")]  # its first token alone
    for data, says in (
        (short, "has 1 token, .*512"),
        (whole[:-1], "middle of a token"),
        (whole + b"1234", "middle of a token"),
    ):
        (tmp_path / "tokenizer.bin").write_bytes(data)
        with pytest.raises(FileBroken, match=says):
            convert(tmp_path / "a.bin", tmp_path / "a.gguf")


def test_a_file_that_changed_or_a_vocabulary_without_end_is_refused(tmp_path, weights, stories, monkeypatch):
    from dataclasses import replace

    (tmp_path / "a.bin").write_bytes(craft(weights, 2))
    found = formats.inspect(tmp_path / "a.bin")
    floats = replace(next(t for t in found.tensors if t.name == "wq.0"), dtype="F32", offset=None)
    assert len(b"".join(formats.read(found, floats))) == 4 * floats.elements
    (tmp_path / "a.bin").write_bytes(craft(weights, 1))
    with pytest.raises(FileBroken, match="no longer holds 'wq.0'"):
        b"".join(formats.read(found, floats))
    (tmp_path / "tokenizer.bin").write_bytes(tokenizer_bin(stories))
    monkeypatch.setattr("llmnotes.formats.legacy.llama2c_model.METADATA_LIMIT", 1000)
    with pytest.raises(FileBroken, match="more than any vocabulary"):
        convert(tmp_path / "a.bin", tmp_path / "a.gguf")


def test_a_checkpoint_with_other_settings_or_tensors_is_refused(tmp_path, stories):
    for changes, error, says in (
        ({"rope_theta": 5e5}, NotConvertible, "rope_theta, which llama2.c's model does not have"),
        ({"n_layers": 4}, NotConvertible, "that its architecture does not have"),
        ({"n_layers": 6}, FileBroken, "lacks blk.5"),
        ({"dim": "many"}, FileBroken, "hidden_size"),
    ):
        torch.save(trained(stories, **changes), tmp_path / "a.pt")
        with pytest.raises(error, match=says):
            convert(tmp_path / "a.pt", tmp_path / "out", to="huggingface")
    torch.save({"model": {"a": torch.ones(2)}, "model_args": {"n_layer": 2}}, tmp_path / "a.pt")  # nanoGPT's
    with pytest.raises(NotConvertible, match="cannot convert a PyTorch zip to gguf"):
        convert(tmp_path / "a.pt", tmp_path / "a.gguf")
