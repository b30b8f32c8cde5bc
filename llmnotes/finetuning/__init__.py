"""Teach a model something new: LoRA and QLoRA, the data, the training, and what it costs in memory.

Nothing heavy is imported here; take what is needed from `lora`, `adapter_files`, `qlora`, `data` and `train`.
"""

import logging
import warnings

# Two messages that PEFT and bitsandbytes print into every notebook, and about which a learner can do nothing: that a
# faster kernel for processors is not on the hub (without a network it cannot be), and that PEFT asks transformers for a
# setting by its old name. The filters must stand before both are imported, so they are here, where every way leads by.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
