"""What training takes in memory: predicted from a config, and held against what torch's allocator counts."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from llmnotes.errors import BadSettings, ModelBroken
from llmnotes.finetuning.measured_memory import measure
from llmnotes.fit.shapes import shape_of
from llmnotes.fit.training import PARTS, kept_in_layer, predict
from llmnotes.fit.training_run import Run, adapted
from llmnotes.pebble import weights_dir

ROOT = Path(__file__).parent.parent
PEBBLE = json.loads((weights_dir("pebble") / "config.json").read_text(encoding="utf-8"))
MIDDLE = PEBBLE | {  # 34 million parameters
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 16_000,
    "tie_word_embeddings": False,
}
VICUNA = {  # lmsys/vicuna-7b-v1.5
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32_000,
    "tie_word_embeddings": False,
}
RUNS = {
    "full": Run("full", 4, 64),
    "full, few tokens": Run("full", 1, 16),
    "full, checkpointing": Run("full", 4, 64, checkpointing=True),
    "full, 8-bit optimizer": Run("full", 4, 64, optimizer="adamw_8bit"),
    "full, two batches a step": Run("full", 4, 64, accumulation=2),
    "full, packed": Run("full", 4, 64, packed=True),
    "LoRA": Run("lora", 4, 64),
    "LoRA, checkpointing": Run("lora", 4, 64, checkpointing=True),
    "LoRA on 16 bits": Run("lora", 4, 64, dtype="bfloat16"),
    "LoRA on 16 bits, checkpointing": Run("lora", 4, 64, dtype="bfloat16", checkpointing=True),
    "LoRA on 16 bits, packed": Run("lora", 4, 64, dtype="bfloat16", packed=True),
    "LoRA, 8-bit optimizer": Run("lora", 4, 64, rank=64, optimizer="adamw_8bit"),
    "LoRA, dropout": Run("lora", 4, 64, dropout=0.1),
    "LoRA beside q and v": Run("lora", 4, 64, targets=("q_proj", "v_proj")),
    "LoRA and rows": Run("lora", 4, 64, rows=200),
    "LoRA and rows on 16 bits, checkpointing": Run("lora", 4, 64, dtype="bfloat16", rows=20, checkpointing=True),
    "QLoRA": Run("qlora", 4, 64),
    "QLoRA, checkpointing": Run("qlora", 4, 64, checkpointing=True),
    "QLoRA on 16 bits, few tokens": Run("qlora", 1, 16, dtype="bfloat16"),
    "QLoRA, scales in 32 bits": Run("qlora", 4, 64, double=False),
    "QLoRA, bitsandbytes": Run("qlora", 4, 64, kernel="bitsandbytes"),
    "QLoRA, bitsandbytes, few tokens": Run("qlora", 1, 16, kernel="bitsandbytes"),
    "QLoRA on 16 bits, bitsandbytes, 8-bit optimizer": Run(
        "qlora", 4, 64, dtype="bfloat16", kernel="bitsandbytes", optimizer="adamw_8bit", checkpointing=True
    ),
    "int8": Run("qlora", 4, 64, dtype="bfloat16", base="int8", kernel="bitsandbytes"),
}
MIDDLE_RUNS = ("full", "LoRA on 16 bits, checkpointing", "QLoRA, bitsandbytes")


@pytest.fixture(scope="module")
def measured():
    """Both models in all runs: {(model, run): bytes}."""
    found = {}
    for name, config, chosen in (("Pebble", PEBBLE, list(RUNS)), ("34 million", MIDDLE, MIDDLE_RUNS)):
        peaks = measure(config, [RUNS[run] for run in chosen])
        found |= {(name, run): peak for run, peak in zip(chosen, peaks, strict=True)}
    return found


def predicted(config, run):
    how = asdict(run)
    return predict(config, **how)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_pebbles_peak_is_predicted_to_3_percent(name, measured):
    found = measured["Pebble", name].peak
    assert predicted(PEBBLE, RUNS[name]).total == pytest.approx(found, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIDDLE_RUNS)
def test_the_peak_of_a_larger_llama_is_predicted_to_3_percent(name, measured):
    found = measured["34 million", name].peak
    assert predicted(MIDDLE, RUNS[name]).total == pytest.approx(found, rel=0.03)


@pytest.mark.slow
def test_the_process_grows_by_what_the_allocator_holds_or_more(measured):
    first, second = measured["34 million", MIDDLE_RUNS[0]], measured["34 million", MIDDLE_RUNS[1]]
    assert first.peak < first.grown < 3 * first.peak
    assert second.grown is None


@pytest.mark.slow
def test_a_child_that_fails_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        measure(PEBBLE | {"hidden_size": 255}, [RUNS["full"]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_layer_keeps_what_autograd_saves(method, dtype):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llmnotes.finetuning import lora

    run = Run(method, 2, 32, dtype=dtype, targets=("q_proj", "up_proj"))
    model = LlamaForCausalLM._from_config(LlamaConfig(**PEBBLE), dtype=getattr(torch, dtype)).train()
    if method == "lora":
        lora.attach(model, lora.LoRA(run.rank, target_modules=run.targets))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    rope = model.model.rotary_emb(torch.zeros(1, dtype=getattr(torch, dtype)), torch.arange(32)[None])
    x = torch.randn(2, 32, 256, dtype=getattr(torch, dtype), requires_grad=True) * 1
    ours = weights | {part.untyped_storage().data_ptr() for part in rope}
    saved = {}

    def note(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = model.model.layers[1](x, position_embeddings=rope)
    assert out.requires_grad
    found = sum(size for place, size in saved.items() if place not in ours)
    shape = shape_of(PEBBLE)
    assert sum(kept_in_layer(shape, run, adapted(shape, run)[1]).values()) == pytest.approx(found, rel=0.002)


def test_the_parts_of_vicuna_7b_are_those_that_everybody_can_count():
    parts = predict(VICUNA, "full", 1, 512, dtype="float16").parts
    assert parts["weights"].bytes == 2 * 6_738_415_616
    assert parts["optimizer"].bytes == 4 * 6_738_415_616
    qlora = predict(VICUNA, "qlora", 1, 512, rank=64, dtype="bfloat16", checkpointing=True)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
    assert qlora.parts["weights"].bytes == linear // 2 + 2 * (6_738_415_616 - linear)
    assert 8 * qlora.parts["scales"].bytes / linear == pytest.approx(0.127, abs=1e-3)  # QLoRA, section 3
    assert qlora.parts["adapters"].bytes == 4 * 159_907_840  # as PEFT counts for r=64 beside all linear layers
    assert qlora.total < 0.1 * predict(VICUNA, "full", 1, 512).total


def test_a_paged_optimizer_lies_in_main_memory_where_there_is_a_gpu():
    on_cpu, plain = (predict(PEBBLE, "full", 1, 8, optimizer=kind) for kind in ("paged_adamw_8bit", "adamw_8bit"))
    on_gpu = predict(PEBBLE, "full", 1, 8, optimizer="paged_adamw_8bit", device="cuda")
    assert on_cpu == plain
    # Of Pebble's tensors the table and the MLPs are large enough for pages; their scales stay, and so do the rest
    layers, table, mlp = PEBBLE["num_hidden_layers"], 2048 * 256, 256 * 768
    moved = 2 * (table + layers * 3 * mlp)
    assert on_gpu.parts["optimizer"].bytes == plain.parts["optimizer"].bytes - moved
    assert on_gpu.total < plain.total


def test_every_moment_has_every_part_and_the_peak_is_the_largest():
    memory = predict(PEBBLE, "qlora", 2, 16)
    assert all(tuple(parts) == PARTS for parts in memory.moments.values())
    assert all(part.formula and part.bytes >= 0 for parts in memory.moments.values() for part in parts.values())
    assert memory.total == max(map(memory.at, memory.moments)) == sum(part.bytes for part in memory.parts.values())


def test_a_path_and_a_folder_are_read_as_the_mapping():
    folder = weights_dir("pebble")
    assert (
        predict(folder, "full", 1, 8) == predict(folder / "config.json", "full", 1, 8) == predict(PEBBLE, "full", 1, 8)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": None},
        {"hidden_size": "256"},
        {"vocab_size": -1},
        {"num_hidden_layers": 2**30},
        {"intermediate_size": 1.5},
        {"num_attention_heads": True},
        {"num_local_experts": 8},
    ],
)
def test_a_config_that_is_none_is_one_sentence(change):
    with pytest.raises(ModelBroken, match=r"\.$"):
        predict(PEBBLE | change, "lora", 1, 8)


@pytest.mark.parametrize("text", [None, "", "[]", "{", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_config_is_one_sentence(text, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelBroken, match="copy the model's folder again"):
        predict(tmp_path, "lora", 1, 8)


@pytest.mark.parametrize(
    "how",
    [
        {"method": "quick"},
        {"batch": 0},
        {"rank": 0},
        {"dtype": "int4"},
        {"optimizer": "sgd"},
        {"base": "nf5"},
        {"targets": ("c_attn",)},
        {"targets": "(q_proj"},
        {"targets": ()},
    ],
)
def test_a_run_that_does_not_exist_is_one_sentence(how):
    with pytest.raises(BadSettings, match=r"\.$"):
        predict(PEBBLE, **({"method": "lora", "batch": 1, "length": 8} | how))


def run_benchmark(*arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_benchmark_for_gpus_can_be_rehearsed_on_a_cpu(tmp_path):
    out, config = tmp_path / "gpu.json", weights_dir("pebble") / "config.json"
    rows = ("QLoRA, bitsandbytes, checkpointing, paged AdamW",)
    given = ("--config", config, "--device", "cpu", "--batch", 2, "--length", 64, "--rows", *rows, "--out", out)
    done = run_benchmark(*given)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["status"] == "measured" and tuple(found["rows"]) == rows
    for row in found["rows"].values():
        assert sum(row["parts"].values()) == row["predicted"]
        assert row["measured"] == pytest.approx(row["predicted"], rel=0.03)


def test_what_no_gpu_has_measured_says_so():
    found = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text(encoding="utf-8"))
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert found["status"] in ("measured", "not yet measured")
    assert ("Not yet measured" in readme) == (found["status"] == "not yet measured")


@pytest.mark.slow
def test_the_benchmark_without_a_gpu_is_one_sentence(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run_benchmark("--out", tmp_path / "gpu.json")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert not (tmp_path / "gpu.json").exists()
