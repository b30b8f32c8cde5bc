"""Adapters as files, in PEFT's own layout: a folder with adapter_config.json and adapter_model.safetensors."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from llmnotes import formats
from llmnotes.errors import AdapterUnfit, FileUnreadable
from llmnotes.finetuning import lora, token_rows
from llmnotes.formats.adapters import CONFIG, RECORD, Base
from llmnotes.formats.huggingface import ADAPTER, settings
from llmnotes.formats.results import PlannedTensor, Tensor
from llmnotes.formats.safe_write import new_folder
from llmnotes.formats.safetensors import write_safetensors

PREFIX = "base_model.model."  # PEFT's wrappers around a model
ROWS = ".token_adapter.trainable_tokens_delta"  # the rows of tokens, which replace those of the base
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WRITTEN = TYPES | {"U8": torch.uint8}  # in checkpoints, too: an optimizer's averages in 8 bits
# What says how an adapter was made or where it came from, and changes nothing about what it does.
HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path revision peft_version task_type inference_mode init_lora_weights "
    "target_modules exclude_modules layers_to_transform layers_pattern ensure_weight_tying "
    "runtime_config loftq_config eva_config corda_config lora_ga_config ephemeral_gpu_offload qalora_group_size "
    "megatron_core monteclora_config fan_in_fan_out".split()
)
OURS = frozenset("peft_type r lora_alpha lora_dropout use_rslora bias trainable_token_indices".split())
# These starts change the base as well; without the changed base the adapter means nothing.
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


def save(
    model: nn.Module,
    folder: str | Path,
    name: str = "default",
    base: Base | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the adapter `name` of a model as a new folder that PEFT loads, and return the folder's path.

    `base` is recorded there, and the files `beside` are written with it.

    The base is not written; the settings name the layers one by one, or by their endings where those say the same.
    Raises `AdapterUnfit` where the model has no such adapter, and `CannotWrite` where the folder exists already, may
    not be written, or does not fit on the disk: it appears whole or not at all.
    """
    found = {path: layer.adapter(name) for path, layer in lora.layers(model) if name in layer.adapters}
    if not found:
        raise AdapterUnfit(f"The model has no adapter {name!r} to save; attach it first.")
    config = next(iter(found.values())).config
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": _name_or_path(model, base),
        "revision": base.revision if base else None,
        "r": config.r,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": _named(model, list(found)),
        "bias": "none",
        "fan_in_fan_out": any(lora.is_turned(layer.base) for _, layer in lora.layers(model)),  # PEFT wants to be told
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
    }
    parts = []
    for embedding in (each for each in token_rows.find(model) if name in each.adapters):
        path, _ = token_rows.place(model)
        about["trainable_token_indices"] = embedding.rows(name).tokens.tolist()
        parts.append(planned(f"{PREFIX}{path}{ROWS}", token_rows.values(embedding, name)))
    for path, adapter in found.items():
        for matrix, value in (("lora_A", adapter.lora_A), ("lora_B", adapter.lora_B)):
            parts.append(planned(f"{PREFIX}{path}.{matrix}.weight", value))
    with new_folder(folder) as new:
        with new.file(CONFIG) as file:
            file.write(json.dumps(about, indent=2).encode() + b"\n")
        with new.file(ADAPTER[0]) as file:
            write_safetensors(file, parts, {"format": "pt"})
        for name, content in {**(beside or {}), **({RECORD: base.as_json()} if base else {})}.items():
            with new.file(name) as file:
                file.write(content)
    return Path(folder)


def _name_or_path(model: nn.Module, base: Base | None) -> str | None:
    """Return what other programs find the base by: a path, or its name on the hub."""
    if base and (base.revision or Path(base.name).is_absolute()):
        return base.name
    return getattr(getattr(model, "config", None), "name_or_path", None) or None


def load(model: nn.Module, folder: str | Path, name: str = "default") -> nn.Module:
    """Attach the adapter in a folder of PEFT's layout to a model, in place, and return the model.

    The layers are those that the file has tensors for. The adapter alone is active, as after `lora.attach`.

    Raises `FileUnreadable` and `FileBroken` for files that are missing or damaged, and `AdapterUnfit` for an adapter
    of another model (a layer is missing or has another shape), numbers that are not finite, another kind than LoRA,
    and what goes beyond it: DoRA, biases, whole modules saved with it, ranks of their own for single layers.
    Does not open a pickle, and does not use a regular expression from the file.
    """
    folder = Path(folder)
    config = _config(folder)
    tensors = _tensors(folder)
    rows = _rows(folder, tensors, model, len(config.tokens))
    paths = _paths(folder, {key: tensor for key, tensor in tensors.items() if key != rows})
    linear = lora.target_layers(model, ".*")
    for path in paths:
        if path not in linear:
            raise _unfit(folder, f"is for a layer {path[:80]!r} that the model does not have; open the model it is for")
        layer = linear[path]
        inputs, outputs = lora.sizes(layer)
        expected = {"lora_A": (config.r, inputs), "lora_B": (outputs, config.r)}
        for matrix, shape in expected.items():
            found = tensors[f"{PREFIX}{path}.{matrix}.weight"]
            if found.shape != shape:
                raise _unfit(
                    folder,
                    f"has {matrix} of {path[:80]} in the shape {found.shape}, and this model with r={config.r} needs "
                    f"{shape}; open the model it is for",
                )
    inspection = formats.inspect(folder / ADAPTER[0])
    values = {}
    for key, tensor in tensors.items():
        data = bytearray(b"".join(formats.read(inspection, tensor)))
        values[key] = torch.frombuffer(data, dtype=TYPES[tensor.dtype]).reshape(tensor.shape).float()
        if not values[key].isfinite().all():
            raise _unfit(folder, f"has numbers in {key[:120]} that are not finite; copy or train it again")
    lora.attach(model, replace(config, target_modules=tuple(path for path in linear if path in paths)), name)
    with torch.no_grad():
        if rows:
            embedding = token_rows.find(model)[0]
            old = token_rows.old_rows(embedding, name)
            embedding.rows(name).delta.copy_(values[rows].to(old.device) - old)
        for path, layer in lora.layers(model):
            if path in paths:
                adapter = layer.adapter(name)
                adapter.lora_A.copy_(values[f"{PREFIX}{path}.lora_A.weight"])
                adapter.lora_B.copy_(values[f"{PREFIX}{path}.lora_B.weight"])
    return model


def _config(folder: Path) -> lora.LoRA:
    """Return the settings in the folder, after it is clear that they ask for nothing but LoRA."""
    if not folder.is_dir():
        raise FileUnreadable(f"There is no folder {folder}; give the one that holds {CONFIG}.")
    found = settings(folder / CONFIG)
    if found.get("peft_type") != "LORA":
        raise _unfit(
            folder, f"is of the kind {str(found.get('peft_type'))[:40]!r}; only LORA is done here, so use PEFT"
        )
    if found.get("bias", "none") != "none":
        raise _unfit(folder, "has biases, which is not done here; use PEFT")
    if found.get("init_lora_weights", True) not in STARTS:
        raise _unfit(folder, f"starts from {str(found['init_lora_weights'])[:40]!r}, which changes the base; use PEFT")
    for key, value in found.items():
        if value and key not in HARMLESS and key not in OURS:
            raise _unfit(folder, f"asks for {key[:40]}, which is not done here; use PEFT")
    r, alpha, dropout = (found.get(key, default) for key, default in (("r", 8), ("lora_alpha", 8), ("lora_dropout", 0)))
    if type(r) is not int or not all(type(number) in (int, float) and abs(number) < 1e9 for number in (alpha, dropout)):
        raise _unfit(folder, f"has no numbers for r, lora_alpha or lora_dropout in its {CONFIG}; copy it again")
    tokens = found.get("trainable_token_indices") or ()
    if isinstance(tokens, dict):  # by the name of the embedding
        if len(tokens) != 1:
            raise _unfit(folder, "trains rows of tokens in several matrices, which is not done here; use PEFT")
        tokens = next(iter(tokens.values()))
    if not isinstance(tokens, list | tuple) or not all(type(token) is int for token in tokens):
        raise _unfit(folder, f"has no list of whole numbers for trainable_token_indices in its {CONFIG}; copy it again")
    return lora.LoRA(r, alpha, dropout, (), bool(found.get("use_rslora")), tuple(tokens))


def _tensors(folder: Path) -> dict[str, Tensor]:
    if not (folder / ADAPTER[0]).exists() and (folder / ADAPTER[1]).exists():
        raise _unfit(folder, f"has its weights in a pickle, which is not opened; write them as {ADAPTER[0]} with PEFT")
    inspection = formats.inspect(folder / ADAPTER[0])
    if inspection.identity.format != "safetensors":
        raise _unfit(folder, f"has an {ADAPTER[0]} that is {inspection.identity.format}; copy it again")
    return {tensor.name: tensor for tensor in inspection.tensors}


def _rows(folder: Path, tensors: dict[str, Tensor], model: nn.Module, count: int) -> str | None:
    """Return the name of the tensor that holds the rows of `count` tokens, if there are any; it fits the model."""
    found = next((key for key in tensors if key.endswith(ROWS)), None)
    if not found and not count:
        return None
    path, width = token_rows.place(model)
    expected = (count, width)
    if (
        found is None
        or found != f"{PREFIX}{path}{ROWS}"
        or tensors[found].shape != expected
        or tensors[found].dtype not in TYPES
    ):
        has = f"{found[:120]!r} in the shape {tensors[found].shape}" if found else "no such tensor"
        raise _unfit(
            folder, f"needs rows {expected} of the embedding {path!r}, and has {has}; open the model it is for"
        )
    return found


def _paths(folder: Path, tensors: dict[str, Tensor]) -> set[str]:
    """Return the names of the layers, each of which has both its matrices, in float."""
    halves = {"A": set(), "B": set()}
    for key, tensor in tensors.items():
        path, _, kind = key.removeprefix(PREFIX).rpartition(".lora_")
        part = kind.removesuffix(".weight")
        if not key.startswith(PREFIX) or part not in halves or kind == part or tensor.dtype not in TYPES:
            raise _unfit(folder, f"holds {key[:120]!r} as {tensor.dtype}, which is no part of a plain LoRA; use PEFT")
        halves[part].add(path)
    if halves["A"] != halves["B"] or not halves["A"]:
        lone = sorted(halves["A"] ^ halves["B"])
        raise _unfit(folder, f"lacks one of the two matrices of {lone[0][:80] if lone else 'any layer'}; copy it again")
    return halves["A"]


def _named(model: nn.Module, paths: list[str]) -> list[str]:
    """Return the endings of the layers' names if they mean these layers and no others, else the names."""
    endings = tuple(sorted({path.rpartition(".")[2] for path in paths}))
    return list(endings) if list(lora.target_layers(model, endings)) == paths else paths


def planned(name: str, tensor: torch.Tensor) -> PlannedTensor:
    """Return a tensor as what `write_safetensors` takes, in its own type; its bytes are made when they are due.

    >>> planned("w", torch.zeros(2, 3)).shape
    (2, 3)
    """
    dtype = next(name for name, kind in WRITTEN.items() if kind == tensor.dtype)

    def data() -> Iterator[bytes]:
        yield tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()

    return PlannedTensor(name, dtype, tuple(tensor.shape), data)


def _unfit(folder: Path, what: str) -> AdapterUnfit:
    return AdapterUnfit(f"The adapter in {folder} {what}.")
