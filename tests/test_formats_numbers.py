"""Numbers that a conversion would change are refused or named: beyond F16, not finite, signs that a view turns."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import FileBroken, NotQuantizable
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


def placed(value: float):
    """Return what gives a matrix one weight of this value."""

    def change(matrix: torch.Tensor) -> None:
        matrix.view(-1)[7] = value

    return change


def shrunk(largest: float, rows: slice = slice(None)):
    """Return what makes some rows of a matrix so small."""

    def change(matrix: torch.Tensor) -> None:
        matrix[rows] *= largest / matrix.abs().max()

    return change


@pytest.fixture
def changed(tmp_path):
    """Return a function that writes Pebble with one other matrix, and returns its folder."""

    def write(change, dtype=torch.float32):
        folder = tmp_path / "model"
        shutil.copytree(weights_dir("pebble"), folder)
        weights = {key: weight.to(dtype) for key, weight in load_file(folder / "model.safetensors").items()}
        change(weights[PLACE])
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    return write


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1e13, 1e30, -3.3e38])
def test_a_huge_weight_that_a_search_for_scales_would_make_0_is_refused(changed, tmp_path, value, dtype):
    folder = changed(placed(value), dtype)
    for type in ("Q6_K", "Q3_K_S", "Q3_K_M", "Q3_K_L"):
        with pytest.raises(NotQuantizable, match=r"ffn_down.weight cannot .* scale of a block is infinite; try BF16"):
            convert(folder, tmp_path / "a.gguf", type=type)
    importance = {"blk.1.ffn_down.weight": np.ones(inspect(folder).metadata["config"]["intermediate_size"])}
    with pytest.raises(NotQuantizable, match="scale of a block is infinite"):
        convert(folder, tmp_path / "a.gguf", type="Q6_K", importance=importance)
    assert not (tmp_path / "a.gguf").exists()
    assert convert(folder, tmp_path / "b.gguf", type="BF16").tensors == 38


@pytest.mark.parametrize(
    ("type", "largest"), [("F16", 1e-8), ("Q8_0", 1e-8), ("Q4_K_M", 1e-6), ("Q6_K", 1e-4), ("Q3_K_S", 1e-6)]
)
def test_a_matrix_too_small_for_a_type_is_refused(changed, tmp_path, type, largest):
    with pytest.raises(NotQuantizable, match=r"its largest weight, (1e-0\d|0.0001), would become 0; try BF16 or F32"):
        convert(changed(shrunk(largest)), tmp_path / "a.gguf", type=type)
    assert not (tmp_path / "a.gguf").exists()


def test_a_matrix_whose_scales_become_coarse_is_refused(changed, tmp_path):
    with pytest.raises(NotQuantizable, match=r"its largest weight, 4.*e-06, would become 7.*e-06; try BF16 or F32"):
        convert(changed(shrunk(4.2e-6)), tmp_path / "a.gguf", type="Q8_0")  # a scale below what float16 can hold
    assert not (tmp_path / "a.gguf").exists()


def test_a_matrix_that_becomes_too_small_from_one_gguf_to_another_is_refused(changed, tmp_path):
    folder = changed(shrunk(2e-5))
    convert(folder, tmp_path / "a.gguf", type="Q8_0")
    with pytest.raises(NotQuantizable, match=r"its largest weight, 2.*e-05, would become 0; try BF16 or F32"):
        convert(tmp_path / "a.gguf", tmp_path / "b.gguf", type="Q6_K")
    assert not (tmp_path / "b.gguf").exists()


def test_rows_that_become_zeros_are_named_and_zeros_are_not(changed, tmp_path):
    folder = changed(shrunk(1e-9, slice(2, 5)))
    for type, source in (("F16", folder), ("Q4_K_M", folder), ("Q4_K_M", tmp_path / "F32.gguf"), ("Q4_0", folder)):
        convert(folder, tmp_path / "F32.gguf", type="F32")
        done = convert(source, tmp_path / "a.gguf", type=type)
        (said,) = [line for line in done.lost if "zeros" in line]
        assert said.startswith("3 rows of weights became zeros in 1 tensor, blk.1.ffn_down.weight first: ")
        for name in ("a.gguf", "F32.gguf"):
            (tmp_path / name).unlink()
    shutil.rmtree(folder)
    folder = changed(lambda matrix: matrix[:9].zero_())
    for type in ("F16", "BF16", "Q8_0", "Q6_K", "Q2_K"):
        assert not any("zeros" in line for line in convert(folder, tmp_path / f"{type}.gguf", type=type).lost)


def test_a_matrix_of_zeros_stays_one(changed, tmp_path):
    folder = changed(torch.Tensor.zero_)
    for type in ("F16", "Q8_0", "Q4_K_M", "Q6_K"):
        assert not any("zeros" in line for line in convert(folder, tmp_path / f"{type}.gguf", type=type).lost)


@pytest.mark.parametrize("size", [100, 1024, 3000, 1 << 20])
def test_rows_are_looked_at_in_pieces_of_any_size(size):
    from llmnotes.formats.gguf.from_huggingface import quantized
    from llmnotes.quantization.blocks import quantize

    matrix = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32)
    matrix[7], matrix[9] = 1e-20, 0
    data, lost = matrix.tobytes(), {}
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for type in ("F16", "BF16", "Q8_0", "Q4_K", "Q6_K"):
        made = b"".join(quantized("a", lambda: [("F32", iter(pieces))], type, 256, lost))
        assert made == quantize(matrix, type).tobytes() if type in ("Q8_0", "Q4_K", "Q6_K") else made
        assert lost == {"a": int(type != "BF16")}


@pytest.mark.parametrize(
    ("which", "value", "words"),
    [("A", float("nan"), "lora_A.weight cannot be written: .* infinite or no numbers"), ("B", 3e38, "lora_B.weight")],
)
def test_a_lora_of_numbers_that_are_not_finite_is_refused(tiny_folder, tmp_path, which, value, words):
    from llmnotes.formats.gguf import lora

    layer, adapter = "base_model.model.model.layers.0.self_attn.q_proj.lora", tmp_path / "adapter"
    width = json.loads((tiny_folder / "config.json").read_text())["hidden_size"]
    pair = {"A": torch.ones(2, width), "B": torch.ones(width, 2)}
    adapter.mkdir()

    def write(**settings):
        tensors = {f"{layer}_{key}.weight": matrix for key, matrix in pair.items()}
        save_file(tensors, adapter / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "base_model_name_or_path": "tiny", "r": 2, "use_rslora": True}
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 2} | settings))
        return inspect(adapter)

    assert lora.convert(write(), tmp_path / "a.gguf", base=tiny_folder).tensors == 2
    for alpha in (float("nan"), 1e39):
        with pytest.raises(FileBroken, match="alpha that is no number"):
            lora.convert(write(lora_alpha=alpha), tmp_path / "b.gguf", base=tiny_folder)
    pair[which][1, 1] = value
    with pytest.raises(NotQuantizable, match=words):
        lora.convert(write(), tmp_path / "b.gguf", base=tiny_folder)
    assert not (tmp_path / "b.gguf").exists()
