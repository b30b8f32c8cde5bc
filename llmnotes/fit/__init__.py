"""How much memory a model needs to run or to train, and whether a machine has it.

Only a config or the header of a file is read; no weights are loaded. `fit` answers for a machine, engine by engine;
`training.predict` counts one training step in detail.

>>> from llmnotes.fit import fit, machines, models, parse
>>> fit("llama-2-7b", vram="8GB", ram="16GB", precision="Q4_K_M").options[0].n_gpu_layers
33
"""

from llmnotes.fit.results import Fit, Option
from llmnotes.fit.sizes import parse
from llmnotes.fit.verdict import fit, machines, models

__all__ = ["Fit", "Option", "fit", "machines", "models", "parse"]
