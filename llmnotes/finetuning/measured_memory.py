"""What a training step really takes in memory: a model with random weights is trained for two steps and watched.

`measure` starts this module as a process of its own, so that nothing else that runs here is counted.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn

from llmnotes.finetuning import lora, qlora
from llmnotes.finetuning.data import Row
from llmnotes.finetuning.train import Plan, Step, optimizer_of, steps
from llmnotes.fit.training_run import Run
from llmnotes.hardware import peak_memory
from llmnotes.quantization import nf4


class Measured(NamedTuple):
    """What torch's allocator held at its fullest in the second step, and by how much the process has grown, in bytes.

    The growth (of its peak resident set) has what building the model took in it, and the libraries that training
    loads. It is known for the first run of a process only: a later one gets memory that the first gave back.
    """

    peak: int
    grown: int | None


def measure(config: Mapping, runs: Sequence[Run]) -> list[Measured]:
    """Train a model of this config, with random weights, for two steps of each run, and return what that takes.

    All runs share one new process, so that this one is not disturbed. On a CPU the profiler hears of every allocation;
    on a GPU the allocator itself remembers its peak. `llmnotes.fit.training.predict` counts the same from the config.

    Raises `subprocess.CalledProcessError` if the process fails. Does not count what MKL or the system allocate: they
    are in `grown`.

    >>> config = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    >>> measure(config | {"num_attention_heads": 2}, [Run("full", batch=1, length=8)])[0].peak > 3 * 4 * 64 * 16
    True
    """
    asked = {"config": dict(config), "runs": [asdict(run) for run in runs]}
    child = subprocess.run(
        [sys.executable, "-m", "llmnotes.finetuning.measured_memory"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(child.stdout.splitlines()[-1])
    return [Measured(peak, None if place else grown) for place, (peak, grown) in enumerate(found)]


def build(config: dict, run: Run) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return (model, optimizer): random weights, ready to be trained as `run` says.

    One layer after the other is quantized: a GPU must hold the model in `run.dtype` before it holds it in 4 bits.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(config)
    made = AutoConfig.for_model(settings.pop("model_type", "llama"), **settings)
    with torch.device(run.device):
        model = AutoModelForCausalLM.from_config(made, dtype=getattr(torch, run.dtype), attn_implementation="sdpa")
    model.requires_grad_(run.full)
    if run.method == "qlora":
        _quantize(model, run)
    if not run.full:
        lora.attach(
            model, lora.LoRA(run.rank, dropout=run.dropout, target_modules=run.targets, tokens=tuple(range(run.rows)))
        )
    if run.checkpointing:  # the second name is that of older transformers
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    return model, optimizer_of(model, Plan(steps=2, optimizer=run.optimizer))


def training(config: dict, run: Run) -> Generator[Step]:
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
    results = watched.profiler and watched.profiler.kineto_results
    assert results is not None, "the profiler has ended, so it has results"
    events = results.events()
    second = next(event for event in events if event.name() == "second step")
    held = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]  (negative where memory is given back)
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


def _quantize(model: nn.Module, run: Run) -> None:
    if run.base == "nf4":
        qlora.quantize_base(model, by=run.kernel, double=run.double)
    else:
        from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

        for path, layer in lora.target_layers(model, lora.ALL_LINEAR).items():
            old = cast(nn.Linear, layer)
            with torch.device("meta"):
                made = Linear8bitLt(old.in_features, old.out_features, False, has_fp16_weights=False)
            weight = old.weight.data.cpu()
            made.weight = Int8Params(weight, False, has_fp16_weights=False)  # pyright: ignore[reportCallIssue]
            model.set_submodule(path, made.to(run.device))
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_cuda:
            tensor.data = tensor.data.clone()  # what NumPy has allocated, torch does not count


def _count_dense_weights() -> None:
    """Let torch allocate the weights that `nf4` makes dense on a CPU, so that they are counted."""
    dequantize = nf4.FourBitTensor.dequantize

    def counted(self: nf4.FourBitTensor, threads: int = 1) -> np.ndarray:
        return torch.from_numpy(dequantize(self, threads)).clone().numpy()

    nf4.FourBitTensor.dequantize = counted


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
