"""What running a LLaVA takes in memory: one precision in a process of its own, for `gpu.py`.

    python benchmarks/running.py --write FOLDER CONFIG DEVICE            random weights in 16 bits
    python benchmarks/running.py FOLDER PRECISION CONTEXT DEVICE         bytes, as JSON

It reads a picture and as many words as leave room for a few more, writes these, and tells what was held at most.
"""

import gc
import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

WRITTEN = 8  # tokens


def write(folder: Path, config: dict, device: str) -> None:
    """Write a LLaVA with random weights; a GPU makes those of 7 billion parameters in seconds."""
    from transformers import AutoConfig, LlavaForConditionalGeneration

    settings = dict(config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlavaForConditionalGeneration(config)
    model.save_pretrained(folder)


def load(folder: Path, precision: str, device: str):
    """Load it as everybody does: quantized by bitsandbytes tensor after tensor, straight to the device."""
    from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

    half = torch.float16 if device == "cuda" else torch.bfloat16
    quantized = {
        "BF16": None,  # or float16, of the same size
        "int8": BitsAndBytesConfig(load_in_8bit=True),
        "NF4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half),
    }[precision]
    how = {"quantization_config": quantized} if quantized else {}
    return LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=half, device_map={"": device}, local_files_only=True, **how
    ).eval()


def answer(model, context: int, device: str) -> None:
    """Read one picture and words up to the context's length, and write the last tokens of it."""
    vision, text = model.config.vision_config, model.config.text_config
    picture = (vision.image_size // vision.patch_size) ** 2
    words = context - picture - WRITTEN
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, text.vocab_size - 64, (1, words), generator=generator)
    ids[ids == model.config.image_token_id] = 3
    ids = torch.cat([torch.full((1, picture), model.config.image_token_id), ids], dim=1).to(device)
    pixels = torch.zeros(1, 3, vision.image_size, vision.image_size, dtype=model.dtype, device=device)
    model.generation_config.eos_token_id = None
    model.generate(
        input_ids=ids,
        pixel_values=pixels,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=WRITTEN,
        pad_token_id=0,
    )


def held() -> int:
    """Return the bytes of all tensors on the CPU, each storage once."""
    gc.collect()
    storages = {}
    for one in gc.get_objects():
        if issubclass(type(one), torch.Tensor) and one.device.type == "cpu":
            with suppress(RuntimeError):
                storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
    return sum(storages.values())


def on_cpu(folder: Path, precision: str, context: int) -> dict[str, int]:
    """Return what the weights take, and the most that is held while it answers."""
    from torch.profiler import ProfilerActivity, profile

    before = held()
    model = load(folder, precision, "cpu")
    weights = held() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        answer(model, context, "cpu")
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()  # negative where memory is given back
        most = max(most, now)
    return {"weights": weights, "peak": weights + most, "reserved": weights + most}


def on_gpu(folder: Path, precision: str, context: int) -> dict[str, int]:
    """Return the same of the GPU's memory; `reserved` is what torch has taken from the driver for it, in blocks."""
    model = load(folder, precision, "cuda")
    gc.collect()
    torch.cuda.empty_cache()
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    answer(model, context, "cuda")
    torch.cuda.synchronize()
    return {
        "weights": weights,
        "peak": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }


def main() -> None:
    if sys.argv[1] == "--write":
        folder, config, device = sys.argv[2:]
        write(Path(folder), json.loads(Path(config).read_text(encoding="utf-8")), device)
        return
    folder, precision, context, device = sys.argv[1:]
    measure = on_gpu if device == "cuda" else on_cpu
    print(json.dumps(measure(Path(folder), precision, int(context))))


if __name__ == "__main__":
    main()
