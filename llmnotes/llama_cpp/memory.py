"""What llama.cpp itself says that it allocates, and which layers lie where.

Its log is caught through its C functions, in a process that loads the model once more, counts and ends: a line is here
when the call that wrote it returns. The log of its server is written by a thread, and lines may come late or never.
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
from llmnotes.llama_cpp.trial import quick

SECONDS = 300
BUFFER = re.compile(r" (\S+) +(model|KV|output|compute) buffer size = +([\d.]+) MiB")
LAYER = re.compile(r"layer +(\d+) assigned to device (\w+)")


@dataclass(frozen=True)
class Memory:
    """Bytes: `layers` of the weights of each layer in the file, `rest` of its other weights, such as the embedding.

    `places` names the device of each layer, and last that of the output. The others are what llama.cpp reports, by the
    name of the buffer, to a hundredth of a MiB: `weights` (a file that is mapped counts as CPU_Mapped; CPU_REPACK is a
    second copy of some of it, in the order in which the processor reads best), `cache` of keys and values, `compute`
    for the results of a batch, with `output` for its logits.
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


def memory(path: Path, n_ctx: int, *, n_gpu_layers: int = -1, exact: bool = False) -> Memory:
    """Return what llama.cpp takes for the GGUF at `path` as `llmnotes.serving.load` runs it: one sequence of `n_ctx`.

    That gives embeddings too, for which llama.cpp keeps room for the logits of 512 tokens at once: up to 4 * 512 bytes
    for each token of the vocabulary more than without (65 MB for 32,000 tokens), and than `llmnotes.fit` counts.

    Raises `ProcessDied` where the process fails or is not done within five minutes, and what `formats.inspect` raises.
    Does not count what Python and the server around it take.
    """
    layers, rest = Counter(), 0
    for tensor in formats.inspect(path).tensors:
        match = re.match(r"blk\.(\d{1,5})\.", tensor.name)
        if match:
            layers[int(match[1])] += tensor.nbytes
        else:
            rest += tensor.nbytes
    lines = _lines(path, n_ctx, n_gpu_layers, exact, True, True)
    places = dict((int(match[1]), match[2]) for line in lines if (match := LAYER.search(line)))
    parts = {part: dict(_buffers(lines, part)) for part in ("model", "KV", "compute", "output")}
    return Memory(
        tuple(layers[number] for number in sorted(layers)),
        rest,
        tuple(places[number] for number in sorted(places)),
        *parts.values(),
    )


def reported(path: Path, n_ctx: int) -> dict[str, int]:
    """Return the bytes of the buffers that llama.cpp reports for a GGUF: "weights", "cache" and "compute".

    It is loaded on the processor, for one sequence, without embeddings, and no weight is repacked, which depends on the
    processor. Raises `ProcessDied` as `memory` does.
    """
    lines = _lines(path, n_ctx, 0, False, False, False)
    parts = {"weights": "model", "cache": "KV", "compute": "compute"}
    return {name: _buffers(lines, part).total() for name, part in parts.items()}


def _buffers(lines: list[str], part: str) -> Counter:
    found = Counter()
    for line in lines:
        match = BUFFER.search(line)
        if match and match[2] == part:
            found[match[1]] += round(float(match[3]) * 2**20)
    return found


def _lines(path: Path, *wish) -> list[str]:
    """Return what llama.cpp says of buffers and layers when it loads `path` as `wish`ed."""
    command = [sys.executable, "-m", "llmnotes.llama_cpp.memory", json.dumps([str(path), *wish])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=quick())
    except subprocess.TimeoutExpired:
        raise ProcessDied(f"llama.cpp has not loaded {path} in {SECONDS} seconds; try a smaller file.") from None
    if done.returncode:
        raise ProcessDied(
            f"llama.cpp did not load {path} to count its memory; try `llmnotes inspect` on it, see that xllamacpp is "
            "here, and take a shorter context if there is no room for this one."
        )
    return json.loads(done.stdout)


def main(wish: str) -> int:
    """Load what `wish` says and print llama.cpp's lines as JSON."""
    path, n_ctx, n_gpu_layers, exact, repack, embeddings = json.loads(wish)
    try:
        with log() as said, Model(Path(path), n_gpu_layers, repack) as model:
            model.reserve(n_ctx, exact, embeddings)
    except (ModelBroken, DoesNotFit):
        return 1
    print(json.dumps([line for _, line in said if BUFFER.search(line) or LAYER.search(line)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
