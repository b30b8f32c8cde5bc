"""What a model needs, engine by engine and precision by precision, and where its layers go.

Every figure counts bytes that an engine allocates. What the system, the driver of a GPU and the libraries take is set
aside before (`DRIVER`, `SYSTEM`): these two are rough values, the others are tested against the engines.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmnotes.errors import BadSettings, UnknownName
from llmnotes.fit import hugging_face, llama_cpp
from llmnotes.fit.advice import changes
from llmnotes.fit.model import Model, catalogue, model_of
from llmnotes.fit.placing import Place, in_llama_cpp, in_transformers
from llmnotes.fit.sizes import parse

DRIVER = 500_000_000  # bytes of each GPU that its driver and CUDA's kernels take
SYSTEM = 2_000_000_000  # bytes of main memory that the system and Python take
FILE_TYPES = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
TRAINED = {"full": ("F32", "BF16"), "lora": ("F32", "BF16"), "qlora": ("int8", "NF4")}
CONTEXT_LIMIT = 1 << 24  # tokens


@dataclass(frozen=True)
class Option:
    """One way to run or train the model: an engine, a precision, its bytes by part, and where they go.

    `verdict` is "GPU" (all of it), "GPU and RAM", "RAM" or "no". `gpus` are the bytes on each GPU, `ram` those in main
    memory; what is set aside is not in them. `checkpointing` is whether the verdict needs gradient checkpointing.
    """

    engine: str
    precision: str
    bits_per_weight: float
    parts: dict[str, int]
    verdict: str
    gpus: tuple[int, ...]
    ram: int
    n_gpu_layers: int | None = None
    device_map: dict[str, int | str] | None = None
    checkpointing: bool = False

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Fit:
    """What a model needs on a machine: `options` from the most bits to the fewest, and `advice` in sentences."""

    model: str
    parameters: int
    layers: int
    context: int
    train: str | None
    vram: tuple[int, ...]
    ram: int
    options: tuple[Option, ...]
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is an option that this machine has the memory for."""
        return any(option.verdict != "no" for option in self.options)

    def as_dict(self) -> dict:
        """Return the report as plain types, ready for JSON; all amounts are bytes."""
        options = [asdict(option) | {"total": option.total} for option in self.options]
        return asdict(self) | {"fits": self.fits, "options": options}


def fit(
    model: str | Path | Mapping | Model,
    vram: str | int | list | tuple = 0,
    ram: str | int | None = None,
    context: int = 4096,
    *,
    train: str | None = None,
    machine: str | None = None,
    precision: str | None = None,
) -> Fit:
    """Return what `model` needs in every precision, for llama.cpp and for transformers, and where its layers go.

    `model` is a config (a mapping or a config.json), a folder, a GGUF file, or a built-in name (`models()`). `vram` is
    the memory of the GPU, or a list with one entry for each; `ram` is main memory, by default that of this computer;
    `machine` names one of `machines()` instead. `train` is "full", "lora" or "qlora": then `context` is the length of
    the one row in a batch. `precision` asks for one alone.

    Raises `UnknownName`, `BadSettings` (an amount or a length that is none), `ModelBroken`, and what `formats.inspect`
    raises. Reads headers alone. Does not know mixtures of experts, several sequences at once, nor a cache of fewer
    bits; training is counted for one GPU. What a GPU holds is derived from what was measured on processors.

    >>> found = fit("llava-1.5-7b", vram="8GB", ram="16GB", precision="NF4")
    >>> found.options[0].verdict, round(found.options[0].total / 1e9, 1)
    ('GPU', 6.8)
    """
    if type(context) is not int or not 0 < context <= CONTEXT_LIMIT:
        raise BadSettings(f"A context of {str(context)[:40]} tokens is not possible; give 1 to {CONTEXT_LIMIT:,}.")
    if train is not None and train not in TRAINED:
        raise BadSettings(f"There is no training {train!r} here; choose {', '.join(TRAINED)}.")
    model = model if isinstance(model, Model) else model_of(model)
    gpus, ram, shared = _machine(vram, ram, machine)
    free = tuple(max(size - DRIVER * (not shared), 0) for size in gpus)
    room = max(ram - SYSTEM, 0)

    def options(context: int) -> list[Option]:
        total = room if shared else None
        if train:
            found = [_trained(model, train, kind, context, free, room, total) for kind in TRAINED[train]]
        else:
            found = [_run(model, engine, kind, context, free, room, total) for engine, kind in _kinds(model)]
        return [one for one in found if precision is None or one.precision.lower() == precision.lower()]

    found = options(context)
    if not found:
        known = [kind for _, kind in _kinds(model)] if not train else TRAINED[train]
        raise UnknownName(f"There is no precision {precision[:40]} here; choose {', '.join(dict.fromkeys(known))}.")
    answer = Fit(model.name, model.parameters, model.shape.layers, context, train, gpus, ram, tuple(found))
    return replace(answer, advice=tuple(changes(answer, model, options)))


def models() -> dict[str, dict]:
    """Return the built-in configurations: name -> {"also": other names, "parameters", "config"}.

    >>> models()["llama-3.2-1b"]["parameters"]
    1235814400
    """
    return catalogue()["models"]


def machines() -> dict[str, dict]:
    """Return the built-in machines: name -> {"about", "gpus", "ram"}.

    >>> machines()["rtx-3070"]["gpus"]
    ['8GiB']
    """
    return catalogue()["machines"]


def _machine(vram, ram, machine: str | None) -> tuple[tuple[int, ...], int, bool]:
    """Return the bytes of each GPU and of main memory, and whether these are the same."""
    if machine is not None:
        known = machines()
        if vram or ram is not None:
            raise BadSettings("A machine has its own memory; give either the machine or vram and ram.")
        if machine not in known:
            raise UnknownName(f"There is no machine {machine[:40]} in the list; choose {', '.join(known)}.")
        entry = known[machine]
        return tuple(map(parse, entry["gpus"])), parse(entry["ram"]), entry.get("shared", False)
    sizes = [parse(size) for size in (vram if isinstance(vram, list | tuple) else [vram])]
    if ram is None:
        from llmnotes.hardware import memory

        ram = memory()[0]
    return tuple(size for size in sizes if size), parse(ram), False


def _kinds(model: Model) -> list[tuple[str, str]]:
    """Return the engines and precisions that are asked for this model; a GGUF's own comes first."""
    own = [("llama.cpp", model.file_type)] if model.stored else []
    others = [("llama.cpp", kind) for kind in FILE_TYPES if kind != model.file_type]
    return own + others + [("transformers", kind) for kind in hugging_face.PRECISIONS]


def _run(model: Model, engine: str, kind: str, context: int, gpus, ram: int, total: int | None) -> Option:
    if engine == "llama.cpp":
        needs = llama_cpp.needs(model, kind, context)
        parts = {"weights": needs.weights, "scales": 0, "cache": needs.cache * len(needs.layers)}
        parts |= {"compute": needs.compute, "vision": needs.vision}
        place = in_llama_cpp(needs, gpus, ram, total)
    else:
        needs = hugging_face.needs(model, kind, context)
        weights = needs.embedding + needs.layer * model.shape.layers + needs.output
        parts = {"weights": weights, "scales": needs.scales, "cache": needs.cache}
        parts |= {"compute": needs.activations, "vision": needs.vision}
        place = in_transformers(model, needs, kind, gpus, ram, total)
    bits = 8 * (parts["weights"] + parts["scales"] + parts["vision"]) / model.parameters
    return Option(engine, kind, round(bits, 2), parts, *place)


def _trained(model: Model, method: str, kind: str, context: int, gpus, ram: int, total: int | None) -> Option:
    """Return what training needs; with gradient checkpointing where only that makes it fit."""
    if model.vision[0]:
        raise BadSettings(f"The training of {model.name}'s image encoder is not counted here; give its language model.")
    for checkpointing in (False, True):
        memory = hugging_face.training(model, method, kind, context, bool(gpus), checkpointing)
        limit = max(gpus, default=ram)
        limit = limit if total is None else min(limit, total)
        if memory.total <= limit:
            break
    fits = memory.total <= limit
    parts = {name: part.bytes for name, part in memory.parts.items()}
    bits = 8 * (parts["weights"] + parts["scales"]) / model.parameters
    largest = gpus.index(max(gpus)) if gpus and fits else None
    used = tuple(memory.total if at == largest else 0 for at in range(len(gpus)))
    place = Place("no" if not fits else "GPU" if gpus else "RAM", used, 0 if gpus else memory.total)
    return Option("transformers", kind, round(bits, 2), parts, *place, checkpointing=checkpointing)
