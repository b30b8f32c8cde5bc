"""Run llama.cpp's own quantizer: `python llama_cpp_quantize.py LIBRARIES`, with jobs as JSON on standard input.

A job is [GGUF to read, file to write, number of the file type, importance]: null or {tensor's name: numbers}.
The libraries are those of the npm package @node-llama-cpp/linux-x64, which exports `llama_model_quantize`.
"""

import ctypes
import json
import sys
from pathlib import Path


class Importance(ctypes.Structure):
    """llama_model_imatrix_data; a list of them ends where the name is missing."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


class Parameters(ctypes.Structure):
    """llama_model_quantize_params of llama.cpp v0.5.0."""

    _fields_ = [(name, ctypes.c_int32) for name in ("threads", "file_type", "output_type", "embedding_type")]
    _fields_ += [(name, ctypes.c_bool) for name in ("requantize", "output", "copy", "pure", "split", "dry")]
    _fields_ += [("importance", ctypes.POINTER(Importance))]
    _fields_ += [(name, ctypes.c_void_p) for name in ("overrides", "types", "prune")]
    _fields_ += [("room", ctypes.c_char * 256)]  # for what a later version adds


folder = Path(sys.argv[1])
for pattern in ("libggml-base.so", "libggml.*.so", "libllama.v*.so"):
    library = ctypes.CDLL(next(folder.glob(pattern)), mode=ctypes.RTLD_GLOBAL)
library.llama_model_quantize_default_params.restype = Parameters
library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
library.llama_model_quantize.restype = ctypes.c_uint32

for source, target, file_type, importance in json.load(sys.stdin):
    parameters = library.llama_model_quantize_default_params()
    parameters.file_type, parameters.threads, parameters.requantize = file_type, 1, True
    if importance:
        entries = (Importance * (len(importance) + 1))()
        for entry, (name, values) in zip(entries, importance.items(), strict=False):
            entry.name, entry.size = name.encode(), len(values)
            entry.data = (ctypes.c_float * len(values))(*values)
        parameters.importance = entries
    if library.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp could not make {target}")
