"""Which layers go where: llama.cpp's n_gpu_layers, and transformers' device_map."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from llmnotes.fit.hugging_face import TransformersMemory
from llmnotes.fit.llama_cpp import LlamaCppMemory


class Free(NamedTuple):
    """Bytes that are free: on each GPU, in main memory, and in both together where they are the same memory."""

    gpus: tuple[int, ...]
    ram: int
    together: int | None = None

    def holds(self, ram: int, gpus: Sequence[int] = ()) -> bool:
        """Whether there is room for so many bytes in main memory, beside those on the GPUs."""
        return ram <= self.ram and (self.together is None or ram + sum(gpus) <= self.together)


class Place(NamedTuple):
    """Where a model lies: bytes on each GPU and in main memory, and what to tell the engine."""

    verdict: str  # "GPU", "GPU and RAM", "RAM" or "no"
    gpus: tuple[int, ...]
    ram: int
    n_gpu_layers: int | None = None
    device_map: dict[str, int | str] | None = None


def in_llama_cpp(needs: LlamaCppMemory, free: Free) -> Place:
    """Return where llama.cpp's layers go: the last ones on the GPUs, as many as they hold, and the rest before them.

    The embedding always stays in main memory; a tied one is copied for the output. The number for `n_gpu_layers` counts
    the output as one layer more than the model has.
    """
    blocks = [size + cache for size, cache in zip(needs.layers, needs.caches, strict=True)]
    blocks.append(needs.output + (needs.embedding if needs.tied else 0))
    used, count, gpu = [0] * len(free.gpus), 0, 0
    for size in reversed(blocks):
        # The first GPU that has room, from the one that took the block after this; each has a compute buffer
        while gpu < len(used):
            before = used[gpu] or needs.compute + (needs.vision if gpu == 0 else 0)
            if before + size <= free.gpus[gpu]:
                used[gpu] = before + size
                count += 1
                break
            gpu += 1
        else:
            break
    left = len(blocks) - count
    if count:
        host = needs.embedding + sum(needs.layers[:left]) + sum(needs.caches[:left]) + needs.compute
    else:
        host = sum(needs.parts.values())
    if not free.holds(host, used):
        return Place("no", tuple(used), host, 0)
    return Place("GPU" if not left else "GPU and RAM" if count else "RAM", tuple(used), host, count)


def in_transformers(needs: TransformersMemory, names: dict[str, Any], free: Free) -> Place:
    """Return where transformers' layers go: the first ones on the GPUs, the rest in main memory.

    A layer in main memory is brought to the first GPU when its turn comes, so room for one is kept there, and cache
    and activations lie on the GPUs. What bitsandbytes quantized goes wholly to the GPUs, or wholly to main memory.
    `names` are those of the model's modules, as in `Pieces`.
    """
    gpus = free.gpus
    places, used, host = _filled(needs, gpus, 0)
    if gpus and "cpu" not in places:
        return Place("GPU", tuple(used), 0, device_map=_named(places, names))
    if gpus and not needs.quantized:
        waiting = sum(cache for cache, place in zip(needs.caches, places[2:-1], strict=True) if place == "cpu")
        spare = max(*needs.layers, needs.embedding, needs.output) + waiting
        places, used, host = _filled(needs, gpus, spare)
        some = any(place != "cpu" for place in places)
        if some and used[0] <= gpus[0] and free.holds(host, used):
            return Place("GPU and RAM", tuple(used), host, device_map=_named(places, names))
    everything = sum(needs.parts.values())
    nothing = (0,) * len(gpus)
    if free.holds(everything):
        return Place("RAM", nothing, everything, device_map={"": "cpu"})
    return Place("no", nothing, everything)


def _filled(needs: TransformersMemory, gpus: tuple[int, ...], spare: int) -> tuple[list[int | str], list[int], int]:
    """Return the place of each piece, bytes on each GPU and in main memory, when GPUs are filled one after the other.

    The pieces are the image encoder, the embedding, each layer, and the output; a place is a GPU or "cpu". Each GPU
    holds activations, and `spare` bytes stay free; the cache lies with the layers.
    """
    layers = zip(needs.layers, needs.scales, needs.caches, strict=True)
    vision = [(needs.vision + needs.vision_scales, 0)] if needs.vision else []
    pieces = [*vision, (needs.embedding, 0), *((weights + scales, cache) for weights, scales, cache in layers)]
    places: list[int | str] = []
    used, host, gpu = [needs.activations + spare] * len(gpus), 0, 0
    for size, cache in [*pieces, (needs.output, 0)]:
        while gpu < len(gpus) and used[gpu] + size + cache > gpus[gpu]:
            gpu += 1
        if gpu < len(gpus):
            used[gpu] += size + cache
        else:
            host += size
        places.append(gpu if gpu < len(gpus) else "cpu")
    places = places if needs.vision else [places[0], *places]
    return places, [size if at in places else 0 for at, size in enumerate(used)], host


def _named(places: list[int | str], names: dict[str, Any]) -> dict[str, int | str]:
    """Return the map under the names of transformers' modules; one place for all is the map {"": place}."""
    if len(set(places)) == 1:
        return {"": places[0]}
    vision, embedding, *layers, output = places
    found = dict.fromkeys(names["vision"], vision) | {names["embedding"]: embedding}
    found |= {f"{names['layers']}.{number}": place for number, place in enumerate(layers)}
    found |= dict.fromkeys(names["output"], output)
    return found | ({names["tied"]: embedding} if names["tied"] else {})  # one tensor cannot lie in two places
