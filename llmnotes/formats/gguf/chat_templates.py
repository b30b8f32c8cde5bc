"""Chat templates: where a folder keeps them, and GGUF's keys for them, both ways."""

import re
from pathlib import Path
from typing import Any

from llmnotes.formats.files import Source, encodable
from llmnotes.formats.gguf.tokenizer_files import json_of
from llmnotes.formats.gguf.types import Typed

LIMIT = 1 << 20  # bytes of a template; the longest in published models have 30,000
KEY = "tokenizer.chat_template"


def of_folder(folder: Path, own: dict) -> dict[str, str]:
    """Return {name: template} as transformers reads it; the one that is used by itself is called "default".

    chat_template.jinja and the files of additional_chat_templates go before what tokenizer_config.json (`own`) says,
    and that before an older chat_template.json. Raises `FileBroken` for a file that is no text.
    """
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    found = {name: _text(path) for name, path in files.items() if path.is_file()}
    if found:
        return found
    stated = own.get("chat_template") or json_of(folder / "chat_template.json").get("chat_template")
    named = stated if isinstance(stated, dict) else {"default": stated}
    entries = stated if isinstance(stated, list) else [{"name": a, "template": b} for a, b in named.items()]
    named = [(entry.get("name"), entry.get("template")) for entry in entries if isinstance(entry, dict)]
    return {name: text for name, text in named if isinstance(name, str) and isinstance(text, str)}


def to_keys(templates: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return (GGUF's keys for {name: template}, sentences about names that change and templates with mistakes)."""
    found, lost = {}, []
    for name, text in templates.items():
        short = re.sub("[^A-Za-z0-9]", "_", name)
        if short != name:
            lost.append(f"The chat template {name[:40]!r} is called {short[:40]!r} in GGUF, which has no other signs.")
        key = KEY if name == "default" else f"{KEY}.{short}"
        if key in found:
            lost.append(f"The chat template {name[:40]!r} has another one's name in GGUF, and is left out.")
            continue
        found[key] = text
        if not encodable(text):
            lost.append(f"The chat template {name[:40]!r} has half a character, for which GGUF has a “?”; correct it.")
        wrong = mistake(text)
        if wrong:
            lost.append(
                f"The chat template {name[:40]!r} is no valid Jinja ({wrong}), so no program can use it; correct it."
            )
    others = [key.removeprefix(f"{KEY}.") for key in found if key != KEY]
    return found | ({f"{KEY}s": Typed("[STRING]", others)} if others else {}), lost


def of_gguf(metadata: dict[str, Any]) -> dict[str, str]:
    """Return {name: template} from the keys of a GGUF."""
    keys = {key: key.removeprefix(KEY).removeprefix(".") or "default" for key in metadata if key.startswith(KEY)}
    return {name: metadata[key] for key, name in keys.items() if key != f"{KEY}s" and isinstance(metadata[key], str)}


def _text(path: Path) -> str:
    with Source(path) as source:
        if source.size > LIMIT:
            raise source.broken(f"it has {source.size:,} bytes, more than any chat template")
        try:
            return source.read(0, source.size).decode("utf-8")
        except UnicodeDecodeError:
            raise source.broken("it is no text in UTF-8") from None


def mistake(template: str) -> str | None:
    """Return what is wrong with the syntax of a template, or None; nothing of it is compiled or run."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import Extension, LoopControlExtension

    class Generation(Extension):
        """transformers' tag around what the assistant says."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Reader(Environment):
        """Raises a mistake as it is: jinja2 would execute a line of its own first, for a traceback with its place."""

        def handle_exception(self, source=None):
            raise  # noqa: PLE0704 - jinja2 calls this while it handles the mistake

    try:
        Reader(extensions=[LoopControlExtension, Generation], trim_blocks=True, lstrip_blocks=True).parse(template)
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {str(error.message).rstrip('.')}"
    except (ValueError, SyntaxError):  # of Python, to which jinja2 gives the digits as they are
        return "it has a number that cannot be read"
    except RecursionError:
        return "it is nested too deeply"
    return None
