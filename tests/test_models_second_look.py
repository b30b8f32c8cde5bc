"""A second look after a conversion: sound ones are never accused, another function always is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from llmnotes.cli.main import main
from llmnotes.errors import MissingPart, ModelBroken, ProcessDied
from llmnotes.llama_cpp import logits
from llmnotes.models import second_look as module
from llmnotes.models.files import convert
from llmnotes.models.second_look import second_look
from llmnotes.pebble import weights_dir
from tests.test_formats_families import FAMILIES, made

pytest.importorskip("xllamacpp", reason="xllamacpp is not here; it comes with the extra serve")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> Path:
    return convert("pebble", tmp_path_factory.mktemp("gguf") / "pebble.gguf", type="F16").target


def scaled_norm(file: Path) -> None:
    """Make every weight of the last norm one and a half times as large: sharper distributions, the same favourites."""
    import gguf

    reader = gguf.GGUFReader(file, "r+")
    tensor = next(tensor for tensor in reader.tensors if tensor.name == "output_norm.weight")
    tensor.data[:] = tensor.data * 1.5
    reader.data.flush()


@pytest.mark.parametrize("type", ["F32", "F16", "BF16", "Q8_0", "Q2_K"])
@pytest.mark.parametrize("name", ["pebble", "pebble-chat"])
def test_a_sound_conversion_is_not_accused(name, type, tmp_path):
    found = second_look(convert(name, tmp_path / "model.gguf", type=type))
    assert found and found.same and found.kl is not None and found.quantized == type.startswith("Q")
    assert found.kl < {"F32": 1e-9, "F16": 1e-5, "BF16": 5e-4, "Q8_0": 5e-3, "Q2_K": 2}[type]


def test_a_folder_made_of_a_gguf_is_compared_with_it(gguf, tmp_path):
    found = second_look(convert(gguf, tmp_path / "folder"))
    assert found and found.same and found.kl is not None and found.kl < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"hidden_act": "relu"},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}},
        {"rms_norm_eps": 1e-2},
        {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32},
    ],
)
def test_settings_that_the_file_does_not_have_are_noticed(changes, tmp_path):
    folder = shutil.copytree(weights_dir("pebble"), tmp_path / "pebble")
    done = convert(folder, tmp_path / "p.gguf", type="F16")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    found = second_look(done)
    assert found and found.kl is not None and "different functions" in found.warning


def test_other_conversions_are_not_looked_at(tmp_path):
    assert second_look(convert("pebble", tmp_path / "pebble.safetensors")) is None


def test_another_function_is_exit_status_1(tmp_path, capsys, monkeypatch):
    def spoiled(*arguments):
        done = convert(*arguments)
        scaled_norm(done.target)
        return done

    monkeypatch.setattr("llmnotes.models.files.convert", spoiled)
    assert main(["convert", "pebble", str(tmp_path / "p.gguf"), "--type", "F16"]) == 1
    assert "compute different functions" in capsys.readouterr().err
    assert main(["convert", "pebble", str(tmp_path / "q.gguf"), "--type", "F32", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["second_look"]
    assert not found["same"] and found["kl"] > 0.005
    # A quantized file differs anyway: the figure is printed, and nobody is accused.
    assert main(["convert", "pebble", str(tmp_path / "r.gguf"), "--type", "Q4_K_M"]) == 0
    assert "the bits that were saved" in capsys.readouterr().out


def test_a_difference_that_the_conversion_names_is_not_accused(tmp_path):
    done = convert("pebble", tmp_path / "p.gguf", type="F32")
    scaled_norm(done.target)
    named = done.__class__(**{**vars(done), "lost": (module.WINDOW,)})
    found = second_look(named)
    assert found and found.same and found.kl is not None and found.kl > 0.005
    assert not second_look(done).same


@pytest.mark.parametrize(
    "error",
    [
        MissingPart("xllamacpp is missing"),
        ModelBroken("no such architecture"),
        ProcessDied("it breaks"),
        RuntimeError("out of memory\nmore"),
        KeyError("key"),
        MemoryError(),
        ModuleNotFoundError("no module"),
    ],
)
def test_a_look_that_cannot_be_had_is_said_and_is_no_fault(error, gguf, tmp_path, monkeypatch, capsys):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(logits, "logits_of", fails)
    assert main(["convert", str(gguf), str(tmp_path / "folder")]) == 0
    said = re.search("^not run    (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert said and ((str(error) or "MemoryError").splitlines()[0] in said[1])


def test_a_model_that_does_not_fit_beside_its_gguf_is_not_run(gguf, tmp_path, monkeypatch):
    done = convert(gguf, tmp_path / "folder")
    monkeypatch.setattr(module, "memory", lambda: (10**9, 10**6))
    found = second_look(done)
    assert found and found.kl is None
    assert "together take 0.0 GB of memory and 0.0 GB are free" in found.why


def test_numbers_that_are_not_finite_are_noticed(gguf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logits, "logits_of", lambda path, ids: np.full((len(ids), 2048), np.nan, np.float32))
    assert main(["convert", str(gguf), str(tmp_path / "folder"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["second_look"]["kl"] == "inf"
    # Where the source itself is broken, nobody is accused.
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(weights_dir("pebble"), tmp_path / "pebble")
    done = convert(folder, tmp_path / "p.gguf", type="F32")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = second_look(done)
    assert found and found.same and "not finite" in found.why


@pytest.mark.slow
@pytest.mark.parametrize("type", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_is_accused(name, type, stories, tmp_path):
    found = second_look(convert(made(name, tmp_path / "model", stories), tmp_path / "model.gguf", type=type))
    assert found and found.kl is not None and found.kl < module.LIMITS[type] / 10


def test_llama_cpp_says_why_it_has_no_logits(gguf, tmp_path, monkeypatch):
    with pytest.raises(ModelBroken, match="There is no token 9999"):
        logits.logits_of(gguf, [0, 9999])
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf.read_bytes()[:5000])
    with pytest.raises(ModelBroken, match="does not load broken.gguf"):
        logits.logits_of(broken, [0])
    died = subprocess.CompletedProcess([], -6, b"", b"")
    monkeypatch.setattr(logits.subprocess, "run", lambda *_, **__: died)
    with pytest.raises(ProcessDied, match="exit status -6"):
        logits.logits_of(gguf, [0])
    monkeypatch.undo()
    monkeypatch.setattr(logits, "SECONDS", 0)
    with pytest.raises(ProcessDied, match="has not run pebble.gguf in 0 s"):
        logits.logits_of(gguf, [0])
