"""Two processes really are two, learn what one learns, hold what they say they hold, and fail with one sentence."""

import json
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from llmnotes.errors import BadSettings, MissingPart, ProcessDied
from llmnotes.finetuning.distributed import Place, accelerate_config, answer, join, launch, leave, run, torchrun

from .processes import SECONDS, started

pytestmark = pytest.mark.slow

LOSSES, WEIGHTS = 1e-4, 1e-5

# Unequal rows: a mean of the processes' means is not the mean.
PROGRAM = """
import sys
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaForCausalLM
from llmnotes.finetuning.data import Row
from llmnotes.finetuning.distributed import answer, held, join, leave
from llmnotes.finetuning.train import Plan, optimizer_of, steps

folder, out = sys.argv[1:]
me = join()
numbers = torch.arange(me.rank, me.rank + 5.0)
if me.world > 1:
    distributed.all_reduce(numbers)
answer(place=[me.rank, me.world, me.device], joined_again=join() == me, sum=numbers.tolist())
random = torch.Generator().manual_seed(0)
ids = [torch.randint(0, 250, (3 + 5 * i % 17,), generator=random).tolist() for i in range(24)]
rows = [Row(tuple(each), (-100, *each[1:]), (len(each),)) for each in ids]
plan = Plan(steps=4, learning_rate=1e-3, batch_size=4 // me.world, gradient_accumulation=2)

def train(name, wrap):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wrapped = wrap(model)
    optimizer = optimizer_of(wrapped, plan)
    optimizer.register_step_pre_hook(lambda *_: kept.update(held(wrapped, optimizer)))
    kept = {}
    losses = [step.loss for step in steps(wrapped, rows, plan, optimizer)]
    shapes = {n: list(getattr(p, "to_local", lambda: p)().shape) for n, p in model.named_parameters()}
    answer(**{name: {"losses": losses, "held": kept, "shapes": shapes}})
    full = {n: getattr(p, "full_tensor", lambda: p)().detach().clone() for n, p in model.named_parameters()}
    if me.rank == 0:
        save_file(full, f"{out}/{name}.safetensors")

def shard(model):
    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(model)

if me.world == 1:
    train("one", lambda model: model)
else:
    train("copies", DistributedDataParallel)
    train("shards", shard)
leave()
"""


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    one = launch(PROGRAM, str(tiny_folder), str(out), processes=1)
    two = launch(PROGRAM, str(tiny_folder), str(out), processes=2)
    return one[0], two, out


def test_two_processes_really_are_two(trained):
    one, two, _ = trained
    assert one["place"] == [0, 1, "cpu"]
    assert [each["place"] for each in two] == [[0, 2, "cpu"], [1, 2, "cpu"]]
    assert all(each["joined_again"] for each in two)
    assert one["sum"] == [0, 1, 2, 3, 4] and all(each["sum"] == [1, 3, 5, 7, 9] for each in two)


@pytest.mark.parametrize("kind", ["copies", "shards"])
def test_two_learn_what_one_learns(trained, kind):
    one, two, out = trained
    for each in two:
        np.testing.assert_allclose(each[kind]["losses"], one["one"]["losses"], atol=LOSSES, rtol=0)
    alone, together = (load_file(out / f"{name}.safetensors") for name in ("one", kind))
    assert set(alone) == set(together)
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], atol=WEIGHTS, rtol=0)
    assert one["one"]["losses"][-1] < one["one"]["losses"][0] - 0.01  # something was learned at all


def test_copies_hold_everything_and_shards_a_half(trained):
    one, two, out = trained
    whole, nbytes = load_file(out / "one.safetensors"), one["one"]["held"]["parameters"]
    assert nbytes == sum(tensor.nbytes for tensor in whole.values())
    assert one["one"]["held"] == {"parameters": nbytes, "gradients": nbytes, "optimizer": 2 * nbytes}
    for each in two:
        assert each["copies"]["held"] == one["one"]["held"]
        assert each["shards"]["held"] == {"parameters": nbytes / 2, "gradients": nbytes / 2, "optimizer": nbytes}
        for name, shape in each["shards"]["shapes"].items():
            assert shape == [whole[name].shape[0] // 2, *whole[name].shape[1:]]


@pytest.mark.parametrize(
    "program, sentence",
    [
        ("raise ValueError('no such rows')", "Process 1 of 2 ended with ValueError: no such rows; correct"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "Process 1 of 2 was killed by signal 15; start it again."),
        (
            "print('  what():  Connection closed by peer', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
            r"killed by signal 15 \(Connection closed by peer\); start it again",
        ),
        (
            "os.write(2, b'free(): invalid pointer\\n'); os.kill(os.getpid(), signal.SIGTERM)",
            r"killed by signal 15 \(free\(\): invalid pointer\); start it again",
        ),
        (
            "import ctypes; ctypes.pythonapi.Py_FatalError(b'no more')",
            r"killed by signal 6 \(Fatal Python error: .*no more\); start it again",
        ),
        ("sys.exit(7)", "Process 1 of 2 ended with exit status 7; correct"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_dies_takes_the_others_with_it(program, sentence, tmp_path):
    note = tmp_path / "end"
    code = f"import os, pathlib, signal, sys, time\nif os.environ['RANK'] == '1':\n    {program}\n"
    code += f"else:\n    time.sleep(60)\n    pathlib.Path({str(note)!r}).touch()\n"
    with pytest.raises(ProcessDied, match=sentence):
        launch(code)
    assert not note.exists(), "the other process was waited for and not ended"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_is_not_done_in_time_is_ended_with_all_it_started(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\ntime.sleep(100)\n"
    )
    with pytest.raises(ProcessDied, match="The process was not done after 4 seconds and ended here"):
        launch(code, processes=1, timeout=4)
    pid = int(note.read_text())
    for _ in range(300):  # a process that is killed is there for a moment
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("what it had started runs on")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_one_that_is_killed_for_memory_says_so():
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ProcessDied, match="The process was killed by signal 9; if its memory ran out, use a smaller"):
        launch(code, processes=1)
    with pytest.raises(ProcessDied, match="The process ended with ZeroDivisionError: division by zero; correct"):
        launch("1 / 0", processes=1)
    with pytest.raises(ProcessDied, match="Process 0 of 1 gave no answer; let it call"):
        launch("pass", processes=1)


def test_answers_add_up_and_outside_of_a_launch_nobody_listens():
    answer(nobody="listens")
    code = "from llmnotes.finetuning.distributed import answer\nanswer(a=1, b=1)\nanswer(b=[2.5, 'ü'])"
    assert launch(code, processes=1) == [{"a": 1, "b": [2.5, "ü"]}]
    assert launch("import sys\n" + code + "\nanswer(c=sys.argv[1:])", "x y", processes=1)[0]["c"] == ["x y"]


def test_who_launches_may_be_one_of_several_itself(monkeypatch):
    names = ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID"]
    for name in names:
        monkeypatch.setenv(name, "3")
    code = (
        f"import os\nfrom llmnotes.finetuning.distributed import answer\nanswer(left=[os.getenv(n) for n in {names}])"
    )
    assert launch(code, processes=1) == [{"left": [None] * 5}]


def test_joining_alone_and_with_half_an_environment(monkeypatch):
    assert join() == Place()
    leave()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadSettings, match="WORLD_SIZE is 2, and RANK is not set; start the program with torchrun"):
        join()
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "first" if name == "RANK" else "0")
    with pytest.raises(BadSettings, match="RANK is no number; start the program with torchrun"):
        join()
    with monkeypatch.context() as patch, pytest.raises(MissingPart, match="no torch.distributed; install the one"):
        patch.setattr(torch.distributed, "is_available", lambda: False)
        join()
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "two")
        with pytest.raises(BadSettings, match=f"^{name} is no number; start the program with torchrun"):
            join()


def test_torchrun_understands_its_arguments():
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(torchrun("-m", "llmnotes.cli", "finetune", "c.yaml", processes=8))
    assert read.standalone and read.nproc_per_node == "8" and read.module and read.training_script == "llmnotes.cli"
    assert read.training_script_args == ["finetune", "c.yaml"]
    read = get_args_parser().parse_args(torchrun("train.py", processes=4, machines=3, meet="node1:1234"))
    assert (read.nnodes, read.nproc_per_node, read.rdzv_backend) == ("3", "4", "c10d")
    assert read.rdzv_endpoint == "node1:1234" and read.rdzv_id == "llmnotes" and read.training_script == "train.py"
    with pytest.raises(BadSettings, match="2 machines need a place to meet"):
        torchrun("train.py", processes=8, machines=2)


def test_two_machines_meet(tmp_path):
    """Two torchruns on this machine stand for two machines."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, pathlib\nsaid = [os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')]\n"
        "pathlib.Path(sys.argv[1], said[0]).write_text(' '.join(said))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--local_addr", "127.0.0.1"]
    command += torchrun(str(program), str(tmp_path), processes=1, machines=2, meet=meet)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started(command, **quiet) as first, started(command, **quiet) as second:
        assert first.wait(SECONDS) == 0 and second.wait(SECONDS) == 0
    assert sorted(path.read_text() for path in tmp_path.glob("[01]")) == ["0 2 1", "1 2 1"]


@pytest.mark.parametrize(
    "machines, machine, sharded", [(1, 0, False), (1, 0, True), (2, 0, False), (2, 1, True), (64, 63, True)]
)
def test_accelerate_understands_its_configuration(tmp_path, machines, machine, sharded):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    config = accelerate_config(8, machines, machine, "10.0.0.1:1234" if machines > 1 else "", sharded)
    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    read = load_config_from_file(str(path))
    assert read.distributed_type.value == ("FSDP" if sharded else "MULTI_GPU") and read.num_processes == 8 * machines
    assert read.machine_rank == machine and read.mixed_precision == "bf16" and not read.use_cpu
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    arguments = _validate_launch_command(arguments)[0]
    assert (arguments.multi_gpu, arguments.use_fsdp) == (not sharded, sharded)
    variables = prepare_multi_gpu_env(arguments)  # what accelerate hands to torchrun
    assert int(getattr(arguments, "nproc_per_node", 8)) == 8
    if machines > 1:
        assert arguments.nnodes == str(machines) and int(arguments.node_rank) == machine
        assert "10.0.0.1" in (getattr(arguments, "rdzv_endpoint", "") or arguments.master_addr)
    if sharded:
        assert variables["FSDP_VERSION"] == "2" and variables["FSDP_RESHARD_AFTER_FORWARD"] == "true"
    with pytest.raises(BadSettings, match="2 machines need a place to meet"):
        accelerate_config(8, machines=2)


def test_a_failing_start_is_a_sentence():
    with pytest.raises(ProcessDied, match="torchrun ended with"):
        run([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "many", "x.py"], 2, 60)


def test_llmnotes_finetune_learns_the_same_in_two_processes(tiny_folder, tmp_path):
    lines = [{"text": "The cat sat on the mat and " + "purred " * (i % 5)} for i in range(13)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    losses, weights = {}, {}
    for processes in (1, 2):
        settings = {
            "model": str(tiny_folder),
            "data": str(tmp_path / "data.jsonl"),
            "output": str(tmp_path / f"by{processes}"),
            "steps": 3,
            "batch_size": 4 // processes,  # one step takes this many rows on each process
            "learning_rate": 1e-3,
        }
        config = tmp_path / f"{processes}.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        start = ["-m", "torch.distributed.run", *torchrun("-m", processes=2)] if processes == 2 else ["-m"]
        run([sys.executable, *start, "llmnotes.cli", "finetune", str(config)], processes, 180)
        report = json.loads((tmp_path / f"by{processes}" / "report.json").read_text(encoding="utf-8"))
        losses[processes] = report["loss"]
        weights[processes] = load_file(tmp_path / f"by{processes}" / "adapter" / "adapter_model.safetensors")
    assert abs(losses[1] - losses[2]) < LOSSES
    assert weights[1].keys() == weights[2].keys() and any(each.any() for each in weights[1].values())
    for name, tensor in weights[1].items():
        np.testing.assert_allclose(weights[2][name], tensor, atol=WEIGHTS, rtol=0)
