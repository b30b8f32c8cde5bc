"""A folder for files of a model that is removed again, on Windows too, which deletes no file that is open or mapped."""

import gc
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder, which is removed at the end.

    A model that was opened from files in it and lives on must `let_go` of them first. An error that leaves the block
    loses the variables in its traceback: half a model among them would keep its file mapped.
    """
    with tempfile.TemporaryDirectory(prefix="llmnotes-") as folder:
        try:
            yield Path(folder)
        except Exception as error:
            passed = error
            while passed is not None:
                traceback.clear_frames(passed.__traceback__)
                passed = passed.__cause__ or passed.__context__
            gc.collect()
            raise


def let_go(module: "torch.nn.Module") -> None:
    """Copy a model's tensors out of the file that they lie in, one after the other."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()
