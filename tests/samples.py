"""One small file or folder of every format, made by the format's own library where there is one."""

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from tests.samples_models import write_models

DATA = Path(__file__).parent / "data"


def write_samples(folder: Path) -> None:
    """Write every sample into `folder`."""
    import torch

    torch.manual_seed(0)
    state = {"a.weight": torch.randn(4, 6), "b": torch.randn(3).bfloat16(), "c": torch.arange(5)}
    state["tied"] = state["a.weight"]
    write_torch(folder, torch, state)
    write_safetensors(folder, state)
    write_arrays(folder)
    write_gguf(folder)
    write_ancestors(folder)
    write_onnx(folder)
    write_folders(folder, torch)
    write_models(folder)
    for source in sorted((DATA / "tensorflow").iterdir()):
        shutil.copytree(source, folder / source.name) if source.is_dir() else shutil.copy(source, folder)
    write_hostile_pickles(folder)


def write_torch(folder: Path, torch, state: dict) -> None:
    """Write PyTorch's archives, new and old, its checkpoints and its scripts."""
    torch.save(state, folder / "weights.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": 1,
        "view": torch.ones(4)[::2],
    }
    torch.save(checkpoint, folder / "run.ckpt")
    with zipfile.ZipFile(folder / "weights.pt") as old, zipfile.ZipFile(folder / "packed.pt", "w", 8) as new:
        for name in old.namelist():  # the same records, deflated
            new.writestr(name, old.read(name))

    class Script(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2, 2))

        def forward(self, x):
            return x @ self.w

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Script(), torch.ones(1, 2)), folder / "script.pt")


def write_safetensors(folder: Path, state: dict) -> None:
    """Write a file of the official library."""
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "s.safetensors", {"format": "pt"})


def write_arrays(folder: Path) -> None:
    """Write NumPy's files and HDF5."""
    import h5py

    np.save(folder / "a.npy", np.arange(6.0).reshape(2, 3, order="F"))
    np.savez(folder / "a.npz", a=np.arange(4), b=np.ones((2, 2), np.float16))
    np.savez_compressed(folder / "packed.npz", a=np.arange(400), b=np.ones((2, 2), np.float16))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object))
    with h5py.File(folder / "plain.h5", "w") as file:
        file["group/data"] = np.ones((3, 4))
        file["packed"] = file.create_dataset("chunks", data=np.zeros(99), compression="gzip")
        file["loop"] = h5py.SoftLink("/loop")
        file["away"] = h5py.ExternalLink("elsewhere.h5", "/a")


def write_gguf(folder: Path) -> None:
    """Write GGUF 3 in both byte orders with gguf-py, and GGUF 2 and 1 by their specification."""
    import gguf

    for order in ("LITTLE", "BIG"):
        path = folder / f"{order.lower()}.gguf"
        writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian[order])
        writer.add_context_length(16)
        writer.add_float32("llama.rope.freq_base", 1e4)
        writer.add_token_list(["<unk>", "a", "b"])
        writer.add_token_scores([0.0, -1.0, -2.0])
        writer.add_tensor("token_embd.weight", np.ones((3, 32), np.float32))
        blocks = gguf.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor("q", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    for version, size in ((1, "<I"), (2, "<Q")):

        def text(value: bytes, size=size) -> bytes:
            return struct.pack(size, len(value)) + value

        header = b"GGUF" + struct.pack("<I", version) + struct.pack(size, 1) + struct.pack(size, 1)
        header += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
        header += text(b"t") + struct.pack("<I", 1) + struct.pack(size, 4) + struct.pack("<IQ", 0, 0)
        header += bytes(-len(header) % 32)
        (folder / f"v{version}.gguf").write_bytes(header + np.ones(4, np.float32).tobytes() + bytes(16))


def write_ancestors(folder: Path) -> None:
    """Write GGML's ancestors of GGUF, and llama2.c's file, by their sources."""
    vocabulary = [b"<unk>", b"<s>", b"</s>", b"a"]
    vocab, dim, layers = len(vocabulary), 8, 1
    shapes = {"tok_embeddings.weight": (vocab, dim), "norm.weight": (dim,), "output.weight": (vocab, dim)}
    for name in ("wq", "wk", "wv", "wo"):
        shapes[f"layers.0.attention.{name}.weight"] = (dim, dim)
    shapes |= {"layers.0.attention_norm.weight": (dim,), "layers.0.ffn_norm.weight": (dim,)}
    shapes |= {f"layers.0.feed_forward.{name}.weight": (32, dim) for name in ("w1", "w3")}
    shapes["layers.0.feed_forward.w2.weight"] = (dim, 32)
    for magic, version in ((b"lmgg", None), (b"fmgg", 1), (b"tjgg", 1), (b"tjgg", 2), (b"tjgg", 3)):
        out = bytearray(magic + (b"" if version is None else struct.pack("<I", version)))
        out += struct.pack("<7I", vocab, dim, 32, 2, layers, 4, 0)
        for number, word in enumerate(vocabulary):
            out += struct.pack("<I", len(word)) + word
            out += b"" if version is None else struct.pack("<f", -float(number))
        for name, shape in shapes.items():
            out += struct.pack("<3I", len(shape), len(name), 0) + struct.pack(f"<{len(shape)}I", *shape[::-1])
            out += name.encode()
            out += bytes(-len(out) % 32) if magic == b"tjgg" else b""
            out += np.ones(shape, np.float32).tobytes()
        (folder / f"{magic.decode()[::-1]}-{version}.bin").write_bytes(out)
    lora = bytearray(b"algg" + struct.pack("<3I", 1, 4, 8))
    for name, shape in (("layers.0.attention.wq.weight.loraA", (4, 8)), ("layers.0.attention.wq.weight.loraB", (8, 4))):
        lora += struct.pack("<3I", 2, len(name), 0) + struct.pack("<2I", *shape[::-1]) + name.encode()
        lora += bytes(-len(lora) % 32) + np.ones(shape, np.float32).tobytes()
    (folder / "ggla.bin").write_bytes(lora)
    dim, hidden, layers, heads, vocab, length = 8, 16, 1, 2, 5, 4
    count = vocab * dim + layers * (2 * dim + 4 * dim * dim + 3 * dim * hidden) + dim + length * dim // heads
    header = struct.pack("<7i", dim, hidden, layers, heads, heads, vocab, length)
    (folder / "llama2c.bin").write_bytes(header + np.ones(count, np.float32).tobytes())


def write_onnx(folder: Path) -> None:
    """Write an ONNX graph with its weights inside, and one with its weights beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", TensorProto.FLOAT, ["n", 4])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", *ends, [weights])
    model = helper.make_model(graph)
    onnx.save(model, folder / "inside.onnx")
    (folder / "onnx").mkdir()
    beside = {"save_as_external_data": True, "location": "beside.data", "size_threshold": 0}
    onnx.save_model(model, folder / "onnx" / "model.onnx", **beside)


def write_tiny_model(folder: Path) -> None:
    """Write a Hugging Face folder with a random Llama of 2 layers, width 32 and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def write_folders(folder: Path, torch) -> None:
    """Write Hugging Face folders, whole and in shards, and an adapter."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    whole = folder / "hf"
    write_tiny_model(whole)
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(folder / "shards", max_shard_size="30kB")
    pickled = folder / "hf-bin"
    shutil.copytree(whole, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(load_file(whole / "model.safetensors"), pickled / "pytorch_model.bin")
    adapter = folder / "adapter"
    adapter.mkdir()
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "x",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    low = {
        "base_model.model.q_proj.lora_A.weight": torch.ones(4, 32),
        "base_model.model.q_proj.lora_B.weight": torch.ones(32, 4),
    }
    save_file(low, adapter / "adapter_model.safetensors")


class Bomb:
    """What a hostile pickle asks for: a command, which must never run."""

    def __reduce__(self):
        return os.system, ("exit 3",)


def write_hostile_pickles(folder: Path) -> None:
    """Write pickles that would run a command, plain and wrapped."""
    payload = pickle.dumps({"weights": [1, 2], "bomb": Bomb()})
    (folder / "bomb.pkl").write_bytes(payload)
    (folder / "bomb-0.pkl").write_bytes(pickle.dumps(Bomb(), protocol=0))
    with zipfile.ZipFile(folder / "bomb.pt", "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", bytes(16))
    with tarfile.open(folder / "bomb.tar", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            record = tarfile.TarInfo(name)
            record.size = len(payload)
            archive.addfile(record, io.BytesIO(payload))
