"""What `llmnotes.fit` counts by building on the meta device, against small models of each type that really run."""

import json

import pytest

from llmnotes.cache_name import cache_name
from llmnotes.errors import ModelBroken
from llmnotes.fit import fit, on_meta

TOKENS = 40
SMALL = dict(vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)
SMALL |= dict(num_key_value_heads=2, pad_token_id=None, bos_token_id=0, eos_token_id=1)
WINDOW = dict(sliding_window=16, head_dim=16)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1, mamba_expand=2)
LINEAR = dict(linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16)
GPT2 = dict(n_embd=64, n_layer=4, n_head=4)
# Type -> the settings in which it differs from SMALL
TEXT = dict.fromkeys(on_meta.TEXT, {}) | {
    "bamba": MAMBA | dict(attn_layer_indices=[1]),
    "cohere2": dict(sliding_window=16),
    "exaone4": dict(sliding_window=16),
    "falcon": dict(new_decoder_architecture=True, num_kv_heads=2),
    "falcon_h1": MAMBA | dict(mamba_d_ssm=128, head_dim=16),
    "gemma": dict(head_dim=16),
    "gemma2": WINDOW,
    "gemma3_text": WINDOW | dict(num_hidden_layers=7),
    "gemma4_text": WINDOW | dict(num_hidden_layers=6, vocab_size_per_layer_input=160, hidden_size_per_layer_input=8),
    "glm4": dict(head_dim=16),
    "glm4_moe": dict(head_dim=16, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
    "gpt2": GPT2,
    "gpt_oss": WINDOW | dict(num_local_experts=4, num_experts_per_tok=2),
    "gptj": GPT2 | dict(rotary_dim=8),
    "granitemoe": dict(num_local_experts=4, num_experts_per_tok=2),
    "granitemoehybrid": MAMBA
    | dict(num_local_experts=0, num_experts_per_tok=0, layer_types=["mamba", "attention", "mamba", "mamba"]),
    "lfm2": dict(block_ff_dim=96, conv_L_cache=3, layer_types=["conv", "full_attention", "conv", "conv"]),
    "ministral3": dict(head_dim=16),
    "mistral": dict(sliding_window=16),
    "mixtral": dict(num_local_experts=4),
    "olmo3": dict(sliding_window=16),
    "olmoe": dict(num_experts=4, num_experts_per_tok=2),
    "opt": dict(ffn_dim=96, word_embed_proj_dim=64, pad_token_id=1),
    "phi3": dict(sliding_window=16),
    "phimoe": dict(num_local_experts=4),
    "qwen2_moe": EXPERTS | dict(shared_expert_intermediate_size=64),
    "qwen3_5_moe_text": EXPERTS | LINEAR | dict(shared_expert_intermediate_size=64),
    "qwen3_5_text": LINEAR | dict(head_dim=16),
    "qwen3_moe": EXPERTS,
    "qwen3_next": EXPERTS | LINEAR | dict(shared_expert_intermediate_size=64),
    "seed_oss": dict(head_dim=16),
    "starcoder2": dict(sliding_window=16),
    "zamba2": dict(mamba_headdim=32, n_mamba_heads=4, mamba_d_state=8, num_hidden_layers=6, hybrid_layer_ids=[1, 4])
    | dict(layers_block_type=["mamba", "hybrid", "mamba", "mamba", "hybrid", "mamba"], adapter_rank=8),
}
CLIP = dict(model_type="clip_vision_model", hidden_size=32, intermediate_size=48, num_hidden_layers=2)
CLIP |= dict(num_attention_heads=4, image_size=28, patch_size=14)
SIGLIP = CLIP | dict(model_type="siglip_vision_model")
QWEN = dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=4, patch_size=14, out_hidden_size=64)
ROPE = dict(rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3]), head_dim=16)
# Type -> its language model, its image encoder and other settings
IMAGE = {
    "gemma3": (SMALL | WINDOW | dict(model_type="gemma3_text"), SIGLIP | dict(vision_use_head=False), {}),
    "gemma4": (
        SMALL | TEXT["gemma4_text"] | dict(model_type="gemma4_text"),
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8),
        {},
    ),
    "idefics3": (SMALL | dict(model_type="llama"), SIGLIP | dict(model_type="idefics3_vision"), {}),
    "internvl": (
        SMALL | dict(model_type="qwen2"),
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=[28, 28])
        | dict(patch_size=[14, 14]),
        {},
    ),
    "lfm2_vl": (SMALL | TEXT["lfm2"] | dict(model_type="lfm2"), SIGLIP | dict(model_type="siglip2_vision_model"), {}),
    "llava": (SMALL | dict(model_type="llama"), CLIP, {}),
    "llava_next": (SMALL | dict(model_type="mistral", sliding_window=None), CLIP, {}),
    "mistral3": (
        SMALL | dict(model_type="mistral", sliding_window=None, head_dim=16),
        CLIP | dict(model_type="pixtral"),
        {},
    ),
    "paligemma": (SMALL | dict(model_type="gemma", head_dim=16), SIGLIP | dict(vision_use_head=False), {}),
    "qwen2_5_vl": (SMALL | ROPE | dict(model_type="qwen2_5_vl_text"), QWEN, {}),
    "qwen2_vl": (SMALL | ROPE | dict(model_type="qwen2_vl_text"), QWEN | dict(embed_dim=32, mlp_ratio=2), {}),
    "qwen3_5": (SMALL | TEXT["qwen3_5_text"] | dict(model_type="qwen3_5_text"), QWEN, {}),
    "qwen3_vl": (SMALL | ROPE | dict(model_type="qwen3_vl_text"), QWEN | dict(deepstack_visual_indexes=[1]), {}),
    "smolvlm": (SMALL | dict(model_type="llama"), SIGLIP | dict(model_type="smolvlm_vision"), {}),
}


def config_of(kind: str) -> dict:
    """Return the settings of a small model of the type."""
    if kind in TEXT:
        return {"model_type": kind} | SMALL | TEXT[kind]
    text, encoder, more = IMAGE[kind]
    return {"model_type": kind, "text_config": text, "vision_config": encoder} | more


def made(kind: str, **how):
    """Return a small model of the type with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    settings = json.loads(json.dumps(config_of(kind)))
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    return (AutoModelForImageTextToText if kind in IMAGE else AutoModelForCausalLM).from_config(config, **how).eval()


def held(cache) -> int:
    """Return the bytes that a cache of transformers holds."""
    return sum(
        part.nbytes
        for layer in cache.layers
        for name in ("keys", "values", "conv_states", "recurrent_states")
        for part in on_meta.tensors(getattr(layer, name, None))
    )


def test_every_type_that_is_counted_is_tried_here():
    assert sorted(TEXT) == sorted(on_meta.TEXT) and sorted(IMAGE) == sorted(on_meta.IMAGE)


@pytest.mark.parametrize("kind", (*TEXT, *IMAGE))
def test_parameters_and_cache_are_those_of_a_model_that_runs(kind):
    import torch

    model = made(kind)
    found = fit(config_of(kind), ram="9GB", context=TOKENS, precision="F32").options[-1]
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert found.parts["weights"] + found.parts["vision"] == weights
    with torch.no_grad():
        cache = model.get_decoder()(torch.ones(1, TOKENS, dtype=torch.long), use_cache=True)[cache_name()]
    assert found.parts["cache"] == held(cache)


@pytest.mark.parametrize("kind", ("bert", "vit", "t5", "recurrent_gemma", "mamba", "phi4_multimodal", "clip", 7))
def test_other_types_are_refused_in_one_sentence(kind):
    with pytest.raises(ModelBroken, match="llmnotes does not count models of the type .*; it counts language models"):
        fit(SMALL | {"model_type": kind}, ram="9GB")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**9}, "sets num_hidden_layers to more than 1,000; give that of a real model"),
        ({"hidden_size": "64"}, "transformers builds no llama from the config of the model"),
    ],
)
def test_settings_that_its_class_does_not_build_are_refused(change, said):
    with pytest.raises(ModelBroken, match=said):
        fit(SMALL | {"model_type": "llama"} | change, ram="9GB")


def test_a_tie_that_the_config_leaves_out_is_what_the_class_says():
    table = SMALL["vocab_size"] * SMALL["hidden_size"]
    for kind, tied in (("llama", False), ("gemma", True), ("cohere", True), ("qwen2", False)):
        pieces, _ = on_meta.count("it", config_of(kind))
        assert pieces.tied == tied and (pieces.output < table) == tied, kind


@pytest.mark.parametrize("kind", ("mixtral", "gpt2", "gemma3", "falcon_h1"))
@pytest.mark.parametrize("precision", ("NF4", "int8"))
def test_bitsandbytes_quantizes_what_fit_says(kind, precision, tmp_path):
    """The experts of a mixture are no linear layers, so they stay; GPT-2's turned ones are."""
    pytest.importorskip("bitsandbytes")
    import torch
    from transformers import BitsAndBytesConfig

    made(kind, dtype=torch.bfloat16).save_pretrained(tmp_path)
    how = BitsAndBytesConfig(load_in_8bit=True)
    if precision == "NF4":
        how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = type(made(kind)).from_pretrained(tmp_path, dtype=torch.bfloat16, quantization_config=how)
    real = 0
    for weight in model.parameters():
        state = getattr(weight, "quant_state", None)
        scales = state.absmax if state is not None else getattr(weight, "SCB", None)
        real += weight.nbytes + (scales.nbytes if scales is not None else 0)
    parts = fit(tmp_path, ram="9GB", context=TOKENS, precision=precision).options[-1].parts
    assert parts["weights"] + parts["scales"] + parts["vision"] == pytest.approx(real, rel=0.002)


def test_a_training_of_other_layers_is_refused_before_it_is_counted_wrongly():
    from llmnotes.errors import BadSettings

    for kind in ("gpt2", "mixtral", "lfm2", "falcon_h1", "phi"):
        with pytest.raises(BadSettings, match="whose layers are not those of a Llama; leave --train out"):
            fit(config_of(kind), ram="9GB", train="lora")
    for kind in ("llama", "gemma2", "qwen3", "phi3", "granite"):
        assert fit(config_of(kind), ram="9GB", train="lora", context=TOKENS).options[0].verdict == "RAM"


def test_what_only_the_package_itself_can_ask_is_refused_too():
    from llmnotes.errors import NotConvertible
    from llmnotes.fit import llama_cpp
    from llmnotes.fit.model import model_of
    from llmnotes.fit.training import predict

    with pytest.raises(NotConvertible, match="llmnotes cannot convert gpt2 to or from GGUF"):
        llama_cpp.needs(model_of("gpt2"), "Q8_0", 512)
    with pytest.raises(ModelBroken, match="The config speaks of 5,000 layers; give that of a real model"):
        predict(SMALL | {"num_hidden_layers": 5000}, "lora", 1, 1)
    with pytest.raises(ModelBroken, match="The config is that of a gpt2, and llmnotes knows the layers of llama"):
        predict({"model_type": "gpt2"}, "lora", 1, 1)
