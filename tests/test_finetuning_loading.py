"""QLoRA's base is quantized while it is loaded: what is in memory follows the 4 bits, and not the model in floats."""

import json
import subprocess
import sys
import textwrap
from contextlib import nullcontext

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from llmnotes.errors import DoesNotFit, ModelBroken
from llmnotes.finetuning import qlora
from llmnotes.finetuning.job import refusing, run
from llmnotes.fit import fit
from llmnotes.fit.training import predict
from llmnotes.fit.verdict import SYSTEM
from llmnotes.models import open_model
from llmnotes.models.paths import CONFIG
from llmnotes.pebble import weights_dir

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
    lm = open_model(sys.argv[1], say=lambda line: None, make=qlora.maker())
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
    command = [sys.executable, "-c", textwrap.dedent(WATCHED), str(tmp_path / "wide")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout.splitlines()[-1])
    linear = 8 * (4 * 256 * 256 + 3 * 256 * 1024)
    largest, floats = 4 * 256 * 1024, 4 * linear
    assert linear / 2 < peak < linear * 0.53 + 8 * largest < floats / 2.5, peak


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


# One predictor for `fit --train` and `finetune`


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_what_fit_calls_fitting_finetune_accepts(method, tiny_folder, monkeypatch):
    """Byte by byte around the need, with gradient checkpointing where fit asks for it."""
    asked = {"model": str(tiny_folder), "data": "d", "output": "o", "steps": 1, "method": method}
    asked |= {"batch_size": 1, "max_length": 64}
    needs = fit(str(tiny_folder), ram="16GB", context=64, train=method).options[0].total
    accepted = []
    for free in (needs // 2, needs - 1, needs, 2 * needs):
        monkeypatch.setattr(refusing.hardware, "memory", lambda free=free: (16 * 10**9, free))
        (option,) = fit(str(tiny_folder), ram=SYSTEM + free, context=64, train=method).options
        settings = run.settings_of(asked | {"gradient_checkpointing": option.checkpointing})
        if option.verdict == "no":
            with pytest.raises(DoesNotFit, match="needs"):
                refusing.refuse_too_large(settings)
        else:
            refusing.refuse_too_large(settings)
        accepted.append(option.verdict != "no")
    assert accepted[-2:] == [True, True] and False in accepted


def test_averages_in_8_bits_fit_where_those_in_32_do_not(monkeypatch):
    how = {"data": "d", "output": "o", "steps": 1, "method": "full", "batch_size": 1, "max_length": 16}
    needs = predict(weights_dir("pebble"), "full", 1, 16, optimizer="adamw_8bit").total
    for wanted, free, fits in (("adamw", needs, False), ("adamw_8bit", needs, True), ("adamw_8bit", needs - 1, False)):
        monkeypatch.setattr(refusing.hardware, "memory", lambda free=free: (16 * 10**9, free))
        with nullcontext() if fits else pytest.raises(DoesNotFit, match="needs"):
            refusing.refuse_too_large(run.settings_of(how | {"model": "pebble", "optimizer": wanted}))


def test_what_does_not_fit_is_refused_before_it_is_downloaded(tmp_path, tiny_folder, monkeypatch):
    """Of a model on the hub, config.json comes alone; weights are asked for once it fits, also if it lies there."""
    cache, asked = tmp_path / "snapshots" / "0123abc", []
    cache.mkdir(parents=True)

    def download(name, revision, allow_patterns, local_files_only=False):
        if local_files_only and not any(cache.iterdir()):
            raise errors.LocalEntryNotFoundError("nothing yet")
        if not local_files_only:
            asked.append(allow_patterns)
            for pattern in allow_patterns:
                for path in tiny_folder.glob(pattern):
                    (cache / path.name).write_bytes(path.read_bytes())
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    settings = {"model": "some/model", "data": "d", "output": "o", "steps": 1, "batch_size": 1}
    monkeypatch.setattr(refusing.hardware, "memory", lambda: (10**9, 1000))
    with pytest.raises(DoesNotFit, match="Fine-tuning some/model .* needs"):
        refusing.refuse_too_large(run.settings_of(settings))
    assert asked == [list(CONFIG)] and [path.name for path in cache.iterdir()] == ["config.json"]
    monkeypatch.setattr(refusing.hardware, "memory", lambda: (10**9, 10**9))
    refusing.refuse_too_large(run.settings_of(settings))
    assert open_model("some/model", **SILENT).model.config.vocab_size and len(asked) == 2
    assert open_model("some/model", **SILENT).name == "model" and len(asked) == 2
    (cache / "model.safetensors").unlink()

    def offline(name, local_files_only=False, **how):
        if not local_files_only:
            raise OSError("no network")
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelBroken):  # what is there is opened where nothing can be brought
        open_model("some/model", **SILENT)
