"""Which tensors of a PyTorch checkpoint are the model's, and what the others are."""

import re
from typing import NamedTuple

# Under these keys of a checkpoint lies the model's state dict, whatever lies beside it ...
ALWAYS = ("state_dict", "model_state_dict", "model_state")
# ... and under these, unless something lies beside it that may be a part of the model.
USUALLY = ("model", "module", "net", "network")
# Names of what an optimizer keeps end in "optimizer", or in this and a letter, a number, or a word for a state.
WORD = r"(?:[_.\- ]?(?:states?|dicts?|sd|params?|history|\d+|[a-z](?![a-z])))"
OPTIMIZER = re.compile(rf"optim(?:izers?|s)?{WORD}*$", re.IGNORECASE)
# What torch.optim calls its running averages, one for each weight: no weight has such a name.
AVERAGES = set("exp_avg exp_avg_sq max_exp_avg_sq exp_inf momentum_buffer square_avg acc_delta grad_avg".split())
# Other names for them. A part of a model can be called so, so the shapes must also be those of the weights, one by one;
# for the single letters they must be those of what has one of the usual names.
MOMENT = re.compile(
    r"(?:adamw?|sgd|momentum|momenta|moments?|velocit(?:y|ies)|grads?|gradients?)"
    r"(?:[_.\- ]?(?:m|v|mu|nu|first|second|sq|avg|buf|buffers?|states?|\d+))*|(?:first|second)_moments?",
    re.IGNORECASE,
)
LETTERS = {"m", "v", "mu", "nu"}
PARAMETERS = ("params", "parameters", "weights")
# Keys of what a trainer keeps beside the model: averages of its weights, states of generators, of schedules, of loops.
KEPT = re.compile(r"sched|scaler|callback|loops?$|(^|_)(ema|swa|averaged?|rng|random)(_|$)", re.IGNORECASE)

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


def choose(places: dict[str, Place], shapes: dict[str, tuple[int, ...]], module: bool) -> tuple[str, dict[str, str]]:
    """Return (what the names of the model's tensors begin with in the file, {tensor that is none of them: why}).

    `module` says that the file is one module, whose parts may have any name. In a dictionary the model is what lies
    under one of the usual names, or the only thing that is left beside an optimizer; otherwise it is all of it but
    optimizers. A file of nothing but such states counts as it is.
    """
    # What its place alone says: a module's attribute, the state of an optimizer.
    beside = {name: place.why for name, place in places.items() if place.why}
    chosen = None
    if not module:
        moments = _moments(places, shapes)
        for name, place in places.items():
            by_top = place.nested and (OPTIMIZER.search(place.top) or place.top in moments)
            if by_top or not AVERAGES.isdisjoint(name.split(".")):
                beside[name] = OF_OPTIMIZER
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


def _moments(places: dict[str, Place], shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Return the keys at the top under which there is a moment of each weight, by their names and their shapes."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, place in places.items():
        top = place.top if place.nested else ""
        groups.setdefault(top, {})[name.removeprefix(f"{top}.")] = shapes[name]
    named = {top for top in groups if MOMENT.fullmatch(top) or top.lower() in LETTERS}
    found = set()
    for top in named:
        weights = groups.keys() - named
        if top.lower() in LETTERS:
            weights &= {*ALWAYS, *USUALLY, *PARAMETERS}
        if any(_mirrors(groups[top], groups[other]) for other in weights):
            found.add(top)
    return found


def _mirrors(moments: dict[str, tuple[int, ...]], weights: dict[str, tuple[int, ...]]) -> bool:
    """Return whether each moment has the name and the shape of a weight; those in a list have only their order."""
    if all(name.isdigit() for name in moments):
        rest = iter(weights.values())
        return all(shape in rest for shape in moments.values())
    return all(weights.get(name) == shape for name, shape in moments.items())
