"""Scan files for code that a program would run when it loads them. Nothing is executed.

`search` looks at a file as each of the things that it may be: `containers`, `tars`, `packed` and `arrays` open
archives, packed files and NumPy's arrays as their loaders do, `pickled` judges the pickles, by the lists in `names`,
and `code` finds code that is in no pickle: `settings` reads JSON and YAML for `keras`, `huggingface` and `exported`,
`operators`, `onnx` and `flatbuffers` read graphs, `embedded` HDF5, and `programs` PyTorch's archives. `state` holds
what was found, and how much may still be read.
"""

from pathlib import Path

from llmnotes.formats.files import Source
from llmnotes.formats.scanning.verdicts import Finding, Scan

__all__ = ["LOOKED_FOR", "Finding", "Scan", "scan"]

LOOKED_FOR = (
    "pickles, also in archives, arrays and HDF5; Lambda layers and foreign modules of Keras; operators of TensorFlow, "
    "ONNX and TorchScript that run Python or touch files; auto_map and imports in settings of Hugging Face, diffusers "
    "and Hydra; Python's tags in YAML. Not: what Python files, TorchScript and operators of other libraries do"
)


def scan(path: str | Path) -> Scan:
    """Return what the file or folder at `path` would import, call and run when a program loads it.

    Pickles are found by their content: in zip and tar archives and in archives inside these, in npy and npz, in what
    joblib has written, several in a row, under any name, broken or whole. Two lists are asked, and the worse answer
    counts: picklescan's known attacks, and our own of the names that tensors need. Of code that is in no pickle,
    `LOOKED_FOR` names what is found.

    Raises `FileUnreadable` if there is nothing to read, `MissingPart` without picklescan. "safe" and "no pickle" say
    nothing of Python files beside the weights, or of what the model says.
    """
    from llmnotes.formats.scanning.search import look  # a dozen modules, which nobody else needs
    from llmnotes.formats.scanning.state import Search

    path = Path(path)
    search = Search(look)
    if path.is_dir():
        for file in search.files(path):
            search.start_file()
            with Source(file) as source:
                look(search, source, file.relative_to(path).as_posix())
    else:
        with Source(path) as source:
            look(search, source, path.name)
    return Scan(path, search.verdict, tuple(search.findings), search.pickles)
