"""Lists of safe and dangerous names in pickles: what tensors need, and what can run arbitrary code.

Both lists are written out here, and not taken from what llmnotes reads: a type that a reader learns does not become
safe by that.
"""

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

DTYPES = (
    "bfloat16 bits16 bits1x8 bits2x4 bits4x2 bits8 bool complex32 complex64 complex128 double float float16 float32 "
    "float4_e2m1fn_x2 float64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu half int int1 "
    "int16 int2 int3 int32 int4 int5 int6 int64 int7 int8 long qint32 qint8 quint2x4 quint4x2 quint8 short uint1 "
    "uint16 uint2 uint3 uint32 uint4 uint5 uint6 uint64 uint7 uint8"
).split()
STORAGES = {
    f"{kind}Storage"
    for kind in (
        "BFloat16 Bool Byte Char ComplexDouble ComplexFloat Double Float Half Int Long QInt32 QInt8 QUInt2x4 QUInt4x2 "
        "QUInt8 Short Untyped"
    ).split()
}
TENSORS = {f"{kind}Tensor" for kind in "BFloat16 Bool Byte Char Double Float Half Int Long Short".split()}
SAFE = {
    "_codecs": {"encode"},
    "builtins": {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
        "slice", "str", "tuple",
    },
    "collections": {"Counter", "OrderedDict", "defaultdict"},
    "copyreg": {"_reconstructor"},
    "joblib.numpy_pickle": {"NumpyArrayWrapper"},  # it describes an array whose numbers follow
    "numpy": {"dtype", "matrix", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy.matrixlib.defmatrix": {"matrix"},
    "torch": {
        "Size", "Tensor", "device", "per_channel_affine", "per_channel_affine_float_qparams", "per_channel_symmetric",
        "per_tensor_affine", "per_tensor_symmetric", "sparse_coo", "strided", *DTYPES, *STORAGES, *TENSORS,
    },
    "torch.cuda": STORAGES | TENSORS,
    "torch.cuda.sparse": TENSORS,
    "torch.sparse": TENSORS,
    "torch._tensor": {"_rebuild_from_type_v2"},
    "torch._utils": {
        "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_device_tensor_from_numpy",
        "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor", "_rebuild_parameter",
        "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_tensor",
        "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_wrapper_subclass",
    },
    "torch.jit._pickle": {
        "build_boollist", "build_doublelist", "build_intlist", "build_tensor_from_id", "build_tensorlist",
        "restore_type_tag",
    },
    "torch.nn.parameter": {"Buffer", "Parameter"},
    "torch.serialization": {"_get_layout"},
    "torch.storage": {"TypedStorage", "UntypedStorage"},
    "torch.torch_version": {"TorchVersion"},
}  # fmt: skip

# Modules in which every name is suspect of running programs, opening files or reaching for the network.
EXECUTORS = set(
    "_aix_support _ctypes _io _osx_support _pickle _posixsubprocess _pyrepl _winapi antigravity asyncio bdb cProfile "
    "cffi cloudpickle code codeop commands ctypes dbm dill distutils doctest ensurepip faulthandler ftplib gc http "
    "idlelib imaplib imp importlib inspect joblib lib2to3 linecache logging marshal mmap msvcrt multiprocessing nt "
    "ntpath operator _operator os pdb pickle pip pkgutil platform poplib popen2 posix posixpath profile pty pydoc "
    "requests runpy setuptools shelve shutil signal site smtplib socket socketserver sqlite3 ssl subprocess sys "
    "sysconfig telnetlib tempfile test threading timeit trace types unittest urllib urllib2 urllib3 uuid venv "
    "webbrowser winreg xmlrpc zipimport".split()
)
# Those of them that are no words which anything else is called by.
PLAINEST = set(
    "_pickle builtins ctypes dill importlib joblib marshal nt os pickle posix pty runpy shutil socket subprocess sys "
    "cloudpickle webbrowser".split()
)
# Single names that do the same in modules with harmless ones.
CALLS = {
    "builtins": {
        "__build_class__", "__import__", "apply", "breakpoint", "classmethod", "compile", "delattr", "eval", "exec",
        "execfile", "exit", "getattr", "globals", "help", "input", "locals", "map", "filter", "open", "print", "quit",
        "setattr", "staticmethod", "type", "vars",
    },
    "codecs": {"open"},
    "functools": {"partial", "partialmethod", "reduce"},
    "io": {"FileIO", "open", "open_code"},
    "numpy": {"load", "loadtxt", "fromfile", "memmap", "save", "f2py", "testing", "lib", "genfromtxt"},
    "pandas": {"read_pickle", "eval"},
    "tensorflow": {"io", "keras", "load_op_library", "py_function", "saved_model"},
    "torch": {
        "_dynamo", "_inductor", "classes", "compile", "fx", "hub", "jit", "load", "ops", "package", "save", "utils",
    },
}  # fmt: skip
# Names in those modules that hold values and do nothing.
HARMLESS = {
    "_io": {"BytesIO", "StringIO"},
    "joblib.numpy_pickle": {"NDArrayWrapper", "ZNDArrayWrapper"},  # joblib 0.9: names the file of an array beside it
    "types": {"SimpleNamespace"},
    "uuid": {"SafeUUID", "UUID"},
}
# As they stand inside a name with dots, for what a module has imported itself: torch.serialization.os.system.
INSIDE = {"os", "subprocess", "sys", "builtins", "__builtins__", "__globals__", "__import__", "__dict__", "importlib"}
INSIDE |= {"__subclasses__", "__class__", "__reduce__", "__loader__", "eval", "exec", "system", "popen"}


def judge(module: str, name: str, torchscript: bool = False) -> str:
    """Return "safe", "suspicious" or "dangerous" for the import of `name` from `module`.

    Names are those of Python 3; a name of Python 2 is judged as what it becomes. A TorchScript archive names types of
    its own below `__torch__`, which are no Python modules.

    >>> judge("collections", "OrderedDict"), judge("__builtin__", "eval"), judge("my_model", "Net")
    ('safe', 'dangerous', 'suspicious')
    """
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    module = module.replace("numpy._core", "numpy.core", 1)
    if name in SAFE.get(module, ()) or (torchscript and module.split(".")[0] == "__torch__"):
        return "safe"
    if name in HARMLESS.get(module, ()):
        return "suspicious"
    words = f"{module}.{name}".split(".")
    if module in ("?", "") or words[0] in EXECUTORS or words[1] in CALLS.get(words[0], ()) or set(words[1:]) & INSIDE:
        return "dangerous"
    return "suspicious"


def could_exist(module: str, name: str) -> bool:
    """Return whether there may be such a name: a text that reads like a pickle seldom says one by chance.

    A name has no spaces; and of the modules of Python's own that are loaded here, it is known what they hold.

    >>> could_exist("os", "system"), could_exist("os", "sin"), could_exist("nt main() {", "return 0;")
    (True, False, False)
    """
    if module == "?" or (module, name) in NAME_MAPPING:  # a name that the pickle computes, or one of Python 2
        return True
    if not all(word.isidentifier() for word in f"{module}.{name}".split(".")):
        return False
    loaded = sys.modules.get(module) if module.split(".")[0] in sys.stdlib_module_names else None
    return loaded is None or name.split(".")[0] in vars(loaded) or "__getattr__" in vars(loaded)


def leads_to_programs(name: str, every: bool) -> bool:
    """Return whether a name with dots is one that can run programs: of `every` module that can, or of the plainest.

    The latter is for places where other programs write words like test.accuracy, and tests are no attack.

    >>> leads_to_programs("os.system", False), leads_to_programs("test.accuracy", False)
    (True, False)
    """
    module, _, last = name.rpartition(".")
    if not module or name.startswith("torch.utils.data."):
        return False
    return judge(module, last) == "dangerous" and (every or module.split(".")[0] in PLAINEST)
