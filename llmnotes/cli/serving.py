"""The commands `llmnotes serve` and `llmnotes chat`."""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmnotes.errors import BadSettings

if TYPE_CHECKING:
    from llmnotes.serving import Client

OURS = "pebble, pebble-chat, pebble-llava or smollm2"


def serve(arguments: Namespace) -> int:
    """Serve a model until Ctrl-C or SIGTERM; the exit status says which it was."""
    from llmnotes.serving.server import serve as run

    return 128 + run(
        arguments.model,
        host=arguments.host,
        port=arguments.port,
        key=_key(arguments),
        parallel=arguments.parallel,
        verbose=arguments.verbose,
        say=lambda line: print(line, flush=True),
        **_loading(arguments),
    )


def chat(arguments: Namespace) -> int:
    """Talk to a model or to a server."""
    from llmnotes.serving import Client, load
    from llmnotes.serving.terminal import Wrapping, converse, picture, piped_lines, typed_lines

    interactive = sys.stdin.isatty()
    asked = {name: getattr(arguments, name) for name in ("system", "max_tokens", "temperature", "seed")}
    asked["image"] = picture(arguments.image) if arguments.image else None

    def write(text: str) -> None:
        print(text, end="", flush=True)

    def talk(client: "Client", template: bool) -> None:
        lines = typed_lines() if interactive else piped_lines()
        wrapped = Wrapping(write, shutil.get_terminal_size().columns) if sys.stdout.isatty() else write
        converse(client, lines, wrapped, template=template, interactive=interactive, **asked)

    try:
        if arguments.model.startswith(("http://", "https://")):
            talk(Client(arguments.model, _key(arguments), arguments.name), True)
            return 0
        with load(arguments.model, **_loading(arguments), say=_to_stderr) as runtime:
            if arguments.image and not runtime.sees:
                raise BadSettings(f"{runtime.file.name} cannot see pictures; give its projector with --mmproj.")
            template = runtime.file.template is not None
            if not template:
                _to_stderr(f"{runtime.file.name} has no chat template: it continues your text instead of answering.")
            talk(runtime, template)
    except KeyboardInterrupt:
        return 130
    return 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def add(add_command: Callable[..., ArgumentParser]) -> None:
    """Add both commands to `llmnotes`."""
    subparser = add_command(
        serve,
        "Serve a model on this machine behind OpenAI's protocol: models, completions, chat completions, streams, "
        "embeddings. Ctrl-C ends it, with exit status 130, and SIGTERM with 143.",
        "llmnotes serve pebble-chat",
        answers=False,
    )
    _model(subparser, f"a GGUF file, a Hugging Face folder, a name on the hub, {OURS}")
    subparser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen at; by default only this machine's own"
    )
    subparser.add_argument("--port", type=int, default=8080, help="by default 8080; 0 takes any that is free")
    subparser.add_argument(
        "--parallel", type=int, default=4, metavar="N", help="answers that are written at once; default 4"
    )
    subparser.add_argument("--verbose", action="store_true", help="print a line for each request")
    subparser = add_command(
        chat,
        "Talk to a model, or to a server behind an address. Input from a pipe is a question a line; in a terminal "
        "/help lists what else you can type.",
        "llmnotes chat pebble-chat",
        answers=False,
    )
    _model(
        subparser,
        f"a GGUF file, a folder, a name on the hub, {OURS}, or a server's address: http://...",
    )
    subparser.add_argument("--name", help="the model's name at the server; by default the first that it lists")
    subparser.add_argument("--system", metavar="TEXT", help="what the model is told before everything else")
    subparser.add_argument("--image", metavar="FILE", type=Path, help="a picture that goes with the first question")
    subparser.add_argument(
        "--temperature",
        type=float,
        help="0 always takes the most probable token; by default what the model's makers say, or else llama.cpp's 0.8",
    )
    subparser.add_argument("--seed", type=int, help="makes an answer at a temperature above 0 repeatable")
    subparser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="length of an answer; by default 256"
    )


def _model(subparser: ArgumentParser, about: str) -> None:
    subparser.add_argument("model", metavar="MODEL", help=about)
    subparser.add_argument(
        "--type", help="the type of the weights if a GGUF is made from a folder, such as Q8_0 or Q4_K_M"
    )
    subparser.add_argument(
        "--context", type=int, metavar="TOKENS", help="length of prompt and answer; by default up to 4096"
    )
    subparser.add_argument("--threads", type=int, metavar="N", help="by default all cores")
    subparser.add_argument(
        "--gpu-layers", type=int, metavar="N", help="layers on the GPU; by default all, where there is one"
    )
    subparser.add_argument(
        "--cache", metavar="TYPE", default="F16", help="keys and values are kept in F16 (default), Q8_0, Q4_0 or others"
    )
    subparser.add_argument(
        "--flash-attention", choices=["on", "off", "auto"], default="auto", help="fuse attention; by default auto"
    )
    subparser.add_argument(
        "--mmproj", metavar="FILE", help="the projector for pictures; the folder of a LLaVA brings its own"
    )
    subparser.add_argument(
        "--draft", metavar="MODEL", help="a smaller model that writes ahead, which the model checks: the same text"
    )
    subparser.add_argument(
        "--api-key", metavar="KEY", help="the server's key; better set LLMNOTES_API_KEY, which no one sees"
    )


def _key(arguments: Namespace) -> str | None:
    return arguments.api_key if arguments.api_key is not None else os.environ.get("LLMNOTES_API_KEY") or None


def _loading(arguments: Namespace) -> dict:
    return {
        "n_threads": arguments.threads,
        "n_gpu_layers": arguments.gpu_layers,
        "n_ctx": arguments.context,
        "type": arguments.type,
        "cache": arguments.cache.upper(),
        "flash_attention": arguments.flash_attention,
        "draft": arguments.draft,
        "mmproj": arguments.mmproj,
    }
