"""What an adapter's folder says of the model that it belongs to, and which folder a fine-tuning's output means."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken
from llmnotes.formats.huggingface import settings

CONFIG = "adapter_config.json"
RECORD = "base.json"  # ours, beside PEFT's: what PEFT's has no place for
RUN, RESULTS = "run.json", ("adapter", "model")  # what `llmnotes finetune` writes into its output


@dataclass(frozen=True)
class Base:
    """The model that an adapter was trained on: its `name` or path, the hub's `revision`, how it was quantized.

    `quantization` is None for a base in floats, and else {"method": "nf4", "double": true, "dtype": "float32"}, where
    `dtype` is the type of the weights before.
    """

    name: str
    revision: str | None = None
    quantization: dict[str, Any] | None = None

    def as_json(self) -> bytes:
        """Return the record as the bytes of a file."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter in PEFT's layout."""
    return os.path.isfile(folder / CONFIG)  # noqa: PTH113 - False, too, for a name that no file can have


def base_of(folder: Path) -> Base:
    """Return the model that the adapter in a folder was trained on, as our record says, or else as PEFT's settings say.

    Raises `FileBroken` where neither does.
    """
    found = settings(folder / (RECORD if (folder / RECORD).is_file() else CONFIG))
    name = found.get("name", found.get("base_model_name_or_path"))
    revision, quantization = found.get("revision"), found.get("quantization")
    if not isinstance(name, str) or not name or not isinstance(revision, str | None):
        raise FileBroken(f"{folder} does not say which model it adapts; add base_model_name_or_path to its {CONFIG}.")
    return Base(name, revision, quantization if isinstance(quantization, dict) else None)


def result_of(path: Path) -> Path:
    """Return the folder of what was trained for the output of a fine-tuning, and any other path as it is."""
    if os.path.isfile(path / RUN):  # noqa: PTH113 - as above
        return next((path / name for name in RESULTS if (path / name).is_dir()), path)
    return path


def name_of(folder: Path) -> str:
    """Return what to call a model: the name of its folder, or of the output that it lies in."""
    return folder.parent.name if folder.name in RESULTS and (folder.parent / RUN).is_file() else folder.name
