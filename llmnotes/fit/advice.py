"""What to change when a model does not fit: each sentence names a change that was counted before it is given."""

from collections.abc import Callable, Iterator

from llmnotes.fit.model import Model
from llmnotes.fit.results import Fit, Option
from llmnotes.fit.sizes import format_bytes

SHORTEST = 256  # tokens; a shorter context is of no use


def advice(found: Fit, model: Model, options: Callable[[int], list[Option]]) -> list[str]:
    """Return sentences on what to change, the gentlest change first; `options(context)` counts again.

    What always holds comes first. Changes are named only where some option does not fit wholly.
    """
    lines = (
        [f"No {'other ' * (model.stored is not None)}GGUF for llama.cpp: {model.no_gguf}"]
        if model.no_gguf and not found.train
        else []
    )
    lines += [*_about_the_context(found, model), *_checkpointing(found)]
    if len(_whole(found)) < len(found.options):
        for changes in (_fewer_bits(found), _shorter(found, options), _layers_in_main_memory(found), _no_gpu(found)):
            lines += changes
        lines += _nothing_fits(found)
    return lines


def _best(found: Fit) -> str:
    """Return the verdict on what lies wholly where it is fastest."""
    return "GPU" if found.vram else "RAM"


def _whole(found: Fit) -> list[Option]:
    return [option for option in found.options if option.verdict == _best(found)]


def _about_the_context(found: Fit, model: Model) -> Iterator[str]:
    if model.longest is not None and found.context > model.longest:
        yield f"The model was trained for {model.longest:,} tokens; a context of {found.context:,} is beyond that."
    tokens = model.picture
    if tokens and found.context < tokens + SHORTEST:
        yield f"A picture takes {tokens} tokens of the context, so {found.context} leave little for words."


def _checkpointing(found: Fit) -> Iterator[str]:
    if any(option.checkpointing and option.verdict != "no" for option in found.options):
        yield "Training fits with gradient checkpointing, which computes activations twice to keep fewer."


def _fewer_bits(found: Fit) -> Iterator[str]:
    """Name the option of most bits that fits, for each engine."""
    first: dict[str, Option] = {}
    for option in _whole(found):
        first.setdefault(option.engine, option)
    if first and len(found.options) > 1:
        names = " and ".join(f"{option.precision} in {engine}" for engine, option in first.items())
        where = f"wholly on the GPU{'s' * (len(found.vram) > 1)}" if found.vram else "in main memory"
        yield f"Fewer bits: {names} {'are' if len(first) > 1 else 'is'} the most that fits {where}."


def _shorter(found: Fit, options: Callable[[int], list[Option]]) -> Iterator[str]:
    """Name the option of most bits that fits wholly only with a shorter context, and the longest such context."""
    best = _best(found)
    shortest = options(SHORTEST) if found.context > SHORTEST else []
    for place, (option, now) in enumerate(zip(shortest, found.options, strict=False)):
        if option.verdict == best and now.verdict != best:
            low, high = SHORTEST, found.context  # fits with `low`, does not with `high`
            while high - low > SHORTEST:
                middle = (low + high) // 2
                if options(middle)[place].verdict == best:
                    low = middle
                else:
                    high = middle
            context = low // SHORTEST * SHORTEST
            yield f"A shorter context: with {context:,} tokens, {option.precision} in {option.engine} fits as well."
            return


def _layers_in_main_memory(found: Fit) -> Iterator[str]:
    """Name for each engine the option of most bits that runs partly on the GPU."""
    first: dict[str, Option] = {}
    for option in found.options:
        if option.verdict == "GPU and RAM":
            first.setdefault(option.engine, option)
    if "llama.cpp" in first:
        option = first["llama.cpp"]
        yield (
            f"Layers in main memory: {option.precision} runs with n_gpu_layers={option.n_gpu_layers}, "
            "slower with each layer that is not on the GPU."
        )
    if "transformers" in first:
        yield (
            f"Offloading: {first['transformers'].precision} in transformers runs with this device_map and "
            "offload_buffers=True, so that the buffers of layers in main memory do not stay on the GPU; each token "
            "waits for their weights."
        )


def _no_gpu(found: Fit) -> Iterator[str]:
    in_ram = any(option.verdict == "RAM" for option in found.options)
    if found.vram and not found.train and not _whole(found) and in_ram:
        yield "The CPU: it fits into main memory without the GPU."


def _nothing_fits(found: Fit) -> Iterator[str]:
    if not found.fits:
        least = min(found.options, key=lambda option: option.total)
        yield (
            f"Nothing fits: the least is {format_bytes(least.total)} ({least.precision} in {least.engine}); take a "
            f"smaller model, {'qlora, ' * bool(found.train)}a shorter context or a machine with more memory."
        )
