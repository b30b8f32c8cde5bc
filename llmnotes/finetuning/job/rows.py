"""The rows that a job learns from, made before the model is loaded: what is wrong with them costs no minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmnotes.errors import BadSettings, ModelBroken
from llmnotes.finetuning import data, records
from llmnotes.finetuning.job.settings import Settings
from llmnotes.finetuning.packable import refuse_packing
from llmnotes.models.opening import quiet
from llmnotes.models.paths import path_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


class Rows(NamedTuple):
    """What is learned and what is held out, and one sentence for each thing that is not in it as it was in the data."""

    learned: list[data.Row]
    held_out: list[data.Row]
    notes: list[str]


def examples(settings: Settings) -> tuple[list[records.Example], list[records.Example]]:
    """Return (to learn, held out) as the settings say, read and not yet encoded."""
    found = records.read(settings.data)
    if isinstance(settings.held_out, str):
        return found, records.read(settings.held_out)
    return records.split(found, settings.held_out, settings.seed) if settings.held_out else (found, [])


def encoded(
    settings: Settings,
    found: tuple[Sequence[records.Example], Sequence[records.Example]],
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Rows:
    """Return the rows of `examples` for a model with this configuration and this tokenizer, packed if need be.

    Raises `FileBroken` (see `data.encode`), `BadSettings` for rows that the model cannot read, and `ModelBroken` where
    the tokenizer makes a token that the embedding has no row for. Does not need the model's weights.
    """
    text, name = config.get_text_config(), Path(settings.model).name
    longest = getattr(text, "max_position_embeddings", None) or math.inf
    if settings.max_length > longest:
        raise BadSettings(f"max_length is {settings.max_length}, and {name} reads {longest} tokens; lower it.")
    if settings.packing:
        refuse_packing(config.model_type)
    notes: list[str] = []
    rows, held_out = (data.encode(each, tokenizer, settings.max_length, notes.append) for each in found)
    count = getattr(text, "vocab_size", None) or math.inf
    highest = max(token for row in [*rows, *held_out] for token in row.ids)
    if highest >= count:
        raise ModelBroken(
            f"The tokenizer of {name} makes token {highest:,} of the data, and the embedding has {count:,} "
            "rows, counted from 0; use the tokenizer that the model was trained with."
        )
    if line := records.unused([*found[0], *found[1]]):
        notes.append(line)
    return Rows(
        data.pack(rows, settings.max_length) if settings.packing else rows, held_out, list(dict.fromkeys(notes))
    )


def before_loading(settings: Settings) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase] | None:
    """Return the configuration and the tokenizer in a model's folder; None where opening the model has more to say."""
    from transformers import AutoConfig, AutoTokenizer

    folder = path_of(settings.model)
    if not (folder / "config.json").is_file():
        return None
    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return config, AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception:  # of each library its own; opening the model makes a sentence of it
            return None
