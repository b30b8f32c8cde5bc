"""Importance matrices: which columns of a weight matrix matter, measured on the inputs that they meet.

A matrix W that is rounded to W' changes its output by (W - W') x. Averaged over many x, and as if their columns had
nothing to do with each other, the square of that is sum over columns j of mean(x_j**2) * (W_ij - W'_ij)**2 for each row
i. So the error of a weight counts as much as the mean square of its column's inputs, and these means, one for each
column, are what llama.cpp calls an importance matrix; it is the diagonal of the Hessian that GPTQ uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from llmnotes.errors import NotQuantizable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def collect(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], window: int = 512
) -> dict[str, np.ndarray]:
    """Return {name of a weight: mean square of each input column, float32 (columns,)} of a model's linear layers.

    The model reads the `texts`, cut into windows of `window` tokens. The output layer is left out, as llama.cpp leaves
    it out: one text says little about thousands of words. `llmnotes.formats.convert` takes the answer, and
    `llmnotes.formats.gguf.imatrix` writes it for llama.cpp.

    Raises `NotQuantizable` if no text has a word to read, or an input that is not finite.

    >>> from llmnotes.models import open_model
    >>> lm = open_model("pebble", say=lambda line: None)
    >>> importance = collect(lm.model, lm.tokenizer, ["The goose says honk."])
    >>> importance["model.layers.0.mlp.down_proj.weight"].shape
    (768,)

    Does not say how much a layer matters as a whole, and knows nothing of columns that vary together.
    """
    import torch

    output, sums, counts, hooks = model.get_output_embeddings(), {}, {}, []

    def listen(name):
        def hear(module, inputs):
            x = inputs[0].detach().double().reshape(-1, module.in_features)  # (tokens, columns)
            sums[name] = sums.get(name, 0) + x.square().sum(0)
            counts[name] = counts.get(name, 0) + len(x)

        return hear

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not output:
            hooks.append(module.register_forward_pre_hook(listen(f"{name}.weight")))
    try:
        for text in filter(str.strip, texts):  # of a blank one the model would read its first mark alone
            ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long, device=model.device)
            for start in range(0, len(ids), window):
                with torch.no_grad():
                    model(ids[None, start : start + window], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    means = {name: (sums[name] / counts[name]).float().cpu().numpy() for name in sums}
    if not means or not all(np.isfinite(mean).all() for mean in means.values()):
        raise NotQuantizable("No importance can be measured on this text with this model; give a longer, plain text.")
    return means
