"""Teach a model something new: LoRA and QLoRA, the data, the training, and what it costs in memory.

Nothing heavy is imported here; take what is needed from `lora`, `adapter_files`, `qlora`, `data` and `train`.
"""

import logging
import warnings

# What PEFT says when it is imported and used, and what nobody who reads it can change: a kernel for processors is
# not on the hub that cannot be reached, and it asks transformers for a setting by its old name.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
