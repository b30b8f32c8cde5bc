"""LLaVA in small: an encoder of pictures, a projector, and Pebble, which answers questions about what it sees.

(Liu et al., Visual Instruction Tuning, 2023, section 4; Improved Baselines with Visual Instruction Tuning, 2023.)
Importing it does not load torch. `python -m recipes.vision` trains all of it again.

>>> from llmnotes.vision import accuracy, ask, encoder, load
"""

from llmnotes.vision.asking import accuracy, ask
from llmnotes.vision.opening import encoder, load

__all__ = ["accuracy", "ask", "encoder", "load"]
