"""llama.cpp's logits on a few tokens, from a child process, because a broken file can crash llama.cpp."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes.errors import DoesNotFit, ModelBroken, ProcessDied, UnknownName
from llmnotes.hardware import cores
from llmnotes.llama_cpp.library import Model, library
from llmnotes.llama_cpp.trial import environment

if TYPE_CHECKING:
    import numpy as np

SECONDS = 600
REFUSED = 3  # the exit status where llama.cpp says why, on standard output


def logits_of(path: Path, ids: list[int]) -> "np.ndarray":
    """Return the logits after each token of `ids`, float32 (tokens, vocabulary), as exact as llama.cpp can be.

    Raises `MissingPart` without xllamacpp, `ModelBroken` with llama.cpp's reason, and `ProcessDied` where it breaks
    itself or takes longer than ten minutes. Uses no GPU. Does not cut a text into tokens.

    >>> from llmnotes.models.files import convert
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert("pebble", Path(folder, "pebble.gguf"))
    ...     scores = logits_of(done.target, [0, 41, 42])
    >>> scores.shape
    (3, 2048)
    """
    import numpy as np

    library()  # without it, the child could not say what is missing
    command = [sys.executable, "-m", "llmnotes.llama_cpp.logits", str(path), json.dumps(ids)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment())
    except subprocess.TimeoutExpired:
        raise ProcessDied(f"llama.cpp has not run {path.name} in {SECONDS} s; try a smaller file.") from None
    if done.returncode == REFUSED:
        raise ModelBroken(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode:
        raise ProcessDied(f"llama.cpp breaks on {path.name} (exit status {done.returncode}); try another type.")
    return np.frombuffer(bytearray(done.stdout), np.float32).reshape(len(ids), -1)


def main(path: str, ids: str) -> int:
    """Write the logits to standard output as they lie in memory, or the reason why there are none."""
    try:
        with Model(Path(path)) as model:
            scores = model.logits(json.loads(ids), cores())
    except (ModelBroken, DoesNotFit, UnknownName) as error:
        sys.stdout.buffer.write(str(error).encode())
        return REFUSED
    sys.stdout.buffer.write(scores.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
