"""`llmnotes chat`: a conversation in the terminal, or a file of questions through a pipe."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator

from llmnotes.errors import LLMNotesError, ServerFailed, visible
from llmnotes.serving.client import TOO_LONG, Client


def converse(
    client: Client,
    lines: Iterable[str],
    write: Callable[[str], object],
    *,
    system: str | None = None,
    template: bool = True,
    interactive: bool = False,
    max_tokens: int = 256,
    **parameters: object,
) -> None:
    """Answer each of `lines` in turn, with the conversation so far; `write` receives the pieces as they come.

    Empty lines are skipped. When the conversation becomes longer than the model's context, its oldest turns are
    dropped. Without a `template` each line is continued as a text, without history. `system` is sent before everything
    else; `max_tokens` and `parameters` go to `Client.stream`. If `interactive`, an error is written and not raised, and
    Ctrl-C ends one answer only.
    """
    first = [{"role": "system", "content": system}] if system else []
    history: list[dict] = []
    for line in lines:
        line = line.strip()
        if not line:
            continue
        history.append({"role": "user", "content": line})
        answer = []
        if template:
            stream = _answer(client, first, history, max_tokens, parameters)
        else:
            stream = client.stream(line, max_tokens=max_tokens, **parameters)
        try:
            for piece in stream:
                answer.append(piece)
                write(printable(piece))
        except KeyboardInterrupt:
            if not interactive:
                raise
        except LLMNotesError as error:
            if not interactive:
                raise
            write(str(error))
        write("\n")
        if answer:
            history.append({"role": "assistant", "content": "".join(answer)})
        else:
            history.pop()


def _answer(
    client: Client, first: list[dict], history: list[dict], max_tokens: int, parameters: dict[str, object]
) -> Iterator[str]:
    """Yield the answer to `history`, from which old turns are removed until it fits into the context."""
    while True:
        try:
            yield from client.stream(first + history, max_tokens=max_tokens, **parameters)
            return
        except ServerFailed as error:
            if error.kind != TOO_LONG or len(history) < 2:
                raise
        del history[:2]  # a question and its answer


def printable(text: str) -> str:
    """Return `text` with control characters escaped: a model may write some that a terminal would obey.

    >>> printable("a\\n\\x1b[2Jb")
    'a\\n\\\\x1b[2Jb'
    """
    return "".join(visible(c) if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" else c for c in text)


def typed_lines(prompt: str = "> ") -> Iterator[str]:
    """Yield the lines that someone types, until Ctrl-D or Ctrl-C; the arrow keys bring back earlier lines."""
    try:
        import readline  # noqa: F401  importing it gives `input` its history and its arrow keys
    except ImportError:
        pass
    while True:
        try:
            yield input(prompt)
        except (EOFError, KeyboardInterrupt):
            print()
            return


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input until it ends."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    yield from sys.stdin
