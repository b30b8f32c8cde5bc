"""`llmnotes serve`: llama.cpp's own server, behind which every client of OpenAI's protocol finds a model."""

import os
import signal
import socket
import sys
import threading

from llmnotes.errors import BadSettings, ServerFailed
from llmnotes.llama_cpp.engine import context_of, start
from llmnotes.llama_cpp.model_file import about, gguf_of
from llmnotes.llama_cpp.trial import try_file

PARALLEL = 4
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    key: str | None = None,
    parallel: int = PARALLEL,
    n_threads: int | None = None,
    n_gpu_layers: int | None = None,
    n_ctx: int | None = None,
    type: str | None = None,
    say=print,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM, which end the process at once with exit status 0: never returns.

    Answers /v1/models, /v1/completions, /v1/chat/completions (both also as streams) and /v1/embeddings; with a `key`,
    whoever does not send it gets 401. `parallel` answers are written at once, each in a context of `n_ctx` tokens, and
    more clients wait. The other arguments are those of `llmnotes.serving.load`. `say` receives what to tell the reader.

    Raises what `load` raises, and `ServerFailed` if the port cannot be opened, all before it is open.

    Does not encrypt: put a server that speaks TLS before it where a network lies between. Texts longer than 512 tokens
    get no embedding. Does not keep clients apart that share a key. The answers are llama.cpp's own, and a few requests
    that are wrong get 500 from it and not 400, with the reason: a role or a text of a chat that is missing or no
    string, tools that are none, an image for a model without eyes, and a text too long for an embedding.
    """
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise BadSettings("The API key is empty or has characters that a header cannot carry; take letters and digits.")
    model = about(gguf_of(name, type))
    tokens = context_of(model, n_ctx)
    try_file(model.path)
    _try_port(host, port)
    ended = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing can be lost while the model is loaded
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
        say("Everybody who reaches this machine may ask it: give a key with --api-key.")
    while not ended.wait(0.2):  # a wait without an end would not be interrupted on Windows
        pass
    sys.stdout.flush()
    os._exit(0)  # nothing is left to write, and an answer that is under way would hold up an orderly end


def _try_port(host: str, port: int) -> None:
    """Raise `ServerFailed` if nothing can listen at `host` and `port`."""
    try:
        if not 0 <= port < 1 << 16:  # the system would take what is left of it
            raise OverflowError("ports end at 65535")
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # what was closed a moment ago does not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerFailed(f"Port {port} of {host} cannot be opened ({reason}); choose another with --port.") from None
