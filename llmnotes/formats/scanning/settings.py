"""JSON and YAML: settings that name Python functions and files, read as values and never built."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from llmnotes.formats.files import Source
from llmnotes.formats.scanning import exported, huggingface, keras
from llmnotes.formats.scanning.names import judge
from llmnotes.formats.scanning.state import Search

JSON_LIMIT = 1 << 26  # bytes of JSON that are read as such
YAML_LIMIT = 1 << 21  # of YAML, which takes longer
PIECE, OVERLAP = 1 << 22, 256  # bytes that are searched at a time, and more than anything that is looked for
# In what cannot be read as values: the words, also with quotes that are escaped in a text around them.
LAMBDA = re.compile(rb'"(?:class_name\\*"\s*:\s*\\*"(?:Lambda|__lambda__)|function_type\\*"\s*:\s*\\*"lambda)\\*"')
AUTO_MAP = re.compile(rb'"auto_map"\s*:\s*[{"\[]')
ESCAPED = re.compile(rb"\\u00(?:4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa])")  # letters that need no escape
LAMBDA_FOUND = "has a Lambda layer, whose Python code Keras runs"
PYTHON_TAG = "tag:yaml.org,2002:python/"
PLAIN_TAGS = {"none", "bool", "str", "bytes", "unicode", "int", "long", "float", "complex", "list", "tuple", "dict"}
IN_TEXT = re.compile(
    rb"(?:!!|!<?tag:yaml\.org,2002:)python/([\w/]+)(?::([\w.]+))?|^[ \t]*(?:- *)?_target_ *: *([\w.]+)", re.M
)


class Pairs(list):
    """The keys and values of an object, in order, and a key twice if it stands twice."""


def look_into_json(search: Search, source: Source, where: str) -> None:
    """Look for code in JSON, in any of the encodings that Python's json reads; in what is none, for the words alone."""
    try:
        value = json.loads(source.head(JSON_LIMIT), object_pairs_hook=Pairs) if source.size <= JSON_LIMIT else None
    except (ValueError, RecursionError):
        value = None
    if value is not None:
        look_into_values(search, value, where)
        return
    for piece in pieces(source):
        if LAMBDA.search(piece):
            search.add(where, "dangerous", LAMBDA_FOUND)
        if AUTO_MAP.search(piece):
            search.add(where, "suspicious", huggingface.AUTO_MAP)
        if ESCAPED.search(piece):
            search.add(where, "suspicious", "cannot be read as JSON here, and hides letters behind escapes")


def look_into_text(search: Search, text: bytes, where: str) -> None:
    """Look for code in a text that may be JSON, such as an attribute of HDF5."""
    if text.lstrip()[:1] not in (b"{", b"["):
        return
    try:
        value = json.loads(text.strip(b"\0 \n"), object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return
    look_into_values(search, value, where)


def look_into_yaml(search: Search, source: Source, where: str) -> None:
    """Look for code in YAML: Python's tags, and the keys that are looked for in JSON."""
    import yaml

    text = source.head(YAML_LIMIT)
    try:
        if source.size > YAML_LIMIT:
            raise yaml.YAMLError
        for document in yaml.compose_all(io.BytesIO(text), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            look_into_values(search, _plain(search, document, where, {}), where)
        return
    except (yaml.YAMLError, RecursionError, UnicodeError):
        pass  # other readers may take it
    for piece in pieces(source):
        for tag, name, target in IN_TEXT.findall(unquote_to_bytes(piece)):
            if target:
                _add_all(search, where, huggingface.targets({"_target_": target.decode()}))
            else:
                _add_tag(search, where, f"{tag.decode()}:{name.decode()}")


def look_into_values(search: Search, value: Any, where: str) -> None:
    """Look for code in values that were read from JSON or YAML."""
    for about in _objects(value):
        for check in (keras.programs, huggingface.programs, huggingface.targets, exported.programs):
            _add_all(search, where, check(about))
    if where.endswith("modules.json"):
        _add_all(search, where, huggingface.modules(value))


def pieces(source: Source) -> Iterator[bytes]:
    """Yield the bytes of a file, each piece with the beginning of the next."""
    for at in range(0, source.size, PIECE):
        yield source.read(at, min(PIECE + OVERLAP, source.size - at))


def _objects(value: Any) -> Iterator[dict]:
    """Yield every object in a value, and in the texts that are JSON themselves; one with a key twice as both."""
    waiting, seen = [value], {}
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if value.lstrip()[:1] in ("{", "[") and ("class_name" in value or "\\u" in value):
                try:
                    waiting.append(json.loads(value, object_pairs_hook=Pairs))
                except (ValueError, RecursionError):
                    pass
            continue
        if id(value) in seen:  # YAML's aliases
            continue
        seen[id(value)] = value  # kept, so that no other value gets its number
        inner = value
        if isinstance(value, Pairs):
            inner = [part for _, part in value]
            plain = [(key, _as_dicts(part)) for key, part in value if isinstance(key, str)]
            about = dict(plain)
            yield about
            if len(about) < len(plain):
                yield dict(reversed(plain))
        waiting += [part for part in inner if isinstance(part, list) or (type(part) is str and part[:1] in "{[ \n")]


def _as_dicts(value: Any) -> Any:
    """Return an object as a dictionary; what lies in it stays as it is."""
    return dict(pair for pair in value if isinstance(pair[0], str)) if isinstance(value, Pairs) else value


def _plain(search: Search, node: Any, where: str, known: dict) -> Any:
    """Return a node of YAML as values; Python's tags in it become findings."""
    if node is None:
        return None
    if id(node) in known:
        return known[id(node)]
    tag = unquote_to_bytes(node.tag).decode("utf-8", "replace")
    if tag.startswith(PYTHON_TAG):
        _add_tag(search, where, tag.removeprefix(PYTHON_TAG))
    if isinstance(node.value, str):
        kind = tag.removeprefix("tag:yaml.org,2002:")
        values = {"bool": node.value.lower() in ("true", "yes", "on"), "null": None, "int": 0, "float": 0.0}
        return values.get(kind, node.value)
    result = known[id(node)] = Pairs() if node.id == "mapping" else []
    for part in node.value:
        if isinstance(part, tuple):
            key = _plain(search, part[0], where, known)
            result.append((key if isinstance(key, str) else str(key), _plain(search, part[1], where, known)))
        else:
            result.append(_plain(search, part, where, known))
    return result


def _add_tag(search: Search, where: str, tag: str) -> None:
    kind, _, name = tag.partition(":")
    if kind in PLAIN_TAGS:
        return
    module, _, last = name.rpartition(".")
    verdict = judge(module or "builtins", last) if kind != "module" else judge(name, "")
    if kind in ("object/apply", "object/new", "name", "object") and verdict == "safe":
        verdict = "suspicious"
    search.add(where, verdict, f"has the tag !!python/{tag[:200]}, for which yaml.unsafe_load imports and calls Python")


def _add_all(search: Search, where: str, found: Iterator[tuple[str, str]]) -> None:
    for verdict, what in found:
        search.add(where, verdict, what)
