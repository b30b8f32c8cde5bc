"""The folder that a fine-tuning writes: whose it is, its log line by line, and what it ends with."""

from __future__ import annotations

import errno
import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmnotes.errors import CannotWrite
from llmnotes.finetuning import adapter_files
from llmnotes.formats.adapters import RUN, Base
from llmnotes.formats.safe_write import new_file, new_folder
from llmnotes.formats.safetensors import write_safetensors
from llmnotes.models import LanguageModel

REPORT, LOG = "report.json", "training_log.jsonl"


class Output:
    """The output folder of one training; `facts` tell it from any other. With several processes, only one `writes`.

    run.json holds the facts; report.json is written last, and a folder that has it is finished. Raises `CannotWrite`
    where the folder holds anything but an unfinished training with the same facts.
    """

    def __init__(self, folder: str | Path, writes: bool = True):
        self.folder, self.writes = Path(folder), writes
        self.checkpoints = self.folder / "checkpoints"
        if self.folder.is_symlink() or self.folder.exists():
            if (self.folder / REPORT).exists():
                raise CannotWrite(
                    f"{folder} holds a training that is finished; give another output, or remove it first."
                )
            seen = self.folder.is_dir() and [path for path in self.folder.iterdir() if path.name[0] != "."]
            if not self.folder.is_dir() or seen and not (self.folder / RUN).is_file():
                raise CannotWrite(
                    f"{folder} exists already and is kept as it is; give another output, or remove it first."
                )

    def check(self, facts: dict) -> None:
        """Refuse the folder if its training has other facts; the sentence names the first."""
        path = self.folder / RUN
        if not path.is_file():
            return
        try:
            known = dict(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            raise CannotWrite(
                f"{path} cannot be read, so nobody knows what to go on with; remove {self.folder}."
            ) from None
        for key in dict.fromkeys([*facts, *known]):
            old, new = known.get(key), json.loads(json.dumps(facts.get(key)))
            if old != new:
                was = "" if key == "data" else f" (it was {str(old)[:80]}, and is {str(new)[:80]})"
                raise CannotWrite(
                    f"{self.folder} holds an unfinished training with another {key}{was}; give another output, or "
                    "remove it first."
                )

    def begin(self, facts: dict, step: int) -> None:
        """Make the folder if it is not there, and forget what the log says about the steps after `step`."""
        self.records: list[dict] = []
        path, end = self.folder / LOG, 0
        with _sentence(self.folder):
            for line in path.read_bytes().splitlines(keepends=True) if step and path.exists() else ():
                record = _record(line)
                if record is None or record["step"] > step:
                    break
                self.records.append(record)
                end += len(line)
            if not self.writes:
                return
            self.folder.mkdir(exist_ok=True)
            if not (self.folder / RUN).exists():
                with new_file(self.folder / RUN) as file:
                    file.write(json.dumps(facts, indent=1).encode())
            with open(path, "ab") as file:
                file.truncate(end)

    def note(self, record: dict) -> None:
        """Add a line to the log."""
        self.records.append(record)
        if self.writes:
            line = json.dumps(record).encode() + b"\n"
            with _sentence(self.folder), open(self.folder / LOG, "ab", buffering=0) as file:
                if file.write(line) < len(line):  # what a full disk does first
                    raise OSError(errno.ENOSPC, "the disk is full")

    def finish(self, lm: LanguageModel, base: Base, method: str, report: dict) -> None:
        """Write the adapter with a record of its `base`, or the model, then the report; each whole or not at all."""
        if not self.writes:
            return
        if not self.result(method).exists():  # it is there if a run was killed between the two
            if method == "full":
                save_model(lm, self.result(method))
            else:
                beside = _files(lm.tokenizer)
                adapter_files.save(lm.model, self.result(method), base=base, beside=beside)
        with new_file(self.folder / REPORT) as file:
            file.write(json.dumps(report, indent=1).encode())

    def result(self, method: str) -> Path:
        """Return the folder of what was trained."""
        return self.folder / ("model" if method == "full" else "adapter")


def save_model(lm: LanguageModel, folder: str | Path) -> None:
    """Write a model and its tokenizer as a new Hugging Face folder, each tensor in its own float type.

    Raises `CannotWrite`. Does not cut the weights into shards.
    """
    tensors, seen = {}, set()
    for name, tensor in lm.model.state_dict().items():
        if tensor.data_ptr() not in seen:  # the output head may be the embedding
            tensors[name] = tensor
            seen.add(tensor.data_ptr())
    lm.model.config.dtype = lm.model.dtype
    with new_folder(folder) as new:
        for name, content in _files(lm.tokenizer, lm.model.config, lm.model.generation_config).items():
            with new.file(name) as file:
                file.write(content)
        with new.file("model.safetensors") as file:
            planned = [adapter_files.planned(name, tensor) for name, tensor in tensors.items()]
            write_safetensors(file, planned, {"format": "pt"})


def _files(*wholes: Any) -> dict[str, bytes]:
    """Return the small files that tokenizers and settings of transformers save themselves as: {name: content}."""
    with tempfile.TemporaryDirectory(prefix="llmnotes-") as small:
        for whole in wholes:
            whole.save_pretrained(small)
        return {path.name: path.read_bytes() for path in sorted(Path(small).iterdir())}


def _record(line: bytes) -> dict | None:
    """Return what a line of the log says, or None if it was cut short."""
    try:
        record = json.loads(line)
        return record if line.endswith(b"\n") and isinstance(record["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


@contextmanager
def _sentence(folder: Path):
    """Turn what the system says about a file in `folder` into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CannotWrite(f"The disk has no room for {folder}; free some space, or choose another disk.") from None
        raise CannotWrite(f"{folder} cannot be written ({error.strerror}); choose another output.") from None
