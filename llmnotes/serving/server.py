"""`llmnotes serve`: llama.cpp's own server, which any client of OpenAI's protocol can ask."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from llmnotes.errors import BadSettings, ProcessDied, ServerFailed
from llmnotes.llama_cpp.child import Child
from llmnotes.llama_cpp.engine import context_of
from llmnotes.llama_cpp.gpus import idle_gpu
from llmnotes.llama_cpp.trial import checked_file
from llmnotes.serving.chats import separator_of
from llmnotes.serving.front import Front
from llmnotes.serving.http_messages import HEAD
from llmnotes.serving.loading import companions, gguf_of
from llmnotes.serving.parameters import Abilities

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
    cache: str = "F16",
    flash_attention: str = "auto",
    draft: str | Path | None = None,
    mmproj: str | Path | None = None,
    verbose: bool = False,
    say: Callable[[str], object] = print,
) -> int:
    """Serve a model until Ctrl-C or SIGTERM, which cut off the answers that are being written; return which it was.

    Answers /v1/models, /v1/models/NAME, /v1/completions, /v1/chat/completions (both also as streams) and
    /v1/embeddings. With a `key`, a request without it gets 401; without one, web pages get 403 unless they come from
    this machine. Up to `parallel` answers are written at once, each in a context of `n_ctx` tokens; more clients wait.
    The other arguments are those of `llmnotes.serving.load`. `say` receives the lines for the reader; with `verbose`,
    also one for each request: time, address, what was asked, HTTP status, seconds.

    llama.cpp ignores some request parameters of OpenAI; those that would change the answer get 400, as
    `llmnotes.serving.parameters` says. A text becomes the vector that the file says: the mean of its tokens' states,
    or the state of the first or the last; the mean, where it says nothing.

    Raises what `load` raises, and `ServerFailed` if the port cannot be opened, all before it is open; and `ProcessDied`
    when llama.cpp ends by itself.

    Does not encrypt: across a network, put a server that speaks TLS in front of it. Does not embed texts longer than
    512 tokens. Does not keep clients apart that share a key.
    """
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise BadSettings("The API key is empty or has characters that a header cannot carry; take letters and digits.")
    model = checked_file(gguf_of(name, type))
    tokens = context_of(model, n_ctx)
    notes: list[str] = []
    more = {"cache": cache, "flash_attention": flash_attention, **companions(name, model, draft, mmproj, notes.append)}
    if n_gpu_layers != 0 and (idle := idle_gpu()):
        notes.append(idle)
    with _open_port(host, port) as port_socket:
        sizes = {"n_threads": n_threads, "n_gpu_layers": n_gpu_layers, "n_ctx": tokens, "parallel": parallel}
        child = Child(model, **sizes, **more)
        try:
            facts = child.ask("/props")
            abilities = Abilities(
                model.name,
                model.width,
                chats=model.template is not None,
                tools=facts["chat_template_caps"]["supports_tools"],
                pictures=facts["modalities"]["vision"],
            )
            separator = separator_of(child) if abilities.chats else ""
            front = Front(child, abilities, separator, key, say if verbose else None)
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{port_socket.getsockname()[1]}/v1"

            def ready() -> None:
                say(f"{model.name}: {address} ({parallel} answers at once, {tokens:,} tokens each; Ctrl-C ends it)")
                for note in notes:
                    say(note)
                if not abilities.chats:
                    say(f"{model.name} has no chat template: it continues texts, and requests to chat are refused.")
                if host not in LOCAL and not key:
                    say("Anyone who reaches this machine may ask it: give a key with --api-key.")

            return asyncio.run(_until_the_end(front, port_socket, ready))
        finally:
            child.close()


async def _until_the_end(front: Front, port: socket.socket, ready: Callable[[], None]) -> int:
    """Answer at `port` until Ctrl-C or SIGTERM, and return its number. Raises `ProcessDied` when llama.cpp ends before.

    Nobody is waited for then, neither a client that does not read nor one that does not ask: what answers them is
    cancelled here, and once more by `asyncio.run`, since before Python 3.12 `wait_for` may pass over a cancellation
    that comes together with what it waits for.
    """
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: received.append(got)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    server = await asyncio.start_server(front.serve, sock=port, limit=HEAD)
    try:
        ready()
        while not received:
            if front.child.process.poll() is not None:
                raise ProcessDied(
                    f"llama.cpp has ended with exit status {front.child.process.returncode}; start serve again, with "
                    "fewer layers on the GPU or a shorter context if memory ran out."
                )
            await asyncio.sleep(0.1)  # on Windows, Ctrl-C does not interrupt a wait without a timeout
        return received[0]
    finally:
        server.close()
        front.child.close()  # an answer that it is still computing is over, too
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_port(host: str, port: int) -> socket.socket:
    """Return a socket that nobody else can take `host` and `port` from. Raises `ServerFailed`."""
    try:
        if not 0 <= port < 1 << 16:  # some systems would use the lowest 16 bits
            raise OverflowError("ports end at 65535")
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        try:
            if os.name == "posix":  # a port that was closed a moment ago is free
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
        return found
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServerFailed(f"Port {port} of {host} cannot be opened ({reason}); choose another with --port.") from None
