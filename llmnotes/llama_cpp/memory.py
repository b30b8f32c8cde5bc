"""How much memory llama.cpp itself reports to have allocated, and on which device each layer is.

This is read from its log. A child process loads the model once more through the C functions, whose log lines are
complete when the call returns; those of its server are written by a thread and may come late or never.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from llmnotes import formats
from llmnotes.errors import DoesNotFit, ModelBroken, ProcessDied
from llmnotes.llama_cpp.library import Model, log
from llmnotes.llama_cpp.trial import environment

SECONDS = 300
CACHES = {"F16": 1, "Q8_0": 8, "Q4_0": 2}  # type of keys and values -> ggml's number of it
BUFFER = re.compile(r" (\S+) +(model|KV|RS|output|compute) buffer size = +([\d.]+) MiB")
LAYER = re.compile(r"layer +(\d+) assigned to device (\w+)")


@dataclass(frozen=True)
class ReportedMemory:
    """The memory of a model in llama.cpp, in bytes.

    From the file: `layers`, the weights of each layer, and `rest`, the other weights, such as the embedding. From
    llama.cpp's log: `places`, the device of each layer and last that of the output; and the buffers by name, rounded to
    a hundredth of a MiB: `weights` (CPU_Mapped is the file, mapped into memory; CPU_REPACK a second copy of some
    weights in an order that the processor reads faster), `cache` for keys and values and for the states of recurrent
    layers, `compute` for the intermediate results of a batch, and `output` for its logits.
    """

    layers: tuple[int, ...]
    rest: int
    places: tuple[str, ...]
    weights: dict[str, int]
    cache: dict[str, int]
    compute: dict[str, int]
    output: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all buffers."""
        return sum(sum(part.values()) for part in (self.weights, self.cache, self.compute, self.output))


def reported_memory(path: Path, n_ctx: int, *, n_gpu_layers: int = -1, exact: bool = False) -> ReportedMemory:
    """Return the memory that llama.cpp takes for the GGUF at `path` as `llmnotes.serving.load` runs it.

    That is one sequence of `n_ctx` tokens, with embeddings. For these llama.cpp keeps room for the logits of 512 tokens
    at once: up to 4 * 512 bytes for each token of the vocabulary (65 MB for 32,000 tokens), which `llmnotes.fit` does
    not count.

    Raises `ProcessDied` if the child process fails or takes more than five minutes, and what `formats.inspect` raises.
    Does not count the memory of Python and of the server.
    """
    layers, rest = Counter(), 0
    found = formats.inspect(path)
    for tensor in found.tensors:
        match = re.match(r"blk\.(\d{1,5})\.", tensor.name)
        if match:
            layers[int(match[1])] += tensor.nbytes
        else:
            rest += tensor.nbytes
    lines = _lines(found.path, n_ctx, n_gpu_layers, exact, repack=True, embeddings=True)
    places = dict((int(match[1]), match[2]) for line in lines if (match := LAYER.search(line)))
    parts = {part: _buffers(lines, part) for part in ("model", "KV", "RS", "compute", "output")}
    parts["KV"] += parts.pop("RS")
    return ReportedMemory(
        tuple(layers[number] for number in sorted(layers)),
        rest,
        tuple(places[number] for number in sorted(places)),
        *map(dict, parts.values()),
    )


def reported_buffers(path: Path, n_ctx: int, cache: str = "F16") -> dict[str, int]:
    """Return the bytes of the buffers that llama.cpp reports for a GGUF: "weights", "cache" and "compute".

    The model is loaded on the CPU, for one sequence, without embeddings, and without repacked weights, because these
    depend on the CPU. `cache` is the type of keys and values. Raises `ProcessDied` as `reported_memory` does.
    """
    lines = _lines(path, n_ctx, 0, exact=False, repack=False, embeddings=False, cache=cache)
    parts = {"weights": ("model",), "cache": ("KV", "RS"), "compute": ("compute",)}
    return {name: sum(_buffers(lines, part).total() for part in named) for name, named in parts.items()}


def _buffers(lines: list[str], part: str) -> Counter[str]:
    """Return the bytes of each buffer of `part`, one of "model", "KV", "RS", "compute" and "output", by its name."""
    found = Counter()
    for line in lines:
        match = BUFFER.search(line)
        if match and match[2] == part:
            found[match[1]] += round(float(match[3]) * 2**20)
    return found


def _lines(
    path: Path, n_ctx: int, n_gpu_layers: int, exact: bool, repack: bool, embeddings: bool, cache: str = "F16"
) -> list[str]:
    """Load `path` in a child process and return the lines of llama.cpp's log that name buffers and layers."""
    settings = json.dumps([str(path), n_ctx, n_gpu_layers, exact, repack, embeddings, CACHES[cache]])
    command = [sys.executable, "-m", "llmnotes.llama_cpp.memory", settings]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment())
    except subprocess.TimeoutExpired:
        raise ProcessDied(f"llama.cpp has not loaded {path} in {SECONDS} seconds; try a smaller file.") from None
    if done.returncode:
        raise ProcessDied(
            f"llama.cpp did not load {path} to count its memory; try `llmnotes inspect` on it, see that xllamacpp is "
            "here, and take a shorter context if there is no room for this one."
        )
    return json.loads(done.stdout)


def main(settings: str) -> int:
    """Load a model with `settings`, a list in JSON, and print the lines of the log as JSON."""
    path, n_ctx, n_gpu_layers, exact, repack, embeddings, cache = json.loads(settings)
    try:
        with log() as lines, Model(Path(path), n_gpu_layers, repack) as model:
            model.reserve(n_ctx, exact, embeddings, cache)
    except (ModelBroken, DoesNotFit):
        return 1
    print(json.dumps([line for _, line in lines if BUFFER.search(line) or LAYER.search(line)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
