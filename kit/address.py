"""The address of the repository: it stands in `[project.urls]` of pyproject.toml, and nowhere else by hand.

    python -m kit.address   # takes it from `git remote`, and writes the badges and set-up cells of all notebooks

As long as it is not set, there are no badges, and nothing is installed from a name that nobody owns: a set-up cell
takes the wheel beside its notebook, or the clone that it lies in. With an address it takes the tag of its own version.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from llmnotes.course import root
from llmnotes.errors import LLMNotesError, UnknownName

GITHUB = "https://github.com/"
SECTION = re.compile(r'(?m)^\[project\.urls\]\nRepository = ".*"\n\n')


def project(folder: Path) -> dict:
    """Return the table `project` of pyproject.toml in `folder`."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def repository(folder: Path) -> str:
    """Return the address of the repository, as `folder`/pyproject.toml states it; "" if it states none."""
    return project(folder).get("urls", {}).get("Repository", "")


def from_remote(remote: str) -> str:
    """Return the https address of a git remote, without a name or a password of whoever cloned it.

    Raises `UnknownName` for what is no address on the web.

    >>> from_remote("git@github.com:ada/llmnotes.git")
    'https://github.com/ada/llmnotes'
    """
    found = re.fullmatch(r"(?:https://|ssh://)?(?:[^@/]+@)?([\w.-]+\.\w+)(?::\d+)?[:/]([\w./~-]+?)(?:\.git)?/?", remote)
    if found is None:
        raise UnknownName(f"{remote[:80]} is no address on the web; set one with: git remote add origin https://...")
    return f"https://{found[1]}/{found[2]}"


def write(folder: Path, address: str) -> None:
    """Write the address into `folder`/pyproject.toml; "" takes it out."""
    file = folder / "pyproject.toml"
    text = SECTION.sub("", file.read_text(encoding="utf-8"))
    section = f'[project.urls]\nRepository = "{address}"\n\n' if address else ""
    file.write_text(text.replace("[project.scripts]\n", f"{section}[project.scripts]\n"), encoding="utf-8")


def main() -> int:
    """Take the address from git's remote `origin`, and renew what follows from it; 2 if there is none."""
    from kit import anatomy

    folder = root()
    command = ["git", "remote", "get-url", "origin"]
    remote = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()
    try:
        if not remote:
            raise UnknownName("This clone has no remote; set one with: git remote add origin https://...")
        address = from_remote(remote)
    except LLMNotesError as error:
        print(error, file=sys.stderr)
        return 2
    write(folder, address)
    status = anatomy.main([])
    print(
        f"{address} is in pyproject.toml, README.md and the notebooks; readers install its tag "
        f"v{project(folder)['version']}, which needs to be there."
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
