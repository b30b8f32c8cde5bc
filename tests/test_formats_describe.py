"""What a reader sees of an inspection and of a conversion."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from llmnotes import formats
from llmnotes.errors import NotConvertible
from llmnotes.formats.describe import describe_conversion, describe_inspection, inspection_dict
from llmnotes.formats.results import Identity, Inspection, Tensor

TOKENS = [f"token {number}" for number in range(12)]


@pytest.fixture
def vocabulary(tmp_path):
    """A GGUF with twelve tokens and one tensor."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_token_list(TOKENS)
    writer.add_array("few", ["a", "b"])
    writer.add_tensor("q", gguf.quantize(np.ones((2, 64), "f4"), gguf.GGMLQuantizationType.Q8_0), raw_dtype=8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return formats.inspect(tmp_path / "a.gguf")


def test_a_vocabulary_is_short_to_read_and_whole_as_data(vocabulary):
    lines = describe_inspection(vocabulary).split("\n")
    assert "weights    128 parameters in 1 tensor, 136 bytes, 8.50 bits per weight" in lines
    assert "  tokenizer.ggml.tokens  ['token 0', 'token 1', 'token 2', … 12 values]" in lines
    assert "  few  ['a', 'b']" in lines and lines[-1] == "  q  Q8_0  2 × 64  136"
    found = json.loads(json.dumps(inspection_dict(vocabulary)))
    assert found["metadata"]["tokenizer.ggml.tokens"] == TOKENS and found["bits_per_weight"] == 8.5
    assert found["tensors"] == [
        {"name": "q", "dtype": "Q8_0", "shape": [2, 64], "bytes": 136, "offset": vocabulary.tensors[0].offset}
    ]


def test_scalars_ties_and_what_is_no_parameter():
    tensors = (
        Tensor("step", "I64", (), 8),
        Tensor("one", "I8", (1,), 1),
        Tensor("tied", "I8", (1,), 1, alias="one"),
        Tensor("one.scales", "F32", (1,), 4, counts=False),
    )
    found = Inspection(Path("a"), Identity("x", "", "y"), tensors)
    assert found.parameters == 2 and found.nbytes == 13 and found.bits_per_weight == 52
    rows = [line.split() for line in describe_inspection(found).split("\n")[-4:]]
    assert [row[2] for row in rows] == ["scalar", "1", "1", "1"] and rows[2][3:] == ["=", "one"]
    assert inspection_dict(found)["tensors"][2]["same_as"] == "one"


def test_a_conversion_says_which_format_was_asked_for(tiny_folder, tmp_path):
    done = formats.convert(tiny_folder, tmp_path / "copy", "HuggingFace")
    assert (
        done.to == "huggingface"
        and "tensors, " in describe_conversion(done)
        and describe_conversion(done).endswith("as huggingface")
    )


@pytest.mark.parametrize(
    "to, remedy",
    [
        (
            "huggingface",
            "it can convert it to safetensors or .*, and llmnotes writes huggingface from a "
            "Hugging Face folder or llama2.c .* or GGUF",
        ),
        ("GPTQ", "llmnotes cannot write the format 'gptq'; choose one of safetensors, "),
        (None, "The ending of a.xyz does not name a format; add one of --to safetensors "),
    ],
)
def test_what_cannot_be_converted_says_what_can(tiny_folder, tmp_path, to, remedy):
    with pytest.raises(NotConvertible, match=remedy):
        formats.convert(tiny_folder / "model.safetensors", tmp_path / "a.xyz", to)


def test_a_saved_model_points_to_its_checkpoint(tmp_path):
    source = Path(__file__).parent / "data" / "tensorflow" / "saved_model"
    with pytest.raises(NotConvertible, match="variables/variables in its folder, to safetensors or pytorch"):
        formats.convert(source, tmp_path / "a.safetensors")
    assert formats.convert(source / "variables" / "variables", tmp_path / "a.safetensors").tensors == 3


def test_what_cannot_become_anything_says_so(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(NotConvertible, match="cannot convert a NumPy npy to gguf; it can only inspect this format"):
        formats.convert(tmp_path / "a.npy", tmp_path / "a.gguf")
