"""What a training step really takes: a model with random weights is trained for two steps while torch is watched.

`llmnotes.fit.training.measure` runs this in a process of its own.
"""

import gc
import json
import sys

import torch

from llmnotes.finetuning import lora, qlora
from llmnotes.finetuning.data import Row
from llmnotes.finetuning.train import Plan, optimizer_of, steps
from llmnotes.fit.shapes import Run
from llmnotes.hardware import peak_memory
from llmnotes.quantization import nf4


def build(config: dict, run: Run):
    """Return (model, optimizer): random weights, ready to be trained as `run` says.

    One layer after the other is quantized: a GPU must hold the model in `run.dtype` before it holds it in 4 bits.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(config)
    config = AutoConfig.for_model(settings.pop("model_type", "llama"), **settings)
    with torch.device(run.device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, run.dtype), attn_implementation="sdpa")
    model.requires_grad_(run.full)
    if run.method == "qlora":
        _quantize(model, run)
    if not run.full:
        lora.attach(model, lora.LoRA(run.rank, dropout=run.dropout, targets=run.targets, tokens=tuple(range(run.rows))))
    if run.checkpointing:  # the second name is that of older transformers
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    if run.optimizer == "adamw":
        return model, optimizer_of(model, Plan(steps=2))
    import bitsandbytes as bnb

    kind = bnb.optim.AdamW8bit if run.optimizer == "adamw8bit" else bnb.optim.PagedAdamW8bit
    return model, kind(lora.trainable(model).values(), lr=1e-3)


def training(config: dict, run: Run):
    """Yield after each of two steps on random tokens."""
    model, optimizer = build(config, run)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config["vocab_size"], (2 * run.batch * run.accumulation, run.length), generator=generator)
    half = run.length // 2
    lengths = (half, run.length - half) if run.packed else (run.length,)
    rows = [Row(tuple(row), tuple(row), lengths) for row in ids.tolist()]
    plan = Plan(steps=2, batch_size=run.batch, gradient_accumulation=run.accumulation)
    yield from steps(model, rows, plan, optimizer)


def peak_on_cpu(config: dict, run: Run) -> int:
    """Return the bytes that torch's CPU allocator holds at its fullest in the second step, counted from `build` on."""
    from torch.profiler import ProfilerActivity, profile, record_function

    gc.collect()  # what an earlier run gives back is not this one's
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        stepping = training(config, run)
        next(stepping)
        with record_function("second step"):
            next(stepping)
    stepping.close()
    events = watched.profiler.kineto_results.events()
    second = next(event for event in events if event.name() == "second step")
    held = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()  # negative where memory is given back
        if second.start_ns() <= event.start_ns() <= second.end_ns():
            most = max(most, held)
    return most


def peak_on_gpu(config: dict, run: Run) -> int:
    """Return the same for torch's CUDA allocator, which remembers by itself."""
    gc.collect()
    stepping = training(config, run)
    next(stepping)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    next(stepping)
    torch.cuda.synchronize()
    stepping.close()
    return torch.cuda.max_memory_allocated()


def _quantize(model, run: Run) -> None:
    if run.base == "nf4":
        qlora.quantize_base(model, by=run.kernel, double=run.double)
    else:
        from bitsandbytes.nn import Int8Params, Linear8bitLt

        for path, layer in lora.targets(model, lora.ALL_LINEAR).items():
            with torch.device("meta"):
                made = Linear8bitLt(layer.in_features, layer.out_features, False, has_fp16_weights=False)
            made.weight = Int8Params(layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
            model.set_submodule(path, made.to(run.device))
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_cuda:
            tensor.data = tensor.data.clone()  # what NumPy has allocated, torch does not count


def _count_dense_weights() -> None:
    """Let torch allocate the weights that `nf4` makes dense on a CPU, so that they are counted."""
    dequantize = nf4.dequantize
    nf4.dequantize = lambda *args: torch.from_numpy(dequantize(*args)).clone().numpy()


def main() -> None:
    """Read a config and runs from stdin as JSON, and print a list of (peak, growth of the process) as JSON."""
    asked, found = json.load(sys.stdin), []
    _count_dense_weights()
    for run in (Run(**run) for run in asked["runs"]):
        before = peak_memory()
        peak = peak_on_gpu if run.device == "cuda" else peak_on_cpu
        found.append((peak(asked["config"], run), peak_memory() - before))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
