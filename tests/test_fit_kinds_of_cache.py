"""The cache that `llmnotes fit` counts for a GGUF, against llama.cpp's log: models of each kind of layer.

llama.cpp's own converter makes the files, all in one process, from small models with random weights.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmnotes.fit import fit, gguf_header
from llmnotes.formats import convert
from llmnotes.llama_cpp.memory import reported_buffers
from llmnotes.pebble import weights_dir

pytestmark = pytest.mark.slow

PEER = Path(__file__).parent / "peers" / "llama_cpp_convert.py"
SMALL = dict(vocab_size=2048, hidden_size=128, intermediate_size=256, num_hidden_layers=6, num_attention_heads=4)
SMALL |= dict(num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=None, bos_token_id=0, eos_token_id=1)
WINDOW = dict(sliding_window=64, head_dim=32)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, head_dim=32)
MAMBA = dict(mamba_n_heads=16, mamba_d_head=16, mamba_d_state=16, mamba_n_groups=1, mamba_d_conv=4)
# Type in transformers -> (architecture of the GGUF, the settings in which it differs from SMALL)
KINDS = {
    "llama": ("llama", {}),
    "mixtral": ("llama", dict(num_local_experts=4)),
    "qwen3": ("qwen3", dict(head_dim=32)),
    "qwen2_moe": ("qwen2moe", EXPERTS | dict(shared_expert_intermediate_size=64)),
    "qwen3_moe": ("qwen3moe", EXPERTS),
    "phi": ("phi2", dict(intermediate_size=512, num_key_value_heads=4)),
    "starcoder2": ("starcoder2", {}),
    "stablelm": ("stablelm", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo2", dict(sliding_window=64)),
    "olmoe": ("olmoe", dict(num_experts=4, num_experts_per_tok=2, num_key_value_heads=4)),
    "smollm3": ("smollm3", {}),
    "granite": ("granite", {}),
    "granitemoe": ("granitemoe", dict(num_local_experts=4, num_experts_per_tok=2)),
    "cohere": ("command-r", {}),
    "arcee": ("arcee", {}),
    "apertus": ("apertus", {}),
    "seed_oss": ("seed_oss", dict(head_dim=32)),
    "ministral3": ("mistral3", dict(head_dim=32)),
    "gemma3_text": ("gemma3", WINDOW),
    "gpt_oss": ("gpt-oss", WINDOW | dict(num_local_experts=4, num_experts_per_tok=2)),
    "lfm2": ("lfm2", dict(layer_types=["conv", "conv", "full_attention"] * 2, block_ff_dim=256)),
    "falcon_h1": ("falcon-h1", MAMBA | dict(mamba_d_ssm=256, head_dim=32)),
    "gpt2": ("gpt2", dict(n_embd=128, n_layer=6, n_head=4, n_positions=4096)),
    "bamba": ("granitehybrid", MAMBA | dict(attn_layer_indices=[2])),
}
# Those for which it wants another tokenizer than Pebble's; llmnotes converts them
OURS = {"gemma2": ("gemma2", WINDOW | dict(query_pre_attn_scalar=32)), "phi3": ("phi3", {}), "qwen2": ("qwen2", {})}
PATCHED = {"n_ctx": 4096}  # which transformers no longer writes, and the converter still reads


@pytest.fixture(scope="module")
def files(converter, stories, tmp_path_factory) -> dict[str, Path]:
    """GGUF files of all kinds, by their types in transformers."""
    pytest.importorskip("xllamacpp")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("kinds")
    jobs = []
    for kind, (_, more) in (KINDS | OURS).items():
        torch.manual_seed(0)
        sizes = SMALL | more | ({"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2} if kind in OURS else {})
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
        model.save_pretrained(folder / kind)
        for file in (stories if kind in OURS else weights_dir("pebble")).glob("token*"):
            shutil.copy(file, folder / kind)
        if kind in OURS:
            convert(folder / kind, folder / f"{kind}.gguf", type="F16")
            continue
        config = json.loads((folder / kind / "config.json").read_text(encoding="utf-8"))
        (folder / kind / "config.json").write_text(json.dumps(PATCHED | config), encoding="utf-8")
        jobs.append([str(folder / kind), str(folder / f"{kind}.gguf"), "F16"])
    command = [sys.executable, str(PEER), str(converter)]
    done = subprocess.run(command, input=json.dumps(jobs), text=True, capture_output=True)
    assert not done.returncode, done.stderr[-2000:]
    return {kind: folder / f"{kind}.gguf" for kind in KINDS | OURS}


def test_every_architecture_that_is_counted_is_tried_here():
    known = {*gguf_header.FULL, *gguf_header.WINDOWS, *gguf_header.STATES}
    assert known == {name for name, _ in (KINDS | OURS).values()}


@pytest.mark.parametrize("kind", KINDS | OURS)
def test_cache_and_weights_are_those_of_llama_cpps_log(files, kind):
    real = reported_buffers(files[kind], 3000)
    found = fit(files[kind], ram="9GB", context=3000)
    said = found.options[0].parts
    for part in ("weights", "cache"):
        assert said[part] == pytest.approx(real[part], rel=1e-4, abs=11_000), part  # it prints hundredths of a MiB
    assert found.options[0].precision == "F16"


@pytest.mark.parametrize("cache", ("Q8_0", "Q4_0"))
@pytest.mark.parametrize("kind", ("llama", "gemma3_text", "lfm2"))
def test_a_quantized_cache_is_that_of_llama_cpps_log(files, kind, cache):
    real = reported_buffers(files[kind], 3000, cache)
    said = fit(files[kind], ram="9GB", context=3000, cache=cache).options[0].parts
    assert said["cache"] == pytest.approx(real["cache"], rel=1e-4, abs=11_000)
