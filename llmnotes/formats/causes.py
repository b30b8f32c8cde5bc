"""Why a sound folder may not hold the tensors that its config.json speaks of: asked before anybody says "damaged".

The weights may be packed, carry the names of a wrapper, or belong to an adapter or another program.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from llmnotes.formats.results import Inspection

# What puts names of its own before or into those of a model's tensors when it is saved.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "language_model")
INSIDE = r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."

METHODS = {"gptq": "GPTQ", "awq": "AWQ", "fp8": "FP8", "fbgemm_fp8": "FP8", "bitsandbytes": "bitsandbytes"}
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
    if not config:
        packed = any(tensor.name.endswith(PACKED) for tensor in inspection.tensors)
        return "GPTQ or AWQ, and no quantization_config says how" if packed else None
    return in_words(config)


def in_words(config: dict) -> str:
    """Return what a quantization_config says, in a few words.

    >>> in_words({"quant_method": "gptq", "bits": 4})
    'GPTQ, 4 bits'
    """
    method = str(config.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in config else "unknown"))[:40]
    bits = config.get("bits", config.get("w_bit", 4 if config.get("load_in_4bit") is True else None))
    more = config.get("format") if method == "compressed-tensors" else bits and f"{str(bits)[:4]} bits"
    return METHODS.get(method, method) + (f", {str(more)[:40]}" if more else "")


def settings_of(inspection: Inspection) -> dict:
    """Return the quantization_config of a folder, {} if it has none; older compressed-tensors have another name."""
    config = inspection.metadata.get("config") or {}
    found = config.get("quantization_config") or config.get("compression_config")
    return found if isinstance(found, dict) else {}


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
