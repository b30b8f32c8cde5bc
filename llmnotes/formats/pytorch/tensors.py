"""What the pickles of PyTorch say about tensors: each is a view of a storage, with an offset, sizes and strides."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmnotes.errors import FileBroken
from llmnotes.formats.files import CHUNK, Source
from llmnotes.formats.pickles import Pickle
from llmnotes.formats.pickles.values import Call, Global, PersistentId, mapping, plain
from llmnotes.formats.results import DTYPES, Tensor, size_of

DEPTH = 64  # levels of nesting in a checkpoint
VISITS = 200_000
NAME = 300  # characters of a tensor's name

# torch's word before "Storage", and its dtypes -> dtype
STORAGES = {"Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32"}
STORAGES |= {"Short": "I16", "Char": "I8", "Byte": "U8", "Bool": "BOOL", "Untyped": "U8"}
STORAGES |= {"ComplexDouble": "C128", "ComplexFloat": "C64"}
NAMES = {"float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16"}
NAMES |= {"bfloat16": "BF16", "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16"}
NAMES |= {"short": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64"}
NAMES |= {"bool": "BOOL", "complex64": "C64", "complex128": "C128"}
NAMES |= {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0"}
NAMES |= {"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ"}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes that tensors share. `offset` is None where it lies compressed, and then `entry` says in what."""

    key: object
    dtype: str
    nbytes: int
    offset: int | None
    big_endian: bool = False
    entry: object = None


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: `shape` and `strides` over the elements of a storage, from element `first`."""

    storage: Storage
    dtype: str
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after the other in the order in which they are counted."""
        step = 1
        for side, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if side > 1 and stride != step and 0 not in self.shape:
                return False
            step *= side
        return True

    @property
    def offset(self) -> int | None:
        """The first byte in the file, or None where the bytes do not lie there one after the other."""
        start, width = self.storage.offset, DTYPES[self.dtype][1]
        swapped = self.storage.big_endian and width > 1
        return None if start is None or swapped or not self.contiguous else start + self.first * width


@dataclass
class Contents:
    """What a checkpoint holds: its tensors by dotted name, all other values, and what could not be read."""

    views: dict[str, View]
    metadata: dict
    notes: list[str]


def collect(source: Source, pickle: Pickle, resolve) -> Contents:
    """Return the tensors below the value of a pickle. `resolve(reference)` gives the `Storage` of a reference.

    A module that was pickled as a whole contributes its parameters under the names that its state dict would have.
    """
    root = pickle.value
    holding = _holding(root) if pickle.calls or pickle.references else set()  # nothing else makes a tensor
    contents = Contents({}, {}, [])
    stack, visits = [(root, "", 0)], 0
    while stack:
        value, name, depth = stack.pop()
        visits += 1
        if visits > VISITS or depth > DEPTH or len(name) > NAME:
            raise source.broken("its pickle nests deeper, or repeats itself more often, than a checkpoint does")
        if id(value) not in holding:
            if name and len(contents.metadata) < 1000:
                contents.metadata[name] = plain(value)
            elif not name:
                contents.metadata.update(plain(value) if mapping(value) is not None else {"value": plain(value)})
        elif _is_tensor(value):
            view = _view(source, value, resolve, name)
            name = name or "tensor"
            if isinstance(view, str):
                contents.notes.append(f"{name[:80]} is {view}, which llmnotes does not read.")
            elif name in contents.views:
                contents.notes.append(f"Two tensors have the name {name[:80]}; the first is listed.")
            else:
                contents.views[name] = view
        else:
            below = [(item, _join(name, key), depth + 1) for key, item in _children(value)]
            stack += below[::-1]
    return contents


def describe(source: Source, views: dict[str, View]) -> tuple[Tensor, ...]:
    """Return the tensors as the file's inspection lists them; one that equals an earlier view is its alias."""
    first, tensors = {}, []
    for name, view in views.items():
        same = (view.storage.key, view.dtype, view.first, view.shape, view.strides)
        nbytes = size_of(view.dtype, view.shape)
        alias = first.setdefault(same, name) if nbytes else name
        alias = None if alias == name else alias
        tensors.append(Tensor(name, view.dtype, view.shape, nbytes, source.path, view.offset, alias))
    stored = {view.storage.key: view.storage.nbytes for view in views.values()}
    if sum(tensor.nbytes for tensor in tensors if tensor.alias is None) > 4 * sum(stored.values()) + (1 << 26):
        raise source.broken("its tensors show the same bytes over and over, as no model does")
    return tuple(tensors)


def gather(read, view: View) -> Iterator[bytes]:
    """Yield the bytes of a view in the order of its elements, little-endian. `read(offset, count)` reads its storage.

    A piece of the result and a piece of the storage are held at a time, whatever the strides are.
    """
    import numpy as np

    width = DTYPES[view.dtype][1]
    swap = width // 2 if view.dtype.startswith("C") else width  # a complex number is two numbers
    room = max(4 * CHUNK // width, 1)

    def fill(out, first: int, strides: tuple[int, ...]) -> None:  # out: an array of items of `width` bytes
        span = 1 + sum((side - 1) * stride for side, stride in zip(out.shape, strides, strict=True))
        if span <= 2 * room:
            block = np.frombuffer(read(first * width, span * width), f"V{width}")
            steps = tuple(stride * width for stride in strides)
            out[...] = np.lib.stride_tricks.as_strided(block, out.shape, steps, writeable=False)
            return
        axis = max((axis for axis, side in enumerate(out.shape) if side > 1), key=lambda axis: strides[axis])
        group = max((2 * room - span + (out.shape[axis] - 1) * strides[axis]) // strides[axis], 1)
        for begin in range(0, out.shape[axis], group):
            part = (slice(None),) * axis + (slice(begin, begin + group),)
            fill(out[part], first + begin * strides[axis], strides)

    def walk(first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[bytes]:
        inner = size_of(view.dtype, shape[1:]) // width if shape else 1
        if shape and inner > room:  # one row is a piece of its own, or more
            for row in range(shape[0]):
                yield from walk(first + row * strides[0], shape[1:], strides[1:])
            return
        rows = max(room // max(inner, 1), 1)
        for row in range(0, shape[0] if shape else 1, rows):
            some = (min(rows, shape[0] - row), *shape[1:]) if shape else ()
            out = np.empty(some, f"V{width}")
            fill(out, first + row * (strides[0] if strides else 0), strides)
            data = out.tobytes()
            yield np.frombuffer(data, f"V{swap}").view(f"u{swap}").byteswap().tobytes() if swapped else data

    swapped = view.storage.big_endian and width > 1
    if 0 not in view.shape:
        yield from walk(view.first, view.shape, view.strides)


def storage_dtype(kind) -> str | None:
    """Return the dtype that the name of a storage class says, or None."""
    if not (isinstance(kind, Global) and kind.module.split(".")[0] == "torch" and kind.name.endswith("Storage")):
        return None
    return STORAGES.get(kind.name.removesuffix("Storage"))


def make_view(source: Source, name: str, storage: Storage, dtype: str, first, shape, strides) -> View:
    """Return the view if every element of it lies in its storage; `FileBroken` otherwise."""
    shape, strides = source.shape(_tuple(shape), name), source.shape(_tuple(strides), name)
    elements = size_of(dtype, shape) // DTYPES[dtype][1]
    room = storage.nbytes // DTYPES[dtype][1]
    last = first + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=False)) if elements else 0
    if len(shape) != len(strides) or type(first) is not int or first < 0 or last >= room + (not elements):
        raise source.broken(f"the tensor {name[:80]!r} reaches beyond its storage")
    if elements > room + (1 << 24):  # strides of zero repeat elements, and nobody saves a model that way
        raise source.broken(f"the tensor {name[:80]!r} claims {elements:,} elements of a storage with {room:,}")
    return View(storage, dtype, first, shape, strides)


def _view(source: Source, value, resolve, name: str) -> View | str:
    """Return the view that a call to one of torch's functions would give, or in words why there is none."""
    if isinstance(value, PersistentId):
        whole = resolve(value, name)  # in the oldest files a tensor, in newer ones a storage without a shape
        return "a storage without a tensor" if isinstance(whole, Storage) else whole
    function, args = value.callee.name, value.args
    try:
        for _ in range(4):  # a parameter wraps a tensor, a subclass wraps a function
            if function == "_rebuild_from_type_v2":
                function, args = args[0].name, args[2]
            elif function.startswith("_rebuild_parameter"):
                if isinstance(args[0], PersistentId):
                    return _view(source, args[0], resolve, name)
                function, args = args[0].callee.name, args[0].args
        if function not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            return f"the result of {function[:60]}"
        storage = resolve(args[0], name)
        dtype = NAMES.get(args[6].name) if function == "_rebuild_tensor_v3" else storage.dtype
        if not isinstance(storage, Storage) or dtype is None:
            return "of a type without a name in safetensors"
        first, shape, strides = args[1:4]
        return make_view(source, name, storage, dtype, first, shape, strides)
    except FileBroken:
        raise
    except (AttributeError, IndexError, TypeError, KeyError, ValueError):
        raise source.broken(f"the call that makes the tensor {name[:80]!r} lacks what it needs") from None


def _is_tensor(value) -> bool:
    if isinstance(value, PersistentId):
        return True
    callee = value.callee if isinstance(value, Call) else None
    return isinstance(callee, Global) and callee.module.startswith("torch.") and callee.name.startswith("_rebuild_")


ATOMS = (str, int, float, bool, bytes, type(None))  # what holds nothing


def _holding(root) -> set[int]:
    """Return the ids of all values below `root` that are tensors or hold one."""
    parents, seen, stack, tensors = {}, {id(root)}, [root], []
    while stack:
        value = stack.pop()
        if type(value) in (Call, PersistentId) and _is_tensor(value):
            tensors.append(id(value))
            continue
        items = value if type(value) in (list, tuple) else [item for _, item in _children(value)]
        for item in items:
            if type(item) in ATOMS:
                continue
            parents.setdefault(id(item), []).append(id(value))
            if id(item) not in seen:
                seen.add(id(item))
                stack.append(item)
    holding = set(tensors)
    while tensors:
        new = [parent for parent in parents.get(tensors.pop(), ()) if parent not in holding]
        holding.update(new)
        tensors += new
    return holding


def _children(value) -> list:
    """Return the named parts of a value that are values themselves."""
    pairs = mapping(value)
    if pairs is None and isinstance(value, list | tuple):
        return list(enumerate(value))
    if pairs is None and isinstance(value, Call):
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        pairs = mapping(state)
    return list(pairs.items()) if pairs else []


def _join(name: str, key) -> str:
    key = key if isinstance(key, str) else str(plain(key))
    if key in ("_parameters", "_buffers", "_modules"):  # inside a module that was pickled as a whole
        return name
    return f"{name}.{key}" if name else key


def _tuple(value):
    """Return the tuple that is written as such or as torch.Size."""
    return value.args[0] if isinstance(value, Call) and str(value.callee) == "torch.Size" and value.args else value
