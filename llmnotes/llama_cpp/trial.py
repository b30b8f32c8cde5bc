"""Whether llama.cpp takes a file at all, tried in a process of its own: what breaks it breaks nothing else."""

import os
import subprocess
import sys
from pathlib import Path

from llmnotes.errors import MissingPart, ModelBroken
from llmnotes.llama_cpp.library import complaint

SECONDS = 60
REFUSED = 3  # the exit status for a file that llama.cpp refuses, with its reason on standard output


def try_file(path: Path) -> None:
    """Raise `ModelBroken`, with llama.cpp's reason, if it cannot load `path`; weights are not read."""
    command = [sys.executable, "-m", "llmnotes.llama_cpp.trial", str(path)]
    remedy = "make the file again with llmnotes convert, or download it again"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=SECONDS, env=quick()
        )
    except subprocess.TimeoutExpired:
        raise ModelBroken(f"llama.cpp is not done with {path.name} after {SECONDS} s; {remedy}.") from None
    if done.returncode == REFUSED:
        raise ModelBroken(
            f"llama.cpp does not load {path.name}: {done.stdout.strip()}; take a GGUF of an architecture that it "
            "knows, or make it again with llmnotes convert."
        )
    if done.returncode:
        raise ModelBroken(f"llama.cpp itself breaks on {path.name} (exit status {done.returncode}); {remedy}.")


def quick() -> dict[str, str]:
    """Return the environment of a process in which llama.cpp may break: without a debugger that tells where."""
    return os.environ | {"GGML_NO_BACKTRACE": "1"}


def main(path: str) -> int:
    """Load `path`; print the reason if that fails."""
    try:
        reason = complaint(Path(path))
    except MissingPart:  # xllamacpp is not here, or shows no C interface
        from llmnotes.serving.bindings import complaint as other

        try:
            reason = other(Path(path))
        except MissingPart:  # nothing can be tried, and the server says no more than no
            return 0
    if reason is not None:
        print(reason)
    return REFUSED if reason is not None else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main(sys.argv[1]))
