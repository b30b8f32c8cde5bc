"""Code that is in no pickle is named: in settings, graphs, HDF5 and archives. Ordinary neighbours are clean."""

import base64
import io
import json
import marshal
import os
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest

from llmnotes.formats import scan
from llmnotes.formats.protobuf import field
from llmnotes.formats.scanning.exported import is_arithmetic

from .test_formats_scan import write, zipped

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2, "activation": "relu"}}
CODE = base64.b64encode(marshal.dumps((lambda x: x + 1).__code__)).decode()


def layer(name: str, config=None, module="keras.layers", **more) -> dict:
    return {"module": module, "class_name": name, "config": {} if config is None else config, **more}


def inside(one: dict) -> dict:
    """Return a model with a layer in a wrapper, in a model, in a model."""
    wrapped = layer("TimeDistributed", {"layer": layer("Bidirectional", {"layer": one})})
    functional = layer("Functional", {"layers": [layer("Functional", {"layers": [DENSE, wrapped]})]}, "keras")
    return layer("Sequential", {"layers": [functional]}, "keras")


KERAS = {
    "Lambda": layer("Lambda"),
    "Lambda of an old Keras": {"class_name": "Lambda", "config": {}},
    "Lambda by its whole name": layer("layers.Lambda", module="keras"),
    "a lambda as a function": layer("Dense", {"activation": {"class_name": "__lambda__", "config": {"value": CODE}}}),
    "function_type": layer("Other", {"function": [CODE, None, None], "function_type": "lambda"}),
    "compiled code": layer("Other", {"function": [CODE, None, None]}),
    "a foreign function": layer("Dense", {"activation": layer("function", "system", "os")}),
    "a foreign class": layer("Popen", {"args": ["sh"]}, "subprocess"),
    "eval": layer("Dense", {"activation": layer("function", "eval", "builtins")}),
    "load_model": layer("load_model", {"filepath": "x"}, "keras.models"),
    "get_file": layer("get_file", {"origin": "http://x"}, "keras.utils"),
    "unsafe": layer("enable_unsafe_deserialization", {}, "keras.config"),
    "load_model as an initializer": layer("Dense", {"kernel_initializer": "keras.models.load_model"}),
    "TFOpLambda": layer("TFOpLambda", {"function": "io.write_file"}),
    "TensorFlowOpLayer": layer("TensorFlowOpLayer", {"node_def": '{"name": "a", "op": "WriteFile"}'}),
    "a loss": layer("Sequential", {"compile_config": {"loss": "mse", "metrics": ["os.system"]}}),
    "a pickle for torch": layer("TorchModuleWrapper", {"module": "gAR9lC4="}),
}
UNKNOWN = {
    "a module of somebody's": layer("Net", module="my_layers"),
    "a program elsewhere": layer("TFSMLayer", {"filepath": "/tmp/x"}),
    "a vocabulary's file": layer("StringLookup", {"vocabulary": "/etc/passwd"}),
}
ORDINARY = {
    "layers": DENSE,
    "a custom class": {"class_name": "Net", "config": {}, "module": None, "registered_name": "Custom>Net"},
    "a function": layer("Dense", {"activation": layer("function", "relu", "builtins", registered_name="relu")}),
    "operations": layer("TFOpLambda", {"function": "math.add"}),
    "internal modules": layer("Add", {}, "keras.src.ops.numpy"),
    "names": layer("Dense", {"kernel_initializer": "glorot_uniform", "loss": "mse", "name": "Lambda"}),
    "a vocabulary": layer("StringLookup", {"vocabulary": ["a", "b"]}),
}


def keras_files(folder, model: dict):
    """Write a model's architecture in the files that Keras has had for it."""
    import h5py

    text = json.dumps(inside(model))
    write(folder / "a.keras", zipped("config.json", text.encode()))
    write(folder / "b.keras", zipped("config.json", text.encode("utf-16"), zipfile.ZIP_DEFLATED))
    write(folder / "c.json", text.replace("class_name", "cl\\u0061ss_name").encode())
    write(folder / "d.arch", text.encode())
    with h5py.File(folder / "e.h5", "w", userblock_size=512) as file:
        file.attrs["model_config"] = text
    with h5py.File(folder / "f.h5", "w") as file:
        file.create_group("deep").attrs["model_config"] = np.bytes_(text.encode())
    (folder / "saved").mkdir()
    write(folder / "saved" / "keras_metadata.pb", field(1, field(2, 1) + field(5, text.encode())))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", KERAS | UNKNOWN)
def test_what_keras_would_run_is_found_however_deep_it_lies(tmp_path, name):
    for path in keras_files(tmp_path, (KERAS | UNKNOWN)[name]):
        found = scan(path)
        assert found.verdict == ("dangerous" if name in KERAS else "suspicious"), (path, found.findings)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_models_of_keras_are_clean(tmp_path, name):
    for path in keras_files(tmp_path, ORDINARY[name]):
        assert (scan(path).verdict, scan(path).findings) == ("no pickle", ()), path


def test_a_key_that_stands_twice_counts_both_times_and_broken_json_by_its_words(tmp_path):
    twice = b'{"class_name": "Lambda", "class_name": "Dense", "config": {}}'
    assert scan(write(tmp_path / "a.json", twice)).verdict == "dangerous"
    assert scan(write(tmp_path / "b.json", b'{"class_name": "Lambda", ' + b"[" * 100_000)).verdict == "dangerous"
    assert scan(write(tmp_path / "c.json", b'{"auto_map": {"A": "b.C"}')).verdict == "suspicious"
    assert scan(write(tmp_path / "d.json", b'{"a": 1}\n{"a": 2}\n')).verdict == "no pickle"


def attribute(name: str, value: bytes) -> bytes:
    return field(5, field(1, name.encode()) + field(2, value))


def node(name: str, operator: str, *attributes: bytes, inputs: tuple = ()) -> bytes:
    return b"".join(
        [field(1, name.encode()), field(2, operator.encode()), *(field(3, one.encode()) for one in inputs), *attributes]
    )


def function(name: str, *nodes: bytes) -> bytes:
    """Return a graph's library of one function."""
    return field(2, field(1, field(1, field(1, name.encode())) + b"".join(field(3, one) for one in nodes)))


def signature(output: str) -> bytes:
    tensor = field(1, output.encode())
    return field(5, field(1, b"serving_default") + field(2, field(2, field(1, b"y") + field(2, tensor))))


def saved(graph: bytes, *more: bytes) -> bytes:
    """Return a SavedModel with one graph."""
    return field(1, 1) + field(2, field(1, field(4, b"serve")) + field(2, graph) + b"".join(more))


def stretched(graph: bytes) -> bytes:
    """Return a graph whose node's operator has a length of more bytes than it needs."""
    return field(1, graph.replace(b"\x12\x08ReadFile", b"\x12\x88\x00ReadFile"))


CALL = attribute("f", field(10, field(1, b"__inference__traced_save_1")))
SAVE = function("__inference__traced_save_1", node("s", "SaveV2"))
GRAPHS = {
    **{
        name: field(1, node("a", name))
        for name in "PyFunc PyFuncStateless EagerPyFunc ReadFile WriteFile MatchingFiles Save SaveV2 Restore RestoreV2 "
        "RestoreSlice MergeV2Checkpoints RpcCall WholeFileReaderV2 FixedLengthRecordReaderV2 TFRecordDataset "
        "TextLineDataset SnapshotDatasetV2 SqlDataset LMDBReader DataServiceDatasetV4".split()
    },
    "in a function": field(1, node("a", "NoOp")) + function("f", node("b", "WriteFile")),
    "a save in a function": field(1, node("a", "NoOp")) + function("f", node("b", "SaveV2")),
    "a printer's file": field(1, node("a", "PrintV2", attribute("output_stream", field(2, b"file:///tmp/x")))),
    "descriptors": field(1, node("a", "DecodeProtoV2", attribute("descriptor_source", field(2, b"/etc/passwd")))),
    "a long length": stretched(node("a", "ReadFile")),
    "a SavedModel": saved(field(1, node("a", "ReadFile"))),
    "a saver for a caller": saved(field(1, node("save/a", "SaveV2")), signature("save/a:0")),
    "a saver that is called": saved(field(1, node("a", "PartitionedCall", CALL)) + SAVE, signature("a:0")),
    "a saver that Python calls": saved(
        field(1, node("a", "NoOp")) + SAVE, field(7, field(2, field(1, b"__inference__traced_save_1")))
    ),
    "as text": b'node {\n name: "a"\n op: "Read"\n  "F\\151le"\n}\n',
}
PLAIN_GRAPHS = {
    "arithmetic": field(1, node("a", "MatMul")),
    "a name": field(1, node("ReadFile", "MatMul")),
    "a printer": field(1, node("a", "PrintV2", attribute("output_stream", field(2, b"stderr")))),
    "descriptors": field(1, node("a", "DecodeProtoV2", attribute("descriptor_source", field(2, b"local://")))),
    "a saver of TensorFlow 1": saved(
        field(1, node("save/SaveV2", "SaveV2")) + field(1, node("y", "Relu")), signature("y:0")
    ),
    "a saver of TensorFlow 2": saved(
        field(1, node("y", "Relu")) + field(1, node("z", "PartitionedCall", CALL)) + SAVE, signature("y:0")
    ),
    "as text": b'node {\n name: "ReadFile"\n op: "Relu"\n}\n',
}


def graph_files(folder, data: bytes):
    write(folder / "a.pb", data)
    write(folder / "b.zip", zipped("model/graph.pbtxt", data, zipfile.ZIP_DEFLATED))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", GRAPHS)
def test_operators_of_tensorflow_that_touch_files_are_found(tmp_path, name):
    for path in graph_files(tmp_path, GRAPHS[name]):
        found = scan(path)
        assert found.verdict == "dangerous" and "touches files" in found.findings[0].what, (path, found)


@pytest.mark.parametrize("name", PLAIN_GRAPHS)
def test_ordinary_graphs_and_savers_are_clean(tmp_path, name):
    for path in graph_files(tmp_path, PLAIN_GRAPHS[name]):
        assert (scan(path).verdict, scan(path).findings) == ("no pickle", ()), path


def test_a_graph_by_another_name_is_one_and_a_vocabulary_is_named(tmp_path):
    assert scan(write(tmp_path / "weights.bin", field(1, node("a", "ReadFile")))).verdict == "dangerous"
    found = scan(write(tmp_path / "a.pb", field(1, node("a", "InitializeTableFromTextFileV2"))))
    assert found.clean and "reads the file of words" in found.findings[0].what


def test_a_saver_in_the_text_form_is_one_by_its_name(tmp_path):
    for text, verdict in {
        b'node { name: "save/SaveV2" op: "SaveV2" }': "no pickle",
        b'node { name: "a" op: "SaveV2" }': "suspicious",
        b'node { name: "a" op: "PrintV2" attr { key: "output_stream" value { s: "file:///x" } } }': "dangerous",
        b'node { name: "a" op: "PrintV2" attr { key: "output_stream" value { s: "stderr" } } }': "no pickle",
    }.items():
        assert scan(write(tmp_path / "a.pbtxt", text)).verdict == verdict, text


def test_a_graph_that_is_too_long_is_not_called_clean(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.formats.scanning.operators.FIELDS", 20)
    found = scan(write(tmp_path / "a.pb", field(1, node("a", "Relu")) * 30))
    assert found.verdict == "suspicious" and "not all of its graph was read" in found.findings[0].what


def tflite(name: str) -> bytes:
    """Return a model of TensorFlow Lite with one operator of its own name."""
    text = struct.pack("<I", len(name)) + name.encode() + b"\0"
    model_vtable = struct.pack("<HHHH", 8, 8, 0, 4)  # at 8; the table, at 16, has its field 1 at 4
    model = struct.pack("<iI", 8, 4)  # -> the vector at 24
    vector = struct.pack("<II", 1, 12)  # -> the operator's table at 40
    code_vtable = struct.pack("<HHHH", 8, 8, 0, 4)  # at 32
    code = struct.pack("<iI", 8, 4)  # -> the text at 48
    return struct.pack("<I4s", 16, b"TFL3") + model_vtable + model + vector + code_vtable + code + text


def test_operators_of_tensorflow_lite_are_named(tmp_path):
    assert scan(write(tmp_path / "a.tflite", tflite("FlexReadFile"))).verdict == "dangerous"
    hidden = tflite("FlexAdd") + node("a", "WriteFile")
    assert scan(write(tmp_path / "b.tflite", hidden)).verdict == "dangerous"
    for name, says in {"FlexErf": "runs TensorFlow's own", "TFLite_Detection_PostProcess": "must bring"}.items():
        found = scan(write(tmp_path / "c.tflite", tflite(name)))
        assert found.verdict == "no pickle" and says in found.findings[0].what and name in found.findings[0].what
    assert scan(write(tmp_path / "d.tflite", tflite("Flex")[:50])).verdict == "suspicious"
    assert scan(write(tmp_path / "e.tflite", tflite(""))).findings == ()


def test_the_text_of_other_flatbuffers_is_searched(tmp_path):
    ort = struct.pack("<I4s", 8, b"ORTM") + struct.pack("<I", 4) + b"PyOp\0"
    assert scan(write(tmp_path / "a.ort", ort)).verdict == "dangerous"
    assert scan(write(tmp_path / "b.ort", ort.replace(b"PyOp", b"Relu"))).verdict == "no pickle"
    phone = struct.pack("<I4s", 8, b"PTMF") + b"\x0a\0\0\0aten::save\0"
    assert scan(write(tmp_path / "c.ptl", phone)).verdict == "dangerous"
    assert scan(write(tmp_path / "d.ptl", phone.replace(b"save", b"relu"))).verdict == "no pickle"


def onnx_model(*nodes, functions=(), tensors=()):
    import onnx

    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph(nodes, "g", [value], [value], tensors)
    return onnx.helper.make_model(graph, functions=functions)


def one(kind: str, domain="", **attributes):
    import onnx

    return onnx.helper.make_node(kind, ["x"], ["y"], domain=domain, **attributes)


def branch(inner):
    import onnx

    value = onnx.helper.make_tensor_value_info("y", 1, [1])
    return onnx.helper.make_graph([inner], "b", [], [value])


def local(inner):
    import onnx

    return onnx.helper.make_function("mine", "f", ["x"], ["y"], [inner], [onnx.helper.make_opsetid("", 20)])


def outside(place: str):
    import onnx

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value=place)
    return tensor


def test_operators_of_onnx_that_run_other_code_are_found(tmp_path):
    dangerous = {
        "PyOp": onnx_model(one("PyOp", "ai.onnx.contrib")),
        "PythonOp": onnx_model(one("PythonOp", "com.microsoft")),
        "ATen": onnx_model(one("ATen", "org.pytorch.aten")),
        "any": onnx_model(one("Any", "com.microsoft.python")),
        "in a branch": onnx_model(one("If", then_branch=branch(one("PyOp")), else_branch=branch(one("Relu")))),
        "in a function": onnx_model(one("f", "mine"), functions=[local(one("PyCustomOp"))]),
        "a caller": onnx_model(one("OpenAIAudioToText", "ai.onnx.contrib")),
        "a place above": onnx_model(one("Relu"), tensors=[outside("../w")]),
        "a place from the root": onnx_model(one("Relu"), tensors=[outside("/etc/passwd")]),
        "a place in a branch": onnx_model(one("Constant", value=outside("C:\\w"))),
        "a context above": onnx_model(one("EPContext", "com.microsoft", embed_mode=0, ep_cache_context="../x.bin")),
    }
    suspicious = {
        "a function": onnx_model(one("MyFunction", "ai.onnx.contrib")),
        "aten": onnx_model(one("add", "org.pytorch.aten")),
        "a context": onnx_model(one("EPContext", "com.microsoft", embed_mode=0, ep_cache_context="x.bin")),
    }
    for name, model in (dangerous | suspicious).items():
        for file in ("a.onnx", "weights.bin"):
            found = scan(write(tmp_path / file, model.SerializeToString()))
            assert found.verdict == ("dangerous" if name in dangerous else "suspicious"), (name, file, found)


def test_ordinary_models_of_onnx_are_clean_and_foreign_libraries_are_named(tmp_path):
    plain = {
        "branches": onnx_model(one("If", then_branch=branch(one("Relu")), else_branch=branch(one("Relu")))),
        "functions": onnx_model(one("f", "mine"), functions=[local(one("Relu"))]),
        "microsoft": onnx_model(one("FusedMatMul", "com.microsoft")),
        "weights beside": onnx_model(one("Relu"), tensors=[outside("sub/model.onnx_data")]),
    }
    for name, model in plain.items():
        found = scan(write(tmp_path / "a.onnx", model.SerializeToString()))
        assert (found.verdict, found.findings) == ("no pickle", ()), name
    for domain, kind, says in (
        ("my.library", "Net", "operators of my.library"),
        ("ai.onnx.contrib", "BertTokenizer", "bring onnxruntime-extensions"),
    ):
        found = scan(write(tmp_path / "b.onnx", onnx_model(one(kind, domain)).SerializeToString()))
        assert found.verdict == "no pickle" and says in found.findings[0].what


def test_a_model_of_onnx_that_is_too_long_is_not_called_clean(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.formats.scanning.onnx.FIELDS", 20)
    found = scan(write(tmp_path / "a.onnx", onnx_model(*[one("Relu")] * 30).SerializeToString()))
    assert found.verdict == "suspicious" and "more operators than are read" in found.findings[0].what


PIPELINE = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30"}
# A file's name, what is in it, and whether it is dangerous.
SETTINGS = [
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.Tok", None]}}, False),
    ("processor_config.json", {"deep": {"auto_map": {"AutoProcessor": "a.B"}}}, False),
    ("config.json", {"custom_pipelines": {"x": {"impl": "a.B"}}}, False),
    ("config.json", {"attn_implementation": "someone/kernel"}, False),
    ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}, False),
    ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "os.system"}], True),
    ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}], False),
    ("2_Dense/config.json", {"activation_function": "my_module.run"}, False),
    ("2_Dense/config.json", {"activation_function": "os.system"}, True),
    ("router_config.json", {"types": {"query_0": "my.Module"}, "structure": {}}, False),
    ("model_index.json", PIPELINE | {"unet": ["my_module", "Net"]}, False),
    ("model_index.json", PIPELINE | {"unet": ["os", "system"]}, True),
    ("model_index.json", PIPELINE | {"_class_name": ["my_pipeline", "Mine"]}, False),
    ("adapter_config.json", {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}}, True),
    ("adapter_config.json", {"auto_mapping": {"base_model_class": "Net", "parent_library": "mine.net"}}, False),
    ("conf.json", {"model": {"_target_": "os.system"}}, True),
    ("conf.json", {"model": {"target": "os.system", "params": {}}}, True),
    ("conf.json", {"model": {"_target_": "my_project.Net"}}, False),
    ("data.json", {"py/reduce": [{"py/function": "os.system"}]}, True),
    ("MLmodel.yaml", {"flavors": {"python_function": {"loader_module": "mine"}}}, False),
    ("conf.json", {"model": {"_target_": "hydra.utils.get_method", "path": "os.system"}}, True),
]
PLAIN_SETTINGS = [
    ("config.json", {"auto_map": {}, "architectures": ["LlamaForCausalLM"], "hidden_act": "gelu_pytorch_tanh"}),
    ("config.json", {"attn_implementation": "sdpa", "activation_function": "gelu_new"}),
    ("results.json", {"config": {"trust_remote_code": True}}),
    ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]),
    ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}),
    ("model_index.json", PIPELINE | {"unet": ["diffusers", "UNet2DConditionModel"], "x": [None, None]}),
    ("model_index.json", PIPELINE | {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}),
    ("adapter_config.json", {"auto_mapping": {"base_model_class": "A", "parent_library": "transformers.models.a"}}),
    ("conf.json", {"_target_": "torch.utils.data.DataLoader", "target": "test.loss"}),
    ("results.json", {"metric": "test.accuracy", "types": {"a": "java.lang.String"}, "optimizer": "torch.optim.AdamW"}),
    ("tokenizer.json", {"model": {"vocab": {"auto_map": 0, "Lambda": 1, "class_name": 2}, "merges": ["a b"]}}),
]


def settings(folder, name: str, value):
    (folder / name).parent.mkdir(exist_ok=True)
    return write(folder / name, json.dumps(value).encode())


@pytest.mark.parametrize("name, value, dangerous", SETTINGS)
def test_settings_that_name_code_are_found(tmp_path, name, value, dangerous):
    import yaml

    settings(tmp_path, name, value)
    assert scan(tmp_path).verdict == ("dangerous" if dangerous else "suspicious"), scan(tmp_path)
    if name != "modules.json":
        found = scan(write(tmp_path / "a.yaml", yaml.safe_dump(value).encode()))
        assert found.verdict == ("dangerous" if dangerous else "suspicious")


@pytest.mark.parametrize("name, value", PLAIN_SETTINGS)
def test_ordinary_settings_are_clean(tmp_path, name, value):
    import yaml

    settings(tmp_path, name, value)
    write(tmp_path / "a.yaml", yaml.safe_dump(value).encode())
    write(tmp_path / "chat_template.jinja", b"{% for message in messages %}{{ message['content'] }}{% endfor %}")
    assert (scan(tmp_path).verdict, scan(tmp_path).findings) == ("no pickle", ())


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("a: !!python/object/apply:os.system ['exit']", "dangerous"),
        ("a: !!python/object/new:os.system ['exit']", "dangerous"),
        ("a: !!python/name:os.system", "dangerous"),
        ("a: !!python/module:os", "dangerous"),
        ("a: !<tag:yaml.org,2002:python/object/apply:os.system> ['exit']", "dangerous"),
        ("%TAG !x! tag:yaml.org,2002:python/\n---\na: !x!object/apply:os.system ['exit']", "dangerous"),
        ("a: !!pyth%6fn/object/apply:os.system ['exit']", "dangerous"),
        ("a: !!python/object:my.Net {}", "suspicious"),
        ("a: b: c\nx: !!python/object/apply:os.system ['exit']", "dangerous"),  # no YAML to our reader
        ("a: b: c\n_target_: os.system", "dangerous"),
        ("a: &x [1, 2]\nb: *x\nc: !!python/tuple [1, 2]\nd: 1.5", "no pickle"),
        ("a: b: c", "no pickle"),
        ("", "no pickle"),
    ],
)
def test_the_tags_of_python_in_yaml_are_found(tmp_path, text, verdict):
    assert scan(write(tmp_path / "a.yaml", text.encode())).verdict == verdict
    assert scan(write(tmp_path / "b.yml", text.encode("utf-16"))).verdict == verdict or "b: c" in text


def test_a_folder_with_a_generator_of_its_own_is_suspicious(tmp_path):
    (tmp_path / "custom_generate").mkdir()
    write(tmp_path / "custom_generate" / "generate.py", b"import os\n")
    assert scan(tmp_path).verdict == "suspicious"
    write(tmp_path / "custom_generate" / "generate.py", b"").rename(tmp_path / "convert.py")
    assert scan(tmp_path).verdict == "no pickle"


PICKLES = {
    "protocol 4": pickle.dumps(os.system),
    "protocol 0": pickle.dumps(os.system, 0),
    "INST": b"(S'exit'\nios\nsystem\n.",
    "INST at once": b"(ios\nsystem\n.",
    "STACK_GLOBAL of lines": b"(Vos\nVsystem\n\x93S'exit'\no.",
    "behind others": b"N0(S'exit'\nios\nsystem\n.",
}


def hdf5_files(folder, data: bytes):
    """Write bytes as attributes and datasets of many kinds, each into a file of its own."""
    import h5py

    array = np.frombuffer(data, np.uint8)
    many = np.concatenate([array, np.zeros(3000, np.uint8)])
    kinds = {
        "void": np.void(data),
        "fixed": np.bytes_(data),
        "int8": array.view(np.int8),
        "int64": array.astype(np.int64),
        "big": array.astype(">i4"),
    }
    for name, value in kinds.items():
        with h5py.File(folder / f"{name}-attribute.h5", "w") as file:
            file.create_group("deep/er").attrs["state"] = value
        with h5py.File(folder / f"{name}-dataset.h5", "w") as file:
            file["state"] = value
    for name, value in (("chunks", many), ("chunks64", many.astype(np.int64))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("deep/state", data=value, compression="gzip", shuffle=True, chunks=(512,))
    with h5py.File(folder / "variable.h5", "w") as file:
        if b"\0" not in data:
            file.create_dataset("texts", data=["a", data.decode("latin-1")], dtype=h5py.string_dtype())
        file.create_dataset("bytes", (1,), dtype=h5py.vlen_dtype(np.uint8))[0] = array
    whole = (folder / "chunks.h5").read_bytes()
    write(folder / "in.keras", zipped("model.weights.h5", whole, zipfile.ZIP_DEFLATED))
    write(folder / "in.zip", zipped("stored.h5", whole))
    (folder / "sub").mkdir()
    write(folder / "sub" / "x.h5", whole)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_in_any_value_of_hdf5_is_found(tmp_path, name):
    for path in hdf5_files(tmp_path, PICKLES[name]):
        assert scan(path).verdict == "dangerous", path


def test_ordinary_values_of_hdf5_are_clean(tmp_path):
    for path in hdf5_files(tmp_path, b"(some text of\nmany lines)\nios\nand so on; cats\nand dogs\n"):
        assert (scan(path).verdict, scan(path).findings) == ("no pickle", ()), path
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_dataset("w", data=rng.standard_normal((300, 300)).astype("f4"), compression="gzip")
        file.create_dataset("image", data=rng.integers(0, 256, 100_000, "u1"), compression="gzip")
        file.create_dataset("ids", data=rng.integers(0, 2**40, 1000))
        file.create_dataset("table", data=np.zeros(3, [("a", "S5"), ("b", "i4"), ("c", "f4")]))
        file.create_dataset("none", data=h5py.Empty("f4"))
        file.attrs["names"] = ["dense", "bias"]
    assert (scan(tmp_path / "weights.h5").verdict, scan(tmp_path / "weights.h5").findings) == ("no pickle", ())


def test_an_unknown_name_in_a_pickle_of_hdf5_and_values_elsewhere_are_suspicious(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["state"] = np.void(b"\x80\x02cmy_module\nNet\n)R.")
    assert scan(tmp_path / "a.h5").verdict == "suspicious"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["w"] = h5py.ExternalLink("other.h5", "w")
    for name in "bc":
        assert scan(tmp_path / f"{name}.h5").verdict == "suspicious", name
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.attrs["state"] = np.void(pickle.dumps({"a": [1, 2]}))
    assert (scan(tmp_path / "d.h5").verdict, scan(tmp_path / "d.h5").findings) == ("safe", ())


def test_hdf5_that_cannot_be_unpacked_is_not_called_clean(tmp_path, monkeypatch):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = np.arange(1000)
    data = (tmp_path / "a.h5").read_bytes()
    found = scan(write(tmp_path / "b.h5", data[:600]))
    assert found.verdict == "suspicious" and "not unpacked" in found.findings[0].what
    monkeypatch.setattr("llmnotes.formats.legacy.keras.find_spec", lambda name: None)
    found = scan(tmp_path / "a.h5")
    assert found.verdict == "suspicious" and "h5py is missing" in found.findings[0].what


def script(folder, source: str):
    """Return a TorchScript program, with a line of its code changed into `source`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(torch.nn.ReLU()).save(folder / "plain.pt")
    changed = io.BytesIO()
    with zipfile.ZipFile(folder / "plain.pt") as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data + source.encode() if name.endswith(".py") else data)
    return write(folder / "changed.pt", changed.getvalue())


def test_torchscript_is_named_and_what_touches_files_in_it_is_dangerous(tmp_path):
    changed = script(tmp_path, '\n  torch.save(x, "/tmp/x")\n')
    found = scan(tmp_path / "plain.pt")
    assert found.verdict == "safe" and "is a TorchScript program" in found.findings[0].what
    assert scan(changed).verdict == "dangerous"
    assert scan(script(tmp_path, '\n  y = torch.from_file("/etc/passwd", True)\n')).verdict == "dangerous"
    operators = pickle.dumps(("aten::save", "", 2))
    assert scan(write(tmp_path / "a.ptl", zipped("archive/bytecode.pkl", operators))).verdict == "dangerous"


def test_a_program_in_python_that_is_no_torchscript_is_not_called_one(tmp_path):
    (tmp_path / "code").mkdir()
    write(tmp_path / "code" / "train.py", b"torch.save(model, 'x')\n")
    write(tmp_path / "a.zip", zipped("project/code/train.py", b"torch.save(model, 'x')\n"))
    assert (scan(tmp_path).verdict, scan(tmp_path).findings) == ("no pickle", ())


def test_an_archive_of_two_formats_is_read_as_both(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.attrs["model_config"] = json.dumps(KERAS["Lambda"])
    data = (tmp_path / "a.h5").read_bytes()
    archive = zipped("a.txt", b"nothing")
    assert len(archive) < 512
    assert scan(write(tmp_path / "b.zip", archive + data[len(archive) :])).verdict == "dangerous"
    program = zipped("a/data/aotinductor/model/x.so", b"x")
    assert scan(write(tmp_path / "c.bin", b"before" + program)).verdict == "suspicious"


def test_a_graph_that_begins_like_a_text_is_one(tmp_path):
    data = field(1, field(1, b"[".ljust(13)) + field(2, b"ReadFile"))
    assert data[:4] == b"\x0a\x19\x0a\x0d"
    assert scan(write(tmp_path / "a.pb", data)).verdict == "dangerous"


def test_long_json_with_letters_behind_escapes_is_suspicious(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.formats.scanning.settings.JSON_LIMIT", 100)
    text = json.dumps({"a": "x" * 200, "b": "\u00e9\u4e00\u001b"})
    assert scan(write(tmp_path / "a.json", text.encode())).verdict == "no pickle"
    found = scan(write(tmp_path / "b.json", text.replace('"a"', '"cl\\u0061ss_name"').encode()))
    assert found.verdict == "suspicious" and "hides letters" in found.findings[0].what


def test_archives_with_programs_are_suspicious(tmp_path):
    for name in ("a/.data/extern_modules", "a/data/aotinductor/model/x.so", "a/lib.so"):
        assert scan(write(tmp_path / "a.pt2", zipped(name, b"os\n"))).verdict == "suspicious", name
    assert scan(write(tmp_path / "b.zip", zipped("a/readme.py", b"x = 1\n"))).verdict == "no pickle"
    for data in (b"\x7fELF" + bytes(60), b"MZqFpD='\n", b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0"):
        assert scan(write(tmp_path / "c.llamafile", data)).verdict == "suspicious", data
    assert scan(write(tmp_path / "d.txt", b"MZ is no program")).verdict == "no pickle"


def test_expressions_of_exported_programs_are_read_as_python(tmp_path):
    def program(text: str, target="torch.ops.aten.add.Tensor") -> bytes:
        node = {"target": target, "inputs": [], "outputs": [{"as_expr": {"expr_str": text, "hint": None}}]}
        return json.dumps({"graph_module": {"graph": {"nodes": [node]}}}).encode()

    for text in (
        "exit()",
        "__import__('os')",
        "s0.__class__",
        "(1).real",
        "[s0]",
        "eval(chr(49))",
        "s0 .a",
        "S('exit()')",
    ):
        assert not is_arithmetic(text)
        assert scan(write(tmp_path / "a.pt2", zipped("a/models/model.json", program(text)))).verdict == "dangerous", (
            text
        )
    for text in (
        "s0",
        "2*s0 + 1",
        "Max(1, FloorDiv(s77, 2))",
        "Eq(Mod(s0, 8), 0)",
        "1.5*s0",
        "s0 >= 2",
        "-int_oo",
        "Mul(Integer(2), Symbol('s0', integer=True))",
    ):
        assert is_arithmetic(text)
        assert scan(write(tmp_path / "b.pt2", zipped("a/models/model.json", program(text)))).verdict == "no pickle", (
            text
        )
    for target in ("torch.hub.load", "torch.ops.load_library", "torch.ops.aten.from_file.default", "torch.load"):
        assert scan(write(tmp_path / "c.json", program("s0", target))).verdict == "dangerous", target
    for target in ("_operator.add", "torch.sym_int", "torch.ops.higher_order.cond"):
        assert scan(write(tmp_path / "d.json", program("s0", target))).verdict == "no pickle", target


def test_what_torch_exports_is_clean(tmp_path):
    import torch

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x]).reshape(-1)[: x.shape[0] * 3 + 1] + torch.ones(x.shape[0] * 3 + 1)

    size = torch.export.Dim("b", min=2, max=100)
    program = torch.export.export(Net(), (torch.ones(8, 3),), dynamic_shapes=({0: size},))
    torch.export.save(program, tmp_path / "a.pt2")
    assert scan(tmp_path / "a.pt2").clean, scan(tmp_path / "a.pt2").findings


def test_a_layer_of_caffe_in_python_is_dangerous(tmp_path):
    data = b'layer { type: "Python" python_param { module: "os" layer: "X" } }'
    assert scan(write(tmp_path / "a.prototxt", data)).verdict == "dangerous"
    assert scan(write(tmp_path / "b.prototxt", b'layer { type: "ReLU" }')).verdict == "no pickle"


def test_remarks_do_not_crowd_out_what_is_worse(tmp_path, monkeypatch):
    monkeypatch.setattr("llmnotes.formats.scanning.state.FINDINGS", 3)
    for number in range(5):
        write(tmp_path / f"{number}.tflite", tflite(f"Custom{number}"))
    write(tmp_path / "z.json", b'{"auto_map": {"A": "b.C"}}')
    assert scan(tmp_path).verdict == "suspicious"
