"""Put the lessons into the wheel. Everything else about the package is said in pyproject.toml.

In the repository the notebooks lie in notebooks/, where people read them; in the wheel they belong inside the package,
as llmnotes/course/lessons, where `llmnotes start` copies them from. An editable install reads them in the repository.
"""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithLessons(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "llmnotes" / "course" / "lessons"
        shutil.rmtree(target, ignore_errors=True)  # a lesson that was renamed since the last build
        lessons = [*Path("notebooks").glob("*.ipynb"), *Path("notebooks").glob("*.md")]  # and pages of reference
        for notebook in sorted([*lessons, *Path("notebooks/solutions").glob("*.ipynb")]):
            copy = target / notebook.relative_to("notebooks")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(notebook, copy)


def long_description() -> str:
    """Return the README for an index of packages, which has no files beside it: its links lead to the tag.

    Without an address in `[project.urls]` links become their text, and pictures go.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = Path("README.md").read_text(encoding="utf-8")
    address = project.get("urls", {}).get("Repository")
    if not address:
        text = re.sub(r"!\[[^]]*\]\((?!https:)[^)]*\)\n*", "", text)
        return re.sub(r"\[([^]]*)\]\((?!https:)[^)]*\)", r"\1", text)
    tag = f"v{project['version']}"
    text = re.sub(r"(!\[[^]]*\]\()(?!https:)", rf"\1{address}/raw/{tag}/", text)
    return re.sub(r"((?<!\!)\[[^][]*\]\()(?!https:)", rf"\1{address}/blob/{tag}/", text)


setup(
    cmdclass={"build_py": WithLessons},
    long_description=long_description(),
    long_description_content_type="text/markdown",
)
