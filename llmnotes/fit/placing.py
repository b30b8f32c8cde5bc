"""Which layers go where: llama.cpp's n_gpu_layers, and transformers' device_map."""

from typing import NamedTuple

from llmnotes.fit import hugging_face, llama_cpp


class Place(NamedTuple):
    """Where a model lies: bytes on each GPU, in main memory and on a disk, and what to tell the engine."""

    verdict: str  # "GPU", "GPU and RAM", "RAM" or "no"
    gpus: tuple[int, ...]
    ram: int
    n_gpu_layers: int | None = None
    device_map: dict[str, int | str] | None = None


def in_llama_cpp(needs: llama_cpp.Needs, gpus: tuple[int, ...], ram: int, total: int | None = None) -> Place:
    """Return where llama.cpp's layers go: the last ones on the GPUs, as many as they hold, and the rest before them.

    `gpus` and `ram` are the bytes that are free, `total` those that GPUs and main memory share, if they do. The
    embedding always stays in main memory; a tied one is copied for the output. The number for `n_gpu_layers` counts
    the output as one layer more than the model has.
    """
    blocks = [size + needs.cache for size in needs.layers]
    blocks.append(needs.output + (needs.embedding if needs.tied else 0))
    everything = needs.weights + needs.cache * len(needs.layers) + needs.compute + needs.vision
    used, count, gpu = [0] * len(gpus), 0, 0
    for size in reversed(blocks):
        while gpu < len(gpus):
            start = needs.compute + (needs.vision if gpu == 0 else 0)
            if (used[gpu] or start) + size <= gpus[gpu]:
                used[gpu] = (used[gpu] or start) + size
                count += 1
                break
            gpu += 1
        else:
            break
    host = needs.embedding + sum(needs.layers[: max(len(blocks) - count, 0)]) + needs.compute
    host += needs.cache * (len(blocks) - count) + (needs.output if not count else 0) + (0 if count else needs.vision)
    if not count:
        host = everything
    full = count == len(blocks)
    if host > ram or (total is not None and host + sum(used) > total):
        return Place("no", tuple(used), host, 0)
    return Place("GPU" if full else "GPU and RAM" if count else "RAM", tuple(used), host, count)


def in_transformers(
    model, needs: hugging_face.Needs, precision: str, gpus: tuple[int, ...], ram: int, total: int | None = None
) -> Place:
    """Return where transformers' layers go: the first ones on the GPUs, the rest in main memory.

    A layer in main memory is brought to the first GPU when its turn comes, so room for one is kept there, and cache
    and activations lie on the GPUs. What bitsandbytes quantized goes wholly to the GPUs, or wholly to main memory.
    """
    count = model.shape.layers
    layer = needs.layer + needs.scales // count
    pieces = [("embed_tokens", needs.embedding)] + [(f"layers.{i}", layer) for i in range(count)]
    pieces.append(("norm, lm_head", needs.output))
    if needs.vision:
        pieces.insert(0, ("vision", needs.vision))
    everything = sum(size for _, size in pieces) + needs.cache + needs.activations

    def filled(spare: int) -> tuple[dict[str, int | str], list[int], int]:
        places, host, gpu = {}, 0, 0
        used = [needs.activations + spare] * len(gpus)
        for name, size in pieces:
            size_there = size + (needs.cache // count if name.startswith("layers.") else 0)
            while gpu < len(gpus) and used[gpu] + size_there > gpus[gpu]:
                gpu += 1
            if gpu < len(gpus):
                used[gpu] += size_there
                places[name] = gpu
            else:
                host += size
                places[name] = "cpu"
        there = set(places.values())
        return places, [size if at in there else 0 for at, size in enumerate(used)], host

    places, used, host = filled(0)
    if gpus and "cpu" not in places.values():
        return Place("GPU", tuple(used), 0, device_map=_named(places, model))
    if gpus and precision in ("F32", "BF16"):
        waiting = sum(place == "cpu" for place in places.values())
        spare = max(layer, needs.embedding, needs.output) + needs.cache * waiting // count
        places, used, host = filled(spare)
        some = any(place != "cpu" for place in places.values())
        fits = host <= ram and used[0] <= gpus[0] and (total is None or host + sum(used) <= total)
        if some and fits:
            return Place("GPU and RAM", tuple(used), host, device_map=_named(places, model))
    if everything <= ram and (total is None or everything <= total):
        return Place("RAM", (0,) * len(gpus), everything, device_map={"": "cpu"})
    return Place("no", (0,) * len(gpus), everything)


def _named(places: dict[str, int | str], model) -> dict[str, int | str]:
    """Return the map under the names of transformers' modules; one place for all is the map {"": place}."""
    if len(set(places.values())) == 1:
        return {"": next(iter(places.values()))}
    head = "model.language_model." if model.image else "model."
    found = {}
    for name, place in places.items():
        if name == "vision":
            found |= {"model.vision_tower": place, "model.multi_modal_projector": place}
        elif name.startswith("norm"):
            found |= {f"{head}norm": place, f"{head}rotary_emb": place, "lm_head": place}
        else:
            found[head + name] = place
    if model.shape.tied:
        found["lm_head"] = found[f"{head}embed_tokens"]  # one tensor cannot lie in two places
    return found
