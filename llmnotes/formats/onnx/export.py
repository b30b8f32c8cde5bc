"""Convert a Hugging Face folder to an ONNX graph, and check with onnxruntime that both give the same logits."""

import logging
import os
import shutil
import tempfile
import warnings
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llmnotes.errors import MissingPart, NotConvertible, reason
from llmnotes.formats import causes
from llmnotes.formats.files import CHUNK
from llmnotes.formats.registry import inspect
from llmnotes.formats.results import Conversion, Inspection, counted
from llmnotes.formats.safe_write import new_file
from llmnotes.parts import bring

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession
    from transformers import PreTrainedModel

ONE_FILE = 1_900_000_000  # bytes of weights; a message of Protocol Buffers may have 2 GB
LARGEST = 1e-3  # how far a logit may differ from PyTorch's
LOST = (
    "The weights are float32, most matrices are transposed, and their names differ: you cannot get a state dict back.",
    "The tokenizer, the chat template and the generation settings are not in the graph: keep the folder beside it.",
    "The graph has no key-value cache: each step runs the whole text again.",
)


def from_huggingface(inspection: Inspection, dst: Path, type: str | None = None) -> Conversion:
    """Trace the causal language model of a Hugging Face folder and write it as one ONNX file, in float32.

    The graph takes `input_ids` and `attention_mask` (batch, sequence) and gives `logits` (batch, sequence,
    vocabulary), for any batch and length. Weights of more than 1.9 GB go to `DST.data` beside it. The whole model is
    in memory meanwhile, several times.

    Raises `MissingPart` without onnx, onnxruntime or onnxscript; `NotConvertible` if the model cannot be opened or
    traced, if the folder lacks a tensor that a causal language model has, as that of an encoder does, or holds codes
    in the place of weights, if `type` is another than F32, or if a logit on one of two prompts differs by more than
    1e-3 from PyTorch's. Runs no code that comes with a model. Pads on the right only: it takes no positions.
    """
    _needs("onnx", "onnxruntime", "onnxscript")
    if type not in (None, "F32"):
        raise NotConvertible(f"llmnotes writes ONNX in float32 only, not in {type}; leave --type out.")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / dst.name
        prompts, expected, unused = _trace(inspection, path)
        difference = max(
            float(abs(onnx_logits(path, ids) - logits).max()) for ids, logits in zip(prompts, expected, strict=True)
        )
        if not difference <= LARGEST:
            raise NotConvertible(
                f"The graph's logits differ from PyTorch's by {difference:.2g}, more than {LARGEST}, so nothing was "
                "written; this architecture needs another exporter."
            )
        made = sorted(Path(folder).iterdir(), key=lambda file: file != path)
        files = tuple(dst.parent / file.name for file in made)
        with ExitStack() as stack:
            for file, target in zip(made, files, strict=True):
                with open(file, "rb") as source:
                    shutil.copyfileobj(source, stack.enter_context(new_file(target)), CHUNK)
    written, left = inspect(dst), dict.fromkeys(unused, "that a causal language model does not have")
    count, nbytes = len(written.tensors), written.nbytes
    return Conversion(inspection.path, dst, inspection.identity, "onnx", count, nbytes, {}, LOST, files, left=left)


def onnx_session(path: str | Path) -> "InferenceSession":
    """Return an onnxruntime session for a graph; `onnx_logits` takes it in place of the path, for many texts.

    Raises `MissingPart` without onnxruntime and `NotConvertible` if it cannot run the graph. Loads no custom operators.
    """
    _needs("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = os.cpu_count() or 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each of many failures
        raise _cannot_run(Path(path).name, error) from None


def onnx_logits(graph: "str | Path | InferenceSession", ids: list[int]) -> "np.ndarray":
    """Return the float32 logits (tokens, vocabulary) that an ONNX causal language model gives for one text.

    `graph` is a path, or what `onnx_session` returned for it; `ids` are the text's tokens. Inputs named
    `attention_mask` and `position_ids` are filled in. Raises what `onnx_session` raises, and `NotConvertible` if the
    graph needs other inputs, such as a cache.
    """
    import numpy as np

    name = Path(graph).name if isinstance(graph, str | Path) else "the graph"
    session = onnx_session(graph) if isinstance(graph, str | Path) else graph
    known = {
        "input_ids": np.array([ids], dtype=np.int64),  # (1, tokens)
        "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    names = [put.name for put in session.get_inputs()]
    others = [other for other in names if other not in known]
    if others or "input_ids" not in names:
        raise NotConvertible(
            f"{name} does not map input_ids to logits (it takes {', '.join(names[:5])}); export it without a cache."
        )
    try:
        answers = session.run(None, {put: known[put] for put in names})
    except Exception as error:
        raise _cannot_run(name, error) from None
    outputs = dict(zip([put.name for put in session.get_outputs()], answers, strict=True))
    logits = np.asarray(outputs.get("logits", answers[0]), dtype=np.float32)
    if logits.ndim != 3 or logits.shape[1] != len(ids):
        raise NotConvertible(f"{name} gives no logits for each token; export a causal language model.")
    return logits[0]


def _cannot_run(name: str, error: Exception) -> NotConvertible:
    return NotConvertible(
        f"onnxruntime cannot run {name} ({reason(error)}); export it with the operators that it knows."
    )


def _trace(inspection: Inspection, path: Path):
    """Write the graph to `path`; return two prompts as lists of tokens, PyTorch's logits for each, and the names of the
    folder's tensors that are not in the model."""
    import torch
    from transformers import AutoModelForCausalLM

    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    folder = inspection.path
    packed = causes.known_cause(inspection) if causes.quantized_by(inspection) is not None else None
    try:
        opened = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a damaged or unknown folder sets off inside the library
        raise NotConvertible(
            packed
            or f"transformers cannot open {folder.name} as a causal language model ({reason(error)}); see whether its "
            "config.json asks for another version, a package, or another kind of model."
        ) from None
    model, loaded = cast("tuple[PreTrainedModel, dict[str, list[str]]]", opened)  # with output_loading_info
    model.eval()
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise NotConvertible(
            packed
            or f"{folder.name} lacks {counted(len(missing), 'tensor')} of a causal language model, {missing[0]} first, "
            "and transformers would draw them at random; export the folder of a model that writes text."
        )
    parameters = [name for name, _ in model.named_parameters()]
    cause = causes.codes_as_weights(inspection, parameters, loaded["unexpected_keys"])
    if cause is not None:
        raise NotConvertible(cause)
    ids = torch.arange(12).reshape(2, 6) % model.config.get_text_config().vocab_size  # (batch, sequence)
    sides = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    try:
        program = torch.onnx.export(
            Logits(model).eval(),
            (ids, torch.ones_like(ids)),
            dynamo=True,
            dynamic_shapes=(sides, sides),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            verbose=False,
        )
    except Exception as error:  # the exporter names no type of its own for what it cannot trace
        raise NotConvertible(
            f"torch.onnx cannot trace {folder.name} ({reason(error)}); llmnotes can write it as safetensors."
        ) from None
    assert program is not None  # with dynamo=True it is returned
    program.model.metadata_props["architecture"] = type(model).__name__
    weights = sum(parameter.numel() for parameter in model.parameters()) * 4
    program.save(path, external_data=weights > ONE_FILE)
    size = model.config.get_text_config().vocab_size
    prompts = [[(7 * place + 3) % size for place in range(length)] for length in (3, 17)]
    with torch.no_grad():
        logits = [model(torch.tensor([prompt]), use_cache=False).logits[0].numpy() for prompt in prompts]
    return prompts, logits, sorted(loaded["unexpected_keys"])


def _needs(*parts: str) -> None:
    missing = [part for part in parts if find_spec(part) is None]
    if missing:
        raise MissingPart(f"{missing[0]} is missing; bring it with: {bring(*missing)}")


@contextmanager
def _quiet():
    """Keep what the exporter's many parts print, log and warn of out of the reader's page."""
    from transformers.utils import logging as transformers_logging

    bars, disabled = transformers_logging.is_progress_bar_enabled(), logging.root.manager.disable
    transformers_logging.disable_progress_bar()
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as sink, redirect_stdout(sink), redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if bars:
            transformers_logging.enable_progress_bar()
