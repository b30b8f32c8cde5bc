"""A remedy holds: what a sentence tells the reader to do next is done here, and it works."""

import json
import re
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from llmnotes.errors import LLMNotesError, ModelBroken, NotConvertible, NotQuantizable, UnknownFormat
from llmnotes.formats import convert, inspect, read
from llmnotes.formats.conversion import CONVERTERS
from llmnotes.formats.gguf.architectures import ARCHITECTURES
from llmnotes.formats.targets import TARGETS
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir
from llmnotes.quantization.mixtures import FILE_TYPES

from .samples import write_samples
from .samples_models import write_llava


def refused(error: type[LLMNotesError], word: str, work, *arguments, **more) -> str:
    with pytest.raises(error, match=word) as caught:
        work(*arguments, **more)
    return str(caught.value)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    """One small file or folder of each format: format -> path."""
    folder, found = tmp_path_factory.mktemp("samples"), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's of its own old formats
        write_samples(folder)
    shutil.copytree(weights_dir("pebble"), folder / "pebble")
    convert(folder / "pebble", folder / "pebble.gguf", type="F16")
    entries = [struct.pack("<fi", 0.0, len(text)) + text for text in (b"<unk>", b"<s>", b"</s>", b"a", b"b")]
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 5) + b"".join(entries))  # llama2.c's, of 5 tokens
    for path in sorted(folder.rglob("*"), key=lambda path: not path.name.startswith("pebble")):
        try:
            seen = inspect(path)
        except LLMNotesError:
            continue
        if seen.tensors or seen.identity.format == "TensorFlow SavedModel":
            found.setdefault(seen.identity.format, path)
    return found


# What each sentence offers for a format is made of one with that format.
@pytest.mark.slow  # it writes a sample of each format and makes what each offers: half a minute
def test_what_can_be_made_instead_can_be_made(samples, tmp_path):
    assert {source for source, _ in CONVERTERS} - samples.keys() <= {"PyTorch tar", "llama2.c checkpoint"}
    seen = set()
    for kind, path in samples.items():
        for to in TARGETS:
            if (kind, to) in CONVERTERS:
                continue
            said = refused(NotConvertible, "cannot convert", convert, path, tmp_path / "no", to=to)
            offer = re.search(r"it can convert (.+?) to ((?:\w+)(?: or \w+)*)", said)
            assert offer or "it can only inspect this format" in said, said
            if offer is None:
                assert not any(source == kind for source, _ in CONVERTERS)
                continue
            start = path if offer[1] == "it" else (path if path.is_dir() else path.parent) / "variables" / "variables"
            for other in offer[2].split(" or "):
                if (kind, other) not in seen and other not in ("mmproj", "lora"):  # of a LLaVA, with a base model
                    seen.add((kind, other))
                    more = {"type": "Q8_0"} if other == "gguf" and kind == "GGUF" else {}
                    assert convert(start, tmp_path / f"{kind} as {other}", to=other, **more).tensors, said
            for source in re.findall(
                r"(?:from a |or )(GG\w+|Hugging Face folder)", said.partition("llmnotes writes")[2]
            ):
                assert (source, to) in CONVERTERS, said
    assert len(seen) > 20


def test_every_architecture_and_type_that_a_refusal_names_is_taken(tmp_path):
    shutil.copytree(weights_dir("pebble"), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"architectures": ["NobodyForCausalLM"]}))
    said = refused(NotConvertible, "it can convert", convert, tmp_path / "model", tmp_path / "m.gguf")
    named = re.findall(r"\w+ForCausalLM", said.partition("it can convert")[2])
    assert named == [
        architecture.hugging_face for architecture in ARCHITECTURES
    ]  # each is made in test_formats_to_gguf
    said = refused(NotConvertible, "choose", convert, weights_dir("pebble"), tmp_path / "m.gguf", type="Q9")
    assert re.findall(r"[A-Z]+\w*_?\w*", said.partition("choose one of")[2]) == list(
        FILE_TYPES
    )  # test_quantization_mixtures
    convert(weights_dir("pebble"), tmp_path / "m.gguf", type="Q8_0")
    said = refused(NotConvertible, "choose", convert, tmp_path / "m.gguf", tmp_path / "m.safetensors", type="Q8_0")
    for type in said.partition("choose one of")[2].strip(" .").split(", "):
        convert(tmp_path / "m.gguf", tmp_path / f"{type}.safetensors", type=type)


def test_a_gguf_gets_the_type_that_is_proposed(tmp_path):
    convert(weights_dir("pebble"), tmp_path / "m.gguf", type="F16")
    said = refused(NotConvertible, "such as --type", convert, tmp_path / "m.gguf", tmp_path / "n.gguf")
    convert(tmp_path / "m.gguf", tmp_path / "n.gguf", type=said.rpartition("--type ")[2].rstrip("."))


def test_a_file_for_serving_is_made_as_the_sentence_says(tmp_path):
    from llmnotes.llama_cpp.model_file import ModelFile
    from llmnotes.serving.loading import gguf_of

    convert(weights_dir("pebble"), tmp_path / "m.gguf", type="Q4_K_M")
    said = refused(NotConvertible, "has its types", gguf_of, tmp_path / "m.gguf", "Q8_0")
    assert said.endswith("llmnotes convert m.gguf NEW.gguf --type Q8_0")
    convert(tmp_path / "m.gguf", tmp_path / "NEW.gguf", type="Q8_0")
    weights = weights_dir("pebble") / "model.safetensors"
    assert gguf_of(weights, "Q8_0") == weights
    said = refused(UnknownFormat, "runs GGUF alone", ModelFile.read, weights)
    assert said.endswith("make one from the model's folder: llmnotes convert FOLDER model.gguf")
    convert(weights.parent, tmp_path / "model.gguf")
    assert ModelFile.read(tmp_path / "model.gguf").layers == 4


def test_weights_in_a_pickle_are_opened_once_they_are_safetensors(tiny_folder, tmp_path):
    convert(tiny_folder, tmp_path / "pickled", to="pytorch")
    said = refused(ModelBroken, "in a pickle", open_model, tmp_path / "pickled", say=lambda line: None)
    assert "write them as safetensors with `llmnotes convert`, and open that folder" in said
    convert(tmp_path / "pickled", tmp_path / "safe", to="safetensors")
    open_model(tmp_path / "safe", say=lambda line: None)


@pytest.mark.parametrize(("type", "large"), [("F16", 1e6), ("Q8_0", 1e8), ("Q4_0", 1e8), ("Q2_K", 1e9)])
def test_weights_that_are_too_large_for_a_type_have_room_in_those_named(type, large, tiny_folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_folder, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= np.float32(large)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = large
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    said = refused(NotQuantizable, "try BF16 or F32", convert, tmp_path / "model", tmp_path / "m.gguf", type=type)
    for other in said.rpartition("try ")[2].rstrip(".").split(" or "):
        convert(tmp_path / "model", tmp_path / f"{other}.gguf", type=other)


def test_a_model_that_cannot_be_traced_can_be_written_as_safetensors(tiny_folder, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    def failing(*arguments, **more):
        raise ValueError("a loop that depends on data")

    monkeypatch.setattr(torch.onnx, "export", failing)
    said = refused(NotConvertible, "cannot trace", convert, tiny_folder, tmp_path / "m.onnx")
    assert "llmnotes can write it as safetensors" in said
    convert(tiny_folder, tmp_path / "new", to="safetensors")


def test_an_option_that_is_left_out_is_missed_by_nobody(tiny_folder, tmp_path):
    for target, more, word in [
        ("a.safetensors", {"type": "Q8_0"}, "leave it out"),
        ("b.safetensors", {"importance": {}}, "leave it out"),
        ("c.pt", {"split_max_size": 5}, "leave --split-max-size out"),
        ("d.onnx", {"type": "F16"}, "leave --type out"),
    ]:
        refused(NotConvertible, word, convert, tiny_folder, tmp_path / target, **more)
        if not target.endswith(".onnx"):  # test_formats_onnx makes those
            convert(tiny_folder, tmp_path / target)


def test_a_projector_is_asked_of_the_model_that_has_one(tiny_folder, tmp_path):
    said = refused(NotConvertible, "vision tower", convert, tiny_folder, tmp_path / "m.gguf", to="mmproj")
    assert said.endswith("use a LlavaForConditionalGeneration.")  # test_formats_llava makes one


def test_a_pickled_llava_becomes_the_gguf_that_it_becomes_by_way_of_safetensors(tiny_folder, tmp_path):
    import torch
    from safetensors.torch import load_file

    (tmp_path / "hf").symlink_to(tiny_folder)
    write_llava(tmp_path)
    weights = tmp_path / "llava" / "model.safetensors"
    state = load_file(weights)
    state["language_model.lm_head.weight"] = torch.ones(32, 256).T  # not contiguous
    torch.save(state, tmp_path / "llava" / "pytorch_model.bin")
    weights.unlink()
    convert(tmp_path / "llava", tmp_path / "pickled.gguf")
    convert(tmp_path / "llava", tmp_path / "safe", to="safetensors")
    convert(tmp_path / "safe", tmp_path / "m.gguf")
    one, other = (inspect(tmp_path / name) for name in ("pickled.gguf", "m.gguf"))
    assert [b"".join(read(one, tensor)) for tensor in one.tensors] == [
        b"".join(read(other, tensor)) for tensor in other.tensors
    ]
    convert(tmp_path / "safe", tmp_path / "mmproj.gguf", to="mmproj")
