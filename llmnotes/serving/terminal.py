"""`llmnotes chat`: a conversation in the terminal, or a file of questions through a pipe."""

import base64
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unicodedata import east_asian_width

from llmnotes.errors import FileUnreadable, LLMNotesError, ServerFailed, UnknownFormat, visible
from llmnotes.serving.client import TOO_LONG, Client

COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?$")
PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}  # how a file begins
COMMANDS = """/help          this list
/system TEXT   tell the model TEXT before everything else, from the next question on
/quit          end, as Ctrl-D does"""


def converse(
    client: Client,
    lines: Iterable[str],
    write: Callable[[str], object],
    *,
    system: str | None = None,
    image: str | None = None,
    template: bool = True,
    interactive: bool = False,
    max_tokens: int = 256,
    **parameters: object,
) -> None:
    """Answer each of `lines` in turn, with the conversation so far; `write` receives the pieces as they come.

    Empty lines are skipped. When the conversation becomes longer than the model's context, its oldest turns are
    dropped. Without a `template` each line is continued as a text, without history. `system` is sent before everything
    else, and `image`, the address that `picture` returns, with the first question; `max_tokens` and `parameters` go to
    `Client.stream`. If `interactive`, a line such as /help is a command, an error is written and not raised, and Ctrl-C
    ends one answer only.
    """
    history: list[dict] = []
    for line in lines:
        line = line.strip()
        command = COMMAND.match(line) if interactive else None
        if command:
            name, rest = command[1], command[2]
            if name in ("quit", "exit"):
                return
            system = rest or None if name == "system" else system
            told = f"The model is told: {system}" if system else "The model is told nothing."
            said = {"help": COMMANDS, "system": told}
            write(f"{said.get(name, f'There is no command /{name}; /help lists them.')}\n")
        if command or not line:
            continue
        seen = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": line}] if image else line
        history.append({"role": "user", "content": line if history else seen})
        answer = ""
        if template:
            first = [{"role": "system", "content": system}] if system else []
            stream = _answer(client, first, history, max_tokens, parameters)
        else:
            stream = client.stream(line, max_tokens=max_tokens, **parameters)
        try:
            for piece in stream:
                piece = piece if answer or not template else piece.lstrip()  # some templates put a space before it
                answer += piece
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
            history.append({"role": "assistant", "content": answer})
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


class Wrapping:
    """Write text in lines of at most `width` columns, broken at spaces; a word waits until it is whole.

    >>> out = []
    >>> lines = Wrapping(out.append, 12)
    >>> for piece in ("the goo", "se says honk", "\\n"):
    ...     lines(piece)
    >>> "".join(out)
    'the goose\\nsays honk\\n'
    """

    def __init__(self, write: Callable[[str], object], width: int):
        self._write, self._width = write, width
        self._column, self._spaces, self._word, self._wide = 0, 0, "", 0

    def __call__(self, text: str) -> None:
        for char in text:
            if char not in " \n":
                self._word += char
                self._wide += 2 if east_asian_width(char) in "WF" else 1
                if self._wide < self._width:
                    continue
            self._flush()
            self._spaces += char == " "
            if char == "\n":
                self._write("\n")
                self._column = self._spaces = 0

    def _flush(self) -> None:
        if not self._word:
            return
        breaks = self._column and self._column + self._spaces + self._wide > self._width
        before = "\n" if breaks else " " * self._spaces
        self._write(before + self._word)
        self._column = self._wide if breaks else self._column + self._spaces + self._wide
        self._spaces, self._word, self._wide = 0, "", 0


def picture(file: Path) -> str:
    """Return the picture in `file` as an address that holds it all (data:image/png;base64,...).

    Raises `FileUnreadable`, and `UnknownFormat` for what is no PNG, JPEG, GIF or BMP, which llama.cpp reads.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{file} cannot be read ({error.strerror}); give the path of a picture.") from None
    kind = next((kind for begin, kind in PICTURES.items() if content.startswith(begin)), None)
    if kind is None:
        raise UnknownFormat(f"{file.name} is no picture that llama.cpp reads; give a PNG, JPEG, GIF or BMP.")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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
