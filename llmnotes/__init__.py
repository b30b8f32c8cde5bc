"""llmnotes: one language model, taken apart and put back together."""

import os

__version__ = "0.1.0"

# Idle OpenMP threads that spin steal the time of the working ones when a machine is busy: a 60 ms
# training step then takes seconds. The variable counts only if it is set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
