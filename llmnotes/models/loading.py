"""Let transformers load the weights of a folder; where it does not, say why: a known cause, or the library's reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmnotes.errors import ModelBroken, reason
from llmnotes.formats import causes
from llmnotes.formats.results import Inspection, counted


def loaded(
    kind: Any, folder: Path, label: str, found: Inspection, say: Callable[[str], object], **settings: Any
) -> Any:
    """Return the model that `kind`, a class of transformers with `from_pretrained`, makes of a folder.

    `found` is what `inspect` says of the folder, and `settings` go to the class. Names that a wrapper has changed are
    changed back where that is possible one to one. `say` receives a line where the model has no place for a tensor.

    Raises `ModelBroken` for tensors that are missing or of another shape than config.json says, for codes that the
    library took for weights, and with the library's own reason where it opens no such model.
    """
    model, report = _try(kind, folder, label, found, settings)
    unused, parameters = report["unexpected_keys"], [name for name, _ in model.named_parameters()]
    untied = [name for name in report["missing_keys"] if name in parameters]  # without what shares its weights
    rules = causes.renaming(unused, report["missing_keys"]) or causes.renaming(unused, untied)
    if rules is not None:
        model, report = _try(kind, folder, label, found, settings | {"key_mapping": rules.rules})
    lost = sorted(report["missing_keys"])
    if lost:
        raise ModelBroken(
            causes.known_cause(found)
            or f"{label} lacks {counted(len(lost), 'tensor')} that its config.json promises, {lost[0]} first; "
            "take config.json and all files of weights from the same model."
        )
    for name, there, asked in sorted(report["mismatched_keys"]):
        raise ModelBroken(
            causes.known_cause(found)
            or f"{label} has weights that do not fit its config.json ({name} is {tuple(there)}, and {tuple(asked)} is "
            "asked for); take both from the same model."
        )
    unused = sorted(report["unexpected_keys"])
    cause = causes.codes_as_weights(found, parameters, unused)
    if cause is not None:
        raise ModelBroken(cause)
    if unused:
        say(f"{label}: its config.json has no place for {counted(len(unused), 'tensor')}, left out: {unused[0][:80]}")
    return model


def _try(kind: Any, folder: Path, label: str, found: Inspection, settings: dict[str, Any]) -> tuple[Any, dict]:
    """Return (the model, what the library says of the tensors)."""
    try:
        return kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # the report names them
            output_loading_info=True,
            **settings,
        )
    except Exception as error:  # each architecture, quantizer and missing package has errors of its own
        method = causes.quantized_by(found)
        packed = f", which is quantized ({method})" if method else ""
        raise ModelBroken(
            f"transformers cannot open {label}{packed}: {reason(error)}; see what its config.json asks for, and bring "
            "the version or the package that knows it."
        ) from error
