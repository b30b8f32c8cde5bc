"""The tables of README.md, which the measurements renew."""

from pathlib import Path

README = Path(__file__).parent / "README.md"


def renew(section: str, table: str) -> None:
    """Put `table` between the marks <!-- section --> and <!-- /section -->; raises ValueError where they are not."""
    start, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    before, found, rest = README.read_text(encoding="utf-8").partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no section {section}; put {start.strip()} and {end} where its table belongs.")
    README.write_text(f"{before}{start}{table}\n{end}{after}", encoding="utf-8")
