"""Scan a file for pickles and judge what they import and call. Nothing is executed."""

import io
import logging
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from llmnotes.errors import FileUnreadable, MissingPart
from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.pickles import STEPS, Pickle, PickleStream, trace
from llmnotes.formats.pickles.values import Global, show
from llmnotes.formats.scan_names import judge

VERDICTS = ("no pickle", "safe", "suspicious", "dangerous")
DEPTH = 4  # archives in archives
FILES_LIMIT = 10_000
MEMBER_LIMIT = 1 << 26  # bytes of a member that are unpacked for a look
SMALL = 1 << 17  # bytes of a pickle that picklescan reads itself; it takes quadratic time
PICKLES = 1000  # in a row
FINDINGS = 200


@dataclass(frozen=True)
class Finding:
    """One thing that a pickle would do, or that keeps it from being read: its place, a verdict, and a sentence."""

    where: str
    verdict: str
    what: str


@dataclass(frozen=True)
class Scan:
    """The worst of all findings, the findings, and how many pickles were read.

    `verdict` is "no pickle", "safe" (nothing but what tensors need), "suspicious" (a name nobody knows, or a part that
    cannot be read) or "dangerous" (something that runs programs).
    """

    path: Path
    verdict: str
    findings: tuple[Finding, ...]
    pickles: int

    def as_dict(self) -> dict:
        """Return the answer as plain types."""
        return {**asdict(self), "path": str(self.path)}


def scan(path: str | Path) -> Scan:
    """Return what the pickles in the file or folder at `path` would import and call when a program loads them.

    Pickles are found by their content: in zip and tar archives and in archives inside these, in npy and npz, several
    in a row, under any name, broken or whole. Two lists are asked, and the worse answer counts: picklescan's known
    attacks, and our own of the names that tensors need.

    Raises `FileUnreadable` if there is nothing to read, `MissingPart` without picklescan. A safe verdict is about
    pickles alone: it says nothing about the code beside them, or about what the model says.
    """
    path = Path(path)
    search = _Search()
    if path.is_dir():
        for file in search.files(path):
            search.steps = 2 * STEPS
            with Source(file) as source:
                search.look(source, file.relative_to(path).as_posix())
    else:
        with Source(path) as source:
            search.look(source, path.name)
    worst = max((finding.verdict for finding in search.findings), key=VERDICTS.index, default="no pickle")
    if worst == "no pickle" and search.pickles:
        worst = "safe"
    return Scan(path, worst, tuple(search.findings), search.pickles)


class _Search:
    """A walk through a file and everything inside it. Instructions, members and bytes are limited for all of it."""

    def __init__(self):
        try:
            from picklescan import scanner
        except ModuleNotFoundError:
            raise MissingPart(
                'picklescan is missing; bring it with: python -m pip install "llmnotes[course]"'
            ) from None
        self.scanner, self.findings, self.known, self.pickles, self.torchscript = scanner, [], set(), 0, False
        self.steps, self.members, self.bytes = 2 * STEPS, FILES_LIMIT, 4 * MEMBER_LIMIT

    def files(self, folder: Path):
        """Yield the files of a folder; what is no ordinary file becomes a finding."""
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                self.members -= 1
                if self.members < 0:
                    self.add(str(folder), "suspicious", f"holds more than {FILES_LIMIT:,} files; not all were read")
                    return
                file = Path(place, name)
                try:
                    Source(file).file.close()
                except FileUnreadable as error:
                    self.add(file.relative_to(folder).as_posix(), "suspicious", str(error))
                    continue
                yield file

    def add(self, where: str, verdict: str, what: str) -> None:
        finding = Finding(where[:300], verdict, what[:400])
        if finding not in self.known and len(self.findings) < FINDINGS:
            self.known.add(finding)
            self.findings.append(finding)
        elif verdict == "dangerous" and all(found.verdict != verdict for found in self.findings):
            self.findings[-1] = finding  # the list is full, and the worst must be on it

    def look(self, source: Source, where: str, depth: int = 0) -> None:
        """Look for pickles in a file, as each of the things that it may be: a zip can be a pickle as well."""
        head = source.head(8)
        end = source.read(max(source.size - 65_557, 0), min(source.size, 65_557))  # where a zip's directory is found
        if head[:2] == b"PK" or b"PK\5\6" in end:
            self.look_into_zip(source, where, depth)
        if head.startswith(b"\x93NUMPY"):
            self.look_into_npy(source, where)
        elif head.startswith(PACKED) and not STORAGE.search(where):
            self.add(where, "suspicious", "is packed in a way that is not read here; unpack it and scan what comes out")
        elif _is_tar(source.head(512)):
            self.look_into_tar(source, where, depth)
        elif head[:4] != b"PK\3\4":
            self.look_for_pickles(source, where)

    def look_into_zip(self, source: Source, where: str, depth: int) -> None:
        found, problems = zips.directory(source)
        for problem in problems:
            if source.head(2) == b"PK" or found:
                self.add(where, "suspicious", f"{problem}, so that readers may disagree about what is in it")
        names = {entry.name.split("/", 1)[-1] for entry in found}
        outer, self.torchscript = self.torchscript, {"constants.pkl", "data.pkl"} <= names
        for entry in found:
            self.look_into_member(source, f"{where}:{entry.name}", entry, depth)
        self.torchscript = outer

    def look_into_member(self, source: Source, where: str, entry: zips.Entry, depth: int) -> None:
        """Look into one member of a zip archive, where it lies or unpacked."""
        self.members -= 1
        if self.members < 0:
            self.add(where.split(":")[0], "suspicious", f"holds more than {FILES_LIMIT:,} members; not all were read")
            return
        if entry.method == zips.STORED:
            self.look_inside(zips.SourceSection(source, entry.offset, entry.size), where, depth)
            return
        self.bytes -= entry.size
        if entry.size > MEMBER_LIMIT or self.bytes < 0:
            self.add(where, "suspicious", f"would unpack to {entry.size:,} bytes, more than is read here")
            return
        data = zips.content(source, entry, MEMBER_LIMIT, strict=False)
        self.look_inside(zips.SourceInMemory(source.path, data), where, depth)

    def look_inside(self, source: Source, where: str, depth: int) -> None:
        if depth < DEPTH:
            self.look(source, where, depth + 1)
        else:
            self.add(where, "suspicious", f"lies {DEPTH} archives deep and was not read")

    def look_into_tar(self, source: Source, where: str, depth: int) -> None:
        at = 0
        while at + 512 <= source.size:
            header = source.read(at, 512)
            name = header[:100].split(b"\0")[0].decode("utf-8", "replace")
            size = _octal(header[124:136])
            if not name and not any(header):
                at += 512
                continue
            self.members -= 1
            if size is None or at + 512 + size > source.size or self.members < 0:
                self.add(where, "suspicious", f"the tar archive cannot be read beyond {name[:80]!r}")
                return
            self.look_inside(zips.SourceSection(source, at + 512, size), f"{where}:{name}", depth)
            at += 512 + (size + 511) // 512 * 512

    def look_into_npy(self, source: Source, where: str) -> None:
        width = 2 if source.head(8)[6:7] == b"\1" else 4
        length = int.from_bytes(source.head(8 + width)[8:], "little")
        start = 8 + width + length
        if start > source.size:
            self.add(where, "suspicious", "its NumPy header is longer than the file")
            return
        header = source.read(8 + width, min(length, 1 << 16))
        if b"O" in header.replace(b"fortran_order", b"") or length > 1 << 16:
            self.look_for_pickles(source, where, start)

    def look_for_pickles(self, source: Source, where: str, start: int = 0) -> None:
        """Judge the pickles that lie one after the other from `start`, until something else follows them."""
        at = start
        for number in range(PICKLES):
            if at >= source.size:
                return
            signed = source.read(at, 1) == b"\x80"
            pickle = trace(PickleStream(source, at), max(self.steps, 1))
            self.steps -= pickle.steps
            place = where if not number else f"{where} (byte {at:,})"
            if pickle.broken and not self.is_broken_pickle(pickle, signed and not number):
                return
            if not pickle.broken and not signed and not number and not self.is_whole_pickle(source, pickle, at):
                return
            self.judge_pickle(source, place, at, pickle)
            if pickle.broken:
                return
            at = pickle.end
        self.add(where, "suspicious", f"holds more than {PICKLES:,} pickles in a row; not all were read")

    def is_broken_pickle(self, pickle: Pickle, signed: bool) -> bool:
        """Return whether bytes that are no whole pickle count as one: they import something before they break off."""
        if "instructions" in (pickle.broken or ""):  # it is too long, and what follows was not read
            return True
        names = [found for found in pickle.imports if _is_name(found)]
        if signed:
            return bool(names)
        named = any(judge(found.module, found.name) == "dangerous" for found in names)
        return bool(names and (pickle.calls or named))

    def is_whole_pickle(self, source: Source, pickle: Pickle, at: int) -> bool:
        """Return whether bytes without a pickle's signature are one, and no text that happens to read like one."""
        return bool(pickle.imports or pickle.calls) or pickle.end == source.size and pickle.steps > 1

    def judge_pickle(self, source: Source, where: str, at: int, pickle: Pickle) -> None:
        """Add what one pickle imports, calls and changes to the findings."""
        self.pickles += 1
        # What it imports: with the first call of it, which says more than the name.
        called = {id(call.callee): call for call in reversed(pickle.calls)}
        for found in pickle.imports:
            verdict = judge(found.module, found.name, self.torchscript)
            if verdict != "safe":
                call = called.get(id(found))
                self.add(where, verdict, f"calls {show(call)}" if call else f"imports {str(found)[:200]}")
        # What it calls without importing it.
        for call in pickle.calls:
            if not isinstance(call.callee, Global):
                self.add(where, "suspicious", f"calls what another call returned: {show(call)}")
        # Classes, functions and other objects whose attributes or items it sets.
        for changed in pickle.changed:
            verdict = "dangerous" if isinstance(changed, Global) else "suspicious"
            self.add(where, verdict, f"changes {show(changed)} itself")
        if pickle.broken:
            self.add(where, "suspicious", f"{pickle.broken}; what stands before that is executed all the same")
        self.ask_picklescan(source, where, at, pickle)

    def ask_picklescan(self, source: Source, where: str, at: int, pickle: Pickle) -> None:
        """Ask picklescan about the names in a pickle, and about its bytes where they are few."""
        names = {(found.module, found.name) for found in pickle.imports}
        one_line = [pair for pair in names if not set("".join(pair)) & set("\n\r") and "".join(pair).isascii()]
        texts = [b"".join(f"c{module}\n{name}\n".encode() for module, name in sorted(one_line)) + b"N."]
        if pickle.end - at <= SMALL:
            texts.append(source.read(at, min(pickle.end, source.size) - at))
        log = logging.getLogger("picklescan")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)  # what it would log is in our findings
        try:
            for text in texts:
                result = self.scanner.scan_pickle_bytes(io.BytesIO(text), where, multiple_pickles=False)
                for found in result.globals:
                    if found.safety == self.scanner.SafetyLevel.Dangerous:
                        self.add(where, "dangerous", f"picklescan: imports {found.module[:100]}.{found.name[:100]}")
        except Exception as error:  # a scanner that stumbles has not found the pickle harmless
            self.add(where, "suspicious", f"picklescan cannot read it ({type(error).__name__})")
        finally:
            log.setLevel(level)


# How archives begin that are not opened here: 7z, gzip, bzip2, xz, zstd, rar, lz4; zlib as joblib writes it.
PACKED = (b"7z\xbc\xaf'\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd", b"Rar!", b'\4"M\x18', b"]\0\0\x80\0")
PACKED += (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"ZF")


# A tensor's bytes in an archive of PyTorch's may begin with anything.
STORAGE = re.compile(r"/(data|constants)/\d+$")


def _is_tar(header: bytes) -> bool:
    """Return whether 512 bytes carry the checksum of a tar header: the sum of all but the checksum's own."""
    checksum = _octal(header[148:156])
    return len(header) == 512 and checksum == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _octal(field: bytes) -> int | None:
    """Return the number in a field of a tar header, or None where it holds none."""
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits.isdigit() and set(digits) <= set(b"01234567") else None


def _is_name(found: Global) -> bool:
    return all(word.isidentifier() for word in f"{found.module}.{found.name}".split(".")) or found.module == "?"
