"""Which layers go where: llama.cpp's n_gpu_layers, and transformers' device_map."""

from collections.abc import Sequence
from typing import NamedTuple

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
    blocks = [size + needs.cache for size in needs.layers]
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
        host = needs.embedding + sum(needs.layers[:left]) + needs.cache * left + needs.compute
    else:
        host = sum(needs.parts.values())
    if not free.holds(host, used):
        return Place("no", tuple(used), host, 0)
    return Place("GPU" if not left else "GPU and RAM" if count else "RAM", tuple(used), host, count)


def in_transformers(needs: TransformersMemory, free: Free) -> Place:
    """Return where transformers' layers go: the first ones on the GPUs, the rest in main memory.

    A layer in main memory is brought to the first GPU when its turn comes, so room for one is kept there, and cache
    and activations lie on the GPUs. What bitsandbytes quantized goes wholly to the GPUs, or wholly to main memory.
    """
    gpus = free.gpus
    places, used, host = _filled(needs, gpus, 0)
    if gpus and "cpu" not in places.values():
        return Place("GPU", tuple(used), 0, device_map=_named(places, needs))
    if gpus and not needs.quantized:
        waiting = sum(place == "cpu" for place in places.values())
        spare = max(_layer(needs), needs.embedding, needs.output) + needs.cache * waiting // needs.layers
        places, used, host = _filled(needs, gpus, spare)
        some = any(place != "cpu" for place in places.values())
        if some and used[0] <= gpus[0] and free.holds(host, used):
            return Place("GPU and RAM", tuple(used), host, device_map=_named(places, needs))
    everything = sum(needs.parts.values())
    nothing = (0,) * len(gpus)
    if free.holds(everything):
        return Place("RAM", nothing, everything, device_map={"": "cpu"})
    return Place("no", nothing, everything)


def _layer(needs: TransformersMemory) -> int:
    """Return the bytes of a layer with its scales."""
    return needs.layer + needs.scales // needs.layers


def _filled(
    needs: TransformersMemory, gpus: tuple[int, ...], spare: int
) -> tuple[dict[str, int | str], list[int], int]:
    """Return {piece: GPU or "cpu"}, bytes on each GPU and in main memory, when GPUs are filled one after the other.

    Each GPU holds activations, and `spare` bytes stay free; the cache lies with the layers.
    """
    pieces = [("vision", needs.vision)] if needs.vision else []
    pieces.append(("embed_tokens", needs.embedding))
    pieces += [(f"layers.{i}", _layer(needs)) for i in range(needs.layers)]
    pieces.append(("norm, lm_head", needs.output))
    places: dict[str, int | str] = {}
    used, host, gpu = [needs.activations + spare] * len(gpus), 0, 0
    for name, size in pieces:
        with_cache = size + (needs.cache // needs.layers if name.startswith("layers.") else 0)
        while gpu < len(gpus) and used[gpu] + with_cache > gpus[gpu]:
            gpu += 1
        if gpu < len(gpus):
            used[gpu] += with_cache
            places[name] = gpu
        else:
            host += size
            places[name] = "cpu"
    taken = set(places.values())
    return places, [size if at in taken else 0 for at, size in enumerate(used)], host


def _named(places: dict[str, int | str], needs: TransformersMemory) -> dict[str, int | str]:
    """Return the map under the names of transformers' modules; one place for all is the map {"": place}."""
    if len(set(places.values())) == 1:
        return {"": next(iter(places.values()))}
    head = "model.language_model." if needs.vision else "model."
    found = {}
    for name, place in places.items():
        if name == "vision":
            found |= {"model.vision_tower": place, "model.multi_modal_projector": place}
        elif name.startswith("norm"):
            found |= {f"{head}norm": place, f"{head}rotary_emb": place, "lm_head": place}
        else:
            found[head + name] = place
    if needs.tied:
        found["lm_head"] = found[f"{head}embed_tokens"]  # one tensor cannot lie in two places
    return found
