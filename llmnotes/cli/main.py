"""The command `llmnotes`: a thin layer, one function of the package behind each word.

Exit status: 0 done; 1 the answer is no; 2 the input could not be used, with one sentence on stderr.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

from llmnotes.cli import fit, serving
from llmnotes.errors import LLMNotesError, MissingPart, UnknownName, visible
from llmnotes.formats.conversion import TARGETS


def doctor(arguments) -> int:
    """Print the machine's report; 1 if a part is missing."""
    from llmnotes.hardware import describe, report

    machine = report()
    print(json.dumps(machine.as_dict(), indent=1) if arguments.json else describe(machine))
    return int(bool(machine.missing))


def run(arguments) -> int:
    """Run notebooks and print what they cost; 1 if one of them fails."""
    from tqdm import tqdm

    from llmnotes.course import notebooks, root
    from llmnotes.course.run import execute, save, save_costs, table

    paths = [_notebook(path) for path in arguments.notebook] or notebooks(root())
    results = []
    with tqdm(total=sum(map(_cells, paths)), unit=" cells", file=sys.stderr) as bar:
        for path in paths:
            bar.set_description(path.stem)
            results.append(execute(path, bar))
    if arguments.costs:
        save_costs([result for result in results if result.ok])
    if arguments.save:
        for path, result in zip(paths, results, strict=True):
            if result.ok:
                save(result, path)
    print(json.dumps([result.as_dict() for result in results], indent=1) if arguments.json else table(results))
    if arguments.pages:
        from llmnotes.course.render import write_course

        print(f"pages: {write_course(results, arguments.pages)}", file=sys.stderr)
    return int(not all(result.ok for result in results))


def lab(arguments) -> int:
    """Open JupyterLab at the first notebook; its own exit status."""
    import subprocess

    from llmnotes.course import notebooks, root
    from llmnotes.course.run import environment

    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingPart('jupyterlab is missing; bring it with: python -m pip install "llmnotes[course,lab]"')
    folder = root()
    first = notebooks(folder)[0].relative_to(folder).as_posix()
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{first}"]
    command += ["--no-browser"] * arguments.no_browser
    command += ["--allow-root"] * (hasattr(os, "geteuid") and os.geteuid() == 0)  # in a container, say
    try:
        return subprocess.run(command, cwd=folder, env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 0


def claims(arguments) -> int:
    """Print every claim that the saved notebooks show."""
    import nbformat

    from llmnotes.course import claims as claims_of
    from llmnotes.course import notebooks, root

    found = {path.stem: claims_of(nbformat.read(path, as_version=4)) for path in notebooks(root())}
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print("\n".join(f"{name}  {statement}" for name, statements in found.items() for statement in statements))
    return 0


def progress(arguments) -> int:
    """Print which exercises the reader has solved."""
    from llmnotes.exercises import MODULES, load, solved

    done = set(solved())
    exercises = [exercise for number in MODULES for exercise in load(number)]
    if arguments.json:
        print(json.dumps({exercise.id: exercise.id in done for exercise in exercises}, indent=1))
        return 0
    for exercise in exercises:
        print(f"{'✓' if exercise.id in done else '○'} {exercise.id}  {exercise.title}")
    print(f"{sum(exercise.id in done for exercise in exercises)} of {len(exercises)} exercises solved")
    return 0


def inspect(arguments) -> int:
    """Print what a model file or folder is and holds."""
    from llmnotes import formats
    from llmnotes.formats.describe import as_dict, describe

    found = formats.inspect(_model(arguments.file))
    print(json.dumps(as_dict(found), indent=1, allow_nan=False) if arguments.json else describe(found))
    return 0


def scan(arguments) -> int:
    """Print what the pickles in a file would do; 1 if that is suspicious or dangerous."""
    from llmnotes.formats import scan as scan_file

    found = scan_file(_model(arguments.file))
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print(visible(f"{found.path.name}: {found.verdict}; pickles read: {found.pickles}"))
        for finding in found.findings:
            print(visible(f"  {finding.verdict}: {finding.where} {finding.what}"))
    return int(found.verdict in ("suspicious", "dangerous"))


def convert(arguments) -> int:
    """Write a model in another format and print what was lost."""
    from llmnotes.formats import convert as write
    from llmnotes.formats.describe import conversion_dict, report

    source = _model(arguments.source)
    done = write(source, arguments.target, arguments.to, arguments.type, _importance(arguments.imatrix, source))
    print(json.dumps(conversion_dict(done), indent=1) if arguments.json else report(done))
    return 0


def finetune(arguments) -> int:
    """Fine-tune a model as a file of settings says, and print what came of it."""
    from llmnotes.finetuning.distributed import join, leave
    from llmnotes.finetuning.job import settings
    from llmnotes.finetuning.job.run import describe
    from llmnotes.finetuning.job.run import finetune as train

    done = train(settings.read(arguments.config), say=lambda line: print(line, file=sys.stderr))
    place = join()
    leave()
    if place.rank:  # under torchrun the first process speaks
        return 0
    print(json.dumps(done.as_dict(), indent=1) if arguments.json else describe(done))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    about = "A course that takes one language model apart and puts it back together, on your own machine."
    top = argparse.ArgumentParser(prog="llmnotes", description=about, epilog="example: llmnotes doctor")
    words = top.add_subparsers(dest="command", required=True, metavar="command")

    def word(function, about: str, example: str, data: bool = True):
        sub = words.add_parser(function.__name__, help=about, description=about, epilog=f"example: {example}")
        if data:
            sub.add_argument("--json", action="store_true", help="print the answer as JSON")
        sub.set_defaults(function=function)
        return sub

    word(doctor, "What this machine has, and what is missing with the command that brings it.", "llmnotes doctor")
    sub = word(
        run,
        "Run notebooks from top to bottom and measure them; without names, all of them.",
        "llmnotes run notebooks/01_embeddings.ipynb",
    )
    sub.add_argument("notebook", nargs="*", type=Path, help="a notebook's file")
    sub.add_argument("--pages", type=Path, metavar="DIR", help="write each run as a page, with an index, into DIR")
    sub.add_argument("--save", action="store_true", help="save the outputs in the notebooks")
    sub.add_argument("--costs", action="store_true", help="keep what was measured as the course's figures")
    sub = word(lab, "Open JupyterLab at the first notebook.", "llmnotes lab", data=False)
    sub.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    model = "a file, a folder, a name on the hub, pebble or pebble-chat"
    sub = word(
        inspect,
        "Show what a model file is, by its content, and what it holds. Known are safetensors; PyTorch's zip, "
        "TorchScript, legacy pickle and tar; GGUF, and GGML, GGMF, GGJT and GGLA before it; ONNX; "
        "TensorFlow's checkpoints, SavedModels and frozen graphs; Keras and HDF5; NumPy's npy and npz; llama2.c; "
        "and the folders and indexes of Hugging Face and PEFT.",
        "llmnotes inspect pebble",
    )
    sub.add_argument("file", help=model)
    sub = word(
        scan,
        "Show what the pickles in a file would import and call, without executing any. Exit status: 0 for safe or no "
        "pickle, 1 for suspicious or dangerous.",
        "llmnotes scan pytorch_model.bin",
    )
    sub.add_argument("file", help=model)
    sub = word(
        convert,
        "Write a model in another format; a target that exists is never replaced. PyTorch's files, safetensors and "
        "Hugging Face folders become each other or a checkpoint of TensorFlow, which also comes back; a folder "
        "becomes GGUF or ONNX, a GGUF a folder or safetensors, and GGML, GGMF and GGJT become GGUF.",
        "llmnotes convert pebble p.gguf --to gguf --type Q8_0",
    )
    sub.add_argument("source", metavar="SRC", help=model)
    sub.add_argument("target", metavar="DST", type=Path, help="the new file or folder")
    sub.add_argument("--to", metavar="FORMAT", help=f"{', '.join(TARGETS)}; by default what the ending of DST says")
    kinds = "such as F16, Q8_0 or Q4_K_M; by default BF16 for a model in BF16, and F16 for others"
    sub.add_argument("--type", metavar="TYPE", help=f"the type of a GGUF's weights, {kinds}")
    matters = (
        "which columns matter, for types of few bits: an importance matrix of llama.cpp, or a .txt to measure it on"
    )
    sub.add_argument("--imatrix", metavar="FILE", type=Path, help=matters)
    sub = word(
        finetune,
        "Fine-tune a model by LoRA, QLoRA or in full. CONFIG is a file of YAML with model, data (a file of JSON lines: "
        "messages, prompt and completion, or text), output (a new folder), and steps or epochs; a key that does not "
        "exist is answered with the nearest one. The same command goes on with a training that was interrupted, and "
        "under torchrun it trains in several processes.",
        "llmnotes finetune lessons.yaml",
    )
    sub.add_argument("config", metavar="CONFIG", type=Path, help="the settings; see llmnotes/finetuning/settings.py")
    serving.add(word)
    fit.add(word)
    word(claims, "List every claim of the course, as its notebooks show them.", "llmnotes claims")
    word(progress, "Show which exercises you have solved.", "llmnotes progress")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status."""
    if hasattr(sys.stdout, "reconfigure"):  # a Windows console may not speak UTF-8 by itself
        sys.stdout.reconfigure(encoding="utf-8")
    arguments = parser().parse_args(argv)
    try:
        return arguments.function(arguments)
    except LLMNotesError as error:
        print(error, file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f'{error.name} is missing; bring it with: python -m pip install "llmnotes[course,lab]"', file=sys.stderr)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 2


def _model(name: str) -> Path:
    path = Path(name)
    if os.path.exists(path) and (path.suffix or len(path.parts) > 1):  # no name of a model in the box
        return path
    from llmnotes.models import path_of

    return path_of(name)


def _importance(file: Path | None, source: Path):
    """Return the importance matrix in `file`, or the one that the model in `source` gives when it reads that text."""
    if file is None:
        return None
    if file.suffix.lower() != ".txt":
        from llmnotes.formats.gguf.imatrix import read

        return read(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UnknownName(f"There is no text in UTF-8 at {file}; check the path.") from None
    from llmnotes.models import open_model
    from llmnotes.quantization.models.importance import collect

    lm = open_model(source, say=lambda line: print(line, file=sys.stderr))
    return collect(lm.model, lm.tokenizer, [text])


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


if __name__ == "__main__":
    sys.exit(main())
