"""Numbers that a conversion would change are refused or named: beyond F16, not finite, signs that a view turns."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import NotQuantizable
from llmnotes.formats import convert, inspect
from llmnotes.formats.gguf.finite import finite
from llmnotes.pebble import weights_dir

HUGE = {"F16": 70_000.0, "Q8_0": 1e7, "Q4_0": 1e7, "Q2_K": 1e9}
PLACE = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def damaged(tmp_path):
    """Return a function that writes Pebble in float32 with one other number, and returns its folder."""

    def write(name, value):
        folder = tmp_path / "model"
        shutil.copytree(weights_dir("pebble"), folder)
        weights = {key: weight.float() for key, weight in load_file(folder / "model.safetensors").items()}
        weights[name].view(-1)[7] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    return write


@pytest.mark.parametrize("type", HUGE)
def test_a_weight_that_a_type_cannot_hold_is_refused(damaged, tmp_path, type):
    folder = damaged(PLACE, HUGE[type])
    with pytest.raises(NotQuantizable, match="try BF16 or F32"):
        convert(folder, tmp_path / "a.gguf", type=type)
    assert not (tmp_path / "a.gguf").exists()
    assert convert(folder, tmp_path / "b.gguf", type="BF16").tensors == 38


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("type", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("name", [PLACE, "model.norm.weight"])
def test_what_is_no_number_is_refused(damaged, tmp_path, value, type, name):
    with pytest.raises(NotQuantizable, match="cannot become"):
        convert(damaged(name, value), tmp_path / "a.gguf", type=type)
    assert not (tmp_path / "a.gguf").exists()


def test_sound_numbers_pass_in_pieces_of_any_size():
    data = np.arange(-50, 50, dtype=np.float32).tobytes()
    for size in (1, 3, 4, 399):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert list(finite("F32", pieces)) == pieces
    bad = np.array([1, np.inf], np.float16).tobytes()
    with pytest.raises(NotQuantizable, match="65,504"):
        list(finite("F16", [bad[:3], bad[3:]]))


def test_a_sign_that_a_view_turns_is_named(tmp_path):
    z = torch.tensor([1 + 2j, 3 - 4j])
    torch.save({"conj": z.conj(), "neg": z.clone().conj().imag, "plain": z.clone()}, tmp_path / "a.pt")
    found = inspect(tmp_path / "a.pt")
    assert [tensor.name for tensor in found.tensors] == ["plain"]
    assert sum("whose sign is turned" in note for note in found.notes) == 2
    done = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert sum("whose sign is turned" in line for line in done.lost) == 2
