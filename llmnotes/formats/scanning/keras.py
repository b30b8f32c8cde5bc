"""What the configuration of a Keras model makes Keras import and call.

Keras builds each object from `class_name`, `module`, `registered_name` and `config`. It imports a module that is not
its own, and it runs the Python code of a Lambda layer, which is kept in base64.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from llmnotes.formats.scanning.names import judge, leads_to_programs
from llmnotes.formats.scanning.tensorflow_names import FILES, touches

OWN = {"keras", "tf_keras", "tensorflow", "keras_core", "keras_hub", "keras_nlp", "keras_cv", "builtins", "__main__"}
# Names of Keras's own that load files and pickles, fetch from the network, or change what may be loaded.
CALLS = set(
    "enable_unsafe_deserialization extract_archive func_load get_file load_img load_lib load_library load_model "
    "load_op_library load_weights model_from_config model_from_json model_from_yaml numpy_function py_func py_function "
    "read_file save_img save_model save_weights write_file audio_dataset_from_directory "
    "image_dataset_from_directory text_dataset_from_directory deserialize_keras_object GFile".split()
)
TOOLS = {"utils", "saving", "config", "export", "callbacks"}  # modules of Keras that hold more than layers
KEPT_CODE = {"function_type", "output_shape_type", "mask_type", "mode_type", "output_mask_type"}
ROLE = re.compile(r"(?:activation|initializer|regularizer|constraint|loss|metrics?|optimizer|function|_fn)$")
MARSHALLED = re.compile(r"\s*4w[A-Za-z0-9+/\s]{40,}")  # base64 of a code object, as marshal writes it
MEASURE = re.compile(r"(?:loss|metrics?|optimizer)$")  # of which other programs write names like test.accuracy
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
VOCABULARIES = {"IntegerLookup", "StringLookup", "IndexLookup", "TextVectorization"}


def programs(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a verdict and a sentence for each thing in one object of a configuration that Keras would run.

    Looks at this object alone: a caller comes with those inside it, too.

    >>> list(programs({"class_name": "Lambda", "config": {}}))
    [('dangerous', 'has a Lambda layer, whose Python code Keras runs')]
    """
    name = about.get("class_name")
    if isinstance(name, str):
        yield from _built(name, about)
    for key, value in about.items():
        if key in KEPT_CODE and value == "lambda":
            yield "dangerous", f"keeps Python code ({key}), which Keras runs"
        elif ROLE.search(key):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    yield from _called(key, name)
        for text in value if isinstance(value, list) and key in ("function", "items", "value", "code") else [value]:
            if isinstance(text, str) and MARSHALLED.match(text) and _is_code(text):
                yield "dangerous", f"keeps compiled Python code ({key[:80]}), which Keras runs"


def _built(name: str, about: dict) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an object that Keras builds from its class."""
    module, config = about.get("module"), about.get("config")
    config = config if isinstance(config, dict) else {}
    if name in ("function", "type", "builtin_function_or_method") and isinstance(about.get("config"), str):
        name = about["config"]
    last = re.split(r"[.>]", name)[-1]
    full = f"{module}.{name}" if isinstance(module, str) and module else name
    if last in ("Lambda", "__lambda__"):
        yield "dangerous", "has a Lambda layer, whose Python code Keras runs"
    elif last == "TorchModuleWrapper":
        yield "dangerous", "has a TorchModuleWrapper, whose pickle Keras hands to torch.load"
    elif last in ("TFSMLayer", "JaxLayer", "FlaxLayer"):
        yield "suspicious", f"has a {last}, which runs a program from outside of it"
    elif last in VOCABULARIES and isinstance(config.get("vocabulary"), str):
        yield "suspicious", f"has a {last} that reads the file {config['vocabulary'][:100]}"
    elif last == "TensorFlowOpLayer":
        for operator in touches(str(about.get("config"))):
            yield "dangerous", f"has an operator that calls Python or touches files: {operator}"
    elif last in ("TFOpLambda", "ClassMethod", "InstanceMethod", "SlicingOpLambda"):
        function = str(config.get("function") or config.get("method_name") or "")
        if function.split(".")[-1] in CALLS | FILES:
            yield "dangerous", f"calls {function[:200]}"
    elif last in CALLS or (isinstance(module, str) and _is_tool(module, last)):
        yield "dangerous", f"calls {full[:200]}"
    elif isinstance(module, str) and module and ("config" in about or "registered_name" in about):
        verdict = judge(module, name)
        if module.split(".")[0] not in OWN:
            verdict = "dangerous" if verdict == "dangerous" else "suspicious"
            yield verdict, f"makes Keras import {full[:200]}"
        elif module == "builtins" and verdict == "dangerous" and name != "type":
            yield "dangerous", f"calls {full[:200]}"


def _is_tool(module: str, last: str) -> bool:
    """Return whether a name is a function of Keras's in a module that holds more than layers and their parts."""
    words = module.split(".")
    return words[0] in ("keras", "tf_keras", "tensorflow") and bool(TOOLS & set(words[1:])) and last[:1].islower()


def _called(key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the name of a function that is given as a text."""
    module, _, last = value.rpartition(".")
    if last in CALLS:
        yield "dangerous", f"calls {value[:200]} ({key[:80]})"
    elif DOTTED.fullmatch(value) and leads_to_programs(value, not MEASURE.search(key)):
        yield "dangerous", f"names {value[:200]} ({key[:80]}), which its loader imports"
    elif key.endswith(("activation_fn", "activation_function")) and DOTTED.fullmatch(value):
        if not value.startswith(("torch.nn.", "keras.", "tensorflow.", "transformers.", "sentence_transformers.")):
            yield "suspicious", f"names {value[:200]} ({key[:80]}), which its loader imports"


def _is_code(text: str) -> bool:
    """Return whether base64 holds a code object: marshal's letter for one, its highest bit set, and small numbers."""
    try:
        data = base64.b64decode("".join(text.split()) + "==", validate=False)
    except binascii.Error:
        return False
    return data[:1] == b"\xe3" and data[1:5].count(0) >= 2
