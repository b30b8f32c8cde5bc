"""What TorchScript adds to an archive of PyTorch's: the program, which says what a module saves, and its constants."""

import re

from llmnotes.formats import zips
from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle
from llmnotes.formats.pickles.values import Call, Global, mapping
from llmnotes.formats.pytorch.inside import is_module

CONSTANT = "that is a constant of its program"
# What the program says of a class of modules before anything else; before torch 1.6 it did not name the buffers.
CLASS = re.compile(r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*?)\]\n  __buffers__ = \[(.*?)\]\n", re.MULTILINE)


def lay_out(source: Source, entries: dict[str, zips.Entry], root: str, pickle: Pickle) -> None:
    """Give each module of a pickle the layout that those of `torch.nn` have: parameters, buffers, modules, the rest.

    A module whose class the program does not describe stays as it is: all its tensors count as saved. TorchScript
    saves buffers with the state dict that `torch.nn` would not.
    """
    classes: dict[str, dict[str, set[str]]] = {}
    for call in pickle.calls:
        state = mapping(call.state)
        if not isinstance(call.callee, Global) or not is_module(call) or state is None:
            continue
        file = f"{root}code/{call.callee.module.replace('.', '/')}.py"
        if file not in classes:
            text = zips.content(source, entries[file]).decode("utf-8", "replace") if file in entries else ""
            described = CLASS.findall(text)
            classes[file] = {name: set(re.findall('"([^"]+)"', f"{one}, {two}")) for name, one, two in described}
        saved = classes[file].get(call.callee.name)
        if saved is not None:
            modules = {name: item for name, item in state.items() if isinstance(item, Call) and is_module(item)}
            own = {name: item for name, item in state.items() if name in saved}
            rest = {name: item for name, item in state.items() if name not in saved and name not in modules}
            call.state = {"_parameters": own, "_buffers": {}, "_modules": modules} | rest
