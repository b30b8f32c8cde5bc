"""What a scan finds, and how bad it is."""

from dataclasses import asdict, dataclass
from pathlib import Path

VERDICTS = ("no pickle", "safe", "suspicious", "dangerous")


@dataclass(frozen=True)
class Finding:
    """One thing that would run, or that could not be read: its place, a verdict, and a sentence.

    A finding that is "no pickle" is a remark: it makes nothing worse.
    """

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

    @property
    def clean(self) -> bool:
        """Whether nothing was found that could run."""
        return self.verdict in ("no pickle", "safe")

    def as_dict(self) -> dict:
        """Return the answer as plain types."""
        return {**asdict(self), "path": str(self.path)}
