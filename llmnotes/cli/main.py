"""The command `llmnotes`: each command is one thin function here, over one function of the package.

Exit status, the same for all commands: 0 done; 1 the answer is no; 2 it could not be done, and one sentence on stderr
says why; 130 or 143 stopped by Ctrl-C or SIGTERM.
"""

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from llmnotes.cli import course, fit, serving
from llmnotes.errors import LLMNotesError, UnknownName, reason, visible
from llmnotes.formats.gguf.families import ARCHITECTURES, MIXTURES
from llmnotes.formats.targets import TARGETS
from llmnotes.quantization.mixtures import FILE_TYPES


def inspect(arguments: argparse.Namespace) -> int:
    """Print what a model file or folder is and holds."""
    from llmnotes.formats.describe import describe_inspection, inspection_dict
    from llmnotes.models.files import inspect

    found, short = inspect(arguments.file), arguments.summary
    if arguments.json:
        print(json.dumps(inspection_dict(found, short), indent=1, allow_nan=False))
    else:
        print(describe_inspection(found, short))
    return 0


def scan(arguments: argparse.Namespace) -> int:
    """Print what would run when files are loaded; 1 if one of them is not known to be clean."""
    from llmnotes.formats.scanning import LOOKED_FOR
    from llmnotes.models.files import scan

    with ExitStack() as stack:
        found = [scan(_from_stdin(stack) if file == "-" else file) for file in arguments.file]
    if arguments.json:
        answers = [one.as_dict() for one in found]
        print(json.dumps(answers if len(answers) > 1 else answers[0], indent=1))
    else:
        for one in found:
            print(visible(f"{one.path.name}: {one.verdict}; pickles read: {one.pickles}"))
            for finding in one.findings:
                print(visible(f"  {finding.verdict}: {finding.where} {finding.what}"))
        clean = sum(one.clean for one in found)
        print(f"{clean} of {len(found)} clean. Looked for: {LOOKED_FOR}.")
    return int(not all(one.clean for one in found))


def _from_stdin(stack: ExitStack) -> Path:
    """Return a file that holds what comes on standard input, as long as `stack` is open."""
    file = Path(stack.enter_context(TemporaryDirectory()), "standard input")
    with open(file, "wb") as target:
        shutil.copyfileobj(sys.stdin.buffer, target)
    return file


def convert(arguments: argparse.Namespace) -> int:
    """Write a model in another format and print what was lost; 1 if it computes another function than before."""
    from llmnotes.fit.sizes import parse
    from llmnotes.formats.describe import conversion_dict, describe_conversion
    from llmnotes.models.files import convert
    from llmnotes.models.second_look import second_look

    importance, size = _importance(arguments.imatrix, arguments.source), arguments.split_max_size
    if size is not None:
        size = parse(f"{size}B" if size[-1:].upper() in ("M", "G") else size)  # llama.cpp's 2G are 2 GB
    done = convert(arguments.source, arguments.target, arguments.to, arguments.type, importance, size)
    seen = second_look(done)
    if arguments.json:
        print(json.dumps(conversion_dict(done) | {"second_look": seen and seen.as_dict()}, indent=1))
    else:
        print("\n".join([describe_conversion(done), *([visible(str(seen))] if seen else [])]))
    if seen and seen.warning:
        print(visible(seen.warning), file=sys.stderr)
        return 1
    return 0


def _importance(file: Path | None, source: str) -> dict | None:
    """Return the importance matrix in `file`, or measure it: the model `source` reads the text of a .txt file."""
    if file is None:
        return None
    if file.suffix.lower() != ".txt":
        from llmnotes.formats.gguf.imatrix import read_imatrix

        return read_imatrix(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UnknownName(f"There is no text in UTF-8 at {file}; check the path.") from None
    from llmnotes.models import open_model
    from llmnotes.quantization.models.importance import collect

    lm = open_model(source, say=_to_stderr)
    return collect(lm.model, lm.tokenizer, [text])


def finetune(arguments: argparse.Namespace) -> int:
    """Fine-tune a model as a file of settings says, and print what came of it."""
    from llmnotes.finetuning.distributed import join, leave
    from llmnotes.finetuning.job.report import describe
    from llmnotes.finetuning.job.run import finetune

    done = finetune(arguments.config, say=_to_stderr)
    place = join()
    leave()
    if place.rank:  # under torchrun the first process speaks
        return 0
    print(json.dumps(done.as_dict(), indent=1) if arguments.json else describe(done))
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Write the model that an adapter makes of its base, and print what was lost."""
    from llmnotes.formats.describe import conversion_dict, describe_conversion
    from llmnotes.models.adapters import merge

    done = merge(arguments.adapter, arguments.target, arguments.base)
    print(json.dumps(conversion_dict(done), indent=1) if arguments.json else describe_conversion(done))
    return 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class _Version(argparse.Action):
    """Print the version that is installed; only then is it looked up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"llmnotes {version('llmnotes')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    about = "A course that takes one language model apart and puts it back together, on your own machine."
    ends = "exit status: 0 done, 1 the answer is no, 2 it could not be done, 130 or 143 stopped by Ctrl-C or SIGTERM"
    top = argparse.ArgumentParser(prog="llmnotes", description=about, epilog=f"example: llmnotes start; {ends}")
    top.add_argument("--version", action=_Version, nargs=0, help="show the version of llmnotes and exit")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="command")

    def add_command(function, about: str, example: str, answers: bool = True) -> argparse.ArgumentParser:
        """Add the command of a function's name, and return its parser.

        `function` takes the parsed arguments and returns the exit status. `about` is the command's help and `example`
        its last line. A command that `answers` can print JSON.
        """
        name = function.__name__.replace("_", "-")
        subparser = subparsers.add_parser(name, help=about, description=about, epilog=f"example: {example}")
        if answers:
            subparser.add_argument("--json", action="store_true", help="print the answer as JSON")
        subparser.set_defaults(function=function)
        return subparser

    course.add(add_command)
    _add(add_command)
    serving.add(add_command)
    fit.add(add_command)
    return top


def _add(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands for model files, and `finetune`."""
    model = "a file, a folder, a name on the hub, pebble, pebble-chat, pebble-llava or smollm2"
    subparser = add_command(
        inspect,
        "Show what a model file is, by its content, and what it holds. Known are safetensors; PyTorch's zip, "
        "TorchScript, legacy pickle and tar; GGUF, and GGML, GGMF, GGJT and GGLA before it; ONNX; "
        "TensorFlow's checkpoints, SavedModels and frozen graphs; Keras and HDF5; NumPy's npy and npz; llama2.c; "
        "llama.cpp's importance matrices; and the folders and indexes of Hugging Face and PEFT.",
        "llmnotes inspect pebble",
    )
    subparser.add_argument("file", help=model)
    subparser.add_argument("--summary", action="store_true", help="leave out metadata and tensors")
    subparser = add_command(
        scan,
        "Show what files would import, call and run when they are loaded, without running any of it: pickles, "
        "Keras' Lambda layers, operators that run Python, auto_map. Exit status: 0 if all are safe or hold no pickle, "
        "1 if one is suspicious or dangerous.",
        "llmnotes scan pytorch_model.bin",
    )
    subparser.add_argument("file", nargs="+", help=f"{model}; - for standard input")
    subparser = add_command(
        convert,
        "Write a model in another format; a target that exists is never replaced. PyTorch's files, safetensors and "
        "Hugging Face folders become each other or a checkpoint of TensorFlow, which also comes back; a folder "
        "becomes GGUF or ONNX, a GGUF a folder or safetensors, and GGML, GGMF and GGJT become GGUF. Between folder and "
        f"GGUF go {', '.join(architecture.hugging_face for architecture in ARCHITECTURES)}; a GGUF "
        f"of any architecture can become one of another type, with experts those of {' and '.join(MIXTURES)}.",
        "llmnotes convert pebble p.gguf --to gguf --type Q8_0",
    )
    subparser.add_argument("source", metavar="SRC", help=model)
    subparser.add_argument("target", metavar="DST", type=Path, help="the new file or folder")
    subparser.add_argument(
        "--to", metavar="FORMAT", help=f"{', '.join(TARGETS)}; by default what the ending of DST says"
    )
    types = (
        f"the type of a GGUF's weights: {', '.join(FILE_TYPES)}; by default BF16 for a model in BF16, F16 for others"
    )
    subparser.add_argument("--type", metavar="TYPE", help=types)
    imatrix = (
        "which columns matter, for types of few bits: an importance matrix of llama.cpp, or a .txt to measure it on"
    )
    subparser.add_argument("--imatrix", metavar="FILE", type=Path, help=imatrix)
    size = "write a GGUF as several files with at most SIZE of tensors each, such as 2G, named DST-00001-of-00003.gguf"
    subparser.add_argument("--split-max-size", metavar="SIZE", help=size)
    subparser = add_command(
        finetune,
        "Fine-tune a model by LoRA, QLoRA or in full. CONFIG is a file of YAML with model, data (a file of JSON lines: "
        "messages, prompt and completion, or text), output (a new folder), and steps or epochs; a key that does not "
        "exist is answered with the nearest one. The same command resumes a training that was interrupted, and "
        "under torchrun it trains in several processes.",
        "llmnotes finetune lessons.yaml",
    )
    settings = "the settings; `python -m pydoc llmnotes.finetuning.job.settings` lists them"
    subparser.add_argument("config", metavar="CONFIG", type=Path, help=settings)
    subparser = add_command(
        merge,
        "Write the model that an adapter makes of its base as a new Hugging Face folder, one layer at a time. chat, "
        "serve, convert and finetune also take the adapter itself, and merge it for the occasion.",
        "llmnotes merge taught taught-merged",
    )
    subparser.add_argument("adapter", metavar="ADAPTER", help="the output of `finetune`, or a folder in PEFT's layout")
    subparser.add_argument("target", metavar="FOLDER", type=Path, help="the new folder")
    subparser.add_argument("--base", metavar="MODEL", help="the model it was trained on, if it is not where it was")


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status.

    No command ends in a traceback: what nobody foresaw is one sentence, too. With the variable LLMNOTES_TRACEBACK it
    is raised, for whoever mends it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a Windows console may not speak UTF-8 by itself
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next; this ends the process
            from argcomplete import autocomplete  # pyright: ignore[reportMissingImports]  (an optional part)

            autocomplete(parser())
        arguments = parser().parse_args(argv)
        _refuse_two_meanings(arguments)
        status = arguments.function(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, LLMNotesError) and os.environ.get("LLMNOTES_TRACEBACK"):
            raise
        print(_sentence(error), file=sys.stderr)
        return error.status if isinstance(error, LLMNotesError) else 2


def _refuse_two_meanings(arguments: argparse.Namespace) -> None:
    """Raise `UnknownName` for the name of a model of ours that is also a file's where the command runs."""
    given = [getattr(arguments, key, None) for key in ("model", "file", "source")]
    for name in [name for one in given for name in (one if isinstance(one, list) else [one])]:
        if isinstance(name, str) and os.path.lexists(name):
            from llmnotes.models.paths import NAMES

            if name in NAMES:
                raise UnknownName(
                    f"{name} is a model of llmnotes, and a file or folder here has that name, too; say ./{name} for "
                    "yours, or run the command in another folder for ours."
                )


def _sentence(error: Exception) -> str:
    """Return what to say of an error: its own sentence if llmnotes made it, else one with a remedy."""
    match error:
        case LLMNotesError():
            return str(error)
        case ModuleNotFoundError():
            from llmnotes.parts import bring, missing_of

            missing = missing_of("", "course", "lab") or [str(error.name).partition(".")[0]]
            return f"{error.name} is missing; bring it with: {bring(*missing)}"
        case MemoryError():
            return "The main memory is full; close other programs, or take a smaller model or a shorter context."
        case OSError(strerror=str(why)):
            where = f"{error.filename} cannot be used" if error.filename else "A file cannot be used"
            return visible(f"{where} ({why}); check the path, its permissions and the room on the disk.")
    return visible(
        f"This is a fault of llmnotes ({reason(error)}); run it again with LLMNOTES_TRACEBACK=1 in the environment "
        "and report what it prints."
    )


if __name__ == "__main__":
    sys.exit(main())
