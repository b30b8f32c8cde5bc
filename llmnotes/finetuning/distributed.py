"""Several processes: join them from inside, start them from outside, and say what each of them holds.

`join` and `answer` are for a program that runs in several processes; `launch` starts such a program on this machine
and brings back what each process answered; `torchrun` and `accelerate_config` say how to start it on others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmnotes.errors import BadSettings, MissingPart, ProcessDied
from llmnotes.hardware import cores

if TYPE_CHECKING:
    import torch
    from torch import nn

ANSWERS = "LLMNOTES_ANSWERS"  # the folder where `answer` writes
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # the network of a machine with itself; Windows finds it unasked
FAMILY = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$|TORCHELASTIC_")  # by torchrun
# What a program says before it aborts: C++ of an exception, without one, and Python and the C library
LAST_WORDS = (
    r"what\(\): +(.+)",
    r"(terminate called .+)",
    r"(Fatal Python error: .+)",
    r"(?m)^((?:free|malloc|munmap_chunk|corrupted|double free|realloc)\b.+)$",
)
PORT = 29_400  # torchrun's own default, the port that the first machine listens on


@dataclass(frozen=True)
class Place:
    """Where a process stands: its rank, how many processes there are (`world`), and the device that it computes on."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"


def join() -> Place:
    """Join the processes that torchrun started, and return this one's place; a program started alone stays alone.

    Processes talk through NCCL where each has a GPU of its own, and through gloo otherwise, which on one machine goes
    over its loopback interface. May be called again.

    Raises `BadSettings` where the environment says that there are several processes, and not which one this is.

    >>> join()
    Place(rank=0, world=1, device='cpu')
    """
    world, here = _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE")
    if world == 1:
        return Place(device=_device(0, 1))
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise BadSettings(
            f"WORLD_SIZE is {world}, and {missing[0]} is not set; start the program with torchrun, which sets both."
        )
    from torch import distributed

    if not distributed.is_available():
        raise MissingPart("This build of torch has no torch.distributed; install the one from PyPI.")
    rank, device = _number("RANK"), _device(_number("LOCAL_RANK"), here)
    if not distributed.is_initialized():
        if device == "cpu" and here == world and sys.platform in LOOPBACK:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
        distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    return Place(rank, world, device)


def leave() -> None:
    """Part from the other processes, after which each may end when it likes; alone, this does nothing."""
    if _number("WORLD_SIZE") > 1:
        from torch import distributed

        if distributed.is_initialized():
            distributed.barrier()  # a process that goes while another still talks to it can abort that one
            distributed.destroy_process_group()


def _number(name: str) -> int:
    """Return what the environment says of this process under `name`, 1 where it says nothing."""
    try:
        return int(os.environ.get(name, 1))
    except ValueError:
        raise BadSettings(f"{name} is no number; start the program with torchrun, which sets it.") from None


def _device(local_rank: int, here: int) -> str:
    """Return the device of a process: a GPU if there is one for each process on this machine."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() >= here:
        torch.cuda.set_device(local_rank)
        return f"cuda:{local_rank}"
    return "cpu"


def answer(**values: Any) -> None:
    """Hand `values` (what JSON can hold) to whoever launched this process; later values are added to earlier ones.

    Does nothing in a process that was not started by `launch`.
    """
    folder = os.environ.get(ANSWERS)
    if folder:
        path = Path(folder) / f"{int(os.environ.get('RANK', 0))}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(known | values), encoding="utf-8")


def launch(
    program: str, *arguments: str, processes: int = 2, timeout: float = 540, by: Sequence[str] | None = None
) -> list[dict]:
    """Run a program (its text) in `processes` processes on this machine and return their answers, in order of rank.

    One process is started as it is, several by torchrun; all compute on the CPU, and share its cores. `by` are Python's
    arguments for another launcher; then there are as many answers as it started processes. What they print is not
    shown. When this returns or raises, none of them is left.

    Raises `ProcessDied` with one sentence if a process raises, is killed, gives no `answer`, or if they are not done
    after `timeout` seconds.

    >>> launch("from llmnotes.finetuning.distributed import answer\\nanswer(sum=1 + 1)", processes=1)
    [{'sum': 2}]
    """
    with tempfile.TemporaryDirectory(prefix="llmnotes-") as folder:
        script = Path(folder) / "program.py"
        script.write_text(program, encoding="utf-8")
        start = [] if by is None else list(by)
        if by is None and processes > 1:
            start = ["-m", "torch.distributed.run", "--local_addr", "127.0.0.1", *torchrun(processes=processes)]
        run([sys.executable, *start, str(script), *arguments], processes, timeout, {ANSWERS: folder})
        found = sorted(Path(folder).glob("[0-9]*.json"), key=lambda path: int(path.stem))
        silent = set(range(processes)) - {int(path.stem) for path in found}
        if silent and (by is None or not found):
            raise ProcessDied(f"Process {min(silent)} of {processes} gave no answer; let it call answer(...).")
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def run(command: list[str], processes: int, timeout: float, variables: dict[str, str] | None = None) -> None:
    """Run `command`, which starts `processes` processes on this machine's CPU; `variables` join the environment.

    Raises `ProcessDied` as `launch` does; when this returns or raises, none of them is left.
    """
    import psutil

    own = {name: value for name, value in os.environ.items() if not FAMILY.match(name)}
    environment = own | _variables(processes) | (variables or {})
    with tempfile.TemporaryFile() as output:  # a file: a pipe would stay open in a process that outlives its parent
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        family, end = set(), time.monotonic() + timeout
        try:
            while child.poll() is None:
                if time.monotonic() > end:
                    raise ProcessDied(
                        f"{_count(processes)} not done after {timeout:g} seconds and ended here; give more time, or "
                        "look for a collective that not every process calls: it waits for ever."
                    )
                with suppress(psutil.NoSuchProcess):
                    family |= set(psutil.Process(child.pid).children(recursive=True))
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.5)
        finally:
            _end(child, family)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 200_000))
        text = output.read().decode("utf-8", "replace")
    if child.returncode:
        raise ProcessDied(_reason(text, child.returncode, processes))


def _variables(processes: int) -> dict[str, str]:
    """Return what the processes find in their environment: each its share of the cores, and no GPU."""
    variables = {
        "OMP_NUM_THREADS": str(max(1, cores() // processes)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONIOENCODING": "utf-8",
    }
    if sys.platform in LOOPBACK:
        variables["GLOO_SOCKET_IFNAME"] = LOOPBACK[sys.platform]
    if sys.platform == "win32":
        variables["USE_LIBUV"] = "0"  # PyTorch's builds for Windows come without this library
    return variables


def _end(child: subprocess.Popen, family: set) -> None:
    """End a process and all that it has started; torchrun is asked first, since it ends its own."""
    import psutil

    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    child.kill()
    child.wait()


def _reason(text: str, status: int, processes: int) -> str:
    """Return the sentence about processes that failed: which was the first, and of what it died."""
    first = re.search(r"Root Cause[\s\S]*?rank\s*:\s*(\d+)[\s\S]*?exitcode\s*:\s*(-?\d+)", text)
    rank, code = map(int, first.groups()) if first else (0, status)
    who = "The process" if processes == 1 else f"Process {rank} of {processes}" if first else "torchrun"
    if code < 0:
        why = "; if its memory ran out, use a smaller batch or fewer processes" if code == -9 else "; start it again"
        said = next(filter(None, (re.search(words, text) for words in LAST_WORDS)), None)
        return f"{who} was killed by signal {-code}{f' ({said[1].strip()[:200]})' if said else ''}{why}."
    pattern = r"(?m)^(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)$"
    errors = [line for line in re.findall(pattern, text) if "ChildFailedError" not in line]
    own = re.findall(pattern.replace(r"(?:\[rank\d+\]: ?)?", rf"\[rank{rank}\]: ?"), text)
    said = (own or errors)[-1:]
    what = said[0].strip().rstrip(".")[:300] if said else f"exit status {code}"
    return f"{who} ended with {what}; correct the program and launch it again."


def _count(processes: int) -> str:
    return "The process was" if processes == 1 else f"The {processes} processes were"


def torchrun(*program: str, processes: int, machines: int = 1, meet: str = "") -> list[str]:
    """Return torchrun's arguments that start `program` in `processes` processes on each of `machines` machines.

    On several machines the same command is given on each, and they meet at `meet`, the name or address of one of
    them, with a port if it shall not be torchrun's own; torchrun hands out the ranks.

    Raises `BadSettings` if there is no place to meet.

    >>> " ".join(torchrun("train.py", processes=8, machines=2, meet="10.0.0.1"))
    '--nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_id llmnotes --rdzv_endpoint 10.0.0.1:29400 train.py'
    """
    if machines == 1:
        return ["--standalone", "--nproc_per_node", str(processes), *program]
    if not meet:
        raise BadSettings(f"{machines} machines need a place to meet; give the address of one of them.")
    where = meet if re.search(r":\d+$", meet) else f"{meet}:{PORT}"
    rendezvous = ["--rdzv_backend", "c10d", "--rdzv_id", "llmnotes", "--rdzv_endpoint", where]
    return ["--nnodes", str(machines), "--nproc_per_node", str(processes), *rendezvous, *program]


def accelerate_config(
    processes: int, machines: int = 1, machine: int = 0, meet: str = "", sharded: bool = False, precision: str = "bf16"
) -> dict:
    """Return the configuration with which `accelerate launch --config_file` starts the same processes on GPUs.

    `processes` are those of one machine, as for `torchrun`; accelerate's own figure counts all machines. `machine` is
    this machine's number: unlike torchrun's command, the file differs from machine to machine. `sharded` asks for
    FSDP2 (`fully_shard`), which accelerate takes on GPUs only. Write it with `yaml.safe_dump`.

    Raises `BadSettings` if several machines have no place to meet.

    >>> accelerate_config(8)["num_processes"], accelerate_config(8, 2, meet="10.0.0.1")["num_processes"]
    (8, 16)
    """
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP" if sharded else "MULTI_GPU",
        "num_machines": machines,
        "num_processes": machines * processes,
        "machine_rank": machine,
        "mixed_precision": precision,
        "use_cpu": False,
        "main_training_function": "main",
    }
    if machines > 1:
        if not meet:
            raise BadSettings(f"{machines} machines need a place to meet; give the address of the first of them.")
        host, _, port = meet.rpartition(":") if re.search(r":\d+$", meet) else (meet, "", PORT)
        config |= {"main_process_ip": host, "main_process_port": int(port), "rdzv_backend": "static"}
    if sharded:
        config["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_reshard_after_forward": True,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_offload_params": False,
            "fsdp_cpu_ram_efficient_loading": True,
        }
    return config


def held(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, int]:
    """Return the bytes that this process holds for parameters, their gradients and the optimizer's numbers of them.

    Of a sharded tensor only the shard of this process counts. Does not count buffers, activations, nor what is
    gathered for the moment of a layer.
    """
    parameters = list(model.parameters())
    states = optimizer.state.values() if optimizer else ()
    numbers = [value for state in states for value in state.values() if getattr(value, "ndim", 0)]
    return {
        "parameters": sum(map(_local_bytes, parameters)),
        "gradients": sum(_local_bytes(parameter.grad) for parameter in parameters if parameter.grad is not None),
        "optimizer": sum(map(_local_bytes, numbers)),
    }


def _local_bytes(tensor) -> int:
    """Return the bytes of a tensor, or of this process's part of it."""
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).nbytes
