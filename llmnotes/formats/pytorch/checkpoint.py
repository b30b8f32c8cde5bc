"""What the pickles of PyTorch's files say: tensors, which are views of storages, and all other values."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.files import Source
from llmnotes.formats.pickles import Pickle
from llmnotes.formats.pickles.values import Call, Global, PersistentId, mapping, plain
from llmnotes.formats.pytorch import distributed, state_dict
from llmnotes.formats.pytorch.inside import (
    arguments,
    arrays,
    children,
    is_array,
    is_module,
    is_tensor,
    sizes,
    with_tensors,
    wrapped,
)
from llmnotes.formats.results import NOT_READ, SAME_NAME, Tensor, counted
from llmnotes.formats.strided import Storage, StridedView, strided_view

DEPTH = 64  # levels of nesting in a checkpoint
VISITS = 200_000
NAME = 300  # characters of a tensor's name

# The name of a storage's class before "Storage" -> dtype
STORAGES = {
    "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
    "Char": "I8", "Byte": "U8", "Bool": "BOOL", "Untyped": "U8", "ComplexDouble": "C128", "ComplexFloat": "C64",
}  # fmt: skip
# torch's name of a dtype -> dtype
TORCH_DTYPES = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16", "short": "I16",
    "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip

# Finds what a reference in a pickle points to: a storage, a tensor (in the oldest files), or, in words, why neither.
Resolve = Callable[[PersistentId, str], Storage | StridedView | str]


@dataclass
class Checkpoint:
    """What a file of PyTorch's holds: tensors by dotted name, all other values, and what could not be read.

    `beside` and `prefix` are those of `Inspection`.
    """

    tensors: dict[str, StridedView] = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    prefix: str = ""


def collect(source: Source, pickle: Pickle, resolve: Resolve) -> Checkpoint:
    """Return the tensors and the other values in what a pickle builds, under names such as `optimizer.state.0.exp_avg`.

    `resolve(reference, name)` finds the storage of the tensor `name`. A module that was pickled as a whole contributes
    its parameters under the names that its state dict would have. Where two tensors would have one name, the second
    gets a number: "a.b#2".

    Raises `FileBroken` for a tensor that reaches beyond its storage, and for a pickle that nests without end;
    `UnknownFormat` for weights that DeepSpeed left to other files.
    """
    root = pickle.value
    # Only calls and references make tensors; a value without one below it becomes metadata as a whole.
    holding, elsewhere = with_tensors(pickle)
    found = Checkpoint()
    places: dict[str, state_dict.Place] = {}
    counts: Counter[str] = Counter()
    twice: list[str] = []
    count = sum(is_array(call) for call in pickle.calls)
    of_numpy: list[str] = []
    seen: set[int] = set()
    stack: list[tuple[object, str, int, state_dict.Place]] = [(root, "", 0, state_dict.Place())]
    visits = 0
    while stack:
        value, name, depth, place = stack.pop()
        visits += 1
        if visits > VISITS or depth > DEPTH or len(name) > NAME:
            raise source.broken("its pickle nests deeper, or repeats itself more often, than a checkpoint does")
        if id(value) not in holding:
            _add_value(found.metadata, name, value)
            of_numpy += arrays(value, name, seen) if count else []
        elif is_tensor(value):
            view = _view(source, value, resolve, name)
            if isinstance(view, str):
                found.notes.append(f"{name[:80] or 'It'} is {view}, {NOT_READ}.")
                continue
            free = _free(name or "tensor", counts)
            found.tensors[free], places[free] = view, place
            twice += [free] * (free != (name or "tensor"))
        else:
            inside = children(value)
            inside += [(at, item, "") for at, item in enumerate(arguments(value)) if id(item) in holding]
            below = []
            for key, item, why in inside:
                below.append((item, _join(name, key), depth + 1, place.inside(_join("", key), why, depth)))
            stack += below[::-1]
    if elsewhere:
        where = "As keys of dictionaries or attributes of other tensors"
        found.notes.append(f"{where} the file holds {counted(elsewhere, 'tensor')}, {NOT_READ}.")
    if twice:
        found.notes.append(f"{counted(len(twice), 'tensor')} {SAME_NAME}: {', '.join(twice)[:200]}.")
    if count:
        which = f"{', '.join(sorted(of_numpy))[:200]} (torch.from_numpy makes a tensor of each)"
        found.notes.append(f"The file holds {counted(count, 'array')} of NumPy, {NOT_READ}: {which}.")
    distributed.refuse_empty(source, root, found.tensors)
    shapes = {name: view.shape for name, view in found.tensors.items()}
    found.prefix, found.beside = state_dict.choose(places, shapes, is_module(root))
    return found


def list_tensors(source: Source, views: dict[str, StridedView]) -> tuple[Tensor, ...]:
    """Return the tensors as the file's inspection lists them; one that equals an earlier one is its alias."""
    first, tensors = {}, []
    for name, view in views.items():
        same = (view.storage.key, view.dtype, view.first, view.shape, view.strides)
        original = first.setdefault(same, name) if view.nbytes else name
        alias = None if original == name else original
        tensors.append(Tensor(name, view.dtype, view.shape, view.nbytes, source.path, view.offset, alias))
    stored = {view.storage.key: view.storage.nbytes for view in views.values()}
    shown = sum(tensor.nbytes for tensor in tensors if tensor.alias is None)
    if shown > 4 * sum(stored.values()) + (1 << 26):
        raise NotConvertible(
            f"The tensors of {source.path.name} show the same bytes over and over, as an expanded mask does: written "
            f"out they would be {shown:,} bytes; save the file without them."
        )
    return tuple(tensors)


def storage_dtype(kind: object) -> str | None:
    """Return the dtype that the name of a storage class says, or None."""
    if not (isinstance(kind, Global) and kind.module.split(".")[0] == "torch" and kind.name.endswith("Storage")):
        return None
    return STORAGES.get(kind.name.removesuffix("Storage"))


def _add_value(metadata: dict, name: str, value: object) -> None:
    """Add a value without tensors; at the top, each entry of a dictionary has its own name."""
    short = plain(value)
    if name:
        if len(metadata) < 1000:
            metadata[name] = short
    elif isinstance(short, dict):
        metadata.update(short)
    else:
        metadata["value"] = short


def _free(name: str, counts: Counter[str]) -> str:
    """Return a name that no tensor has yet, and count it: the second "a.b" is "a.b#2"."""
    free = name
    while free in counts:
        counts[name] += 1
        free = f"{name}#{counts[name]}"
    counts[free] = 1
    return free


def _view(source: Source, value: object, resolve: Resolve, name: str) -> StridedView | str:
    """Return the view that a reference or a call to one of torch's functions stands for, or why there is none."""
    if isinstance(value, PersistentId):
        whole = resolve(value, name)
        return "a storage without a tensor" if isinstance(whole, Storage) else whole
    assert isinstance(value, Call) and isinstance(value.callee, Global)  # as is_tensor says
    data = wrapped(value)
    if data is not None:
        return _view(source, data, resolve, name)
    function, args = value.callee.name, cast(tuple, value.args)  # or anything else: then the sentence below
    try:
        # Take off what wraps the call: a parameter around its tensor, a subclass around its function.
        for _ in range(4):
            if function == "_rebuild_from_type_v2":
                function, args = args[0].name, args[2]
            elif function.startswith("_rebuild_parameter"):
                if isinstance(args[0], PersistentId):
                    return _view(source, args[0], resolve, name)
                function, args = args[0].callee.name, args[0].args
        if function not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            return f"the result of {function[:60]}"
        # (storage, first element, shape, strides, requires_grad, hooks), and from v3 on the dtype
        storage = resolve(args[0], name)
        if not isinstance(storage, Storage):
            return "of a type without a name in safetensors"
        dtype = TORCH_DTYPES.get(args[6].name) if function == "_rebuild_tensor_v3" else storage.dtype
        if dtype is None:
            return "of a type without a name in safetensors"
        marks = mapping(args[-1]) or {}
        if marks.get("conj") or marks.get("neg"):
            return "a view of numbers whose sign is turned when they are read (.conj() or .imag; save .resolve_conj())"
        first, shape, strides = args[1:4]
        return strided_view(source, name, storage, dtype, first, sizes(shape), sizes(strides))
    except FileBroken:
        raise
    except (AttributeError, IndexError, TypeError, KeyError, ValueError):
        raise source.broken(f"the call that makes the tensor {name[:80]!r} lacks what it needs") from None


def _join(name: str, key: object) -> str:
    key = key if isinstance(key, str) else str(plain(key))
    return f"{name}.{key}" if name else key
