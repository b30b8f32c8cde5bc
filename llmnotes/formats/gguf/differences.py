"""What llama.cpp computes otherwise than transformers, one function an architecture: its `lost` (see `Architecture`).

Each gets config.json's settings and returns a sentence for each part of the function that a GGUF does not have. It
raises `NotConvertible` for settings that llama.cpp does not compute.
"""

from collections.abc import Callable
from typing import Any

from llmnotes.errors import NotConvertible

WINDOW = "llama.cpp attends to the whole text; this model only attends to a sliding window."
WINDOW_BACK = "The folder's model only attends to the sliding window in the keys; llama.cpp attends to the whole text."
LONG = (
    "There are two sets of rotations: llama.cpp takes the one for long texts where its context is long, and "
    "transformers where the text itself is."
)
SHIFTED = "GGUF stores 1 + each weight of a norm in F32: converting back gives weights with the last bits rounded."
# Of these a Gemma's scale of scores is made, with the defaults of Gemma 2 and 3.
SIDES: dict[str, Any] = {"num_hidden_layers": 26, "hidden_size": 2304, "num_attention_heads": 8, "head_dim": 256}


def refuse(name: str, key: str, value: Any, known: tuple) -> None:
    """Raise `NotConvertible` for a setting of the architecture `name` that is not one of the `known` values."""
    if value not in known:
        raise NotConvertible(
            f"config.json says {key} is {str(value)[:40]}, but llama.cpp computes a {name} with "
            f"{' or '.join(map(str, known))} only; use a model with that."
        )


def mistral(settings: dict) -> list[str]:
    """Return what the GGUF of a Mistral loses: its window."""
    lost = ["GGUF stores a Mistral as llama: converting back gives a LlamaForCausalLM with the same weights."]
    return lost + ([WINDOW] if settings["sliding_window"] is not None else [])


def qwen(settings: dict) -> list[str]:
    """Return what the GGUF of a Qwen2 or Qwen3 loses: the window of some layers."""
    # Those layers have a window that layer_types names, or where it is missing all from max_window_layers on.
    kinds, first = settings["layer_types"], settings["max_window_layers"]
    window = settings["use_sliding_window"] and settings["sliding_window"] is not None
    if kinds is None and type(first) is int and first >= settings.get("num_hidden_layers", 32):
        return []
    return [WINDOW] if window and (not isinstance(kinds, list) or "sliding_attention" in kinds) else []


def mixtral(settings: dict) -> list[str]:
    """Return what the GGUF of a Mixtral loses: its window."""
    return [WINDOW] if settings["sliding_window"] is not None else []


def qwen3_moe(settings: dict) -> list[str]:
    """Return what the GGUF of a Qwen3-MoE loses: its window; raise where not all layers have experts of weight 1."""
    for key, known in (("norm_topk_prob", True), ("decoder_sparse_step", 1), ("mlp_only_layers", [])):
        value = settings[key]
        refuse("Qwen3MoeForCausalLM", key, [] if key == "mlp_only_layers" and value is None else value, (known,))
    return [WINDOW] if settings["use_sliding_window"] and settings["sliding_window"] is not None else []


def smollm3(settings: dict) -> list[str]:
    """Return what the GGUF of a SmolLM3 loses: a window; raise for another choice of layers without positions."""
    # llama.cpp leaves every fourth layer without positions, whatever the settings say.
    layers, turning, step = (settings[key] for key in ("num_hidden_layers", "no_rope_layers", "no_rope_layer_interval"))
    if turning is None:
        refuse("SmolLM3ForCausalLM", "no_rope_layer_interval", step, (4,))
    elif type(layers) is int:
        every_fourth = [int((layer + 1) % 4 != 0) for layer in range(min(layers, 10_000))]
        refuse("SmolLM3ForCausalLM", "no_rope_layers", turning, (every_fourth,))
    kinds = settings["layer_types"]
    sliding = "sliding_attention" in kinds if isinstance(kinds, list) else settings["use_sliding_window"]
    return [WINDOW] if sliding and settings["sliding_window"] is not None else []


def has_sides(settings: dict) -> bool:
    """Return whether the settings that `gemma_divisor` needs are all there."""
    return all(type(settings.get(key)) is int and settings[key] > 0 for key in SIDES)


def gemma_divisor(gguf: str, settings: dict) -> int:
    """Return by whose root llama.cpp divides a Gemma's scores: head_dim, and in the largest of each hidden / heads."""
    largest = settings["num_hidden_layers"] == {"gemma2": 46, "gemma3": 62}[gguf]
    return settings["hidden_size"] // settings["num_attention_heads"] if largest else settings["head_dim"]


def gemma(gguf: str, name: str, period: int, needed: tuple[str, ...]) -> Callable[[dict], list[str]]:
    """Return the function for a Gemma whose layers number `period` see the whole text, and which `needed` settings."""

    def lost(settings: dict) -> list[str]:
        kinds = settings["layer_types"]
        if isinstance(kinds, list):
            names = ("sliding_attention", "full_attention")
            wanted = [names[(layer + 1) % period == 0] for layer in range(len(kinds))]
            refuse(name, "layer_types", kinds, (wanted,))
        elif "sliding_window_pattern" in settings:
            refuse(name, "sliding_window_pattern", settings["sliding_window_pattern"], (period,))
        if has_sides(settings):
            divisor = gemma_divisor(gguf, settings)
            refuse(name, "query_pre_attn_scalar", settings["query_pre_attn_scalar"], (divisor,))
        for key in needed:
            if settings[key] is None:
                refuse(name, key, None, ("a number",))
        return [SHIFTED]

    return lost


def phi3(settings: dict) -> list[str]:
    """Return what the GGUF of a Phi-3 loses: its window; raise for heads of another width."""
    _whole_heads("Phi3ForCausalLM", settings)
    rope = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    longer = isinstance(rope, dict) and rope.get("long_factor") is not None
    return [WINDOW] * (settings["sliding_window"] is not None) + [LONG] * longer


def olmo2(settings: dict) -> list[str]:
    """Return nothing; raise for heads of another width."""
    _whole_heads("Olmo2ForCausalLM", settings)
    return []


def _whole_heads(name: str, settings: dict) -> None:
    """Raise `NotConvertible` where heads are wider or narrower than hidden_size / heads, which llama.cpp goes by."""
    if settings.get("head_dim") is not None and has_sides(settings):
        refuse(name, "head_dim", settings["head_dim"], (settings["hidden_size"] // settings["num_attention_heads"],))
