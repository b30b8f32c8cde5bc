"""Why a sound folder may not hold the tensors that its config.json speaks of: asked before anybody says "damaged".

The weights may be packed, carry the names of a wrapper, or belong to an adapter or another program.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from llmnotes.errors import FileBroken, FileUnreadable
from llmnotes.formats.files import Source
from llmnotes.formats.results import Inspection, Tensor

# What puts names of its own before or into those of a model's tensors when it is saved.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "language_model")
INSIDE = r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."

METHODS = {"gptq": "GPTQ", "awq": "AWQ", "fp8": "FP8", "fbgemm_fp8": "FP8", "bitsandbytes": "bitsandbytes"}
METHODS |= {"modelopt": "ModelOpt", "mlx": "MLX"}
FLOATS = ("F64", "F32", "F16", "BF16")  # what weights are; a number in any other dtype stands for one
BESIDE = "hf_quant_config.json"  # where NVIDIA's ModelOpt says what it did
ADAPTED = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector")
PACKED = (".qweight", ".qzeros")


def known_cause(inspection: Inspection) -> str | None:
    """Return why this folder's tensors may be others than its config.json describes, with the remedy, or None.

    Reads names and settings alone; `None` means that nothing is known that would excuse the folder.
    """
    folder, names = inspection.path.name, [tensor.name for tensor in inspection.tensors]
    method = quantized_by(inspection)
    if method is not None:
        return (
            f"{folder} is quantized ({method}), so its tensors are codes and scales; take the model in its original "
            "precision instead."
        )
    if any(mark in name for name in names for mark in ADAPTED):
        return f"{folder} holds the matrices of a LoRA adapter; merge them into their base model first."
    if "tok_embeddings.weight" in names or any(".attention.wq." in name for name in names):
        return (
            f"{folder} has the tensor names of Mistral's and Meta's own programs; take the same model in the folder "
            "that was made for transformers."
        )
    prefix = wrapper_of(names)
    if prefix is not None:
        return (
            f"The names of the tensors in {folder} begin with {prefix}, which a wrapper puts there, and without it "
            "they are not the model's one to one; save the model inside the wrapper instead."
        )
    return None


def quantized_by(inspection: Inspection) -> str | None:
    """Return what quantized the weights of a folder, in words such as "GPTQ, 4 bits", or None."""
    config = settings_of(inspection)
    if config:
        return in_words(config)
    if any(tensor.name.endswith(PACKED) for tensor in inspection.tensors):
        return "GPTQ or AWQ, and no quantization_config says how"
    found = codes(inspection)
    return f"weights in {found[0].dtype}, and no quantization_config says how" if found else None


def codes(inspection: Inspection, parameters: Collection[str] = ()) -> list[Tensor]:
    """Return the tensors that are weights by their names, or have one of the names `parameters`, and are no floats."""
    return [
        tensor
        for tensor in inspection.tensors
        if tensor.dtype not in FLOATS and (tensor.name.endswith("weight") or tensor.name in parameters)
    ]


def codes_as_weights(inspection: Inspection, parameters: Collection[str], unread: Collection[str]) -> str | None:
    """Return why a model must not be used that transformers has made of a folder, or None: it took codes for weights.

    `parameters` are the model's names, and `unread` the folder's tensors that it has no place for. Where it knows the
    quantization, it has undone it, if it has left out no scale of the codes that it read.
    """
    taken = [tensor for tensor in codes(inspection, parameters) if tensor.name not in unread]
    if taken and _known_to_transformers(inspection):
        taken = [tensor for tensor in taken if any(name.startswith(f"{tensor.name}_scale") for name in unread)]
    return known_cause(inspection) or _in_codes(inspection, taken[0]) if taken else None


def _known_to_transformers(inspection: Inspection) -> bool:
    config = (inspection.metadata.get("config") or {}).get("quantization_config")
    if not isinstance(config, dict) or not config:
        return False
    from transformers.quantizers.auto import AutoHfQuantizer

    return AutoHfQuantizer.supports_quant_method(config)


def _in_codes(inspection: Inspection, tensor: Tensor) -> str:
    return (
        f"{tensor.name[:80]} in {inspection.path.name} is stored as {tensor.dtype}, which is no weight but a code; "
        "take the model in its original precision instead."
    )


def in_words(config: dict) -> str:
    """Return what a quantization_config says, in a few words.

    >>> in_words({"quant_method": "gptq", "bits": 4})
    'GPTQ, 4 bits'
    """
    unsaid = "bitsandbytes" if "load_in_4bit" in config else "mlx" if {"bits", "group_size"} <= config.keys() else ""
    method = str(config.get("quant_method") or unsaid or "unknown")[:40]
    bits = config.get("bits", config.get("w_bit", 4 if config.get("load_in_4bit") is True else None))
    more = config.get({"compressed-tensors": "format", "modelopt": "quant_algo"}.get(method, ""))
    more = more or (bits and f"{str(bits)[:4]} bits")
    return METHODS.get(method, method) + (f", {str(more)[:40]}" if more else "")


def settings_of(inspection: Inspection) -> dict:
    """Return the quantization_config of a folder, {} if it has none.

    Older compressed-tensors and MLX have other names for it, and ModelOpt a file of its own.
    """
    config = inspection.metadata.get("config") or {}
    found = config.get("quantization_config") or config.get("compression_config")
    if not found and isinstance(mlx := config.get("quantization"), dict) and "bits" in mlx:
        found = mlx
    return found if isinstance(found, dict) else _of_modelopt(inspection)


def _of_modelopt(inspection: Inspection) -> dict:
    """Return what a file beside the config.json says of the codes among the weights, as a quantization_config."""
    path = inspection.path / BESIDE
    if not codes(inspection) or not path.is_file():
        return {}
    try:
        with Source(path) as source:
            said = source.json(0, source.size, unique=False).get("quantization")
    except (FileBroken, FileUnreadable):
        said = None
    return {"quant_method": "modelopt", "quant_algo": said.get("quant_algo") if isinstance(said, dict) else None}


def wrapper_of(names: Collection[str]) -> str | None:
    """Return the prefix that a wrapper has put before all names, or None.

    >>> wrapper_of(["module.lm_head.weight", "module.model.norm.weight"]), wrapper_of(["model.norm.weight"])
    ('module.', None)
    """
    return next((f"{word}." for word in WRAPPERS if names and all(name.startswith(f"{word}.") for name in names)), None)


class Renaming(NamedTuple):
    """How names become others: {pattern: replacement}, and the same in words."""

    rules: dict[str, str]
    words: str

    def new(self, name: str) -> str:
        """Return the new name."""
        for pattern, replacement in self.rules.items():
            name = re.sub(pattern, replacement, name)
        return name


def renaming(names: Collection[str], promised: Collection[str]) -> Renaming | None:
    """Return how `names` become those `promised`, one to one, or None where nothing known makes them so.

    Found are prefixes too many (`module.`, `language_model.`), others than the model's, or missing, and the marks that
    compiled and sharded modules leave inside.

    >>> renaming(["module.model.layers.0.q", "module.lm_head"], ["model.layers.0.q", "lm_head"]).words
    'without the prefix module.'
    >>> renaming(["layers.0.q", "lm_head"], ["model.layers.0.q", "lm_head"]).words
    'with the prefix model., which they lacked'
    """
    steps = [(INSIDE, "", "without the marks of a wrapper")] if any(re.search(INSIDE, name) for name in names) else []
    # The model's deepest name tells prefixes apart: theirs is what stands before that which is inside `model.`.
    first, _, inner = max(promised, key=lambda name: name.count("."), default="").partition(".")
    bare = [re.sub(INSIDE, "", name) for name in names]
    ends = [name for name in bare if f".{name}".endswith(f".{inner}")]
    if not inner or len(ends) != 1:
        return None
    ours, theirs = f"{first}.", ends[0].removesuffix(inner)
    if theirs.endswith(f".{ours}"):
        outer = theirs.removesuffix(ours)
        steps.append((f"^{re.escape(outer)}", "", f"without the prefix {outer}"))
    elif theirs and theirs != ours:
        steps.append((f"^{re.escape(theirs)}", ours, f"with {ours} in place of {theirs}"))
    elif not theirs:
        others = "|".join(re.escape(name) for name in promised if not name.startswith(ours))
        steps.append((f"^(?!({others})$)" if others else "^", ours, f"with the prefix {ours}, which they lacked"))
    found = Renaming({pattern: new for pattern, new, _ in steps}, " and ".join(words for *_, words in steps))
    return found if steps and sorted(map(found.new, names)) == sorted(promised) else None
