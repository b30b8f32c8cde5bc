"""What is inside the values that a pickle of PyTorch's builds: which of them are tensors, and what holds them."""

import re

from llmnotes.formats.pickles import Pickle
from llmnotes.formats.pickles.values import Call, Global, PersistentId, mapping
from llmnotes.formats.pytorch.state_dict import NOT_SAVED, OF_OPTIMIZER

MODULE = ("_parameters", "_buffers", "_modules")  # what a module's state dict is made of
PARAMETERS = ("torch.nn.parameter.Parameter", "torch.autograd.variable.Variable")
REBUILT = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
ARRAY = re.compile(r"numpy\.(_?core\.multiarray\._reconstruct|_?core\.numeric\._frombuffer)")
ATOMS = (str, int, float, bool, bytes, type(None))  # what holds nothing


def is_tensor(value: object) -> bool:
    """Whether a value stands for a tensor: a reference, or a call to one of the functions that make one."""
    if isinstance(value, PersistentId):
        return not (isinstance(value.id, tuple) and value.id[:1] == ("module",))  # a class with its source code
    callee = value.callee if isinstance(value, Call) else None
    if not isinstance(value, Call) or not isinstance(callee, Global):
        return False
    rebuilt = callee.module.startswith("torch.") and callee.name.startswith("_rebuild_")
    return rebuilt or wrapped(value) is not None


def wrapped(value: Call) -> Call | PersistentId | None:
    """Return the tensor in a parameter as the versions before 0.4 have it: the class called with the tensor."""
    if str(value.callee) not in PARAMETERS or not isinstance(value.args, tuple) or not value.args:
        return None
    data = value.args[0]
    inner = isinstance(data, PersistentId) or (isinstance(data, Call) and str(data.callee) in REBUILT)
    return data if inner else None


def is_module(value: object) -> bool:
    """Whether a value is a module: of `torch.nn`, or of TorchScript."""
    if not isinstance(value, Call):
        return False
    if isinstance(value.callee, Global) and value.callee.module.split(".")[0] == "__torch__":
        return True
    state = mapping(value.state)
    return state is not None and all(mapping(state.get(part)) is not None for part in MODULE)


def with_tensors(pickle: Pickle) -> tuple[set[int], int]:
    """Return (the ids of all values in a pickle that are tensors or hold one, how many tensors it makes elsewhere).

    A pickle can put one value into many others, so this is a graph and not a tree: each value is visited once.
    """
    if not pickle.calls and not pickle.references:
        return set(), 0
    # From the root down: note the parents of every value, and the tensors.
    parents: dict[int, list[int]] = {}
    seen, waiting, tensors = {id(pickle.value)}, [pickle.value], []
    while waiting:
        value = waiting.pop()
        if type(value) in (Call, PersistentId) and is_tensor(value):
            tensors.append(value)
            continue
        items = value if isinstance(value, list | tuple) else [item for _, item, _ in children(value)]
        for item in [*items, *arguments(value)]:
            if type(item) in ATOMS:
                continue
            parents.setdefault(id(item), []).append(id(value))
            if id(item) not in seen:
                seen.add(id(item))
                waiting.append(item)
    # The calls that tensors are made of, such as the one whose result becomes a parameter.
    waiting = list(tensors)
    while waiting:
        value = waiting.pop()
        for item in value if isinstance(value, tuple) else arguments(value):
            if isinstance(item, Call | tuple) and id(item) not in seen:
                seen.add(id(item))
                waiting.append(item)
    elsewhere = sum(id(call) not in seen and is_tensor(call) for call in pickle.calls)
    # From the tensors up: their parents hold one, and so do the parents of these.
    rising = [id(value) for value in tensors]
    holding = set(rising)
    while rising:
        new = [parent for parent in parents.get(rising.pop(), ()) if parent not in holding]
        holding.update(new)
        rising += new
    return holding, elsewhere


def children(value: object) -> list[tuple[object, object, str]]:
    """Return (key, value, why it is no weight, or "") for all that is inside a value: a container, a module, or any
    other object, which has a state and may be a dictionary or a list as well."""
    pairs = mapping(value)
    if pairs is None and isinstance(value, list | tuple):
        return [(at, item, "") for at, item in enumerate(value)]
    if pairs is None and isinstance(value, Call):
        pairs = {}
        for part in value.state if isinstance(value.state, tuple) else (value.state,):
            pairs |= mapping(part) or {}
        if is_module(value):
            return _of_module(pairs)
        pairs |= value.items or {}
        pairs |= dict(enumerate(value.appended or ()))
    pairs = pairs or {}
    why = OF_OPTIMIZER if pairs.keys() >= {"state", "param_groups"} else ""
    return [(key, item, why) for key, item in pairs.items()]


def _of_module(state: dict) -> list[tuple[object, object, str]]:
    """Return what is inside a module, as `children` does: what its state dict has, and then its other attributes."""
    passing = state.get("_non_persistent_buffers_set")  # a set: a list here, or a call with a list
    if isinstance(passing, Call) and isinstance(passing.args, tuple) and passing.args:
        passing = passing.args[0]
    passing = [name for name in passing if isinstance(name, str)] if isinstance(passing, list) else []
    found = []
    for part in MODULE:
        for name, item in (mapping(state.get(part)) or {}).items():
            found.append((name, item, NOT_SAVED if part == "_buffers" and name in passing else ""))
    why = NOT_SAVED if mapping(state.get("_parameters")) is not None else ""  # TorchScript tells no kinds
    return found + [(key, item, why) for key, item in state.items() if key not in MODULE]


def sizes(value: object) -> object:
    """Return the tuple that is written as such or as torch.Size."""
    if isinstance(value, Call) and str(value.callee) == "torch.Size" and isinstance(value.args, tuple) and value.args:
        return value.args[0]
    return value


def is_array(value: object) -> bool:
    """Whether a value stands for an array of NumPy."""
    return isinstance(value, Call) and isinstance(value.callee, Global) and bool(ARRAY.fullmatch(str(value.callee)))


def arrays(value: object, name: str, seen: set[int]) -> list[str]:
    """Return the names of NumPy's arrays in a value without tensors; what was `seen` is passed over."""
    found, waiting = [], [(value, name)]
    while waiting:
        item, path = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if is_array(item):
            found.append(path or "value")
            continue
        for key, each, _ in (*children(item), *((at, each, "") for at, each in enumerate(arguments(item)))):
            if type(each) not in ATOMS:
                waiting.append((each, f"{path}.{str(key)[:80]}"[-200:].lstrip(".")))
    return found


def arguments(value: object) -> tuple:
    """Return the arguments of a call that is neither a tensor nor a container."""
    if not isinstance(value, Call) or mapping(value) is not None:
        return ()
    return value.args if isinstance(value.args, tuple) else ()
