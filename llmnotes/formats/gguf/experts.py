"""The experts of a mixture as files keep them: one by one, or those of a layer together.

GGUF stacks the same matrix of all experts of a layer; until April 2024 it had them one by one. Published folders have
them one by one too. transformers 5 computes with stacks and can save those: the gates and the ways up of all experts
of a layer as one tensor (experts, 2 * inner, hidden), and their ways down as another.
"""

import re
from collections.abc import Collection
from functools import partial

from llmnotes.formats.gguf.architectures import Architecture, Weight
from llmnotes.formats.registry import portion
from llmnotes.formats.results import Inspection, PlannedTensor, size_of


def one_by_one(
    given: dict[str, PlannedTensor], inspection: Inspection, architecture: Architecture
) -> dict[str, PlannedTensor]:
    """Return a folder's tensors with each expert under the name that published folders have for it.

    What transformers 5 has saved together is taken apart; all others stay as they are.
    """
    stored = {tensor.stored_name: tensor for tensor in inspection.tensors}
    found: dict[str, PlannedTensor] = {}
    for name, tensor in given.items():
        layer = re.search(r"\blayers\.\d+\.", name)
        inside = "" if layer is None else name[layer.end() :]
        names = [f"{name.removesuffix(inside)}{part}.weight" for part in architecture.together.get(inside, ())]
        whole = stored.get(tensor.sources[0])
        if len(names) == 1 and "{}" not in names[0]:
            found[names[0]] = tensor
        elif not names or whole is None or len(tensor.shape) != 3 or tensor.shape[1] % len(names):
            found[name] = tensor
        else:
            many, rows, columns = tensor.shape[0], tensor.shape[1] // len(names), tensor.shape[2]
            count = size_of(tensor.dtype, (rows, columns))
            for at in range(many * len(names)):
                part = names[at % len(names)].format(at // len(names))
                data = partial(portion, inspection, whole, at * count, count)
                found[part] = PlannedTensor(part, tensor.dtype, (rows, columns), data, tensor.sources)
    return found


def as_in_the_file(wanted: list[Weight], names: Collection[str]) -> list[Weight]:
    """Return the tensors of a GGUF, those of each expert on its own where the file still has them so.

    >>> stack = Weight("blk.0.ffn_up_exps.weight", (2, 5, 3), ("a", "b"), stacked=True)
    >>> [weight.name for weight in as_in_the_file([stack], {"blk.0.ffn_up.0.weight"})]
    ['blk.0.ffn_up.0.weight', 'blk.0.ffn_up.1.weight']
    """
    found = []
    for weight in wanted:
        old = weight.name.replace("_exps.", ".{}.")
        if old == weight.name or old.format(0) not in names:
            found.append(weight)
        else:
            found += [Weight(old.format(at), weight.each, (name,)) for at, name in enumerate(weight.sources)]
    return found
