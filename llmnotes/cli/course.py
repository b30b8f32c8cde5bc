"""The commands of the course: start, lab, run, claims, progress, doctor, cache, new-notebook."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from llmnotes.errors import UnknownName


def start(arguments: argparse.Namespace) -> int:
    """Copy the lessons into a folder of the reader's, and say what to do next."""
    from llmnotes.course.start import copy_lessons

    folder = copy_lessons(arguments.folder)
    print(f"The lessons are in {folder}, their solutions in {folder / 'notebooks' / 'solutions'}.")
    print(f"Next: cd {folder}, then llmnotes lab (it opens the first lesson in your browser).")
    return 0


def lab(arguments: argparse.Namespace) -> int:
    """Open JupyterLab at the first lesson; its own exit status."""
    from llmnotes.course import root
    from llmnotes.course.lab import open_lab

    return open_lab(root(), browser=not arguments.no_browser)


def run(arguments: argparse.Namespace) -> int:
    """Run notebooks, write the page of each when it ends, and print what they cost; 1 if one fails, 130 if stopped."""
    from tqdm import tqdm

    from llmnotes.course import notebooks, root
    from llmnotes.course.run import execute_all, save, save_costs, table

    paths = [_notebook(path) for path in arguments.notebook] or notebooks(root())
    site, found = None, {}
    if arguments.pages:
        from llmnotes.course.render import Site

        site = Site(arguments.pages, paths)
    try:
        with tqdm(total=sum(map(_cells, paths)), unit=" cells", file=sys.stderr) as bar:
            for path, result in execute_all(paths, 1 if arguments.costs else arguments.jobs, bar):
                found[path] = result
                if site:
                    site.add(result)
                    if len(found) == 1 < len(paths):
                        bar.write(f"The first page is there, the others follow: {site.index}", file=sys.stderr)
    except KeyboardInterrupt:
        ran = f"; what has run is in {site.index}" if site and found else ""
        print(f"Stopped after {len(found)} of {len(paths)} notebooks{ran}.", file=sys.stderr)
        return 130
    results = [found[path] for path in paths]
    if arguments.costs:
        save_costs([result for result in results if result.ok])
    if arguments.save:
        for path, result in zip(paths, results, strict=True):
            if result.ok:
                save(result, path)
    print(json.dumps([result.as_dict() for result in results], indent=1) if arguments.json else table(results))
    if site:
        print(f"pages: {site.index}", file=sys.stderr)
    return int(not all(result.ok for result in results))


def _notebook(path: Path) -> Path:
    if path.suffix != ".ipynb" or not path.is_file():
        raise UnknownName(f"There is no notebook {path}; give the path of an .ipynb file.")
    try:
        _cells(path)
    except (ValueError, KeyError, TypeError):
        raise UnknownName(f"{path} is damaged: it is not the JSON of a notebook; take a fresh copy of it.") from None
    return path


def _cells(path: Path) -> int:
    return len(json.loads(path.read_text(encoding="utf-8"))["cells"])


def claims(arguments: argparse.Namespace) -> int:
    """Print every claim that the saved notebooks show."""
    import nbformat

    from llmnotes.course import claims, notebooks, root

    found = {path.stem: claims(nbformat.read(path, as_version=4)) for path in notebooks(root())}
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print("\n".join(f"{name}  {statement}" for name, statements in found.items() for statement in statements))
    return 0


def progress(arguments: argparse.Namespace) -> int:
    """Print which exercises the reader has solved; or export, import or reset that."""
    from llmnotes.exercises import BY_NOTEBOOK
    from llmnotes.exercises.progress import bring, export, reset, solved

    if arguments.export:
        print(f"{export(arguments.export)} solved exercises and their answers are in {arguments.export}.")
        return 0
    if arguments.bring:
        print(f"{bring(arguments.bring)} exercises are new.")
    if arguments.reset:
        print(f"{reset(arguments.reset)} exercises are open again.")
        return 0
    done = set(solved())
    exercises = [exercise for exercises in BY_NOTEBOOK.values() for exercise in exercises]
    if arguments.json:
        print(json.dumps({exercise.id: exercise.id in done for exercise in exercises}, indent=1))
        return 0
    for exercise in exercises:
        print(f"{'✓' if exercise.id in done else '○'} {exercise.id}  {exercise.title}")
    print(f"{sum(exercise.id in done for exercise in exercises)} of {len(exercises)} exercises solved")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Print the machine's report; 1 if a part is missing."""
    from llmnotes.hardware import this_machine
    from llmnotes.llama_cpp.gpus import idle_gpu

    machine = this_machine()
    idle = idle_gpu()
    if arguments.json:
        print(json.dumps(machine.as_dict() | {"idle_gpu": idle}, indent=1))
    else:
        print(machine.as_text(), *filter(None, [idle]), sep="\n")
    return int(bool(machine.missing))


def cache(arguments: argparse.Namespace) -> int:
    """List the copies of models that llmnotes has made, or remove some."""
    from llmnotes.home import copies, home, remove

    if arguments.remove:
        print(f"{remove(arguments.remove) / 1e6:,.1f} MB are free again.")
        return 0
    found = copies()
    if arguments.json:
        print(json.dumps({str(place): size for place, size in found.items()}, indent=1))
        return 0
    for place, size in found.items():
        print(f"{size / 1e6:>10,.1f} MB  {place.name}")
    print(f"{sum(found.values()) / 1e6:>10,.1f} MB in {len(found)} copies, in {home()}")
    return 0


def new_notebook(arguments: argparse.Namespace) -> int:
    """Add a notebook to the course, in its clone; the exit status of the tool in `kit/` that does it."""
    import subprocess

    from llmnotes.course import root

    folder = root()
    if not (folder / "kit" / "new_notebook.py").is_file():
        raise UnknownName(
            f"{folder} holds the lessons alone; clone the repository of the course, and run this in the clone."
        )
    command = [sys.executable, "-m", "kit.new_notebook", arguments.name]
    return subprocess.run(command, cwd=folder, check=False).returncode


def add(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add these commands to `llmnotes`."""
    subparser = add_command(
        start,
        "Copy the lessons and their solutions into a new folder of yours, where you can work in them.",
        "llmnotes start",
        answers=False,
    )
    subparser.add_argument("folder", nargs="?", type=Path, help="a new folder; by default llmnotes-course")
    subparser = add_command(lab, "Open JupyterLab at the first lesson.", "llmnotes lab", answers=False)
    subparser.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    subparser = add_command(
        run,
        "Run notebooks from top to bottom and measure them; without names, all of them.",
        "llmnotes run notebooks/01_tokens.ipynb",
    )
    subparser.add_argument("notebook", nargs="*", type=Path, help="a notebook's file")
    subparser.add_argument(
        "--pages", type=Path, metavar="DIR", help="write each run as a page, with an index, into DIR"
    )
    subparser.add_argument("--save", action="store_true", help="save the outputs in the notebooks")
    costs = "keep what was measured as the course's figures; `python -m kit.anatomy` writes them into its pages"
    subparser.add_argument("--costs", action="store_true", help=costs)
    jobs = "notebooks that run side by side (default: 2, or 1 on a single core and to measure --costs)"
    default = min(2, os.cpu_count() or 1)
    subparser.add_argument("--jobs", type=int, choices=range(1, 9), default=default, metavar="N", help=jobs)
    add_command(claims, "List every claim of the course, as its notebooks show them.", "llmnotes claims")
    subparser = add_command(
        progress,
        "Show which exercises you have solved. It is one file, which you can take along.",
        "llmnotes progress --export mine.json",
    )
    group = subparser.add_mutually_exclusive_group()
    group.add_argument("--export", type=Path, metavar="FILE", help="write it to a new file")
    group.add_argument("--import", type=Path, metavar="FILE", dest="bring", help="add what such a file holds")
    group.add_argument("--reset", metavar="WHICH", help="forget an exercise such as 03.2, a lesson such as 03, or all")
    doctor_about = "Show what this machine has, and what is missing with the command that installs it."
    add_command(doctor, doctor_about, "llmnotes doctor")
    subparser = add_command(
        cache,
        "List the copies of models in other formats that llmnotes has made and kept, or remove some; they are made "
        "again when they are needed.",
        "llmnotes cache --remove all",
    )
    subparser.add_argument("--remove", metavar="NAME", help="remove the copy of that name, or all")
    subparser = add_command(
        new_notebook,
        "Add a notebook to a clone of the course: a lesson with the whole frame, an exercise and its solution, that "
        "runs and passes the tests, ready to be filled.",
        "llmnotes new-notebook 24_topic",
        answers=False,
    )
    subparser.add_argument("name", metavar="NAME", help="two digits that no notebook has yet, and words: 24_topic")
