"""What of a config.json is understood on the way to GGUF: a closed list. What goes beyond it is refused or named.

An architecture states its settings in three tables (see `Architecture`): `defaults` become keys or shapes, `only` are
computed by llama.cpp at these values alone, `weighed` are read by its function `lost`, which returns sentences. `IDLE`
and `ONLY` here hold for all. A setting in none of them is named, and a test finds each that transformers has.
"""

from llmnotes.formats.gguf import differences, rope
from llmnotes.formats.gguf.architectures import SETTINGS, Architecture

# Settings of any architecture that llama.cpp computes at these values alone.
ONLY = {"is_causal": (True,), "is_encoder_decoder": (False,), "per_layer_config": ({},)}

# What changes nothing in what a trained model computes: how it was trained, saved and loaded, the form of the answer,
# and how to choose the next token.
IDLE = """
    _attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled _name_or_path add_bos_token
    architectures assistant_confidence_threshold assistant_lookbehind attention_dropout attn_implementation
    bad_words_ids begin_suppress_tokens chunk_size_feed_forward classifier_dropout cross_attention_hidden_size
    diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty
    epsilon_cutoff eta_cutoff experts_implementation exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout id2label initializer_range
    is_llama_config label2id length_penalty max_length max_sequence_length min_length model_type name_or_path
    output_router_logits router_aux_loss_coef router_jitter_noise
    no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams num_labels
    num_return_sequences output_attentions output_hidden_states output_scores prefix pretraining_tp problem_type
    compression_config quantization_config
    pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate rope_interleaved
    rotary_scaling_factor suppress_tokens target_lookbehind task_specific_params temperature tf_legacy_loss
    tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config
    transformers_version typical_p unsloth_fixed unsloth_version use_bfloat16 use_cache use_return_dict
""".split()

# GGUF's keys behind the name of an architecture, besides those of `SETTINGS`, that become a setting in config.json.
KEYS = {
    *("attention.key_length", "attention.value_length", "rope.dimension_count"),
    *(f"rope.scaling.{key}" for key in ("type", "factor", "original_context_length", "attn_factor", "finetuned")),
    *(f"rope.scaling.yarn_{key}" for key in rope.BETAS),
}


def losses(architecture: Architecture, config: dict) -> list[str]:
    """Return a sentence for each part of the model's function that a GGUF of this config.json does not have.

    Raises `NotConvertible` for a setting with a value that llama.cpp does not compute.
    """
    stated = {key: value for key, value in config.items() if value is not None}
    for key, known in (ONLY | architecture.only).items():
        if key in stated:
            differences.refuse(architecture.hugging_face, key, stated[key], known)
    lost = architecture.lost(architecture.weighed | config) + rope.losses(architecture, config)
    unknown = sorted(key for key in stated if key not in known_settings(architecture) and not key.endswith("_token_id"))
    unknown += rope.unknown(architecture, config)
    return lost + _unknown("config.json", unknown, "GGUF")


def losses_back(architecture: Architecture, metadata: dict) -> list[str]:
    """Return sentences for the keys of a GGUF about its model that become no setting in config.json, if any do not,
    and for a window that only transformers keeps to.
    """
    own, taken = f"{architecture.gguf}.", {*architecture.defaults, *rope.COUNTS}
    known = KEYS | {key for setting, (key, _) in SETTINGS.items() if setting in taken}
    values = {key.removeprefix(own): value for key, value in metadata.items() if key.startswith(own)}
    acting = [key for key, value in values.items() if value is False or value != 0]  # no experts are no loss
    window = architecture.gguf == "phi3" and values.get("attention.sliding_window")
    return [differences.WINDOW_BACK] * bool(window) + _unknown("The GGUF", sorted({*acting} - known), "folder")


def known_settings(architecture: Architecture) -> set[str]:
    """Return the names of all settings that are understood for an architecture, besides the numbers of tokens."""
    own = {*architecture.defaults, *architecture.only, *architecture.weighed}
    return own | {*rope.COUNTS, *rope.SETTINGS, *ONLY, *IDLE}


def _unknown(holder: str, names: list[str], target: str) -> list[str]:
    """Return a sentence with at most eight of the names that nobody here knows, or none.

    >>> _unknown("It", ["a", "b"], "GGUF")[0][:32]
    'It has a and b, which llmnotes d'
    """
    if not names:
        return []
    shown = [name[:60] for name in names[:8]] + [f"{len(names) - 8} more"] * (len(names) > 8)
    listed = " and ".join([", ".join(shown[:-1])] * (len(shown) > 1) + shown[-1:])
    without = f"if that changes what the model computes, the {target} does without."
    return [f"{holder} has {listed}, which llmnotes does not know: {without}"]
