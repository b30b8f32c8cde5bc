"""Run llama.cpp's own converter on one folder: `python llama_cpp_convert.py CONVERTER_FOLDER MODEL_FOLDER OUT TYPE`.

The converter knows a byte-level tokenizer by the hash of what it makes of one text. A tokenizer that it has never
seen, such as Pebble's, it refuses. Here such a one is declared to be what LLMNOTES_PRE says, by default "gpt-2":
what the tests compare is everything else, and whether that declaration is right is tested by running llama.cpp.
"""

import os
import sys
from pathlib import Path

folder, model, out, kind = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = ["convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", kind.lower()]

import convert_hf_to_gguf  # noqa: E402 - its folder is known only now
from conversion.base import TextModel  # noqa: E402

known = TextModel.get_vocab_base_pre


def declared(self, tokenizer) -> str:
    """Return the converter's own answer, or the declared one where it has none."""
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        return os.environ.get("LLMNOTES_PRE", "gpt-2")


TextModel.get_vocab_base_pre = declared
if Path(out).exists():
    sys.exit(f"{out} exists already")
convert_hf_to_gguf.main()
