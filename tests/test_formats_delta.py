"""A model as the difference to another, and back."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes import formats
from llmnotes.errors import CannotWrite, NotConvertible
from llmnotes.formats.deltas import _stored, apply_delta, make_delta


@pytest.fixture(params=[torch.float16, torch.bfloat16, torch.float32], ids=str)
def pair(tiny_folder, tmp_path, request):
    """A base, and a target with one more row in its vocabulary."""
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    target = shutil.copytree(tiny_folder, tmp_path / "target")
    weights = {name: value.to(request.param) for name, value in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    torch.manual_seed(0)
    tuned = {name: (value + 0.01 * torch.randn(value.shape)).to(request.param) for name, value in weights.items()}
    table = tuned["model.embed_tokens.weight"]
    tuned["model.embed_tokens.weight"] = torch.cat([table, torch.ones(1, table.shape[1], dtype=request.param)])
    save_file(tuned, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    return base, target


def test_base_and_delta_make_the_target_as_well_as_the_maker_said(pair, tmp_path):
    base, target = pair
    made = make_delta(base, target, tmp_path / "delta")
    apply_delta(base, tmp_path / "delta", tmp_path / "back")
    old, want, delta, got = (
        load_file(d / "model.safetensors") for d in (base, target, tmp_path / "delta", tmp_path / "back")
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(delta[name], want[name] - old[name]) and delta[name].dtype == want[name].dtype
    assert torch.equal(got["model.embed_tokens.weight"][-1], want["model.embed_tokens.weight"][-1])
    exact, error, weights = 0, 0.0, 0
    for key, value in want.items():
        rows = len(old[key])
        bits = torch.int32 if value.dtype == torch.float32 else torch.int16
        exact += (got[key][:rows].view(bits) == value[:rows].view(bits)).sum().item()
        error = max(error, (got[key].float() - value.float()).abs().max().item())
        weights += value[:rows].numel()
    assert (made.exact, made.weights, made.error) == (exact, weights, error)
    assert exact / weights > 0.5 and error < 0.01
    assert (tmp_path / "back" / "config.json").read_bytes() == (target / "config.json").read_bytes()


def test_a_delta_in_pickles_without_a_fingerprint(pair, tmp_path):
    base, target = pair
    make_delta(base, target, tmp_path / "delta")
    apply_delta(base, tmp_path / "delta", tmp_path / "a")
    bin = shutil.copytree(tmp_path / "delta", tmp_path / "bin")
    tensors = sorted(load_file(bin / "model.safetensors").items())
    (bin / "model.safetensors").unlink()
    weight_map = {}
    for number, part in enumerate((tensors[:5], tensors[5:])):
        torch.save(dict(part), bin / f"pytorch_model-{number}.bin")
        weight_map |= {name: f"pytorch_model-{number}.bin" for name, _ in part}
    (bin / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    apply_delta(base, bin, tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_a_wrong_base_is_refused(pair, tmp_path):
    base, target = pair
    make_delta(base, target, tmp_path / "delta")
    with pytest.raises(NotConvertible, match="made from a different base"):
        apply_delta(target, tmp_path / "delta", tmp_path / "no")
    with pytest.raises(NotConvertible, match="embed_tokens.*give the base"):
        make_delta(target, base, tmp_path / "no")  # it would lose a row
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    with pytest.raises(NotConvertible, match="mistral"):
        make_delta(base, target, tmp_path / "no")
    with pytest.raises(NotConvertible, match="two Hugging Face folders"):
        make_delta(base / "model.safetensors", target, tmp_path / "no")
    with pytest.raises(CannotWrite):
        make_delta(target, target, tmp_path / "delta")
    assert not (tmp_path / "no").exists()


def test_a_base_that_differs_in_one_number_is_refused(pair, tmp_path):
    base, target = pair
    make_delta(base, target, tmp_path / "delta")
    weights = load_file(base / "model.safetensors")
    random = np.random.default_rng(0)
    for name in random.choice(sorted(weights), 6, replace=False):
        place = int(random.integers(weights[name].numel()))
        changed = {key: value.clone() for key, value in weights.items()}
        changed[name].view(-1)[place] += 1
        save_file(changed, base / "model.safetensors", {"format": "pt"})
        with pytest.raises(NotConvertible, match="made from a different base"):
            apply_delta(base, tmp_path / "delta", tmp_path / "no")


def test_a_model_minus_itself_is_nothing(tiny_folder, tmp_path):
    made = make_delta(tiny_folder, tiny_folder, tmp_path / "delta")
    assert made.exact == made.weights == formats.inspect(tiny_folder).parameters and made.error == 0
    assert all(not value.any() for value in load_file(tmp_path / "delta" / "model.safetensors").values())


def test_rounding_is_that_of_torch():
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, np.uint32)
    values = bits.view(np.float32)
    values = values[~np.isnan(values)]
    for dtype, kind in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        assert _stored(values, dtype) == torch.from_numpy(values).to(kind).view(torch.int16).numpy().tobytes()
    assert np.isnan(torch.frombuffer(bytearray(_stored(np.float32([np.nan]), "BF16")), dtype=torch.bfloat16).item())
