"""What the runtime says of its memory, against the file, arithmetic, and the log of llama.cpp's own server."""

import re
import subprocess
import sys

import pytest

from llmnotes import formats
from llmnotes.errors import FileBroken, ProcessDied
from llmnotes.fit.empty_gguf import write_empty
from llmnotes.fit.shapes import Shape
from llmnotes.formats import convert
from llmnotes.llama_cpp.memory import reported_buffers, reported_memory
from llmnotes.pebble import weights_dir
from llmnotes.serving import load

from .processes import limited, started

pytestmark = pytest.mark.slow

# The server with our settings, whose log says what it took; it waits until nobody listens any more.
TALKING = """
import sys, xllamacpp
from llmnotes.serving import ModelFile
from llmnotes.llama_cpp import engine
start = xllamacpp.Server
def loudly(params):
    params.verbosity = 4
    return start(params)
xllamacpp.Server = loudly
server = engine.start(ModelFile.read(sys.argv[1]), n_threads=1, n_ctx=int(sys.argv[2]), exact=sys.argv[3] == "True")
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "pebble-Q4_K_M.gguf"
    convert(weights_dir("pebble"), path, type="Q4_K_M")
    return path


@pytest.mark.parametrize("exact", [False, True])
def test_the_runtime_says_what_llama_cpp_takes(gguf, exact):
    with load(gguf, n_threads=1, n_ctx=1024, exact=exact) as runtime:
        found = runtime.memory()
    tensors = formats.inspect(gguf).tensors
    assert sum(found.layers) + found.rest == sum(tensor.nbytes for tensor in tensors) and len(found.layers) == 4
    assert found.layers[0] == sum(tensor.nbytes for tensor in tensors if tensor.name.startswith("blk.0."))
    assert found.places == ("CPU",) * 5
    assert found.weights["CPU_Mapped"] == pytest.approx(sum(found.layers) + found.rest, rel=0.01)
    assert found.cache == {"CPU": 2 * 4 * 1024 * 128 * (4 if exact else 2)}  # keys and values, layers, tokens, width
    parts = (found.weights, found.cache, found.compute, found.output)
    assert found.total == sum(sum(part.values()) for part in parts) and all(parts)


@pytest.fixture(scope="module")
def wordy(tmp_path_factory):
    """A model with many tokens: the room for their logits is most of the compute buffer."""
    folder = tmp_path_factory.mktemp("wordy")
    convert(weights_dir("pebble"), folder / "pebble.gguf", type="F16")
    shape = Shape(256, 768, 4, 4, 2, 64, 20_000, True)
    write_empty(folder / "wordy.gguf", folder / "pebble.gguf", shape, "F16")
    return folder / "wordy.gguf"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exact"), [("gguf", False), ("gguf", True), ("wordy", False)])
def test_it_is_what_the_server_itself_reports(name, exact, request):
    gguf = request.getfixturevalue(name)
    command = [sys.executable, "-c", TALKING, str(gguf), "512", str(exact)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    lines = []
    with started(command, text=True, encoding="utf-8", **pipes) as process, limited(process):
        for line in process.stdout:
            lines += re.findall(r"(\S+) +(model|KV|compute|output) buffer size = +([\d.]+)", line)
            if "compute buffer size" in line:
                break
    found = reported_memory(gguf, 512, exact=exact)
    parts = {"model": found.weights, "KV": found.cache, "compute": found.compute, "output": found.output}
    assert {line[1] for line in lines} == set(parts)
    for name, part, size in lines:
        assert parts[part][name] == round(float(size) * 2**20), (part, name)
    if "wordy" in gguf.name:
        assert found.compute["CPU"] > 4 * 512 * 20_000 > 4 * reported_buffers(gguf, 512)["compute"]


def test_more_context_takes_more_cache_and_fewer_bits_take_less(gguf, tmp_path):
    convert(weights_dir("pebble"), tmp_path / "f16.gguf", type="F16")
    small, long, wide = (
        reported_buffers(gguf, 512),
        reported_buffers(gguf, 2048),
        reported_buffers(tmp_path / "f16.gguf", 512),
    )
    assert long["cache"] == 4 * small["cache"] == 4 * wide["cache"] and long["weights"] == small["weights"]
    assert wide["weights"] > 3 * small["weights"]


def test_what_cannot_be_counted_is_one_sentence(gguf, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:-5000])
    with pytest.raises(FileBroken):
        reported_memory(tmp_path / "cut.gguf", 512)
    for name in ("cut.gguf", "none.gguf"):
        with pytest.raises(ProcessDied, match="did not load") as raised:
            reported_buffers(tmp_path / name, 512)
        assert "\n" not in str(raised.value)
