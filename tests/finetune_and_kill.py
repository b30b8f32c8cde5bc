"""Start trainings and kill them; run as a program of its own, which forks, so that nothing is imported twice.

It takes a folder of settings files and prints, as JSON, how often each was killed and whether the ends are equal.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from llmnotes.finetuning import data
from llmnotes.finetuning import train as loop
from llmnotes.finetuning.job import run, settings
from llmnotes.models import open_model

torch.set_num_threads(1)  # a pool of threads does not survive a fork
TRIES = 7


def import_everything(model: str) -> None:
    """Do what brings in the parts of torch and transformers that a training needs, short of a backward pass."""
    lm = open_model(model, say=lambda line: None)
    loop.held_out_loss(lm.model, data.encode(data.examples([{"text": "a b"}]), lm.tokenizer, 8))
    loop.optimizer_of(lm.model, loop.Plan(steps=1)).zero_grad()


def start(wanted, hook=None) -> int:
    """Start a training in a process of its own and return its number."""
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            if hook:
                sys.addaudithook(hook)
            run.finetune(wanted, say=lambda line: None)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(3)
    return child


def ended(child: int) -> bool:
    """Wait for a training, and return whether it reached its end; otherwise it was killed."""
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a training failed")
    return os.WIFEXITED(status)


def at_operation(number: int, folder: Path):
    """Return an audit hook that kills the process at the `number`th thing that it does to files in `folder`."""
    left = [number]

    def hook(event: str, arguments) -> None:
        changes = event in ("os.link", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "open")
        if changes and any(str(folder) in str(argument) for argument in arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def content(folder: Path) -> dict[str, bytes]:
    """Return the files that must be equal: the weights, and the last checkpoint with the optimizer's numbers."""
    found = [*folder.glob("adapter/*"), *folder.glob("model/*"), *folder.glob("checkpoints/*/*")]
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    figures = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    kept = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return kept | {"log": json.dumps(figures).encode()}


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.yaml")):
        wanted, rng, kills = settings.read(path), random.Random(path.stem), {"moment": 0, "operation": 0}
        import_everything(wanted.model)
        started = time.monotonic()
        assert ended(start(wanted))
        whole, expected = time.monotonic() - started, content(Path(wanted.output))
        for way in kills:
            again = replace(wanted, output=f"{wanted.output}-{way}")
            for _ in range(TRIES):
                hook = at_operation(rng.randint(1, 40), Path(again.output)) if way == "operation" else None
                child = start(again, hook)
                if way == "moment":
                    time.sleep(rng.uniform(0, 0.8) * whole)
                    os.kill(child, signal.SIGKILL)
                if ended(child):
                    break
                kills[way] += 1
            else:
                assert ended(start(again))
            assert content(Path(again.output)) == expected, (path.name, way)
        print(json.dumps({"name": path.stem, "seconds": whole, "files": len(expected)} | kills), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
