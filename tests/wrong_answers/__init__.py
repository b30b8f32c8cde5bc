"""A typical wrong answer for each hint of each exercise: `WRONG[exercise][key of the hint]` is its source."""

from . import (
    attention,
    calibrated_quantization,
    dot_products,
    fine_tuning,
    gguf_and_llama_cpp,
    learning,
    model_formats,
    qlora,
    quantization,
    scaling_out,
    scores_to_text,
    serving,
    start_here,
    tokens_and_embeddings,
    training_in_small,
    vision_language,
)

WRONG: dict[str, dict[str, str]] = {
    **start_here.WRONG,
    **tokens_and_embeddings.WRONG,
    **dot_products.WRONG,
    **attention.WRONG,
    **learning.WRONG,
    **training_in_small.WRONG,
    **scores_to_text.WRONG,
    **model_formats.WRONG,
    **quantization.WRONG,
    **calibrated_quantization.WRONG,
    **fine_tuning.WRONG,
    **qlora.WRONG,
    **gguf_and_llama_cpp.WRONG,
    **serving.WRONG,
    **vision_language.WRONG,
    **scaling_out.WRONG,
}
