import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import LLMNotesError, ModelBroken, ModelGated, ModelNotFound
from llmnotes.models import chosen, complete, open_model
from llmnotes.models.files import convert

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def silent(line):
    """Say nothing."""


@pytest.fixture
def broken(tiny_folder, tmp_path):
    """A copy of the tiny folder, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "broken")


def test_it_says_what_it_opens_and_what_that_takes(tiny_folder):
    lines = []
    lm = open_model(tiny_folder, say=lines.append)
    parameters = sum(p.numel() for p in lm.model.parameters())
    assert len(lines) == 1 and f"{parameters / 1e6:.2f} million parameters in 2 layers" in lines[0]
    assert f"{4 * parameters / 1e6:.1f} MB of memory as float32" in lines[0]
    assert lm.name == "tiny" and not lm.is_pebble and not lm.model.training
    assert str(tiny_folder.parent) not in lines[0]


def test_it_says_what_the_model_has_no_place_for(broken):
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    lines = []
    open_model(broken, say=lines.append)
    assert lines[1:] == [
        "broken: its config.json has no place for 1 tensor, left out: model.layers.0.self_attn.q_proj.bias"
    ]


def test_the_variable_chooses_the_model(monkeypatch, tiny_folder):
    assert chosen() == "pebble"
    monkeypatch.setenv("LLMNOTES_MODEL", str(tiny_folder))
    assert open_model(say=silent).name == "tiny"
    monkeypatch.setenv("LLMNOTES_MODEL", "")
    assert chosen() == "pebble"


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("./nowhere", "check the path"),
        ("../no/such/folder", "check the path"),
        ("/no/such/folder", "check the path"),
        ("peble", "did you mean pebble"),
        ("pebble-chatt", "did you mean pebble-chat"),
        ("nobody/nothing", "hub cannot be reached"),
        ("not a name!", "nor a name that the hub allows"),
        (__file__, "give the folder"),
    ],
)
def test_a_wrong_name_gives_one_sentence(name, remedy):
    with pytest.raises(ModelNotFound, match=remedy) as caught:
        open_model(name, say=silent)
    assert "\n" not in str(caught.value)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def only_an_index(folder):
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    (folder / "model.safetensors.index.json").write_text("[]")


def drop_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def other_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 65}))


@pytest.mark.parametrize(
    "damage, remedy",
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (only_an_index, "no index of them"),
        (cut, "model.safetensors is damaged"),
        (empty, "holds no weights"),
        (drop_a_tensor, "lacks 1 tensor that its config.json promises, model.norm.weight"),
        (other_shape, "do not fit its config.json"),
    ],
)
def test_a_broken_folder_gives_one_sentence(broken, damage, remedy):
    damage(broken)
    with pytest.raises(ModelBroken, match=re.escape(remedy)) as caught:
        open_model(broken, say=silent)
    assert "\n" not in str(caught.value)


class Hub(BaseHTTPRequestHandler):
    """A hub that answers every request with the status and error code it was told."""

    status, code = 403, "GatedRepo"

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("X-Error-Code", self.code)
        self.send_header("X-Error-Message", f"the token {TOKEN} is not welcome")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


REFUSALS = [
    (403, "GatedRepo", ModelGated, "hf auth login.*Colab.*Kaggle"),
    (401, "RepoNotFound", ModelNotFound, "check the spelling"),
    (500, "", ModelNotFound, "hub cannot be reached"),
]


@pytest.mark.slow
@pytest.mark.parametrize("status, code, error, remedy", REFUSALS)
def test_what_the_hub_refuses_gives_one_sentence_without_the_token(status, code, error, remedy, tmp_path):
    server = HTTPServer(("127.0.0.1", 0), type("Refusing", (Hub,), {"status": status, "code": code}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    environment = os.environ | {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": address,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path),
    }
    code = "from llmnotes.models import open_model; open_model('somebody/something')"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    server.shutdown()
    server.server_close()
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"llmnotes.errors.{error.__name__}") and re.search(remedy, last), run.stderr
    assert TOKEN not in run.stdout + run.stderr and issubclass(error, LLMNotesError)


@pytest.mark.parametrize("status, code, error, remedy", REFUSALS)
def test_the_hubs_refusals_are_told_apart(status, code, error, remedy, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    name = {"GatedRepo": "GatedRepoError", "RepoNotFound": "RepositoryNotFoundError"}.get(code, "HfHubHTTPError")
    refusal = getattr(errors, name).__new__(getattr(errors, name))  # without the answer that it is made of

    def refuse(*_, **how):
        raise refusal

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(error, match=remedy):
        open_model("somebody/something", say=silent)


def test_completion_does_not_depend_on_the_batch(tiny_folder):
    lm = open_model(tiny_folder, say=silent)
    prompts = ["a", "a longer prompt than that", "Once"]
    together = complete(lm, prompts, 8)
    assert together == [complete(lm, [prompt], 8)[0] for prompt in prompts]
    ids = lm.tokenizer(prompts[1], return_tensors="pt")["input_ids"]
    for _ in range(8):
        with torch.no_grad():
            ids = torch.cat([ids, lm.model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert prompts[1] + together[1] == lm.tokenizer.decode(ids[0])


def test_a_model_with_another_tokenizer_completes_as_transformers_does(stories):
    lm = open_model(stories, say=silent)
    ids = lm.tokenizer("Once upon", return_tensors="pt")["input_ids"]
    told = lm.model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=0)[0]
    assert "Once upon" + complete(lm, ["Once upon"], 24)[0] == lm.tokenizer.decode(told, skip_special_tokens=True)


def test_a_trained_model_tells_a_story(trained):
    text = complete(open_model(trained, say=silent), ["Once upon"], 24)[0]
    assert text.startswith((" a time, there was a little girl named Lily", " a time there "))


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process's files")
def test_no_file_is_removed_while_it_is_open_or_mapped(tmp_path, monkeypatch):
    path, mapped = tmp_path / "pebble.gguf", []
    convert("pebble", path, type="F16")

    def cleanup(self, real=tempfile.TemporaryDirectory.cleanup):
        mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if self.name in line)
        mapped.extend(link for fd in os.listdir("/proc/self/fd") if self.name in (link := _link(fd)))
        real(self)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", cleanup)
    lm = open_model(path, say=silent)
    assert mapped == [] and complete(lm, ["A baby cat is a"], 3)[0]


def _link(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
