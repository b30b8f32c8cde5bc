"""ONNX, compared with the onnx library and onnxruntime."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from llmnotes.errors import FileBroken, FileUnreadable, LLMNotesError, NotConvertible, UnknownFormat
from llmnotes.formats import convert, identify, inspect, read
from llmnotes.formats.onnx.export import onnx_logits
from llmnotes.formats.protobuf import field


def model(initializers, **settings):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y], initializers)
    return helper.make_model(graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 18)], **settings)


TYPED = [
    ("float_data", TensorProto.FLOAT, [1.5, -2.0]),
    ("double_data", TensorProto.DOUBLE, [1.5, -2.0]),
    ("int8", TensorProto.INT8, [-1, 127]),
    ("int32", TensorProto.INT32, [-1, 1 << 30]),
    ("int64", TensorProto.INT64, [-5, 1 << 60]),
    ("uint64", TensorProto.UINT64, [5, (1 << 64) - 1]),
    ("half", TensorProto.FLOAT16, [1.0, -0.5]),
    ("bfloat16", TensorProto.BFLOAT16, [1.0, -0.5]),
    ("bool", TensorProto.BOOL, [True, False]),
    ("complex", TensorProto.COMPLEX64, [1 + 2j, 3 - 1j]),
]


@pytest.mark.parametrize("name, kind, numbers", TYPED, ids=[row[0] for row in TYPED])
def test_typed_values_are_those_of_the_library(tmp_path, name, kind, numbers):
    typed = helper.make_tensor("t", kind, [2], numbers)
    raw = numpy_helper.from_array(numpy_helper.to_array(typed), "r")
    onnx.save(model([typed, raw]), tmp_path / "m")
    found = inspect(tmp_path / "m")
    expected = numpy_helper.to_array(typed).tobytes()
    assert [b"".join(read(found, tensor)) for tensor in found.tensors] == [expected, expected]
    assert found.tensors[1].offset is not None and found.tensors[0].dtype == found.tensors[1].dtype


def test_the_header_says_what_the_library_says(tmp_path):
    onnx.save(model([], ir_version=9), tmp_path / "m.txt")
    found = inspect(tmp_path / "m.txt")
    assert (found.identity.format, found.identity.version) == ("ONNX", "9")
    assert found.metadata["opsets"] == {"ai.onnx": 18} and found.metadata["operators"] == {"Relu": 1}
    assert found.metadata["inputs"] == {"x": ["F32", ["batch", 3]]} and found.metadata["producer_name"] == "tests"


def test_two_names_for_the_same_external_bytes_are_one_storage(tmp_path):
    (tmp_path / "m.data").write_bytes(torch.arange(6.0).numpy().tobytes())
    pair = []
    for name in ("a", "b"):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="m.data")
        pair.append(tensor)
    (tmp_path / "m.onnx").write_bytes(model(pair).SerializeToString())
    found = inspect(tmp_path / "m.onnx")
    assert [tensor.alias for tensor in found.tensors] == [None, "a"] and found.nbytes == 24


def test_external_data_stay_in_the_folder(tmp_path):
    weights = numpy_helper.from_array(torch.arange(2000.0).numpy(), "w")
    onnx.save(model([weights]), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found = inspect(tmp_path / "m.onnx")
    assert found.tensors[0].path.name == "m.data" and b"".join(read(found, found.tensors[0])) == weights.raw_data
    (tmp_path / "m.data").rename(tmp_path / "away")
    found = inspect(tmp_path / "m.onnx")
    assert "not there" in found.notes[0]
    with pytest.raises(FileUnreadable, match="The values of w are not beside m.onnx; put their file there."):
        b"".join(read(found, found.tensors[0]))
    for location in ("../away", "/etc/passwd", "a/../../x", "C:\\x", "\\x", ""):
        outside = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
        outside.external_data.add(key="location", value=location)
        (tmp_path / "out").write_bytes(model([outside]).SerializeToString())
        with pytest.raises(FileBroken, match="outside"):
            inspect(tmp_path / "out")


def test_cut_anywhere_it_is_damaged_or_no_onnx(tmp_path):
    data = model([numpy_helper.from_array(torch.ones(3, 3).numpy(), "w")]).SerializeToString()
    for length in range(len(data)):
        (tmp_path / "m").write_bytes(data[:length])
        try:
            inspect(tmp_path / "m")
        except LLMNotesError:
            continue
        raise AssertionError(length)


@pytest.mark.parametrize("data", [b"", b"hello, world\n", b"\x08\x01", b"\x08\x0a\x12\x03abc", bytes(range(256))])
def test_what_is_no_onnx_is_not_called_so(tmp_path, data):
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(UnknownFormat):
        identify(tmp_path / "m")


def test_a_shape_that_claims_more_than_there_is(tmp_path):
    for shape in ([1 << 62], [-1], [3]):
        tensor = onnx.TensorProto(name="w", data_type=1, dims=shape, raw_data=b"12345678")
        (tmp_path / "m").write_bytes(model([tensor]).SerializeToString())
        with pytest.raises(FileBroken):
            inspect(tmp_path / "m")


@pytest.mark.slow
def test_an_exported_llama_gives_pytorchs_logits(tmp_path, tiny_folder, capfd):
    folder = shutil.copytree(tiny_folder, tmp_path / "home" / "folder")  # with a tensor that the model does not use
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"score.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    answer = convert(folder, tmp_path / "p.onnx")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["p.onnx"]
    assert answer.lost[0] == "Left out: 1 tensor that a causal language model does not have: score.weight."
    onnx.checker.check_model(tmp_path / "p.onnx")
    found = inspect(tmp_path / "p.onnx")
    assert found.architecture == "LlamaForCausalLM"
    from llmnotes.models import open_model

    lm = open_model(tiny_folder, say=lambda line: None)
    for ids in ([5], list(range(40))):
        with torch.no_grad():
            expected = lm.model(torch.tensor([ids])).logits[0].numpy()
        assert abs(onnx_logits(tmp_path / "p.onnx", ids) - expected).max() < 1e-4
    with pytest.raises(NotConvertible, match="float32"):
        convert(tiny_folder, tmp_path / "q.onnx", type="F16")


def test_a_graph_with_other_inputs_is_refused(tmp_path):
    onnx.save(model([], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(NotConvertible, match="input_ids"):
        onnx_logits(tmp_path / "m.onnx", [1])


def array(*shape, kind="float32"):
    return np.arange(int(np.prod(shape)), dtype=kind).reshape(shape) + 1


def node(kind, output, **attributes):
    return helper.make_node(kind, ["x"] if kind == "If" else [], [output], **attributes)


def every_tensor(graph):
    """Yield each tensor of a graph and of all graphs inside it, as the onnx library has them."""
    for tensor in graph.initializer:
        yield numpy_helper.to_array(tensor)
    for part in graph.node:
        for attribute in part.attribute:
            if attribute.HasField("t"):
                yield numpy_helper.to_array(attribute.t)
            if attribute.name in ("value_float", "value_floats"):
                yield np.array(helper.get_attribute_value(attribute), dtype=np.float32)
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from every_tensor(inner)


def test_weights_in_operators_and_in_graphs_inside_them_are_counted(tmp_path):
    deepest = helper.make_graph([node("Constant", "w", value=numpy_helper.from_array(array(7, 3)))], "d", [], [])
    inner = helper.make_graph([node("If", "deep", then_branch=deepest, else_branch=deepest)], "i", [], [])
    inner.initializer.append(numpy_helper.from_array(array(5, 2), "w"))
    nodes = [
        node("Constant", "w", value=numpy_helper.from_array(array(4, 4))),
        node("Constant", "shape", value=numpy_helper.from_array(array(2, kind="int64"))),
        node("Constant", "list", value_floats=[1.5, 2.5, 3.5]),
        node("Constant", "one", value_float=2.5),
        node("If", "chosen", then_branch=inner, else_branch=inner),
        helper.make_node("Own", ["x"], ["y"], domain="own", table=numpy_helper.from_array(array(20, 20))),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(array(6, 2), "first")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    (tmp_path / "m").write_bytes(made.SerializeToString())
    found = inspect(tmp_path / "m")
    expected = sorted(map(np.ndarray.tobytes, every_tensor(made.graph)))
    assert sorted(b"".join(read(found, tensor)) for tensor in found.tensors) == expected
    names = [tensor.name for tensor in found.tensors]
    assert len(set(names)) == len(names) and {"w", "first", "y.table", "list", "one"} < set(names)
    assert {"chosen.then_branch.w", "chosen.else_branch.deep.then_branch.w"} < set(names)
    assert found.parameters == 16 + 3 + 1 + 2 * (10 + 2 * 21) + 400 + 12  # and not the shape
    assert found.metadata["operators"] == {"Constant": 4, "If": 1, "Own": 1}


def test_weights_in_functions_are_counted(tmp_path):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inside = [
        node("Constant", "w", value=numpy_helper.from_array(array(4, 4))),
        helper.make_node("Add", ["a", "w"], ["b"]),
    ]
    function = helper.make_function("own", "Layer", ["a"], ["b"], inside, opsets)
    graph = helper.make_graph([helper.make_node("Layer", ["x"], ["y"], domain="own")], "g", [], [])
    made = helper.make_model(graph, functions=[function], opset_imports=opsets)
    (tmp_path / "m").write_bytes(made.SerializeToString())
    found = inspect(tmp_path / "m")
    assert [(tensor.name, tensor.shape) for tensor in found.tensors] == [("Layer.w", (4, 4))] and found.parameters == 16


def test_graphs_nested_without_end_are_refused(tmp_path):
    made = model([])  # the library cannot nest them so deep
    graph = made.graph.SerializeToString()
    for _ in range(40):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    made.ClearField("graph")
    (tmp_path / "m").write_bytes(made.SerializeToString() + field(7, graph))
    with pytest.raises(FileBroken, match="nested deeper"):
        inspect(tmp_path / "m")


def test_a_head_that_nobody_trained_is_not_exported(tmp_path, capfd):
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for name, made in {
        "encoder": BertModel(BertConfig(**sizes, intermediate_size=48)),
        "body": LlamaModel(LlamaConfig(**sizes, intermediate_size=48)),
    }.items():
        made.save_pretrained(tmp_path / name)
        capfd.readouterr()
        with pytest.raises(NotConvertible, match=f"{name} lacks .* of a causal language model.* at random"):
            convert(tmp_path / name, tmp_path / "a.onnx")
        assert capfd.readouterr() == ("", "") and not (tmp_path / "a.onnx").exists()
