"""Packed rows: each model that may read them gives every document the logits and the loss that it has alone."""

import shutil

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from llmnotes.errors import BadSettings
from llmnotes.finetuning.data import IGNORE, Row, collate, pack
from llmnotes.finetuning.job import run, settings
from llmnotes.finetuning.packable import PACKABLE, refuse_packing
from llmnotes.finetuning.train import held_out_loss

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
WINDOW = {"sliding_window": 4}  # less than most documents have
TURNS = {"layer_types": ["sliding_attention", "full_attention"]}
OWN = {
    "cohere2": WINDOW | TURNS,
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "exaone4": WINDOW | TURNS,
    "gemma2": WINDOW | TURNS,
    "gemma3_text": WINDOW | TURNS,
    "gpt2": {"n_positions": 64},
    "ministral": WINDOW | TURNS,
    "mistral": WINDOW,
    "mixtral": WINDOW,
    "olmo3": WINDOW | TURNS,
    "phi3": WINDOW,
    "phimoe": WINDOW,
    "qwen2": WINDOW | TURNS | {"use_sliding_window": True},
    "qwen2_moe": WINDOW | TURNS | {"use_sliding_window": True},
    "qwen3": WINDOW | TURNS | {"use_sliding_window": True},
    "qwen3_moe": WINDOW | {"use_sliding_window": True},
    "starcoder2": WINDOW,
}
MIXED = {
    "bloom": {},
    "gpt_oss": WINDOW | TURNS,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "use_mamba_kernels": False},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 64},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
}


def documents() -> list[Row]:
    generator, rows = torch.Generator().manual_seed(0), []
    for length in (15, 9, 3, 7, 4, 12, 2, 1, 1):
        ids = tuple(torch.randint(3, 64, (length,), generator=generator).tolist())
        rows.append(Row(ids, (IGNORE, *ids[1:]), (length,)))
    return rows


def tiny(name: str, **more):
    """A random model of a type, in which every part of attention has a say."""
    if name not in CONFIG_MAPPING:
        pytest.skip(f"this transformers does not know {name}")
    config = AutoConfig.for_model(name, **SMALL | (OWN | MIXED).get(name, {}))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, **more).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.3, generator=generator)
    return model


def compared(model) -> tuple[float, float, float]:
    """Return (largest difference of a logit, loss of packed rows, loss of unpacked rows)."""
    rows = documents()
    packed = pack(rows, 24)
    assert [row.lengths for row in packed] == [(15, 9), (12, 7, 4, 1), (3, 2, 1)]
    ids = {row.ids: row for row in rows}
    batch, worst = collate(packed), 0.0
    batch.pop("labels")
    with torch.no_grad():
        together = model(**batch).logits
        for place, row in enumerate(packed):
            start = 0
            for length in row.lengths:
                alone = model(torch.tensor([row.ids[start : start + length]]), use_cache=False).logits[0]
                assert row.ids[start : start + length] in ids
                worst = max(worst, float((together[place, start : start + length] - alone).abs().max()))
                start += length
    return worst, held_out_loss(model, packed), held_out_loss(model, rows)


@pytest.mark.parametrize("name", sorted(PACKABLE))
def test_a_packed_document_has_the_logits_and_the_loss_that_it_has_alone(name):
    model = tiny(name)
    assert model.config.model_type == name
    worst, packed, alone = compared(model)
    print(f"{name}: largest difference of a logit {worst:.1e}, loss packed {packed:.5f}, unpacked {alone:.5f}")
    assert worst < 1e-4 and packed == pytest.approx(alone, abs=1e-5)
    refuse_packing(name)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mistral"])
def test_so_it_is_with_eager_attention_and_with_layers_that_are_computed_again(name):
    eager = tiny(name, attn_implementation="eager")
    assert compared(eager)[0] < 1e-4
    model = tiny(name)
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    assert compared(model.train())[0] < 1e-4


@pytest.mark.parametrize("name", sorted(MIXED))
def test_what_would_mix_the_documents_is_refused(name):
    worst, packed, alone = compared(tiny(name))
    print(f"{name}: largest difference of a logit {worst:.1e}, loss packed {packed:.5f}, unpacked {alone:.5f}")
    assert worst > 0.1 and abs(packed - alone) > 1e-3
    with pytest.raises(BadSettings, match=f"packing is not for models of the type {name}: they mix"):
        refuse_packing(name)


def test_a_packed_training_of_such_a_model_does_not_begin(tiny_folder, tmp_path):
    folder = tmp_path / "opt"
    shutil.copytree(tiny_folder, folder)
    changes = SMALL | MIXED["opt"] | {"vocab_size": 256}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("opt", **changes)).save_pretrained(folder)
    (tmp_path / "data.jsonl").write_text('{"text": "abc"}\n', encoding="utf-8")
    asked = {"model": str(folder), "data": str(tmp_path / "data.jsonl"), "output": str(tmp_path / "out"), "steps": 1}
    with pytest.raises(BadSettings, match="packing is not for models of the type opt: .*; set packing to false"):
        run.finetune(settings.from_dict(asked | {"packing": True, "max_length": 32}), say=lambda line: None)
    assert not (tmp_path / "out").exists()
