"""llmnotes: one language model, taken apart and put back together."""

import os

__version__ = "0.1.0"

# Idle OpenMP threads that spin steal the time of the working ones when a machine is busy: a 60 ms training step then
# takes seconds. Those that sleep at once are woken too late on an idle one: Pebble's steps take nearly twice as long.
# So they spin for a moment (GNU's OpenMP; others know the first line alone), and then sleep.
# The variables count only if they are set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
