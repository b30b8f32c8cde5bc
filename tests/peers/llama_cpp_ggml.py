"""Run llama.cpp's own converter of old files: `python llama_cpp_ggml.py CONVERTER_FOLDER IN OUT`.

As it stands (llama.cpp of 2026) it fails on every quantized file and writes wrong shapes for the others: it hands the
sides in weights to a writer that by now expects them in bytes. Here the writer is given what it expects.
"""

import sys

folder, source, target = sys.argv[1:]
sys.path.insert(0, f"{folder}/gguf-py")
sys.path.insert(0, folder)
sys.argv = ["convert_llama_ggml_to_gguf.py", "--input", source, "--output", target]

import convert_llama_ggml_to_gguf  # noqa: E402 - its folder is known only now
import gguf  # noqa: E402

add_tensor = gguf.GGUFWriter.add_tensor


def in_bytes(self, name, tensor, raw_shape, raw_dtype):
    """Give the writer the sides in bytes."""
    shape = gguf.quants.quant_shape_to_byte_shape(raw_shape, raw_dtype)
    add_tensor(self, name, tensor, raw_shape=shape, raw_dtype=raw_dtype)


gguf.GGUFWriter.add_tensor = in_bytes
convert_llama_ggml_to_gguf.main()
