"""The target formats of a conversion, and their names on the command line."""

from pathlib import Path

from llmnotes.errors import NotConvertible

# A target's name -> the endings of a file that choose it when nobody says.
TARGETS = {
    "safetensors": (".safetensors",),
    "pytorch": (".pt", ".pth", ".bin", ".ckpt"),
    "gguf": (".gguf",),
    "mmproj": (),  # a GGUF as well, and only asked for by name
    "lora": (),  # the same: an adapter alone
    "onnx": (".onnx",),
    "tensorflow": (".index",),
    "huggingface": ("",),
}


def target_of(dst: Path, to: str | None) -> str:
    """Return the format of a target, by its ending where nobody names it; raise `NotConvertible` where neither says.

    >>> target_of(Path("model.gguf"), None), target_of(Path("vision.gguf"), "MMPROJ")
    ('gguf', 'mmproj')
    """
    if to is None:
        to = next((name for name, endings in TARGETS.items() if dst.suffix.lower() in endings), None)
        if to is None:
            raise NotConvertible(
                f"The ending of {dst.name} does not name a format; add one of --to {' | '.join(TARGETS)}."
            )
    to = to.lower()
    if to not in TARGETS:
        raise NotConvertible(f"llmnotes cannot write the format {to[:40]!r}; choose one of {', '.join(TARGETS)}.")
    return to


def keep_types(type: str | None) -> None:
    """Raise `NotConvertible` if a `type` was asked for where every tensor keeps its own."""
    if type is not None:
        raise NotConvertible(
            f"--type {type} only works when the target is a GGUF; here tensors keep their types, so leave it out."
        )
