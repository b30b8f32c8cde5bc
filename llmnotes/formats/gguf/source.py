"""The tensors of a folder as a GGUF needs them: under the model's own names, and exactly those that it promises."""

import hashlib
from functools import partial

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats import causes
from llmnotes.formats.gguf import experts
from llmnotes.formats.gguf.architectures import Architecture, Weight, weights
from llmnotes.formats.registry import read
from llmnotes.formats.results import Inspection, PlannedTensor, Tensor, counted

SOURCES = ("F32", "F16", "BF16")
COMPUTED = "that llama.cpp computes itself"
TWICE = "that is the table of embeddings once more"
COPIED = "llama.cpp needs an output layer of its own: the GGUF has the table of embeddings a second time for it."
UNUSED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def folder_tensors(
    inspection: Inspection, architecture: Architecture, sizes: dict
) -> tuple[list[Weight], dict[str, PlannedTensor], dict[str, str], list[str]]:
    """Return (the tensors of the GGUF, those of the folder that they are made of by name, {tensor left out: why}, what
    to say): the folder's are exactly those that the model with these `sizes` has.

    Of tied embeddings a copy as output layer is left out, or made where llama.cpp needs one, and where the output layer
    is stored alone, it is the table. Raises what `matched` raises, and `NotConvertible` for an output layer that
    llama.cpp has no place for.
    """
    left = {tensor.stored_name: COMPUTED for tensor in inspection.tensors if tensor.name.endswith(UNUSED)}
    given = planned(inspection, {t.name: t for t in inspection.tensors if t.stored_name not in left})
    said = []
    if causes.settings_of(inspection):
        from llmnotes.formats import packed  # it imports NumPy, which takes a while

        given, idle, said = packed.unpacked(inspection, given)
        left |= idle
    given = experts.one_by_one(given, inspection, architecture)
    promised = [name for weight in weights(architecture, sizes) for name in weight.sources]
    headed = [HEAD if name == TABLE else name for name in promised]  # tied embeddings, stored as the output layer alone
    ways = (promised, [*promised, HEAD], headed) if sizes["tie_word_embeddings"] else (promised, [*promised, HEAD])
    rules = next((found for way in ways if (found := causes.renaming(given, way))), None)
    if rules is not None:
        given = {rules.new(name): tensor for name, tensor in given.items()}
        said.append(f"The folder's tensors were read {rules.words}: GGUF has names of its own.")
    if sizes["tie_word_embeddings"] and HEAD in given and TABLE not in given:
        given[TABLE] = given.pop(HEAD)
    tied = sizes["tie_word_embeddings"] and not _has_own_head(given)
    if not tied and architecture.output is False:
        raise NotConvertible(
            f"{inspection.path.name} has an output layer that differs from its table of embeddings, and llama.cpp "
            f"computes a {architecture.hugging_face} with the table alone; use a model without {HEAD}."
        )
    if tied and architecture.output and TABLE in given:
        said += [COPIED] * (HEAD not in given)
        given.setdefault(HEAD, given[TABLE])
        tied = False
    if tied and HEAD in given:
        copies = given.pop(HEAD).sources
        copied = (tensor for tensor in inspection.tensors if tensor.stored_name in copies)
        left |= {tensor.stored_name: TWICE for tensor in copied if not tensor.alias}
    wanted = weights(architecture, sizes | {"tie_word_embeddings": tied})
    matched(wanted, given, inspection)
    return wanted, given, left, said


def _has_own_head(given: dict[str, PlannedTensor]) -> bool:
    """Return whether the output layer is another tensor than the embeddings; then transformers keeps it."""
    pair = [given[name] for name in (TABLE, HEAD) if name in given]
    return len(pair) == 2 and len({(each.dtype, each.shape, _digest(each)) for each in pair}) == 2


def _digest(tensor: PlannedTensor) -> bytes:
    digest = hashlib.blake2b()
    for piece in tensor.data():
        digest.update(piece)
    return digest.digest()


def planned(inspection: Inspection, tensors: dict[str, Tensor]) -> dict[str, PlannedTensor]:
    """Return the same tensors by the same names, each with the way to read it."""
    return {
        name: PlannedTensor(name, tensor.dtype, tensor.shape, partial(read, inspection, tensor), (tensor.stored_name,))
        for name, tensor in tensors.items()
    }


def matched(wanted: list[Weight], at_hand: dict[str, PlannedTensor], inspection: Inspection) -> None:
    """Raise the sentence that says so where the tensors `at_hand` are not those that are `wanted`, shapes included.

    Raises `NotConvertible` for a known cause, tensors left over and other types than floats, and `FileBroken` for
    tensors that are missing or have another shape than the settings say.
    """
    folder = inspection.path.name
    promised = {source: weight for weight in wanted for source in weight.sources}
    lost = [name for name in promised if name not in at_hand]
    extra = [name for name in at_hand if name not in promised]
    cause = causes.known_cause(inspection) if lost or extra else None
    if cause is not None:
        raise NotConvertible(cause)
    if lost:
        raise FileBroken(
            f"{folder} lacks {counted(len(lost), 'tensor')} that its config.json promises, {lost[0]} first; "
            "take config.json and all files of weights from the same model."
        )
    if extra:
        raise NotConvertible(
            f"{folder} has {counted(len(extra), 'tensor')} that its config.json does not describe, "
            f"{extra[0][:80]} first; take config.json from the same model."
        )
    for name, weight in promised.items():
        if at_hand[name].shape != weight.each:
            raise FileBroken(
                f"{name[:80]} in {folder} has the shape {at_hand[name].shape}, and config.json promises {weight.each}; "
                "take both from the same model."
            )
        if at_hand[name].dtype not in SOURCES:
            raise NotConvertible(
                f"{name[:80]} is stored as {at_hand[name].dtype}; convert the model in its original precision instead."
            )
