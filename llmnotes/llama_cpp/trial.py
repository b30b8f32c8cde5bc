"""Try whether llama.cpp loads a file, in a child process, because a broken file can crash llama.cpp."""

import io
import os
import subprocess
import sys
from pathlib import Path

from llmnotes.errors import MissingPart, ModelBroken
from llmnotes.llama_cpp.library import complaint
from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.llama_cpp.packages import llama_cpp_python

SECONDS = 60
REFUSED = 3  # the exit status for a file that llama.cpp refuses, with its reason on standard output


def checked_file(path: str | Path) -> ModelFile:
    """Return what the header of the GGUF at `path` says, after llama.cpp has loaded the file once in a child process.

    Raises what `ModelFile.read` raises, and `ModelBroken`, with llama.cpp's reason. Weights are not read.
    """
    model = ModelFile.read(path)
    try_file(model.path)
    return model


def try_file(path: Path) -> None:
    """Raise `ModelBroken`, with llama.cpp's reason, if it cannot load `path`; weights are not read."""
    command = [sys.executable, "-m", "llmnotes.llama_cpp.trial", str(path)]
    remedy = "make the file again with llmnotes convert, or download it again"
    decoding = {"text": True, "encoding": "utf-8", "errors": "replace"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment(), **decoding)
    except subprocess.TimeoutExpired:
        raise ModelBroken(f"llama.cpp is not done with {path.name} after {SECONDS} s; {remedy}.") from None
    if done.returncode == REFUSED:
        raise ModelBroken(
            f"llama.cpp does not load {path.name}: {done.stdout.strip()}; take a GGUF of an architecture that it "
            "knows, or make it again with llmnotes convert."
        )
    if done.returncode:
        raise ModelBroken(f"llama.cpp itself breaks on {path.name} (exit status {done.returncode}); {remedy}.")


def environment() -> dict[str, str]:
    """Return the environment of a process in which llama.cpp may crash: it shall not start a debugger then."""
    return os.environ | {"GGML_NO_BACKTRACE": "1"}


def main(path: str) -> int:
    """Load `path`, print the reason if that fails, and return the exit status."""
    try:
        reason = complaint(Path(path))
    except MissingPart:  # xllamacpp is not installed, or its C functions cannot be called
        try:
            reason = _complaint_of_llama_cpp_python(Path(path))
        except MissingPart:  # nothing to try it with; the server will fail without a reason
            return 0
    if reason is not None:
        print(reason)
    return REFUSED if reason is not None else 0


def _complaint_of_llama_cpp_python(path: Path) -> str | None:
    """Return why llama-cpp-python does not load `path`, or None if it does. Raises `MissingPart`."""
    try:
        llama_cpp_python().Llama(str(path), n_ctx=256, n_gpu_layers=0, verbose=False).close()
    except (ValueError, RuntimeError) as error:
        return str(error).partition(":")[0].rstrip(".")
    return None


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main(sys.argv[1]))
