"""What a model needs, engine by engine and precision by precision, and where its layers go.

Every figure counts bytes that an engine allocates. What the system, the driver of a GPU and the libraries take is set
aside before (`DRIVER`, `SYSTEM`): these two are rough values, the others are tested against the engines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llmnotes.errors import BadSettings, UnknownName
from llmnotes.fit import hugging_face, llama_cpp
from llmnotes.fit.advice import advice
from llmnotes.fit.model import Model, catalogue, model_of
from llmnotes.fit.names import near
from llmnotes.fit.placing import Free, Place, in_llama_cpp, in_transformers
from llmnotes.fit.results import Fit, Option
from llmnotes.fit.sizes import parse

DRIVER = 500_000_000  # bytes of each GPU that its driver and CUDA's kernels take
SYSTEM = 2_000_000_000  # bytes of main memory that the system and Python take
FILE_TYPES = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
TRAINED = {"full": ("F32", "F32"), "lora": ("F32", "BF16"), "qlora": ("NF4", "NF4")}  # on a CPU, on a GPU
CONTEXT_LIMIT = 1 << 24  # tokens


def fit(
    model: str | Path | Mapping | Model,
    vram: str | int | Sequence[str | int] = 0,
    ram: str | int | None = None,
    context: int = 4096,
    *,
    train: str | None = None,
    machine: str | None = None,
    precision: str | None = None,
    cache: str = "F16",
) -> Fit:
    """Return what `model` needs in every precision, for llama.cpp and for transformers, and where its layers go.

    `model` is a config (a mapping or a config.json), a folder, a GGUF file, or a built-in name (`models()`). `vram` is
    the memory of the GPU, or a list with one entry for each; `ram` is main memory, by default that of this computer;
    `machine` names one of `machines()` instead. `train` is "full", "lora" or "qlora": then `context` is the length of
    the one row in a batch. `precision` asks for one alone, `cache` for another type of llama.cpp's key-value cache:
    one of `llama_cpp.CACHES`.

    Raises `UnknownName`, `BadSettings` (an amount or a length that is none), `ModelBroken`, and what `formats.inspect`
    raises. Reads headers alone. Does not know several sequences at once; training is counted for one GPU and for
    Llama-like layers. What a GPU holds is derived from what was measured on processors.

    >>> found = fit("llava-1.5-7b", vram="8GB", ram="16GB", precision="NF4")
    >>> found.options[0].verdict, round(found.options[0].total / 1e9, 1)
    ('GPU', 6.8)
    """
    if type(context) is not int or not 0 < context <= CONTEXT_LIMIT:
        raise BadSettings(f"A context of {str(context)[:40]} tokens is not possible; give 1 to {CONTEXT_LIMIT:,}.")
    if train is not None and train not in TRAINED:
        raise BadSettings(f"llmnotes does not count the training method {train!r}; choose {', '.join(TRAINED)}.")
    model = model if isinstance(model, Model) else model_of(model)
    kinds = {kind.lower(): kind for kind in llama_cpp.CACHES}
    if cache.lower() not in kinds:
        raise UnknownName(f"llama.cpp has no cache of the type {cache[:40]}; choose {', '.join(llama_cpp.CACHES)}.")
    cache = kinds[cache.lower()]
    gpus, main, shared = _machine(vram, ram, machine)
    room = max(main - SYSTEM, 0)
    free = Free(tuple(max(size - DRIVER * (not shared), 0) for size in gpus), room, room if shared else None)

    ways = [("transformers", TRAINED[train][bool(gpus)])] if train else _ways(model)
    chosen = [(engine, kind) for engine, kind in ways if precision is None or kind.lower() == precision.lower()]
    if not chosen:
        known = ", ".join(dict.fromkeys(kind for _, kind in ways))
        raise UnknownName(f"llmnotes does not know a precision {str(precision)[:40]}; choose {known}.")

    def options(context: int) -> list[Option]:
        if train:
            return [_training(model, train, kind, context, free) for _, kind in chosen]
        return [_running(model, engine, kind, context, free, cache) for engine, kind in chosen]

    answer = Fit(
        model.name, model.parameters, len(model.pieces.layers), context, train, gpus, main, tuple(options(context))
    )
    return replace(answer, advice=tuple(advice(answer, model, options)))


def models() -> dict[str, dict]:
    """Return the built-in configurations: name -> {"also": other names, "parameters", "config"}.

    >>> models()["llama-3.2-1b"]["parameters"]
    1235814400
    """
    return catalogue()["models"]


def machines() -> dict[str, dict]:
    """Return the built-in machines: name -> {"about", "gpus", "ram"}, and "shared" where both are the same memory.

    >>> machines()["rtx-3070"]["gpus"], machines()["m4-max-128gb"]["gpus"]
    (['8GiB'], ['98304MiB'])
    """
    found = dict(catalogue()["machines"])
    for chip, sizes in catalogue()["apple"].items():
        for size in sizes:
            share = 2 / 3 if size <= 36 else 3 / 4  # what Metal gives a process of the memory
            about = f"an Apple {chip.title().replace('-', ' ')} with {size} GB, {share:.0%} of it for the GPU"
            machine = {"about": about, "gpus": [f"{int(size * 1024 * share)}MiB"], "ram": f"{size}GiB", "shared": True}
            found[f"{chip}-{size}gb"] = machine
    return found


def _machine(
    vram: str | int | Sequence[str | int], ram: str | int | None, machine: str | None
) -> tuple[tuple[int, ...], int, bool]:
    """Return the bytes of each GPU and of main memory, and whether these are the same."""
    if machine is not None:
        known = machines()
        if vram or ram is not None:
            raise BadSettings("A machine has its own memory; give either the machine or vram and ram.")
        if machine not in known:
            raise UnknownName(
                f"There is no machine {machine[:40]} in the list; {near(machine, known)}"
                "`llmnotes fit --list` shows all."
            )
        entry = known[machine]
        return tuple(map(parse, entry["gpus"])), parse(entry["ram"]), entry.get("shared", False)
    sizes = [parse(vram)] if isinstance(vram, str | int) else [parse(size) for size in vram]
    if ram is None:
        from llmnotes.hardware import memory

        ram = memory()[0]
    return tuple(size for size in sizes if size), parse(ram), False


def _ways(model: Model) -> list[tuple[str, str]]:
    """Return the engines and precisions in which this model can run; a GGUF's own type comes first.

    Types in which `llmnotes convert` cannot write it are not among them.
    """
    own = [("llama.cpp", model.file_type)] if model.stored is not None else []
    others = [("llama.cpp", kind) for kind in FILE_TYPES if kind != model.file_type and not model.no_gguf]
    return own + others + [("transformers", kind) for kind in hugging_face.PRECISIONS]


def _running(model: Model, engine: str, kind: str, context: int, free: Free, cache: str) -> Option:
    """Return what running the model needs."""
    if engine == "llama.cpp":
        needs = llama_cpp.needs(model, kind, context, cache)
        place = in_llama_cpp(needs, free)
    else:
        needs = hugging_face.needs(model, kind, context)
        place = in_transformers(needs, model.pieces.names, free)
    parts = needs.parts
    bits = 8 * (parts["weights"] + parts["scales"] + parts["vision"]) / model.parameters
    return Option(engine, kind, round(bits, 2), parts, *place)


def _training(model: Model, method: str, kind: str, context: int, free: Free) -> Option:
    """Return what training needs on the largest GPU; with gradient checkpointing where only that makes it fit."""
    limit = max(free.gpus, default=free.ram)
    limit = limit if free.together is None else min(limit, free.together)
    checkpointing = False
    needs = hugging_face.training(model, method, context, gpu=bool(free.gpus))
    if needs.total > limit:
        checkpointing = True
        needs = hugging_face.training(model, method, context, gpu=bool(free.gpus), checkpointing=True)
    fits = needs.total <= limit
    parts = {name: part.bytes for name, part in needs.parts.items()}
    bits = 8 * (parts["weights"] + parts["scales"]) / model.parameters
    used = [0] * len(free.gpus)
    if free.gpus and fits:
        used[free.gpus.index(max(free.gpus))] = needs.total
    verdict = "no" if not fits else "GPU" if free.gpus else "RAM"
    place = Place(verdict, tuple(used), 0 if free.gpus else needs.total)
    return Option("transformers", kind, round(bits, 2), parts, *place, checkpointing=checkpointing)
