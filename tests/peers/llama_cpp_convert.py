"""Run llama.cpp's own converter: `python llama_cpp_convert.py CONVERTER_FOLDER`, with jobs as JSON on standard input.

A job is [model folder, file to write, type]. The converter knows a byte-level tokenizer by the hash of what it makes
of one text, and refuses one that it has never seen, such as Pebble's. Here such a tokenizer is declared to be GPT-2's
in its cutting of words: what the tests compare is everything else, and whether that declaration is right is tested by
running llama.cpp.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import convert_hf_to_gguf  # noqa: E402 - its folder is known only now
from conversion.base import TextModel  # noqa: E402

known = TextModel.get_vocab_base_pre


def declared(self, tokenizer) -> str:
    """Return the converter's own answer, or the declared one where it has none."""
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        return "gpt-2"


TextModel.get_vocab_base_pre = declared
for model, out, kind in json.load(sys.stdin):
    sys.argv = ["convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", kind.lower()]
    convert_hf_to_gguf.main()
