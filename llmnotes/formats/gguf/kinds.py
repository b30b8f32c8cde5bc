"""What a GGUF can hold instead of a language model: an adapter, a vocabulary, importance, an image encoder."""

from llmnotes.errors import LLMNotesError
from llmnotes.formats.results import Inspection

# What it is -> what to do instead
ADAPTER = "an adapter, which changes a model and is none by itself"
VOCABULARY = "a vocabulary alone, without a model's weights"
MATRIX = "an importance matrix, which says which weights of a model matter"
ENCODER = "the image encoder of a model, without the model"
REMEDIES = {
    ADAPTER: "take its base model and give llama.cpp the adapter with --lora, or merge both with llama-export-lora",
    VOCABULARY: "take the GGUF that has them",
    MATRIX: "give it as --imatrix where that model is quantized",
    ENCODER: "take the GGUF of its language model",
}


def other_than_a_model(inspection: Inspection) -> str | None:
    """Return in words what a GGUF is, or None for a model, or for what does not say."""
    keys = inspection.metadata
    kind = keys.get("general.type")
    named = kind is None and any(tensor.name.endswith((".lora_a", ".lora_b")) for tensor in inspection.tensors)
    if kind == "adapter" or "adapter.type" in keys or named:
        return ADAPTER
    if kind == "imatrix":
        return MATRIX
    if kind == "mmproj" or inspection.architecture == "clip":
        return ENCODER
    return VOCABULARY if not inspection.tensors and "tokenizer.ggml.tokens" in keys else None


def only_a_model(inspection: Inspection, error: type[LLMNotesError]) -> None:
    """Raise `error` with the remedy where a GGUF holds something else than a language model."""
    found = other_than_a_model(inspection)
    if found is not None:
        raise error(f"{inspection.path.name} is {found}; {REMEDIES[found]}.")
