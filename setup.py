"""Put the lessons into the wheel. Everything else about the package is said in pyproject.toml.

In the repository the notebooks lie in notebooks/, where people read them; in the wheel they belong inside the package,
as llmnotes/course/lessons, where `llmnotes start` copies them from. An editable install reads them in the repository.
"""

import shutil
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
        for notebook in sorted([*Path("notebooks").glob("*.ipynb"), *Path("notebooks/solutions").glob("*.ipynb")]):
            copy = target / notebook.relative_to("notebooks")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(notebook, copy)


setup(cmdclass={"build_py": WithLessons})
