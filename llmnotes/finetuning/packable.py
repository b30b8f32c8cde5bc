"""Which models may read packed rows: those that keep the documents of a row apart by their positions, as tested."""

from __future__ import annotations

from llmnotes.errors import BadSettings

# By config.model_type. transformers builds the masks of these, also those with a window, from positions that start
# again with each document. Left out is what carries a state from token to token (Mamba, linear attention, short
# convolutions), what counts positions by itself (OPT, BLOOM, MPT), what is wrong in some versions of transformers
# (Llama 4, gpt-oss), and all that no test has compared.
PACKABLE = frozenset(
    "apertus arcee cohere cohere2 deepseek_v3 ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4 glm4_moe gpt2 "
    "gpt_bigcode gpt_neox granite granitemoe helium hunyuan_v1_dense llama ministral ministral3 mistral "
    "mixtral nemotron olmo olmo2 olmo3 olmoe phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm "
    "starcoder2".split()
)


def refuse_packing(model_type: str) -> None:
    """Raise `BadSettings` for a model of a type that mixes the documents of a packed row, or was never compared.

    >>> refuse_packing("llama")
    """
    if model_type not in PACKABLE:
        raise BadSettings(
            f"packing is not for models of the type {model_type[:40]}: they mix the documents of a row, or were never "
            "compared; set packing to false."
        )
