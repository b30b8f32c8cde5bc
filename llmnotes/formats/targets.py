"""The target formats of a conversion, and their names on the command line."""

from llmnotes.errors import NotConvertible

# A target's name -> the endings of a file that choose it when nobody says.
TARGETS = {
    "safetensors": (".safetensors",),
    "pytorch": (".pt", ".pth", ".bin", ".ckpt"),
    "gguf": (".gguf",),
    "mmproj": (),  # a GGUF as well, and only asked for by name
    "onnx": (".onnx",),
    "tensorflow": (".index",),
    "huggingface": ("",),
}


def keep_types(type: str | None) -> None:
    """Raise `NotConvertible` if a `type` was asked for where every tensor keeps its own."""
    if type is not None:
        raise NotConvertible(
            f"--type {type} only works when the target is a GGUF; here tensors keep their types, so leave it out."
        )
