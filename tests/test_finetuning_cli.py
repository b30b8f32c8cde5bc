"""The word `finetune` and its file of settings: what it takes, what it refuses, and a real model taught by it."""

import json
import subprocess
import sys
import textwrap
from dataclasses import fields

import pytest
import torch
import yaml

from llmnotes.cli.main import main
from llmnotes.errors import BadSettings
from llmnotes.finetuning.data import encode, examples
from llmnotes.finetuning.job import settings
from llmnotes.finetuning.job.settings import Settings, from_dict, read
from llmnotes.finetuning.lora import LoRA
from llmnotes.finetuning.train import held_out_loss
from llmnotes.models import open_model

LEAST = {"model": "pebble", "data": "d.jsonl", "output": "o", "steps": 10}


def test_every_setting_is_read_from_yaml(tmp_path):
    values = {
        "model": "m",
        "data": "d",
        "output": "o",
        "held_out": 0.5,
        "method": "qlora",
        "lora": {"r": 2, "alpha": 3, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"], "rank_stabilized": True},
        "epochs": 2,
        "optimizer": "adamw_8bit",
        "learning_rate": 0.5,
        "batch_size": 3,
        "gradient_accumulation": 4,
        "max_length": 5,
        "packing": True,
        "warmup_steps": 6,
        "schedule": "cosine",
        "weight_decay": 0.25,
        "max_grad_norm": 2,
        "seed": 7,
        "checkpoint_every": 8,
        "evaluate_every": 9,
        "early_stopping": 2,
        "samples": 4,
        "exam": False,
        "report_to": "wandb",
        "gradient_checkpointing": True,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    found = read(tmp_path / "c.yaml")
    assert found.lora == LoRA(2, 3, 0.1, ("q_proj", "v_proj"), True)
    for name, value in values.items():
        assert name == "lora" or getattr(found, name) == value
    assert {field.name for field in fields(Settings)} == {*values, "steps"}, "a setting that is not tried here"


def test_the_example_is_right():
    text = textwrap.dedent(settings.__doc__.partition("\n")[2])
    found = from_dict(yaml.safe_load(text))
    assert found.model == "pebble" and found.learning_rate == 1e-3 and found.epochs == 3 and found.lora.alpha == 16


WRONG = {
    "learningrate: 1": "there is no setting learningrate; did you mean learning_rate?",
    "batch: 1": "there is no setting batch; did you mean batch_size?",
    "zzz: 1": "there is no setting zzz; the keys are model, data",
    "7: 1": "there is no setting 7; the keys are",
    "lora: {rank: 4}": "there is no setting rank; ",
    "lora: {aplha: 4}": "lora: there is no setting aplha; did you mean alpha?",
    "lora: 8": "lora is no list of settings; write it as {key: value, key: value}.",
    "lora: {r: 0}": "r must be a whole number of at least 1, and is 0",
    "lora: {dropout: 1}": "dropout must be a share of at least 0 and below 1, and is 1",
    "lora: {alpha: .nan}": "alpha must be a number, and is nan",
    "lora: {target_modules: []}": "target_modules must be all-linear, a list of endings",
    "model: 7": "model must be a path or a name, and is 7",
    "steps: 1.5": "steps must be a whole number of at least 1, and is 1.5",
    "steps: yes": "steps must be a whole number of at least 1, and is True",
    "steps: 99999999999999999999": "steps must be a whole number",
    "epochs: 0": "epochs must be a number above 0, and is 0",
    "learning_rate: fast": "learning_rate must be a number above 0, and is 'fast'",
    "learning_rate: .inf": "learning_rate must be a number above 0, and is inf",
    "learning_rate: -1e-3": "learning_rate must be a number above 0, and is '-1e-3'",
    "held_out: 1.0": "held_out must be the path of a file, or a share above 0 and below 1, and is 1.0",
    "method: dora": "method must be one of lora, qlora, full, and is 'dora'",
    "method: [lora]": "method must be one of lora, qlora, full, and is ['lora']",
    "schedule: {}": "schedule must be one of constant, linear, cosine, and is {}",
    "optimizer: sgd": "optimizer must be one of adamw, adamw_8bit, paged_adamw_8bit, and is 'sgd'",
    "optimiser: adamw": "there is no setting optimiser; did you mean optimizer?",
    "packing: 1": "packing must be true or false, and is 1",
    "epochs: 3": "give either steps or epochs",
    "steps: null": "give either steps or epochs",
    "model: null": "model is missing; add a line “model: ...”",
    "warmup_steps: 10": "warmup_steps must be less than steps (10); lower it",
    "early_stopping: 2": "early_stopping needs held_out and evaluate_every; give both",
    "samples: 2": "samples are answers to held-out questions; give held_out",
    "{method: full, lora: {r: 4}}": "full fine-tuning has no adapter; remove lora",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_one_sentence_with_the_remedy(tmp_path, line):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(LEAST | yaml.safe_load(line)), encoding="utf-8")
    with pytest.raises(BadSettings) as caught:
        read(path)
    sentence = str(caught.value)
    assert WRONG[line] in sentence and sentence.startswith(str(path)) and sentence.endswith((".", "?"))


NO_YAML = {
    b"steps: [": "this is no YAML",
    b"a: b: c": "line 1: this is no YAML",
    b"model: a\nmodel: b": "line 1: this is no YAML (model stands twice)",
    b"!!python/object/apply:os.system ['exit 3']": "this is no YAML (could not determine a constructor",
    b"model: !!python/name:os.system": "this is no YAML",
    b"[" * 200: "this is no YAML",
    b"[" * 5000: "is too long or too deep",
    b"- " * 9000: "this is no YAML",
    b"- model": "is no list of settings",
    b"": "is no list of settings",
    b"\xff": "is not UTF-8",
    b"#" * 1_000_001: "is too long or too deep",
    b"seed: " + b"9" * 5000: "this is no YAML",
}


@pytest.mark.parametrize("content", NO_YAML, ids=lambda content: content[:20].decode("latin-1"))
def test_what_is_no_yaml_is_one_sentence(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(BadSettings) as caught:
        read(tmp_path / "c.yaml")
    assert NO_YAML[content] in str(caught.value) and len(str(caught.value)) < 400


def test_a_thousand_aliases_of_aliases_cost_nothing(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "c.yaml").write_text("\n".join(lines).replace("a11:", "steps:") + "\n", encoding="utf-8")
    with pytest.raises(BadSettings, match="there is no setting a0"):
        read(tmp_path / "c.yaml")
    values = "\n".join(f"- {line.partition(': ')[2]}" for line in lines)
    (tmp_path / "c.yaml").write_text(f"model: m\ndata: d\noutput: o\nsteps:\n{values}\n", encoding="utf-8")
    with pytest.raises(BadSettings, match="steps must be a whole number of at least 1, and is"):
        read(tmp_path / "c.yaml")  # the sentence shows the beginning of a value alone
    with pytest.raises(BadSettings, match="cannot be read"):
        read(tmp_path)


@pytest.fixture
def config(tmp_path, tiny_folder, monkeypatch):
    """The path of a file of settings, with its data beside it; the working folder is another one."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"{i} {i}"}) + "\n" for i in range(8)), encoding="utf-8")
    path = tmp_path / "config.yaml"
    values = {
        "model": str(tiny_folder),
        "data": str(data),
        "output": str(tmp_path / "out"),
        "steps": 3,
        "held_out": 0.3,
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_the_word_prints_a_report_and_with_json_nothing_else(config, tmp_path, capsys):
    assert main(["finetune", str(config)]) == 0
    out, err = capsys.readouterr()
    assert "step     0  held-out loss " in out and f"written: {tmp_path / 'out' / 'adapter'}" in out
    assert "tokens/s" in err and "loss" in err and "llama with" in err
    assert main(["finetune", str(config), "--json"]) == 2
    assert "holds a training that is finished; give another output" in capsys.readouterr().err
    config.write_text(config.read_text(encoding="utf-8").replace("/out", "/out2"), encoding="utf-8")
    assert main(["finetune", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 3 and found["settings"]["model"] and found["measured"][0]["step"] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("max_length: 100000", "max_length is 100000, and tiny reads 2048 tokens; lower it."),
        ("epochs: 1\nsteps: null\nwarmup_steps: 1", "warmup_steps is 1, and there are 1 steps; lower it."),
        ("model: no/such/folder", "There is no folder"),
        ("data: nothing.jsonl", "There is no file nothing.jsonl"),
        ("lora: {target_modules: [q_prj]}", "q_prj"),
        ("batch_size: 2000000000", "needs"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_status_2(config, change, sentence, capsys, tmp_path):
    values = yaml.safe_load(config.read_text(encoding="utf-8")) | yaml.safe_load(change)
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["finetune", str(config)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and "Traceback" not in err and not (tmp_path / "out").exists()


def test_help_is_quick_and_shows_an_example():
    done = subprocess.run([sys.executable, "-m", "llmnotes.cli", "finetune", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "example: llmnotes finetune lessons.yaml" in done.stdout


STORY = "Once upon a time, there was a little robot named Beep. Beep had a red hat. Beep loved to paint big boats."


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_real_model_is_taught_end_to_end(trained, tmp_path, capsys, method):
    """A trained model learns a story of its own by the same command, and other programs open what comes of it."""
    data = tmp_path / "story.jsonl"
    data.write_text(json.dumps({"text": STORY}) + "\n", encoding="utf-8")
    values = {"model": str(trained), "data": str(data), "output": str(tmp_path / "out"), "method": method}
    values |= {"steps": 60, "learning_rate": 1e-2 if method == "lora" else 5e-3, "batch_size": 2, "max_length": 128}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["finetune", str(tmp_path / "c.yaml"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "out" / "training_log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]  # beside them stand Pebble's exams
    # </s> was never trained: 200 such tokens share one embedding, also their row of the head, which LoRA freezes.
    # Pebble has such tokens for letters of this story.
    least = 0.05 if method == "full" else 0.13 if trained.name == "stories260K" else 0.5
    assert losses[0] > 1.5 and losses[-1] < least and report["loss"] == losses[-1]

    before = open_model(trained, say=lambda line: None)
    if method == "lora":
        from peft import PeftModel

        taught = PeftModel.from_pretrained(before.model, report["result"])
    else:
        taught = open_model(report["result"], say=lambda line: None).model
    rows = encode(examples([{"text": STORY}]), before.tokenizer, 128)
    assert held_out_loss(taught, rows) == pytest.approx(losses[-1], abs=0.02)
    asked = before.tokenizer("Once upon a time, there was a little robot named", return_tensors="pt")
    with torch.no_grad():
        said = taught.generate(**asked, do_sample=False, max_new_tokens=20, pad_token_id=0)
    assert "Beep had a red hat" in before.tokenizer.decode(said[0], skip_special_tokens=True)
