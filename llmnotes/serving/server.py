"""`llmnotes serve`: llama.cpp's own server, which any client of OpenAI's protocol can ask."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from llmnotes.errors import BadSettings, ServerFailed
from llmnotes.llama_cpp.engine import context_of, start
from llmnotes.llama_cpp.trial import checked_file
from llmnotes.serving.loading import gguf_of

PARALLEL = 4
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    name: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    key: str | None = None,
    parallel: int = PARALLEL,
    n_threads: int | None = None,
    n_gpu_layers: int | None = None,
    n_ctx: int | None = None,
    type: str | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM, which end the process at once with exit status 0: never returns.

    Answers /v1/models, /v1/completions, /v1/chat/completions (both also as streams) and /v1/embeddings. With a `key`,
    a request without it gets 401. Up to `parallel` answers are written at once, each in a context of `n_ctx` tokens;
    more clients wait. The other arguments are those of `llmnotes.serving.load`. `say` receives the lines for the
    reader.

    Raises what `load` raises, and `ServerFailed` if the port cannot be opened, all before it is open.

    Does not encrypt: across a network, put a server that speaks TLS in front of it. Does not embed texts longer than
    512 tokens. Does not keep clients apart that share a key. The answers are llama.cpp's own, and it answers some wrong
    requests with 500 where 400 would be right: a chat message whose role or text is missing or not a string, malformed
    tools, an image for a model that cannot see, and a text that is too long for an embedding.
    """
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise BadSettings("The API key is empty or has characters that a header cannot carry; take letters and digits.")
    model = checked_file(gguf_of(name, type))
    tokens = context_of(model, n_ctx)
    _try_port(host, port)
    ended = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the model is loaded, Ctrl-C may simply kill the process
    server = start(
        model,
        n_threads=n_threads,
        n_gpu_layers=n_gpu_layers,
        n_ctx=tokens,
        parallel=parallel,
        host=host,
        port=port,
        key=key,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    address = f"{server.listening_address}/v1"
    say(f"{model.name}: {address} ({parallel} answers at once, {tokens:,} tokens each; Ctrl-C ends it)")
    if host not in LOCAL and not key:
        say("Anyone who reaches this machine may ask it: give a key with --api-key.")
    while not ended.wait(0.2):  # on Windows, Ctrl-C does not interrupt a wait without a timeout
        pass
    sys.stdout.flush()
    os._exit(0)  # nothing is left to write, and a normal exit would wait for the answers that are being written


def _try_port(host: str, port: int) -> None:
    """Raise `ServerFailed` if nothing can listen at `host` and `port`."""
    try:
        if not 0 <= port < 1 << 16:  # some systems would use the lowest 16 bits
            raise OverflowError("ports end at 65535")
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # a port that was closed a moment ago is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerFailed(f"Port {port} of {host} cannot be opened ({reason}); choose another with --port.") from None
