"""Which tensors of a PyTorch checkpoint are the model's, and what the others are."""

import re
from typing import NamedTuple

# Under these keys of a checkpoint lies the model's state dict, whatever lies beside it ...
ALWAYS = ("state_dict", "model_state_dict", "model_state")
# ... and under these, unless something lies beside it that may be a part of the model.
USUALLY = ("model", "module", "net", "network")
OPTIMIZER = re.compile(r"optim", re.IGNORECASE)
# Keys of what a trainer keeps beside the model: averages of its weights, states of generators, of schedules, of loops.
KEPT = re.compile(r"optim|sched|scaler|callback|loops?$|(^|_)(ema|swa|averaged?|rng|random)(_|$)", re.IGNORECASE)

OF_OPTIMIZER = "of an optimizer"
NOT_SAVED = "that a state dict of its module does not have"


class Place(NamedTuple):
    """Where in a checkpoint a tensor lies: under which key at the top, and whether in a container there; and why it is
    no weight, or ""."""

    top: str = ""
    nested: bool = False
    why: str = ""

    def inside(self, name: str, why: str, depth: int) -> "Place":
        """Return the place of what lies here, at a depth, under a name."""
        return Place(self.top if depth else name, depth > 0, self.why or why)


def choose(places: dict[str, Place], module: bool) -> tuple[str, dict[str, str]]:
    """Return (what the names of the model's tensors begin with in the file, {tensor that is none of them: why}).

    `module` says that the file is one module, whose parts may have any name. In a dictionary the model is what lies
    under one of the usual names, or the only thing that is left beside an optimizer; otherwise it is all of it but
    optimizers. A file of nothing but such states counts as it is.
    """
    # What its place alone says: a module's attribute, the state of an optimizer.
    beside = {name: place.why for name, place in places.items() if place.why}
    chosen = None
    if not module:
        beside |= {n: OF_OPTIMIZER for n, place in places.items() if place.nested and OPTIMIZER.search(place.top)}
        tops = {place.top for name, place in places.items() if place.nested and name not in beside}
        models = [top for top in tops if not KEPT.search(top)]
        chosen = next((word for word in ALWAYS if word in tops), None)
        if chosen is None and len(models) == 1:
            chosen = models[0] if models[0] in USUALLY or OF_OPTIMIZER in beside.values() else None
    if chosen is not None:
        for name, place in places.items():
            if not (place.nested and place.top == chosen):
                beside.setdefault(name, f"beside {chosen}")
    if len(beside) == len(places):
        return "", {}
    return f"{chosen}." if chosen is not None else "", beside
