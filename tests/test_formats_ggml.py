"""The ancestors of GGUF, and llama2.c: crafted to the layout of their loaders, for nobody writes them any more.

The proof: stories260K in each of these files becomes a GGUF from which llama.cpp tells the same story as PyTorch.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, NotConvertible, UnknownFormat
from llmnotes.formats import convert
from llmnotes.formats.legacy import ggml
from llmnotes.quantization import blocks
from tests.llama_cpp import opened

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q4_2": 4, "Q4_3": 5, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8}
FTYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q4_2": 5, "Q4_3": 6, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}
MAGIC = {"GGML": b"lmgg", "GGMF": b"fmgg", "GGJT": b"tjgg", "GGLA": b"algg"}


@pytest.fixture(scope="module")
def llama(stories):
    """The weights of stories260K under LLaMA's first names, float32, and its vocabulary as the old files have it."""
    from safetensors.numpy import load_file
    from sentencepiece import SentencePieceProcessor

    config = json.loads((stories / "config.json").read_text())
    old = {"embed_tokens": "tok_embeddings", "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk"}
    old |= {"self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1"}
    old |= {"mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3", "model.": ""}
    old |= {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
    weights = {}
    for name, array in load_file(stories / "model.safetensors").items():
        heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}.get(name[-13:-12])
        if "_proj" in name and heads and "self_attn" in name:  # Hugging Face has the halves of each head apart
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        for new, first in old.items():
            name = name.replace(new, first)
        weights[name] = array.astype(np.float32)
    weights["output.weight"] = weights["tok_embeddings.weight"]
    pieces = SentencePieceProcessor(str(stories / "tokenizer.model"))
    vocabulary = []
    for number in range(len(pieces)):
        text = pieces.id_to_piece(number).replace("▁", " ").encode()
        if pieces.is_byte(number):
            text = bytes([number - 3])
        elif number < 3:
            text = (" \u2047 ".encode(), b"", b"")[number]
        vocabulary.append((text, pieces.get_score(number)))
    numbers = [len(pieces), config["hidden_size"], 4, config["num_attention_heads"], config["num_hidden_layers"], 8]
    return weights, vocabulary, numbers


def head(format_, version, numbers, vocabulary, ftype):
    """The beginning of a file, up to its first tensor."""
    out = MAGIC[format_] + (struct.pack("<I", version) if version else b"") + struct.pack("<7I", *numbers, ftype)
    for text, score in vocabulary:
        out += struct.pack("<I", len(text)) + text + (b"" if format_ == "GGML" else struct.pack("<f", score))
    return out


def tensor(at, format_, name, shape, number, data):
    """One tensor, for a file that has `at` bytes so far."""
    out = struct.pack(f"<{3 + len(shape)}I", len(shape), len(name), number, *reversed(shape)) + name.encode()
    return out + bytes(-(at + len(out)) % 32 if format_ in ("GGJT", "GGLA") else 0) + data


def pack(name, rows, layout=3):
    """The rows in a type, as a file of this layout has them: neighbours in a byte (1), halves apart (2, 3)."""
    data = gguf.quantize(rows, gguf.GGMLQuantizationType[name]).view(np.uint8)
    width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    if layout == 3 or width < 5:
        return data.tobytes()
    out = bytearray()
    for block in data.reshape(-1, width):
        scales = {"Q4_0": 1, "Q4_1": 2, "Q8_0": 1}.get(name, 0)
        wide = block[: 2 * scales].view(np.float16).astype(np.float32).tobytes()
        rest = bytes(block[2 * scales :])
        if layout == 1 and name != "Q8_0":
            numbers = [byte & 15 for byte in rest[-16:]] + [byte >> 4 for byte in rest[-16:]]
            rest = rest[:-16] + bytes(numbers[i] | numbers[i + 1] << 4 for i in range(0, 32, 2))
        out += wide + rest
    return bytes(out)


def craft(path, llama, format_, version=0, dtype="F16"):
    """Write stories260K as a file of the time, all rows that fit in `dtype`, the others in F16, vectors in F32."""
    weights, vocabulary, numbers = llama
    layout = version if format_ == "GGJT" else 1
    out = head(format_, version, numbers, vocabulary, FTYPES[dtype])
    for name, array in weights.items():
        kind = "F32" if array.ndim == 1 else "F16" if array.shape[1] % 32 else dtype
        out += tensor(len(out), format_, name, array.shape, TYPES[kind], pack(kind, array, layout))
    path.write_bytes(out)
    return path


FILES = [("GGML", 0, "F32"), ("GGML", 0, "F16"), ("GGML", 0, "Q4_0"), ("GGML", 0, "Q4_1"), ("GGMF", 1, "F16")]
FILES += [("GGJT", 1, kind) for kind in ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")]
FILES += [("GGJT", 2, kind) for kind in ("F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")]
FILES += [("GGJT", 3, kind) for kind in ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")]


@pytest.mark.parametrize(("format_", "version", "dtype"), FILES)
def test_an_old_file_becomes_a_gguf_with_the_same_numbers(tmp_path, llama, format_, version, dtype):
    path = craft(tmp_path / "old.bin", llama, format_, version, dtype)
    found = formats.inspect(path)
    assert (found.identity.format, found.identity.version) == (format_, str(version or ""))
    assert [t.name for t in found.tensors] == list(llama[0])
    assert [t.shape for t in found.tensors] == [array.shape for array in llama[0].values()]
    assert found.metadata["tokens"].raw(300) == llama[1][300][0]
    done = convert(path, tmp_path / "new.gguf")
    new = formats.inspect(tmp_path / "new.gguf")
    exact = dtype in ("F32", "F16", "Q5_0", "Q5_1") or version == 3
    assert bool(done.fallbacks) != exact
    for old, tensor in zip(found.tensors, new.tensors, strict=True):
        kind = "F32" if len(old.shape) == 1 else "F16" if old.shape[1] % 32 else dtype
        expected = gguf.dequantize(
            np.frombuffer(pack(kind, llama[0][old.name]), np.uint8).reshape(old.shape[0], -1)
            if old.shape[1:]
            else llama[0][old.name].view(np.uint8),
            gguf.GGMLQuantizationType[kind],
        ).reshape(old.shape)
        made = blocks.dequantize(b"".join(formats.read(new, tensor)), tensor.dtype, tensor.shape)
        if not exact and kind == dtype:
            assert tensor.dtype == "F16"
            expected = expected.astype(np.float16).astype(np.float32)
        else:
            assert tensor.dtype == kind
        np.testing.assert_array_equal(made, expected)


@pytest.fixture(scope="module")
def story(stories):
    """What PyTorch says after a prompt, 64 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(stories)
    prompt = [1, *tokenizer.encode("Once upon a time, there was a little", add_special_tokens=False)]
    with torch.no_grad():
        told = model.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False)
    return prompt, tokenizer.decode(told[0]).removeprefix(tokenizer.decode(prompt))


@pytest.mark.parametrize(("format_", "version", "dtype"), [FILES[0], FILES[4], ("GGJT", 1, "F32"), ("GGJT", 3, "F32")])
def test_llama_cpp_tells_the_same_story(tmp_path, llama, story, format_, version, dtype):
    convert(craft(tmp_path / "old.bin", llama, format_, version, dtype), tmp_path / "new.gguf")
    with opened(tmp_path / "new.gguf") as engine:
        assert engine.tokens("Once upon a time, there was a little") == story[0]
        assert len(story[1]) > 100
        assert engine.greedy(story[0], 64)[0] == story[1]


@pytest.mark.parametrize("target", ["F32", "Q8_0"])
def test_a_type_can_be_asked_for(tmp_path, llama, target):
    path = craft(tmp_path / "old.bin", llama, "GGJT", 1, "Q4_0")
    done = convert(path, tmp_path / "new.gguf", type=target)
    kinds = {t.dtype for t in formats.inspect(tmp_path / "new.gguf").tensors}
    assert kinds == ({"F32"} if target == "F32" else {"F32", "F16", "Q8_0"})
    assert all(name.endswith("ffn_down.weight") for name in done.fallbacks)
    with pytest.raises(NotConvertible, match="choose one of"):
        convert(path, tmp_path / "b.gguf", type="Q9")


# What the other converter writes otherwise, and why.
OTHERWISE = {
    "general.name": "it keeps the ending of the file's name",
    "general.description": "it has words of its own",
    "general.quantization_version": "it leaves it out, and llama.cpp warns of quantized files without it",
    "llama.attention.head_count_kv": "it does not look at the shape of wk, and needs to be told",
    "llama.vocab_size": "it leaves out what the tokens tell as well",
    "tokenizer.ggml.add_bos_token": "it leaves out what a reader should not have to guess",
    "tokenizer.ggml.add_eos_token": "likewise",
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_llama_cpps_own_converter_writes_the_same_tensors(tmp_path, llama, converter, dtype):
    path = craft(tmp_path / "old.bin", llama, "GGJT", 3, dtype)
    convert(path, tmp_path / "ours.gguf")
    script = Path(__file__).parent / "peers" / "llama_cpp_ggml.py"
    command = [sys.executable, script, converter, path, tmp_path / "theirs.gguf"]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = (formats.inspect(tmp_path / f"{name}.gguf") for name in ("ours", "theirs"))
    bytes_of = [
        {t.name: (t.dtype, t.shape, b"".join(formats.read(side, t))) for t in side.tensors} for side in (ours, theirs)
    ]
    assert bytes_of[0].keys() == bytes_of[1].keys()
    assert not [name for name, stored in bytes_of[0].items() if stored != bytes_of[1][name]]
    keys = [
        {key: list(value) if hasattr(value, "ends") else value for key, value in side.metadata.items()}
        for side in (ours, theirs)
    ]
    different = {key for key in keys[0].keys() | keys[1].keys() if keys[0].get(key) != keys[1].get(key)}
    assert different == set(OTHERWISE)


def test_blocks_of_the_first_layouts_by_hand():
    nibbles = bytes(range(16))
    half, wide = np.float16(0.5).tobytes(), np.float32(0.1).tobytes()
    pairs = [value for byte in nibbles for value in (byte & 15, byte >> 4)]
    apart = [byte & 15 for byte in nibbles] + [byte >> 4 for byte in nibbles]
    tenth = np.float32(0.1)

    def undo(name, data, count=32):
        return blocks.dequantize(data, name, (count,)).tolist()

    assert undo("Q4_0_V1", wide + nibbles) == [(n - 8) * tenth for n in pairs]
    assert undo("Q4_0_V2", wide + nibbles) == [(n - 8) * tenth for n in apart]
    assert undo("Q4_1_V1", wide + wide + nibbles) == [n * tenth + tenth for n in np.float32(pairs)]
    assert undo("Q4_1_V2", wide + wide + nibbles) == [n * tenth + tenth for n in np.float32(apart)]
    assert undo("Q4_2", half + nibbles[:8], 16) == [(n - 8) * 0.5 for n in pairs[:16]]
    assert undo("Q4_3", half + half + nibbles[:8], 16) == [n * 0.5 + 0.5 for n in pairs[:16]]
    fifth = bytes([1, 0, 0, 128])  # of the first number and of the last
    five = [pairs[0] + 16, *pairs[1:31], pairs[31] + 16]
    assert undo("Q5_0_V1", half + fifth + nibbles) == [(n - 16) * 0.5 for n in five]
    assert undo("Q5_1_V1", half + half + fifth + nibbles) == [n * 0.5 + 0.5 for n in five]
    assert undo("Q8_0_V1", wide + bytes(range(112, 144))) == [
        n * tenth for n in np.arange(112, 144, dtype=np.uint8).view(np.int8)
    ]


def test_an_adapter_of_the_time(tmp_path):
    out = b"algg" + struct.pack("<3I", 1, 16, 32)
    for end, shape in (("loraA", (16, 64)), ("loraB", (64, 16))):
        out += tensor(len(out), "GGLA", f"layers.0.attention.wq.weight.{end}", shape, 0, bytes(4 * 16 * 64))
    (tmp_path / "a").write_bytes(out)
    found = formats.inspect(tmp_path / "a")
    assert (found.identity.format, found.metadata) == ("GGLA", {"lora_r": 16, "lora_alpha": 32})
    assert [t.shape for t in found.tensors] == [(16, 64), (64, 16)]
    assert all(t.offset % 32 == 0 for t in found.tensors)


@pytest.mark.parametrize(
    "numbers", [(50257, 1024, 768, 12, 12, 1, 50257), (50400, 2048, 4096, 16, 28, 64, 1)], ids=["GPT-2", "GPT-J"]
)
def test_another_model_in_the_same_coat_is_told(tmp_path, numbers):
    (tmp_path / "a").write_bytes(b"lmgg" + struct.pack("<7I", *numbers) + bytes(1000))
    found = formats.inspect(tmp_path / "a")
    assert found.identity.format == "GGML" and not found.tensors
    assert "not those of a LLaMA" in found.notes[0]
    with pytest.raises(NotConvertible):
        convert(tmp_path / "a", tmp_path / "b.gguf")


def small(format_="GGJT", version=3, numbers=(3, 32, 1, 1, 1, 32), tokens=3, tensors=(("a", (1, 32), 0, 128),), **more):
    out = head(format_, version, numbers, [(b"abc", 0.0)] * tokens, more.get("ftype", 0))
    for name, shape, number, size in tensors:
        out += tensor(len(out), format_, name, shape, number, bytes(size))
    return out


BAD = {
    "version 4": small(version=4),
    "ggmf 2": small("GGMF", 2),
    "only the magic": b"tjgg",
    "no numbers": small()[:20],
    "too many tokens": small(numbers=(1 << 30, 32, 1, 1, 1, 32)),
    "more tokens than there are": small(numbers=(20, 32, 1, 1, 1, 32)),
    "a long token": small(tokens=0, tensors=())[:36] + struct.pack("<I", 1 << 31) + bytes(100),
    "unknown type": small(tensors=[("a", (1, 32), 99, 128)]),
    "a type of later days": small(tensors=[("a", (1, 256), 16, 1000)]),
    "a removed type": small(tensors=[("a", (1, 32), 4, 128)]),
    "misfit": small(tensors=[("a", (4, 8), 2, 18)]),
    "twice": small(tensors=[("a", (1, 32), 0, 128)] * 2),
    "beyond": small(tensors=[("a", (1 << 31, 1 << 31), 0, 128)]),
    "five sides": small(tensors=[("a", (1, 1, 1, 1, 1), 0, 4)]),
    "no name": small(tensors=[("", (1, 32), 0, 128)]),
    "a long name": small(tensors=[("a" * 1025, (1, 32), 0, 128)]),
    "cut": small()[:-1],
    "something follows": small() + b"12345",
    "adapter cut": b"algg" + struct.pack("<2I", 1, 16),
}


@pytest.mark.parametrize("what", BAD)
def test_a_broken_file_gets_one_sentence(tmp_path, what):
    (tmp_path / "a").write_bytes(BAD[what])
    with pytest.raises(FileBroken) as caught:
        formats.inspect(tmp_path / "a")
    assert "\n" not in str(caught.value) and str(caught.value).endswith("again.")


def test_every_cut_gets_a_sentence_and_nothing_is_converted(tmp_path, llama):
    whole = craft(tmp_path / "whole", llama, "GGJT", 1, "Q4_0").read_bytes()
    path = tmp_path / "cut"
    for size in [*range(0, 60, 3), *range(4000, len(whole), 9973)]:
        path.write_bytes(whole[:size])
        with pytest.raises((FileBroken, UnknownFormat)):  # a cut between two tensors shows when it is converted
            convert(path, tmp_path / "new.gguf")
    assert not (tmp_path / "new.gguf").exists()


@pytest.mark.parametrize("at", range(7))
def test_numbers_that_contradict_the_tensors_are_not_believed(tmp_path, llama, at):
    weights, vocabulary, numbers = llama
    data = bytearray(craft(tmp_path / "old", llama, "GGJT", 3, "F16").read_bytes())
    for value in (0, 1, 7, 1 << 31):
        data[8 + 4 * at : 12 + 4 * at] = struct.pack("<I", value)
        (tmp_path / "old").write_bytes(data)
        try:
            convert(tmp_path / "old", tmp_path / "new.gguf")
        except (FileBroken, NotConvertible):
            continue
        assert at in (2, 5, 6)  # n_mult and n_rot say nothing that the shapes do not, and ftype is a hint
        (tmp_path / "new.gguf").unlink()


def test_the_version_of_the_blocks_in_ftype(tmp_path):
    (tmp_path / "a").write_bytes(small("GGML", 0, ftype=2002, tensors=[("a", (1, 32), 2, 18)]))
    found = formats.inspect(tmp_path / "a")
    assert (found.metadata["ggml_qnt_version"], found.metadata["ftype"], found.tensors[0].dtype) == (2, 2, "Q4_0")
    (tmp_path / "b").write_bytes(small("GGML", 0, ftype=1002, tensors=[("a", (1, 32), 2, 20)]))
    assert formats.inspect(tmp_path / "b").tensors[0].dtype == "Q4_0_V2"
    assert ggml.dtype_of(9, 1) is None


def test_one_of_several_files_is_told(tmp_path):
    (tmp_path / "a").write_bytes(small(tensors=[("tok_embeddings.weight", (3, 16), 0, 192)]))
    assert "several files" in formats.inspect(tmp_path / "a").notes[0]
    with pytest.raises(NotConvertible, match="whole"):
        convert(tmp_path / "a", tmp_path / "b.gguf")
