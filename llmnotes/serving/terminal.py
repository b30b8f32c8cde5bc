"""`llmnotes chat`: a conversation in the terminal, or a file of questions through a pipe."""

import sys
from collections.abc import Iterable, Iterator

from llmnotes.errors import LLMNotesError, ServerFailed, visible
from llmnotes.serving.client import Client

TOO_LONG = "exceed_context_size_error"  # what llama.cpp's server calls it


def converse(
    client: Client,
    lines: Iterable[str],
    write,
    *,
    system: str | None = None,
    template: bool = True,
    forgive: bool = False,
    **wish,
) -> None:
    """Answer each of `lines` in turn, with all that was said before; `write` receives the pieces as they come.

    Empty lines are left out. When the conversation outgrows the model's context, its oldest turns are forgotten.
    Without a `template` a line has no history and is gone on with. `system` is said before everything else. `wish` goes
    to `Client.stream`. With `forgive`, an error is written, and Ctrl-C ends one answer only: for someone who types.
    """
    first = [{"role": "system", "content": system}] if system else []
    history = []
    for line in lines:
        line = line.strip()
        if not line:
            continue
        history.append({"role": "user", "content": line})
        said = []
        try:
            for piece in _answer(client, first, history, wish) if template else client.stream(line, **wish):
                said.append(piece)
                write(shown(piece))
        except KeyboardInterrupt:
            if not forgive:
                raise
        except LLMNotesError as error:
            if not forgive:
                raise
            write(str(error))
        write("\n")
        if said:
            history.append({"role": "assistant", "content": "".join(said)})
        else:
            history.pop()


def _answer(client: Client, first: list[dict], history: list[dict], wish: dict) -> Iterator[str]:
    """Yield the answer to `history`, from which old turns are taken away until it fits."""
    while True:
        try:
            yield from client.stream(first + history, **wish)
            return
        except ServerFailed as error:
            if error.kind != TOO_LONG or len(history) < 2:
                raise
        del history[:2]  # a question and its answer


def shown(text: str) -> str:
    """Return `text` as a terminal may have it: a model writes what it likes, and a terminal obeys some of it.

    >>> shown("a\\n\\x1b[2Jb")
    'a\\n\\\\x1b[2Jb'
    """
    return "".join(visible(c) if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" else c for c in text)


def typed(prompt: str = "> ") -> Iterator[str]:
    """Yield the lines that someone types, with a history to go back to, until Ctrl-D or Ctrl-C."""
    try:
        import readline  # noqa: F401  it gives `input` its arrow keys
    except ImportError:
        pass
    while True:
        try:
            yield input(prompt)
        except (EOFError, KeyboardInterrupt):
            print()
            return


def piped() -> Iterator[str]:
    """Yield the lines of standard input until it ends."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    yield from sys.stdin
