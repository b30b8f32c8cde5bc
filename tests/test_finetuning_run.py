"""Whole fine-tunings: what stands in the output, what is refused, what the log says, the exam, the trackers' files."""

import json
import math
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmnotes.errors import (
    BadSettings,
    CannotWrite,
    DoesNotFit,
    FileBroken,
    MissingPart,
    ModelBroken,
    TrainingFailed,
    TrainingStopped,
)
from llmnotes.finetuning import train
from llmnotes.finetuning.data import encode
from llmnotes.finetuning.distributed import Place
from llmnotes.finetuning.job import measuring, output, refusing, run
from llmnotes.finetuning.job import rows as rows_of
from llmnotes.finetuning.job.report import describe
from llmnotes.finetuning.job.settings import from_dict
from llmnotes.finetuning.job.tracking import tracker
from llmnotes.finetuning.train import held_out_loss
from llmnotes.fit.training_run import finetuned


@pytest.fixture
def settings(tmp_path, tiny_folder, monkeypatch):
    """Settings for a small fine-tuning, in a working folder of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    lines = [{"prompt": f"Q: {i}?\nA:", "completion": f" {i * i}\n", "fact": i} for i in range(12)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return from_dict(
        {
            "model": str(tiny_folder),
            "data": str(data),
            "output": str(tmp_path / "out"),
            "held_out": 0.25,
            "steps": 6,
            "learning_rate": 1e-2,
            "max_length": 32,
            "batch_size": 3,
            "evaluate_every": 3,
            "checkpoint_every": 2,
        }
    )


def finetune(wanted, **changes):
    return run.finetune(replace(wanted, **changes), say=lambda line: None)


def log_of(folder) -> list[dict]:
    return [json.loads(line) for line in Path(folder, output.LOG).read_text(encoding="utf-8").splitlines()]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_the_output_holds_what_the_field_opens(settings, method, tmp_path):
    report = finetune(settings, method=method)
    out = tmp_path / "out"
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report.as_dict()))
    assert [record["step"] for record in report.measured] == [0, 3, 6] and report.steps == 6
    before, _, after = (record["eval_loss"] for record in report.measured)
    assert after < before and report.loss == log_of(out)[-2]["loss"]
    base = AutoModelForCausalLM.from_pretrained(settings.model)
    learned, held_out = rows_of.examples(settings)
    rows = encode(held_out, AutoTokenizer.from_pretrained(settings.model), 32)
    assert (abs(held_out_loss(base, rows) - before) > 1e-4) == (method == "qlora"), "the base in 4 bits, or as it was"
    assert report.rows == len(learned) == 9 and len(held_out) == 3
    if method == "full":
        opened = AutoModelForCausalLM.from_pretrained(out / "model")
        assert (out / "model" / "tokenizer.json").exists() and opened.dtype == torch.float32
    else:
        from peft import PeftModel

        opened = PeftModel.from_pretrained(base, out / "adapter")
    tolerance = 0.1 if method == "qlora" else 1e-5  # its base was in 4 bits while it learned
    assert held_out_loss(opened, rows) == pytest.approx(after, rel=tolerance)


def test_nothing_that_exists_is_replaced(settings, tmp_path):
    out = tmp_path / "out"
    finetune(settings)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(CannotWrite, match="holds a training that is finished"):
        finetune(settings)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "mine").mkdir()
    finetune(settings, output=str(tmp_path / "mine"))  # an empty folder is no obstacle
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for taken in ("full", "file", "link"):
        with pytest.raises(CannotWrite, match="exists already and is kept"):
            finetune(settings, output=str(tmp_path / taken))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(CannotWrite, match="There is no folder|cannot be written"):
        finetune(settings, output=str(tmp_path / "no" / "where"))


def interrupted(wanted, at: int, error=KeyboardInterrupt, **changes):
    """Start a fine-tuning that stops after a step."""
    real = run.steps

    def stopping(*arguments):
        for step in real(*arguments):
            yield step
            if step.number == at:
                raise error

    run.steps = stopping
    try:
        finetune(wanted, **changes)
    finally:
        run.steps = real


def test_a_second_training_in_one_output_is_refused_at_once(settings, tmp_path):
    real = run.steps

    def meanwhile(*arguments):
        for step in real(*arguments):
            with pytest.raises(CannotWrite, match="Another training is writing into .*out at the moment"):
                finetune(settings, data="not/even/read.jsonl")
            yield step

    run.steps = meanwhile
    try:
        assert finetune(settings).steps == 6
    finally:
        run.steps = real
    assert not list(tmp_path.glob(".*")), "the lock is removed"
    (tmp_path / "locked").mkdir()
    (tmp_path / ".locked.lock").mkdir()  # no file can be made there
    with pytest.raises(CannotWrite, match=r"locked cannot be written \(Is a directory\)"):
        finetune(settings, output=str(tmp_path / "locked"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_its_checkpoint(settings, number, monkeypatch, tmp_path):
    """Ctrl-C and SIGTERM leave a checkpoint of the step in which they came; a second one does not wait."""
    before, real = signal.getsignal(number), train.summed_loss
    times = []

    def losing(model, batch):
        if model.training:
            times.append(1)
            if len(times) in (3, 5, 6):
                signal.raise_signal(number)
        return real(model, batch)

    monkeypatch.setattr(train, "summed_loss", losing)
    with pytest.raises(TrainingStopped, match="was stopped; the checkpoint of step 3 is kept, and the same") as caught:
        finetune(settings, checkpoint_every=100)
    assert caught.value.status == 128 + number and signal.getsignal(number) == before
    with pytest.raises(TrainingStopped, match="step 5 is kept"):  # its second step
        finetune(settings, checkpoint_every=100)
    monkeypatch.setattr(train, "summed_loss", real)
    assert finetune(settings).resumed_at == 5
    monkeypatch.setattr(run, "examples", lambda settings: signal.raise_signal(number))
    with pytest.raises(TrainingStopped, match="there is no checkpoint yet"):
        finetune(settings, output=str(tmp_path / "early"))
    with ThreadPoolExecutor() as pool:  # where Python hears of no signal
        assert pool.submit(finetune, settings, model="nowhere/at/all").exception() is not None


def test_an_unfinished_training_of_other_settings_is_refused_and_says_why(settings, tmp_path):
    with pytest.raises(TrainingFailed, match=r"was stopped; the checkpoint of step 2 is kept, "):
        interrupted(settings, 3)
    for changes, word in (
        ({"learning_rate": 1.0}, r"learning_rate \(it was 0.01, and is 1.0\)"),
        ({"steps": 9}, "steps"),
    ):
        with pytest.raises(CannotWrite, match=f"unfinished training with another {word}"):
            finetune(settings, **changes)
    data = Path(settings.data)
    lines = data.read_text(encoding="utf-8")
    data.write_text(lines.replace("Q: ", "P: "), encoding="utf-8")
    with pytest.raises(CannotWrite, match="another content of data"):
        finetune(settings)
    data.write_text(lines, encoding="utf-8")
    assert finetune(settings, exam=False, checkpoint_every=1).resumed_at == 2  # these change no weight


def test_what_the_log_says_is_what_happened_once(settings, tmp_path):
    report = finetune(settings, output=str(tmp_path / "whole"))
    with pytest.raises(TrainingFailed):
        interrupted(settings, 5)
    with open(tmp_path / "out" / "training_log.jsonl", "ab") as file:
        file.write(b'{"step": 6, "lo')  # a line that was cut short
    again = finetune(settings)
    figures = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in log_of(tmp_path / name)]
        for name in ("whole", "out")
    ]
    assert figures[0] == figures[1] and again.resumed_at == 4 and again.measured == report.measured
    assert again.tokens == report.tokens


def test_a_training_that_ended_and_did_not_say_so_is_finished(settings, tmp_path):
    out = tmp_path / "out"
    report = finetune(settings)
    weights = (out / "adapter" / "adapter_model.safetensors").read_bytes()
    (out / "report.json").unlink()
    half_removed = out / "checkpoints" / "step-00000001"  # killed while it removed an old checkpoint
    half_removed.mkdir()
    (half_removed / "SHA256SUMS").touch()
    kept = sorted(path.name for path in (out / "checkpoints").iterdir() if path != half_removed)
    assert finetune(settings) == replace(report, resumed_at=6)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == kept
    (out / "report.json").unlink()
    (out / "training_log.jsonl").unlink()
    again = finetune(settings)
    assert again.steps == again.resumed_at == 6 and again.loss is None and "loss" not in describe(again)
    assert (out / "adapter" / "adapter_model.safetensors").read_bytes() == weights


def test_no_number_keeps_the_last_good_checkpoint(settings, tmp_path, monkeypatch):
    calls, real = [], train.summed_loss

    def poisoned(model, batch):
        calls.append(model.training)
        return real(model, batch) * (math.nan if sum(calls) == 4 else 1)

    monkeypatch.setattr(train, "summed_loss", poisoned)
    with pytest.raises(
        TrainingFailed, match=r"The loss at step 4 is nan.*; the checkpoint of step 2 is kept\.$"
    ) as error:
        finetune(settings)
    assert str(error.value).count(". ") == 0
    monkeypatch.setattr(train, "summed_loss", real)
    assert finetune(settings).resumed_at == 2
    with pytest.raises(TrainingFailed, match="no checkpoint yet|is kept"):
        finetune(settings, output=str(tmp_path / "wild"), method="full", learning_rate=1e30)


def test_what_stops_a_training_is_one_sentence(settings, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(TrainingFailed, match="held-out loss is nan; lower learning_ra"):
        patch.setattr(measuring, "held_out_loss", lambda model, rows: math.nan)
        finetune(settings, output=str(tmp_path / "nan"))
    for error, reason in ((OSError(28, "No space left"), "No space left"), (OSError("a library's own"), "own")):
        with monkeypatch.context() as patch, pytest.raises(CannotWrite, match=rf"cannot be written \(.*{reason}\); "):
            patch.setattr(run, "open_model", lambda *_, error=error, **how: (_ for _ in ()).throw(error))
            finetune(settings, output=str(tmp_path / "full"))
    with (
        monkeypatch.context() as patch,
        pytest.raises(TrainingFailed, match="different checkpoints; give an output"),
    ):
        patch.setattr(run, "join", lambda: Place(0, 2))  # two processes, of which the other has gone further
        patch.setattr(run, "DistributedDataParallel", lambda model: model)
        patch.setattr(torch.distributed, "all_gather_object", lambda all, mine: all.__setitem__(1, mine + 2))
        finetune(settings, output=str(tmp_path / "two"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / output.RUN).write_text("[1]", encoding="utf-8")
    with pytest.raises(CannotWrite, match="cannot be read, so nobody knows what to go on with; remove .*broken"):
        finetune(settings, output=str(tmp_path / "broken"))


def test_curves_without_their_package_are_one_sentence(monkeypatch, tmp_path):
    for name, package in (("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPart, match=rf"{name} is missing; bring it with: .*{name}>="):
            tracker(name, tmp_path, {})


def test_a_log_that_cannot_be_written_is_one_sentence(settings, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output, "open", refused, raising=False)
    with pytest.raises(CannotWrite, match=r"out cannot be written \(Permission denied\); choose another output"):
        finetune(settings)


def test_a_full_disk_while_the_log_is_written(settings, monkeypatch, tmp_path):
    class Full:
        def __init__(self, *arguments, **how):
            self.file = open(*arguments, **how)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def truncate(self, size):
            return self.file.truncate(size)

        def write(self, data):
            return self.file.write(data[: len(data) // 2] if b'"step": 3, "loss"' in data else data)

    monkeypatch.setattr(output, "open", Full, raising=False)
    with pytest.raises(CannotWrite, match="The disk has no room for .*; the checkpoint of step 2 is kept"):
        finetune(settings)
    monkeypatch.undo()
    assert finetune(settings).resumed_at == 2 and [line["step"] for line in log_of(tmp_path / "out")] == [
        0,
        1,
        2,
        3,
        3,
        4,
        5,
        6,
        6,
    ]


def test_what_does_not_fit_is_refused_before_the_model_is_opened(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(refusing.hardware, "memory", lambda: (10**9, 50_000))
    monkeypatch.setattr(run, "open_model", lambda *a, **k: pytest.fail("the model was opened"))
    with pytest.raises(DoesNotFit, match=r"needs 0.0 GB of memory, and 0.0 GB are free; lower batch_size"):
        finetune(settings)
    assert not (tmp_path / "out").exists()


def test_paged_averages_without_a_gpu_are_refused_before_the_data_is_read(settings, monkeypatch, tmp_path):
    wanted = replace(settings, optimizer="paged_adamw_8bit", data="nothing")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSettings, match="there is no such GPU here; take adamw_8bit"):
        finetune(wanted)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    refusing.refuse_missing(wanted)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_base_in_32_bits_is_trained_in_the_type_that_was_counted(settings, method, monkeypatch):
    """On a GPU that is bfloat16, whatever its files hold: an F32 checkpoint would take twice what was predicted."""
    assert finetuned(method, gpu=True)["dtype"] == "bfloat16"
    monkeypatch.setattr(run, "finetuned", lambda method, gpu: finetuned(method, gpu=True))
    opened = []
    monkeypatch.setattr(run, "prepare", lambda model, *_: opened.append(model))
    monkeypatch.setattr(run, "_train", lambda *_: None)
    finetune(settings, method=method)
    assert {each.dtype for each in opened[0].parameters()} == {torch.bfloat16}


def test_memory_that_runs_out_is_one_sentence(settings, monkeypatch):
    def allocate(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(run, "prepare", allocate)
    with pytest.raises(DoesNotFit, match="The memory ran out; lower batch_size"):
        finetune(settings)


def test_broken_data_is_found_before_anything_is_written(settings, tmp_path):
    Path(settings.data).write_text('{"text": "a"}\n{"text": 7}\n', encoding="utf-8")
    with pytest.raises(FileBroken, match="data.jsonl, line 2"):
        finetune(settings)
    assert not (tmp_path / "out").exists()


def test_gradient_checkpointing_and_packing_learn_the_same(settings, tmp_path):
    plain = finetune(settings, batch_size=12)
    thrifty = finetune(settings, batch_size=12, gradient_checkpointing=True, output=str(tmp_path / "b"))
    assert thrifty.loss == pytest.approx(plain.loss, rel=1e-4)
    packed = finetune(settings, batch_size=12, packing=True, output=str(tmp_path / "c"))
    assert packed.rows < plain.rows and packed.measured[0] == plain.measured[0]


def spoiled(folder: Path, tiny_folder: Path, number: float) -> Path:
    """The tiny model with one number of one layer changed."""
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = number
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("held_out", [0.25, None])
def test_a_model_that_is_broken_itself_is_named_and_not_the_learning_rate(
    settings, tiny_folder, tmp_path, method, held_out
):
    model = str(spoiled(tmp_path / "nan", tiny_folder, math.nan))
    with pytest.raises(
        ModelBroken, match=r"The model's model\.layers\.1\.mlp\.up_proj\.weight holds numbers that are not finite"
    ) as caught:
        finetune(settings, model=model, method=method, held_out=held_out)
    assert "learning_rate" not in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused_before_the_model_is_loaded(
    settings, tiny_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "more"
    shutil.copytree(tiny_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Q: 7?"])
    tokenizer.save_pretrained(folder)
    with monkeypatch.context() as patch:
        patch.setattr(run, "open_model", lambda *a, **k: pytest.fail("the model was opened"))
        with pytest.raises(ModelBroken, match="makes token 256 of the data, and the embedding has 256 rows, counted f"):
            finetune(settings, model=str(folder))
    assert not (tmp_path / "out").exists()


def test_what_was_not_learned_as_it_stands_is_said_once_and_reported(settings, tmp_path):
    lines = [{"prompt": "ab", "completion": "c" * n, "id": n, "source": "web"} for n in (3, 60, 70, 80)]
    Path(settings.data).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    said = []
    report = run.finetune(replace(settings, held_out=None, steps=1), said.append)
    expected = [
        "Of 4 rows, 3 are longer than max_length (32 tokens; the longest has 82) and were cut: they lost the token "
        "that ends them.",
        'Fields of the data that were not used: "id" (4 times), "source" (4 times).',
    ]
    assert report.notes == expected == [line for line in said if line in expected]
    assert json.loads((tmp_path / "out" / "report.json").read_bytes())["notes"] == expected


def stopping_early(settings, monkeypatch, losses: list[float], **changes):
    """Fine-tune with held-out losses that are given, the first of them before the first step."""
    given = iter(losses)
    monkeypatch.setattr(measuring, "held_out_loss", lambda model, rows: next(given))
    return finetune(settings, evaluate_every=1, early_stopping=2, checkpoint_every=3, **changes)


def test_it_stops_where_the_held_out_loss_rises_and_writes_the_best_weights(settings, tmp_path, monkeypatch):
    until = finetune(settings, steps=6, schedule="constant", output=str(tmp_path / "whole"))
    assert not until.notes and not (tmp_path / "whole" / run.BEST).exists()
    short = finetune(settings, steps=2, schedule="constant", output=str(tmp_path / "short"))
    report = stopping_early(settings, monkeypatch, [0.1, 3, 2, 2.5, 2.1], schedule="constant")
    assert report.steps == 4 and [record["step"] for record in report.measured] == [0, 1, 2, 3, 4]
    assert report.notes == ["The weights are those after step 2, where the held-out loss was lowest."]
    first, second = (load_file(Path(each.result) / "adapter_model.safetensors") for each in (report, short))
    assert all(torch.equal(first[name], second[name]) for name in second)
    (tmp_path / "out" / "report.json").unlink()  # killed before it was written
    again = stopping_early(settings, monkeypatch, [], schedule="constant")
    assert again.resumed_at == again.steps == 4 and again.notes == report.notes
    (tmp_path / "out" / "report.json").unlink()
    with pytest.raises(CannotWrite, match=r"another evaluate_every \(it was 1, and is 2\)"):
        finetune(settings, evaluate_every=2, early_stopping=2, checkpoint_every=3, schedule="constant")


def test_without_a_rise_it_goes_on_and_the_best_weights_are_the_last(settings, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        report = stopping_early(settings, patch, [9, 8, 7, 7.5, 6, 5, 4])
    assert report.steps == 6 and "after step 6" in report.notes[0]
    assert report.loss == finetune(settings, output=str(tmp_path / "b")).loss


def test_the_losses_are_drawn_and_sample_answers_are_said_and_logged(settings, tmp_path):
    said = []
    report = run.finetune(replace(settings, samples=2), said.append)
    with Image.open(tmp_path / "out" / "loss.png") as image:
        assert image.format == "PNG" and image.size == (960, 540) and len(image.convert("L").getcolors()) > 50
    samples = [record for record in log_of(tmp_path / "out") if "sample" in record]
    assert [record["step"] for record in samples] == [0, 0, 3, 3, 6, 6]
    assert all(record["sample"]["asked"].startswith("Q: ") for record in samples)
    assert len([line for line in said if "→" in line]) == 6 and all("sample" not in each for each in report.measured)
    model = AutoModelForCausalLM.from_pretrained(settings.model)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    asked = tokenizer(samples[0]["sample"]["asked"], return_tensors="pt")
    out = model.generate(**asked, do_sample=False, max_new_tokens=48, pad_token_id=0)
    assert samples[0]["sample"]["answered"] == tokenizer.decode(out[0, asked["input_ids"].shape[1] :])


@pytest.mark.slow
def test_pebble_sits_its_exam_before_during_and_after(settings, monkeypatch, tmp_path):
    import llmnotes.pebble.exam  # noqa: F401, the package has a function of the module's name

    exam = sys.modules["llmnotes.pebble.exam"]
    few = {hidden: exam.exam(hidden=hidden)[:8] for hidden in (False, True)}
    monkeypatch.setattr(exam, "exam", lambda hidden: few[hidden])
    report = finetune(settings, model="pebble", learning_rate=1e-9)
    for record in report.measured:
        assert record["eval_exam"] == 1.0 and record["eval_exam_hidden"] < 0.5
    assert [record["step"] for record in report.measured] == [0, 3, 6]
    assert "step     0  held-out loss" in describe(report) and "exam 100.0%, exam hidden" in describe(report)
    assert "eval_exam" not in finetune(settings, output=str(tmp_path / "b")).measured[0]


# Trackers


def test_tensorboard_gets_the_curves(settings, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finetune(settings, report_to="tensorboard")
    curves = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    curves.Reload()
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss"} <= set(curves.Tags()["scalars"])
    logged = [line["loss"] for line in log_of(tmp_path / "out") if "loss" in line]
    assert [event.value for event in curves.Scalars("train/loss")] == pytest.approx(logged)
    assert [event.step for event in curves.Scalars("eval/loss")] == [0, 3, 6]
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.slow
def test_weights_and_biases_writes_offline_into_the_output(settings, tmp_path, monkeypatch):
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where nobody is logged in
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    finetune(settings, report_to="wandb")
    import wandb

    assert wandb.run is None
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    curves, end = (b"train/loss", b"eval/loss", b"train/learning_rate"), time.monotonic() + 20
    while not all(curve in file.read_bytes() for curve in curves):  # another process writes it, a little later
        assert time.monotonic() < end, file.read_bytes()
        time.sleep(0.05)
    assert list((tmp_path / "work").iterdir()) == []


def test_who_is_logged_in_is_asked_without_a_network(monkeypatch, tmp_path):
    from llmnotes.finetuning.job.tracking import logged_in

    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    os.chmod(tmp_path / "netrc", 0o600)
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()
