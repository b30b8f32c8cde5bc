"""What a walk through files has found so far, and how much it may still read."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from llmnotes.errors import FileUnreadable, MissingPart
from llmnotes.formats.files import Source
from llmnotes.formats.pickles import STEPS
from llmnotes.formats.scanning.verdicts import VERDICTS, Finding
from llmnotes.parts import bring

DEPTH = 4  # archives in archives
FILES_LIMIT = 10_000
MEMBER_LIMIT = 1 << 26  # bytes of a member that are unpacked for a look
FINDINGS = 200


class Search:
    """A walk through files. Instructions, members and bytes are limited for all of it.

    `look` is the function that looks for code in one file, and comes back here for what lies inside it.
    """

    def __init__(self, look: "Callable[[Search, Source, str, int], None]"):
        try:
            from picklescan import scanner
        except ModuleNotFoundError:
            raise MissingPart(f"picklescan is missing; bring it with: {bring('picklescan')}") from None
        self.look, self.picklescan = look, scanner
        self.findings: list[Finding] = []
        self.known: set[Finding] = set()
        self.pickles, self.torchscript, self.torch = 0, False, False
        self.steps, self.members, self.bytes = 2 * STEPS, FILES_LIMIT, 4 * MEMBER_LIMIT

    @property
    def verdict(self) -> str:
        """The worst of all findings."""
        worst = max((finding.verdict for finding in self.findings), key=VERDICTS.index, default="no pickle")
        return "safe" if worst == "no pickle" and self.pickles else worst

    def start_file(self) -> None:
        """Allow each file of a folder as many instructions as a file alone."""
        self.steps = 2 * STEPS

    def files(self, folder: Path) -> Iterator[Path]:
        """Yield the files of a folder; what is no ordinary file, and what is not followed, becomes a finding."""
        for place, folders, names in os.walk(folder, onerror=lambda error: self._add_unread(folder, error)):
            for name in sorted(folders):
                if Path(place, name).is_symlink():
                    where = Path(place, name).relative_to(folder).as_posix()
                    self.add(where, "suspicious", "is a link to a folder, which was not read; scan that folder, too")
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

    def _add_unread(self, folder: Path, error: OSError) -> None:
        where = Path(error.filename or folder)
        name = where.relative_to(folder).as_posix() if where.is_relative_to(folder) else str(where)
        self.add(name, "suspicious", f"could not be listed ({error.strerror}), so nothing in it was read")

    def add(self, where: str, verdict: str, what: str) -> None:
        """Note a finding; where the list is full, the worst must still be on it."""
        finding = Finding(where[:300], verdict, what[:400])
        worst = max((VERDICTS.index(found.verdict) for found in self.findings), default=0)
        if finding not in self.known and len(self.findings) < FINDINGS:
            self.known.add(finding)
            self.findings.append(finding)
        elif VERDICTS.index(verdict) > worst:
            self.findings[-1] = finding

    def look_inside(self, source: Source, where: str, depth: int) -> None:
        """Look into something that lies `depth` archives deep, if that is not too deep."""
        if depth < DEPTH:
            self.look(self, source, where, depth + 1)
        else:
            self.add(where, "suspicious", f"lies {DEPTH} archives deep and was not read")
