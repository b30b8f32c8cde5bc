"""Open a model, let it continue a text, and compare it with another form of itself. Importing it does not load torch.

>>> from llmnotes.models import open_model, complete, parity
"""

from llmnotes.models.opening import VARIABLE, LanguageModel, chosen, complete, open_model
from llmnotes.models.parity import Parity, parity
from llmnotes.models.paths import path_of

__all__ = ["VARIABLE", "LanguageModel", "Parity", "chosen", "complete", "open_model", "parity", "path_of"]
