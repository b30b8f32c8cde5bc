"""Pickles in a file: which bytes are one, what it imports and calls, and what picklescan says of it."""

import io
import logging
import sys

from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle, PickleStream, trace
from llmnotes.formats.pickles.instructions import PROTOCOL
from llmnotes.formats.pickles.values import Global, show
from llmnotes.formats.scanning.names import HARMLESS, could_exist, judge
from llmnotes.formats.scanning.state import Search

SMALL = 1 << 17  # bytes of a pickle that picklescan reads itself; it takes quadratic time
PICKLES = 1000  # in a row
ENOUGH = 3  # instructions that bytes without a signature hardly have by chance


def look_for_pickles(search: Search, source: Source, where: str, start: int = 0, raw: bool = False) -> int:
    """Judge the pickles that lie one after the other from `start`; return where something else follows them.

    Bytes that begin like a pickle and cannot be read to their end are suspicious, unless they are `raw`: a tensor's,
    which every loader takes as they are. Where a pickle ends inside a frame, the next one may stand behind the frame;
    and where joblib takes an array out, another loader may find a STOP in its numbers.
    """
    ends, waiting = [start], [start]
    for _ in range(PICKLES):
        if not waiting:
            break
        more, end = _look_along(search, source, where, waiting.pop(), raw, first=len(ends) == 1)
        waiting += more
        ends.append(end)
    else:
        search.add(where, "suspicious", f"has more than {PICKLES:,} places where pickles may go on; not all were read")
    return max(ends)


def _look_along(
    search: Search, source: Source, where: str, start: int, raw: bool, first: bool
) -> tuple[list[int], int]:
    """Judge pickles in a row, the `first` in the file or others; return where else one may begin, and the row's end."""
    at, pending, more = start, [], []
    for number in range(PICKLES):
        if at >= source.size:
            return more, at
        begun = number > 0 or not first
        sign = source.read(at, min(2, source.size - at))
        signed = len(sign) == 2 and sign[0] == 0x80 and sign[1] <= PROTOCOL
        pickle = trace(PickleStream(source, at), max(search.steps, 1))
        search.steps -= pickle.steps
        place = where if not at else f"{where} (byte {at:,})"
        if pickle.broken and not _is_broken_pickle(pickle, signed and not begun, raw):
            if not begun and not raw and _begins_like_one(source, at, pickle, signed):
                search.add(place, "suspicious", f"begins like a pickle and cannot be read to its end: {pickle.broken}")
            if not begun and not raw:
                _ask_picklescan(search, source, where, at, pickle, expected=False)
            return more, at
        if not pickle.broken and not signed and len(pending) == number and not _is_whole_pickle(source, pickle):
            pending.append((place, at, pickle))  # a text may read like this; what follows may be more
            at = pickle.end
            continue
        for earlier in pending:
            judge_pickle(search, source, *earlier)
        pending.clear()
        judge_pickle(search, source, place, at, pickle)
        if pickle.skipped:  # joblib's arrays lie between the instructions, and another loader does not skip them
            other = trace(PickleStream(source, at), max(search.steps, 1), joblib=False)
            search.steps -= other.steps
            _judge_names(search, f"{place}, read without joblib", other)
            if not other.broken and other.end not in (pickle.end, source.size):
                more.append(other.end)
        if pickle.broken:
            return more, at
        if pickle.end < pickle.frame < source.size:
            more.append(pickle.frame)
        at = pickle.end
    search.add(where, "suspicious", f"holds more than {PICKLES:,} pickles in a row; not all were read")
    return more, at


def _is_broken_pickle(pickle: Pickle, signed: bool, raw: bool) -> bool:
    """Return whether bytes that are no whole pickle count as one: they import something before they break off."""
    if pickle.unread and not raw:  # CPython would go on where we stop
        return True
    names = [found for found in pickle.imports if _is_name(found.module)]
    if signed or pickle.calls:
        return bool(names)
    return any(
        could_exist(found.module, found.name)
        and (judge(found.module, found.name) == "dangerous" or _is_known(found.module))
        for found in names
    )


def _is_name(module: str) -> bool:
    """Return whether a module could have this name: the lines of a text seldom can."""
    return module == "?" or all(word.isidentifier() for word in module.split("."))


def _is_known(module: str) -> bool:
    """Return whether a module is of Python's library, or has a dot in its name: no line of a text has by chance."""
    return "." in module or module in sys.stdlib_module_names


def _begins_like_one(source: Source, at: int, pickle: Pickle, signed: bool) -> bool:
    """Return whether bytes that import nothing and break off may be a pickle all the same."""
    if _is_safetensors(source, at):
        return False
    if signed:
        return any(b"." in piece for piece in source.stream(at, min(source.size - at, 1 << 24)))
    # The instruction that broke it off is counted, too; and what imports a line of a text ends there.
    return pickle.steps > ENOUGH and all(_is_name(found.module) for found in pickle.imports)


def _is_safetensors(source: Source, at: int) -> bool:
    """Return whether safetensors begins here: the length of its header may read like a pickle's signature."""
    head = source.read(at, min(9, source.size - at))
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= source.size - at - 8


def _is_whole_pickle(source: Source, pickle: Pickle) -> bool:
    """Return whether bytes without a pickle's signature are one, and no text that happens to read like one."""
    named = any(could_exist(found.module, found.name) for found in pickle.imports)
    return bool(named or pickle.calls) or pickle.end == source.size and pickle.steps > 1


def judge_pickle(search: Search, source: Source, where: str, at: int, pickle: Pickle) -> None:
    """Add what one pickle imports, calls and changes to the findings."""
    search.pickles += 1
    _judge_names(search, where, pickle)
    # What it calls without importing it.
    for call in pickle.calls:
        if not isinstance(call.callee, Global):
            search.add(where, "suspicious", f"calls what another call returned: {show(call)}")
    # Classes, functions and other objects whose attributes or items it sets.
    for changed in pickle.changed:
        verdict = "dangerous" if isinstance(changed, Global) else "suspicious"
        search.add(where, verdict, f"changes {show(changed)} itself")
    for odd in pickle.odd:
        search.add(where, "suspicious", f"{odd}, so that two unpicklers read two different programs")
    if pickle.broken:
        search.add(where, "suspicious", f"{pickle.broken}; what stands before that is executed all the same")
    _ask_picklescan(search, source, where, at, pickle)


def _judge_names(search: Search, where: str, pickle: Pickle) -> None:
    """Add what a pickle imports, with the first call of it, which says more than the name."""
    called = {id(call.callee): call for call in reversed(pickle.calls)}
    for found in pickle.imports:
        verdict = judge(found.module, found.name, search.torchscript)
        if verdict != "safe":
            call = called.get(id(found))
            search.add(where, verdict, f"calls {show(call)}" if call else f"imports {str(found)[:200]}")


def _ask_picklescan(search: Search, source: Source, where: str, at: int, pickle: Pickle, expected: bool = True) -> None:
    """Ask picklescan about the names in a pickle, and about its bytes: all where they are few, else the first.

    Of bytes that are no pickle to us (not `expected`) it need not make sense; what it finds in them counts.
    """
    names = {(found.module, found.name) for found in pickle.imports}
    one_line = [pair for pair in names if not set("".join(pair)) & set("\n\r") and "".join(pair).isascii()]
    texts = [b"".join(f"c{module}\n{name}\n".encode() for module, name in sorted(one_line)) + b"N."]
    end = pickle.end if expected else source.size
    if not expected or end - at <= SMALL:
        texts.append(source.read(at, min(end - at, SMALL, source.size - at)))
    log = logging.getLogger("picklescan")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # what it would log is in our findings
    try:
        for text in texts:
            result = search.picklescan.scan_pickle_bytes(io.BytesIO(text), where, multiple_pickles=False)
            for found in result.globals:
                counts = expected or could_exist(found.module, found.name)
                bad = found.safety == search.picklescan.SafetyLevel.Dangerous
                if bad and counts and found.name not in HARMLESS.get(found.module, ()):
                    search.add(where, "dangerous", f"picklescan: imports {found.module[:100]}.{found.name[:100]}")
    except Exception as error:  # a scanner that stumbles has not found the pickle harmless
        if expected:
            search.add(where, "suspicious", f"picklescan cannot read it ({type(error).__name__})")
    finally:
        log.setLevel(level)
