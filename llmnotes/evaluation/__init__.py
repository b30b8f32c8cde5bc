"""Measure a model, compressed or not: perplexity, KL divergence, errors of weights and outputs, exam.

`metrics` has the plain figures; `Ruler` holds many compressed models against one original. Importing it loads no torch.
"""

from llmnotes.evaluation.metrics import (
    Flips,
    bits_per_weight,
    flips,
    kl_divergence,
    log_probs,
    mean_error,
    perplexity,
)
from llmnotes.evaluation.ruler import Noise, Row, Ruler, table
from llmnotes.evaluation.texts import held_out_text, own_text_perplexity
from llmnotes.evaluation.weights import matrices, with_weights

__all__ = [
    "Flips",
    "Noise",
    "Row",
    "Ruler",
    "bits_per_weight",
    "flips",
    "held_out_text",
    "kl_divergence",
    "log_probs",
    "matrices",
    "mean_error",
    "own_text_perplexity",
    "perplexity",
    "table",
    "with_weights",
]
