"""What lies beside a file of weights: the other parts of its model, files that nobody reads, notes of Git LFS."""

import re
from collections.abc import Collection
from pathlib import Path

from llmnotes.errors import FileBroken, FileUnreadable, NotConvertible
from llmnotes.formats.files import HEADER_LIMIT, Source, refuse_pointer

PART = re.compile(r".+[-_.]\d{1,9}-of-(\d{1,9})(\.[\w.]*)?")  # how all programs call their shards
RANK = re.compile(r"(.*\bconsolidated\.|.*mp_rank_)(\d+)(\D.*)")  # the slices of tensor-parallel programs
# The endings of files that may hold weights.
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".data", ".h5", ".msgpack", ".pb")
ENDINGS += (".ot", ".npz")
# What transformers reads beside the weights, and what it only reads where there is no tokenizer.json.
READ = re.compile(
    r"((generation_)?config|tokenizer(_config)?|special_tokens_map|added_tokens)\.json|chat_template\.\w+"
)
OLDER = re.compile(r"vocab\.(json|txt)|merges\.txt|tekken\.json|.+\.(model|tiktoken)")


def part_of(path: Path) -> str | None:
    """Return why a file is a part of a model and not the whole, in words, or None where nothing says so."""
    said = PART.fullmatch(path.name)
    if said and int(said[1]) > 1:
        return f"its name says that there are {int(said[1]):,}"
    try:
        beside = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return None
    own = RANK.fullmatch(path.name)
    for name in beside if own else ():
        other = RANK.fullmatch(name)
        if own and other and name != path.name and (own[1], own[3]) == (other[1], other[3]):
            return f"{name[:80]} lies beside it"
    for name in beside:
        if name.endswith(".index.json") and {path.name} < places(path.with_name(name)):
            return f"{name[:80]} names others"
    return None


def refuse_part(path: Path) -> None:
    """Raise `NotConvertible` for a file that is a part of a model."""
    why = part_of(path)
    if why is not None:
        raise NotConvertible(
            f"{path.name} is one of several files that hold a model together ({why}); give the folder that holds them "
            "all, or join them with the program that wrote them."
        )


def index_of(source: Source) -> dict[str, str] | None:
    """Return {tensor: shard} if the file is an index of shards."""
    if source.size > HEADER_LIMIT or not source.head(64).lstrip().startswith(b"{"):
        return None
    text = source.head(HEADER_LIMIT)
    if b'"weight_map"' not in text:
        return None
    index = source.parse(text).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(shard, str) for shard in index.values()):
        raise source.broken("its weight_map is no list of tensors with their files")
    return index


def places(index: Path) -> set[str]:
    """Return the names of all shards in an index; none of one that cannot be read."""
    try:
        with Source(index) as source:
            return set((index_of(source) or {}).values())
    except (FileBroken, FileUnreadable):
        return set()


def unread(path: Path, used: Collection[str]) -> list[str]:
    """Return the names of the files in a folder that may hold weights and are not those `used`."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    maybe = (*ENDINGS, *(f"{ending}.index.json" for ending in ENDINGS))
    return [name for name in names if name.lower().endswith(maybe) and name[0] != "." and name not in used]


def refuse_pointers(path: Path) -> None:
    """Raise `FileBroken` where Git LFS has not brought a folder's settings or its tokenizer."""
    old = not (path / "tokenizer.json").is_file()
    for entry in sorted(path.iterdir()):
        if entry.is_file() and (READ.fullmatch(entry.name) or old and OLDER.fullmatch(entry.name)):
            refuse_pointer(entry)
