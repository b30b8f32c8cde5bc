"""Teach a model something new: LoRA and QLoRA, the data, the training, and what it costs in memory.

Nothing heavy is imported here; take what is needed from `lora`, `adapter_files`, `qlora`, `data` and `train`.
"""
