"""ONNX graphs that are damaged, and models that do not become one: a small case for each sentence."""

import json
import shutil

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from llmnotes.errors import FileBroken, MissingPart, NotConvertible
from llmnotes.formats import convert, inspect, read
from llmnotes.formats.onnx import export
from llmnotes.formats.onnx.export import onnx_logits, onnx_session
from llmnotes.formats.protobuf import field


def model(initializers, operators=(("Relu", ["x"], ["y"]),), inputs=(("x", TensorProto.FLOAT, ["batch", 3]),), sides=2):
    nodes = [helper.make_node(*operator) for operator in operators]
    ends = [helper.make_tensor_value_info(*put) for put in inputs]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * sides)]
    graph = helper.make_graph(nodes, "g", ends, outputs, initializers)
    return helper.make_model(graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tensor(kind=TensorProto.INT64, sides=(2,), name="w", **values) -> TensorProto:
    return TensorProto(name=name, data_type=kind, dims=sides, **values)


def beside(**place) -> TensorProto:
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items()]
    return tensor(external_data=entries, data_location=TensorProto.EXTERNAL)


DAMAGED = [
    ("'w' has the unknown data type 99", [tensor(99)]),
    ("the values of 'w' are no list", [TensorProto.FromString(tensor().SerializeToString() + field(9, 5))]),
    ("'w' has fewer values than its shape needs", [tensor(int64_data=[1])]),
    ("'w' does not have the bytes that its shape needs", [tensor(raw_data=bytes(15))]),
    ("'w' stands twice", [tensor(int64_data=[1, 2])] * 2),
    ("the place of 'w' is no number", [beside(location="w.data", offset="x")]),
    ("the bytes of 'w' are not where it says, in w.data", [beside(location="w.data", offset="8")]),
]


@pytest.mark.parametrize("what, initializers", DAMAGED, ids=[row[0] for row in DAMAGED])
def test_a_graph_with_a_lie_in_it(tmp_path, what, initializers):
    (tmp_path / "w.data").write_bytes(bytes(16))
    onnx.save(model(initializers), tmp_path / "m.onnx")
    with pytest.raises(FileBroken) as error:
        inspect(tmp_path / "m.onnx")
    assert str(error.value) == f"m.onnx is damaged: {what}; copy or download it again."


def test_values_that_cannot_be_read(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model([tensor(int64_data=[1, 2, 3])]), path)
    found = inspect(path)
    with pytest.raises(FileBroken, match="'w' does not have the values that its shape needs"):
        list(read(found, found.tensors[0]))
    onnx.save(model([tensor(TensorProto.STRING, string_data=[b"a", b"b"])]), path)
    texts = inspect(path)
    with pytest.raises(NotConvertible, match="w holds texts, which no other format here has; leave it out."):
        list(read(texts, texts.tensors[0]))
    onnx.save(model([tensor(int64_data=[1], sides=[1])]), path)
    with pytest.raises(FileBroken, match="it changed since its header was read"):
        list(read(found, found.tensors[0]))


IDS = ("input_ids", TensorProto.INT64, [1, "tokens"])


def test_a_graph_that_onnxruntime_cannot_run(tmp_path):
    (tmp_path / "m.onnx").write_text("no graph")
    with pytest.raises(NotConvertible, match=r"onnxruntime cannot run m.onnx \(\w+: .*\); export it"):
        onnx_session(tmp_path / "m.onnx")
    table = helper.make_tensor("table", TensorProto.FLOAT, [3, 2], [0.0] * 6)
    onnx.save(model([table], [("Gather", ["table", "input_ids"], ["y"])], [IDS], 3), tmp_path / "m.onnx")
    assert onnx_logits(tmp_path / "m.onnx", [0, 2]).shape == (2, 2)
    with pytest.raises(NotConvertible, match=r"onnxruntime cannot run m.onnx \(\w+: .*\); export it"):
        onnx_logits(tmp_path / "m.onnx", [7])


def test_a_graph_that_gives_no_logits(tmp_path):
    cast = helper.make_node("Cast", ["input_ids"], ["y"], to=TensorProto.FLOAT)
    graph = model([], [], [IDS])
    graph.graph.node.append(cast)
    onnx.save(graph, tmp_path / "m.onnx")
    with pytest.raises(NotConvertible, match="m.onnx gives no logits for each token; export a causal language model."):
        onnx_logits(tmp_path / "m.onnx", [1, 2])


def refuses(folder, target, error, what, **settings) -> None:
    with pytest.raises(error, match=what):
        convert(folder, target, **settings)
    assert not target.exists()


def test_what_does_not_become_a_graph(tmp_path, tiny_folder, monkeypatch):
    target = tmp_path / "m.onnx"
    refuses(tiny_folder, target, NotConvertible, "ONNX in float32 only, not in F16; leave --type out", type="F16")
    with monkeypatch.context() as patch:
        patch.setattr(export, "find_spec", lambda name: None)
        refuses(tiny_folder, target, MissingPart, 'onnx is missing; bring it with: .*"onnx>=1')

    def cannot(*_, **__):
        raise RuntimeError("data-dependent expression")

    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", cannot)
        what = r"torch.onnx cannot trace \w+ \(RuntimeError: data-dependent expression\); llmnotes can write it"
        refuses(tiny_folder, target, NotConvertible, what)
    # an architecture that transformers has no class for
    folder = shutil.copytree(tiny_folder, tmp_path / "strange")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "strange"}))
    what = r"cannot open strange as a causal language model \(ValueError: .*\); see whether its config.json"
    refuses(folder, target, NotConvertible, what)


def test_a_graph_whose_logits_differ_is_not_written(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(export, "_trace", lambda folder, path: ([[1]], [torch.ones(1, 2)], []))
    monkeypatch.setattr(export, "onnx_logits", lambda path, ids: torch.zeros(1, 2))
    what = "The graph's logits differ from PyTorch's by 1, more than 0.001, so nothing was written"
    refuses(tiny_folder, tmp_path / "m.onnx", NotConvertible, what)
