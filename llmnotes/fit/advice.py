"""What to change when a model does not fit."""

from llmnotes.fit.sizes import said

SHORTEST = 256  # tokens; nobody wants less


def changes(found, model, options) -> list[str]:
    """Return sentences on what to change, each tried out before it is said; `options(context)` counts again."""
    best = "GPU" if found.vram else "RAM"
    whole = [option for option in found.options if option.verdict == best]
    lines = []
    if model.longest is not None and found.context > model.longest:
        lines.append(
            f"The model was trained for {model.longest:,} tokens; a context of {found.context:,} is beyond that."
        )
    if model.image and found.context < model.image + SHORTEST:
        lines.append(f"A picture takes {model.image} tokens of the context, so {found.context} leave little for words.")
    if found.train and any(option.checkpointing and option.verdict != "no" for option in found.options):
        lines.append("Training fits with gradient checkpointing, which computes activations twice to keep fewer.")
    if len(whole) == len(found.options):
        return lines
    if whole and len(found.options) > 1:
        first = {}
        for option in whole:
            first.setdefault(option.engine, option)
        names = " and ".join(f"{option.precision} in {engine}" for engine, option in first.items())
        where = f"wholly on the GPU{'s' * (len(found.vram) > 1)}" if found.vram else "in main memory"
        lines.append(f"Fewer bits: {names} {'are' if len(first) > 1 else 'is'} the most that fits {where}.")
    shorter = _shorter(found, options, best)
    if shorter:
        option, context = shorter
        lines.append(f"A shorter context: with {context:,} tokens, {option.precision} in {option.engine} fits as well.")
    split = [option for option in found.options if option.verdict == "GPU and RAM"]
    for engine in ("llama.cpp", "transformers"):
        one = next((option for option in split if option.engine == engine), None)
        if one and engine == "llama.cpp":
            lines.append(
                f"Layers in main memory: {one.precision} runs with n_gpu_layers={one.n_gpu_layers}, "
                "slower with each layer that is not on the GPU."
            )
        elif one:
            lines.append(
                f"Offloading: {one.precision} in transformers runs with this device_map and offload_buffers=True, so "
                "that the buffers of layers in main memory do not stay on the GPU; each token waits for their weights."
            )
    if found.vram and not found.train and not whole and any(option.verdict == "RAM" for option in found.options):
        lines.append("The CPU: it fits into main memory without the GPU.")
    if not found.fits:
        least = min(found.options, key=lambda option: option.total)
        lines.append(
            f"Nothing fits: the least is {said(least.total)} ({least.precision} in {least.engine}); take a smaller "
            f"model, {'qlora, ' * bool(found.train)}a shorter context or a machine with more memory."
        )
    return lines


def _shorter(found, options, best: str):
    """Return the option of most bits that does not fit wholly here and does with a shorter context, and the longest."""
    try_these = options(SHORTEST) if found.context > SHORTEST else []
    for place, option in enumerate(try_these):
        if option.verdict == best and found.options[place].verdict != best:
            low, high = SHORTEST, found.context
            while high - low > SHORTEST:
                middle = (low + high) // 2
                if options(middle)[place].verdict == best:
                    low = middle
                else:
                    high = middle
            return option, low // SHORTEST * SHORTEST
    return None
