"""QLoRA's base is quantized while it is loaded: what is in memory follows the 4 bits, and not the model in floats."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from llmnotes.finetuning import qlora
from llmnotes.models import open_model

SILENT = {"say": lambda line: None}
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4}
WATCHED = """
import json, sys, tracemalloc
import torch
from torch.profiler import ProfilerActivity, profile
from llmnotes.finetuning import qlora
from llmnotes.models import open_model
open_model("pebble", say=lambda line: None, make=qlora.maker())  # what is allocated once
tracemalloc.start()
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
    if sys.argv[2] == "while loading":
        lm = open_model(sys.argv[1], say=lambda line: None, make=qlora.maker())
    else:
        lm = open_model(sys.argv[1], say=lambda line: None)
        qlora.quantize_base(lm.model)
held = most = 0
events = watched.profiler.kineto_results.events()
for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
    held += event.nbytes()
    most = max(most, held)
print(json.dumps(most + tracemalloc.get_traced_memory()[1]))
"""


def copied(folder, tiny_folder) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())


def test_the_peak_follows_the_quantized_model_and_one_tensor(tmp_path, tiny_folder):
    """Counted are the bytes that torch and NumPy allocate; shards or not, files in bfloat16 or float32."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=256, **WIDE), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "wide", max_shard_size="2MB")
    copied(tmp_path / "wide", tiny_folder)
    assert (tmp_path / "wide" / "model.safetensors.index.json").exists()
    peaks = {}
    for way in ("while loading", "afterwards"):
        command = [sys.executable, "-c", textwrap.dedent(WATCHED), str(tmp_path / "wide"), way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[way] = json.loads(done.stdout.splitlines()[-1])
    linear = 8 * (4 * 256 * 256 + 3 * 256 * 1024)
    largest, floats = 4 * 256 * 1024, 4 * linear
    assert peaks["while loading"] < linear * 0.53 + 8 * largest < floats / 2.5 < floats < peaks["afterwards"], peaks


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_is_the_same_to_the_last_bit(tmp_path, tiny_folder, tied):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=256, **sizes, tie_word_embeddings=tied, attention_bias=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    copied(tmp_path / "m", tiny_folder)
    before, after = (open_model(tmp_path / "m", make=make, **SILENT).model for make in (None, qlora.maker()))
    qlora.quantize_base(before)
    one, other = before.state_dict(), after.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert isinstance(after.model.layers[0].mlp.up_proj, qlora.NF4Linear)
    assert (after.lm_head.weight is after.model.embed_tokens.weight) == tied
    assert after.generation_config.to_dict() == before.generation_config.to_dict()


def test_what_its_files_name_otherwise_is_opened_as_before(tmp_path, tiny_folder):
    """The experts of a mixture lie in the files one by one, and in the model together."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=256, **sizes, num_key_value_heads=2, num_local_experts=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    copied(tmp_path / "m", tiny_folder)
    plain, asked = (open_model(tmp_path / "m", make=make, **SILENT).model for make in (None, qlora.maker()))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), asked.parameters(), strict=True))
