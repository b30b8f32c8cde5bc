"""What AutoTokenizer reads in a folder: tokenizer.json, tokenizer_config.json, and the older files beside them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken
from llmnotes.formats.beside import refuse_pointers
from llmnotes.formats.files import METADATA_LIMIT, Source

KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True)
class Added:
    """An added token, which is cut out of a text before anything else, and what is done around it."""

    text: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Files:
    """A folder's tokenizer: tokenizer.json, its settings, {id: added token}, and the ids at which a text ends."""

    path: Path
    fast: dict
    own: dict
    added: dict[int, Added]
    ends: list[int]


def read(folder: Path, config: dict) -> Files:
    """Return the files of a folder's tokenizer, each where transformers lets it count.

    special_tokens_map.json and added_tokens.json only count where tokenizer_config.json does not list the added tokens
    itself. What the model writes ends at the ids in generation_config.json, or else in `config`. Raises `FileBroken`.
    """
    refuse_pointers(folder)
    fast, own = json_of(folder / "tokenizer.json"), json_of(folder / "tokenizer_config.json")
    added = {}
    if isinstance(own.get("added_tokens_decoder"), dict):
        for number, entry in own["added_tokens_decoder"].items():
            if number.isdecimal() and len(number) < 10 and isinstance(entry, dict):
                added[int(number)] = _added(entry)
    else:
        own = own | json_of(folder / "special_tokens_map.json")
        special = special_texts(own)
        for text, number in json_of(folder / "added_tokens.json").items():
            if type(number) is not int or not 0 <= number < 10**9:
                raise FileBroken(f"added_tokens.json is damaged: the number of {text[:40]!r} is none; copy it again.")
            added[number] = Added(text, text in special, normalized=text not in special)
    entries = fast.get("added_tokens")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and type(entry.get("id")) is int and entry["id"] >= 0:
            known = added.get(entry["id"])
            # tokenizer.json says which token it is, and tokenizer_config.json what is done around it.
            added[entry["id"]] = known if known and known.text == content(entry) else _added(entry)
    generation = json_of(folder / "generation_config.json")
    ends = next((found for found in (generation.get("eos_token_id"), config.get("eos_token_id")) if found), None)
    ends = ends if isinstance(ends, list) else [ends]
    return Files(folder, fast, own, added, [number for number in ends if type(number) is int and number >= 0])


def complete(files: Files, vocab: dict[str, int]) -> dict[int, Added]:
    """Return all added tokens: those that are listed, and those that the settings call special.

    As in transformers, an ordinary token of `vocab` becomes an added one when it is called special, one that is nowhere
    gets the next number, and one that is listed stays what it is, unless it is EOS or the like.
    """
    added = dict(files.added)
    numbers = {entry.text: number for number, entry in reversed(added.items())}
    named = {content(files.own.get(f"{kind}_token")) for kind in KINDS}
    for text in special_texts(files.own):
        number = numbers.get(text, vocab.get(text))
        number = max([*vocab.values(), *added, -1]) + 1 if number is None else number
        if text in named or number not in added:
            added[number] = replace(added.get(number, Added(text)), special=True)
    return added


def special_texts(own: dict) -> list[str]:
    """Return the tokens that the settings call special, BOS and EOS first, each once."""
    more = own.get("extra_special_tokens") or own.get("additional_special_tokens") or []
    more = more.values() if isinstance(more, dict) else more if isinstance(more, list) else []
    entries = [own.get(f"{kind}_token") for kind in KINDS]
    entries += [entry for key, entry in own.items() if key.endswith("_token")]
    return list(dict.fromkeys(text for entry in [*entries, *more] if (text := content(entry))))


def content(entry: Any) -> str | None:
    """Return the text of a token that is written as a text or as an object."""
    entry = entry.get("content") if isinstance(entry, dict) else entry
    return entry if isinstance(entry, str) else None


def json_of(path: Path) -> dict:
    """Return the object in a JSON file, or an empty one where there is no file; `FileBroken` for any other JSON."""
    if not path.is_file():
        return {}
    with Source(path) as source:
        if source.size > METADATA_LIMIT:
            raise source.broken(f"it has {source.size:,} bytes, more than any tokenizer needs")
        return source.parse(source.read(0, source.size), unique=False)


def _added(entry: dict) -> Added:
    return Added(content(entry) or "", **{flag: entry.get(flag) is True for flag in FLAGS})
