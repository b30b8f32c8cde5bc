"""What this machine cannot do is said before the data is read, or a model downloaded or opened."""

from __future__ import annotations

import torch

from llmnotes import hardware
from llmnotes.errors import BadSettings, DoesNotFit, ModelBroken
from llmnotes.finetuning import token_rows
from llmnotes.finetuning.job.settings import Settings
from llmnotes.fit import training as memory
from llmnotes.fit.training_run import finetuned
from llmnotes.models.adapters import config_folder
from llmnotes.models.paths import CONFIG, path_of


def refuse_missing(settings: Settings) -> None:
    """Raise `BadSettings` for what the machine does not have: bitsandbytes pages memory between it and a CUDA GPU."""
    if settings.optimizer == "paged_adamw_8bit" and not torch.cuda.is_available():
        raise BadSettings(
            "optimizer is paged_adamw_8bit, whose averages move between a CUDA GPU and main memory, and there is no "
            "such GPU here; take adamw_8bit."
        )


def refuse_too_large(settings: Settings) -> None:
    """Raise `DoesNotFit` where the free memory will not suffice, before the model is downloaded or opened.

    Knows only Llama-like models with a config.json on this machine; others are not refused.
    """
    folder = config_folder(path_of(settings.model, parts=CONFIG))
    gpu = torch.cuda.is_available()
    how = {
        "rank": settings.lora.r,
        "targets": settings.lora.target_modules,
        "dropout": settings.lora.dropout,
        "rows": 0 if settings.lora.tokens == token_rows.UNTRAINED else len(settings.lora.tokens),  # else not known yet
        "checkpointing": settings.gradient_checkpointing,
        "accumulation": settings.gradient_accumulation,
        "optimizer": settings.optimizer,
        "packed": settings.packing,
    } | finetuned(settings.method, gpu)
    if not (folder / "config.json").is_file():
        return
    try:
        needed = memory.predict(folder, settings.method, settings.batch_size, settings.max_length, **how).total
    except ModelBroken:
        return  # opening it has the sentence
    free = torch.cuda.mem_get_info()[0] if gpu else hardware.memory()[1]
    if needed > free:
        raise DoesNotFit(
            f"Fine-tuning {settings.model} ({settings.method}, {settings.batch_size} rows of {settings.max_length} "
            f"tokens) needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; lower "
            "batch_size or max_length, set gradient_checkpointing to true, or take a smaller model."
        )
