"""Look again after a conversion: every tensor of the source has arrived or is named, and nothing else is there."""

import shutil
from dataclasses import replace

from llmnotes.errors import LLMNotesError, NotConvertible
from llmnotes.formats.registry import inspect
from llmnotes.formats.repack import weights_metadata
from llmnotes.formats.results import NOT_READ, SAME_NAME, UNREAD, Conversion, Inspection, counted

# What GGUF keeps as a tensor and a folder as settings.
COMPUTED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
SHOWN = 200  # characters of the names in a sentence


def checked(source: Inspection, done: Conversion) -> Conversion:
    """Return `done` with a sentence under `lost` for all tensors that stayed behind, once this holds:

    each tensor of `source` is in the target or among those left; the target has no other tensors than those that were
    planned, with as many bytes. Of a target whose tensors another program named, only its headers are read.

    Raises `NotConvertible` where it does not hold, which is a fault of llmnotes, and then removes the target.
    """
    try:
        wrong = _unaccounted(source, done) or _unlike_the_plan(done)
    except LLMNotesError as error:
        wrong = f"it cannot be read back: {str(error)[:300]}"
    if wrong:
        _take_back(done)
        raise NotConvertible(
            f"{done.target.name} would not be what {source.path.name} holds ({wrong}), so it was removed; this is a "
            "fault of llmnotes: keep the original, and report it."
        )
    noted = tuple(note for note in source.notes if any(mark in note for mark in (NOT_READ, SAME_NAME, UNREAD)))
    return replace(done, lost=(*noted, *_sentences(done.left), *done.lost))


def _unaccounted(source: Inspection, done: Conversion) -> str:
    """Return what is wrong with the books, or "": a tensor of the source that is nowhere, or one from nowhere."""
    if done.made is None:
        return ""
    names = {tensor.name for tensor in source.tensors}
    arrived = {name for sources in done.made.values() for name in sources}
    for tensor in source.tensors:
        if tensor.name not in done.left and not arrived & {tensor.name, tensor.alias}:
            return f"{tensor.name[:80]} is lost"
    for name, sources in done.made.items():
        if not names.issuperset(sources) or not (sources or name in COMPUTED):
            return f"{name[:80]} is not in the source"
    return ""


def _unlike_the_plan(done: Conversion) -> str:
    """Return in what the headers of the target differ from what was to be written, or ""."""
    found = inspect(done.target)
    if done.made is None:
        return ""
    names, texts = {tensor.name for tensor in found.tensors}, weights_metadata(found)
    names |= {name for name in done.made.keys() - names if texts.get(name) in names}  # how safetensors ties weights
    if names != done.made.keys():
        return f"{min(names ^ done.made.keys())[:80]} stands in one of plan and file alone"
    if found.nbytes != done.nbytes:
        return f"its tensors have {counted(found.nbytes, 'byte')}, and not {done.nbytes:,}"
    return ""


def _take_back(done: Conversion) -> None:
    """Remove what a conversion has written; its names were free before."""
    for path in done.files or (done.target,):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sentences(left: dict[str, str]) -> list[str]:
    """Return a sentence for each reason, with the names of the tensors that stayed behind for it."""
    names: dict[str, list[str]] = {}
    for name, why in left.items():
        names.setdefault(why, []).append(name)
    found = []
    for why, some in names.items():
        shown = ", ".join(some)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        found.append(f"Left out: {counted(len(some), 'tensor')} {why}: {shown}.")
    return found
