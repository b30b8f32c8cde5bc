"""Folders that GPTQ, FP8 or compressed-tensors have quantized become the GGUF of the weights that they stand for."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmnotes.errors import LLMNotesError, NotConvertible
from llmnotes.formats import convert
from tests.models_for_gguf import make

BLOCK = 32


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_folder):
    """A Llama of 64 columns in BF16."""
    return make("llama_mha", tmp_path_factory.mktemp("plain") / "model", tiny_folder, "bfloat16")


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tiny_folder):
    """A Llama whose matrices fill GPTQ's words."""
    return make("llama_head_dim", tmp_path_factory.mktemp("wide") / "model", tiny_folder, "bfloat16")


def quantized(plain: Path, folder: Path, pack, config: dict, more: dict | None = None) -> tuple[Path, Path]:
    """Return (a folder whose projections `pack` has packed, the folder with the weights that they stand for).

    `pack(weight)` returns ({end of a name: tensor}, the weight as float32).
    """
    exact = shutil.copytree(plain, folder / "exact")
    packed = shutil.copytree(plain, folder / "model")
    tensors, real = {}, {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        if name.endswith("proj.weight"):
            parts, real[name] = pack(tensor.float())
            tensors |= {name.removesuffix("weight") + end: part.contiguous() for end, part in parts.items()}
        else:
            tensors[name] = real[name] = tensor
    save_file(tensors | (more or {}), packed / "model.safetensors", {"format": "pt"})
    save_file({name: tensor.contiguous() for name, tensor in real.items()}, exact / "model.safetensors")
    settings = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(settings | {"quantization_config": config}))
    return packed, exact


def same(packed: Path, exact: Path, kind: str = "F32"):
    """Convert both and compare the files to the byte; return what the first conversion says."""
    done = convert(packed, packed.parent / "packed.gguf", type=kind)
    (packed.parent / "twin").mkdir()
    twin = exact.rename(packed.parent / "twin" / packed.name)  # the folder's name is in the file
    convert(twin, packed.parent / "exact.gguf", type=kind)
    assert (packed.parent / "packed.gguf").read_bytes() == (packed.parent / "exact.gguf").read_bytes()
    return done


def words(codes: torch.Tensor, bits: int, axis: int) -> torch.Tensor:
    """Pack whole numbers along an axis into int32, the first into the lowest bits."""
    codes = codes.movedim(axis, 0).long()
    codes = torch.cat([codes, codes.new_zeros(-len(codes) % (32 // bits), *codes.shape[1:])])
    groups = codes.reshape(-1, 32 // bits, *codes.shape[1:])
    total = sum(groups[:, at] << (bits * at) for at in range(32 // bits))
    return torch.where(total >= 1 << 31, total - (1 << 32), total).int().movedim(0, axis)


def gptq(bits: int, version: int, scattered: bool = False, group: int = 32, g_idx: bool = True):
    generator = torch.Generator().manual_seed(bits)

    def pack(weight):
        outputs, inputs = weight.shape
        codes = torch.randint(0, 1 << bits, (outputs, inputs), generator=generator)
        groups = -(-inputs // group)
        zeros = torch.randint(1, 1 << bits, (groups, outputs), generator=generator)
        scales = (torch.rand(groups, outputs, generator=generator) * 0.1).half()
        of = torch.arange(inputs) // group
        of = of[torch.randperm(inputs, generator=generator)] if scattered else of
        parts = {"qweight": words(codes.T, bits, 0), "qzeros": words(zeros - int(version == 1), bits, 1)}
        parts |= {"scales": scales} | ({"g_idx": of.int()} if g_idx else {})
        return parts, ((codes.T - zeros[of]).float() * scales.float()[of]).T

    return pack


@pytest.mark.parametrize(
    ("bits", "form", "more"),
    [
        (4, "gptq", {}),
        (4, "gptq_v2", {}),
        (4, "gptq", {"scattered": True}),
        (4, "gptq", {"g_idx": False}),
        (8, "gptq", {}),
        (2, "gptq", {}),
    ],
)
def test_gptq_becomes_the_weights_that_it_stands_for(bits, form, more, wide, tmp_path):
    config = {"quant_method": "gptq", "bits": bits, "group_size": 32, "checkpoint_format": form}
    done = same(*quantized(wide, tmp_path, gptq(bits, 2 if form.endswith("2") else 1, **more), config))
    assert f"The weights were quantized (GPTQ, {bits} bits), and keep the errors of that." in done.lost
    assert done.tensors == 21 and not any("does not know" in sentence for sentence in done.lost)


def test_what_llmnotes_has_written_with_gptq_comes_back(plain, tmp_path):
    from llmnotes.formats import gptq as folders
    from llmnotes.quantization.grouped import round_to_nearest

    names = [name for name in load_file(plain / "model.safetensors") if "self_attn" in name]
    tensors = load_file(plain / "model.safetensors")
    layers = {name.removesuffix(".weight"): round_to_nearest(tensors[name].float(), 3, 32) for name in names[:3]}
    folders.save(plain, layers, tmp_path / "model", 32)
    exact = shutil.copytree(plain, tmp_path / "exact")
    real = {f"{name}.weight": layer.dequantize() for name, layer in layers.items()}
    save_file(tensors | real, exact / "model.safetensors")
    same(tmp_path / "model", exact)


def fp8(dtype, scales, name="weight_scale_inv", block=BLOCK):
    """Quantize with a scale for each block, row or matrix."""

    def pack(weight):
        rows, columns = weight.shape
        down, across = {"block": (block, block), "row": (1, columns), "matrix": (rows, columns)}[scales]
        shape = (-(-rows // down), -(-columns // across))
        scale = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.001
        full = scale.repeat_interleave(down, 0)[:rows].repeat_interleave(across, 1)[:, :columns]
        codes = (weight / full).clamp(-400, 400).to(dtype)
        stored = scale.reshape(()) if scales == "matrix" else scale
        return {"weight": codes, name: stored}, codes.float() * full

    return pack


@pytest.mark.parametrize(
    ("method", "pack"),
    [
        ("fp8", fp8(torch.float8_e4m3fn, "block")),
        ("fp8", fp8(torch.float8_e5m2, "block")),
        ("fp8", fp8(torch.float8_e4m3fn, "matrix")),
        ("fbgemm_fp8", fp8(torch.float8_e4m3fn, "row", "weight_scale")),
    ],
)
def test_fp8_becomes_the_weights_that_it_stands_for(method, pack, plain, tmp_path):
    config = {"quant_method": method, "activation_scheme": "static", "weight_block_size": [BLOCK, BLOCK]}
    base = "model.layers.0.self_attn."
    more = {f"{base}q_proj.input_scale": torch.ones(()), f"{base}k_scale": torch.ones(1)}
    done = same(*quantized(plain, tmp_path, pack, config, more))
    assert any("activations while it runs" in sentence for sentence in done.lost)
    assert any("1 tensor of quantized activations" in sentence for sentence in done.lost)
    assert any("1 tensor of a quantized key-value cache" in sentence for sentence in done.lost)


def test_fp8_is_what_transformers_makes_of_it(plain, tmp_path):
    from transformers import AutoModelForCausalLM, FineGrainedFP8Config

    config = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [4, 4],
    }  # they fill each matrix
    packed, exact = quantized(plain, tmp_path, fp8(torch.float8_e4m3fn, "block", block=4), config)
    how = FineGrainedFP8Config(weight_block_size=(4, 4), dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(packed, quantization_config=how, dtype=torch.bfloat16)
    theirs, ours = model.state_dict(), load_file(exact / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(theirs[name].float(), ours[name].bfloat16().float())
    assert same(packed, exact, None).tensors == 21  # in BF16, as the folder's other tensors are


def grouped(bits: int, group: int, asymmetric: bool = False, scattered: bool = False):
    """Quantize as compressed-tensors does: signed numbers, moved up by half their range and packed along the rows."""
    generator = torch.Generator().manual_seed(bits)

    def pack(weight):
        rows, columns = weight.shape
        half = 1 << (bits - 1)
        codes = torch.randint(-half, half, (rows, columns), generator=generator)
        count = -(-columns // group)
        scale = (torch.rand(rows, count, generator=generator) * 0.1).bfloat16()
        zero = (
            torch.randint(-half, half, (rows, count), generator=generator) if asymmetric else torch.zeros(rows, count)
        )
        of = torch.arange(columns) // group
        of = of[torch.randperm(columns, generator=generator)] if scattered else of
        parts = {"weight_packed": words(codes + half, bits, 1), "weight_scale": scale}
        parts["weight_shape"] = torch.tensor([rows, columns])
        parts |= {"weight_zero_point": words(zero + half, bits, 0)} if asymmetric else {}
        parts |= {"weight_g_idx": of.int()} if scattered else {}
        return parts, (codes - zero[:, of]).float() * scale.float()[:, of]

    return pack


def compressed(form: str, weights: dict, **more) -> dict:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}} | more


@pytest.mark.parametrize(
    "pack", [grouped(4, 32), grouped(8, 32), grouped(4, 32, True), grouped(4, 1 << 20), grouped(4, 32, False, True)]
)
def test_packed_whole_numbers_become_the_weights_that_they_stand_for(pack, plain, tmp_path):
    parts = pack(torch.ones(2, 64))[0]
    bits = 8 if parts["weight_packed"].shape[1] == 16 else 4
    done = same(*quantized(plain, tmp_path, pack, compressed("pack-quantized", {"num_bits": bits, "group_size": 32})))
    assert any("compressed-tensors, pack-quantized" in sentence for sentence in done.lost)


def whole(weight):
    scale = torch.full((len(weight), 1), 0.01)
    zero = torch.full((len(weight), 1), 3, dtype=torch.int8)
    codes = (weight / scale).round().clamp(-128, 127).to(torch.int8)
    return {"weight": codes, "weight_scale": scale, "weight_zero_point": zero}, (codes.float() - 3) * scale


@pytest.mark.parametrize(
    ("form", "pack", "weights"),
    [
        ("float-quantized", fp8(torch.float8_e4m3fn, "row", "weight_scale"), {"num_bits": 8, "type": "float"}),
        ("float-quantized", fp8(torch.float8_e4m3fn, "matrix", "weight_scale"), {"num_bits": 8, "type": "float"}),
        (
            "float-quantized",
            fp8(torch.float8_e4m3fn, "block", "weight_scale"),
            {"num_bits": 8, "type": "float", "block_structure": [BLOCK, BLOCK]},
        ),
        ("int-quantized", whole, {"num_bits": 8, "type": "int"}),
    ],
)
def test_a_byte_for_each_weight_becomes_the_weights_that_it_stands_for(form, pack, weights, plain, tmp_path):
    same(*quantized(plain, tmp_path, pack, compressed(form, weights)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "gptq", "bits": 5}, "GPTQ with 5 bits"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "in the format marlin"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:lm_head": {}}}, "GPTQ with 4 bits"),
        (compressed("nvfp4-pack-quantized", {"num_bits": 4}), r"compressed-tensors \(nvfp4-pack"),
        (compressed("pack-quantized", {"num_bits": [4]}), "compressed-tensors"),
        (compressed("pack-quantized", {"num_bits": 4}, config_groups=[1]), "compressed-tensors"),
        (compressed("int-quantized", {"num_bits": 8}, sparsity_config={"format": "sparse-24"}), "sparse-24"),
    ],
)
def test_another_packing_is_refused_by_name(config, words, plain, tmp_path):
    packed, _ = quantized(plain, tmp_path, gptq(4, 1), config)
    with pytest.raises(NotConvertible, match=f"{words}.*, which llmnotes does not unpack"):
        convert(packed, tmp_path / "model.gguf")


def fewer(pack, end, change):
    """Return `pack` with one of its tensors changed, or taken away."""

    def changed(weight):
        parts, real = pack(weight)
        part = change(parts.pop(end))
        return parts | ({} if part is None else {end: part}), real

    return changed


@pytest.mark.parametrize(
    ("config", "pack", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, fewer(gptq(4, 1), "qzeros", lambda x: None), "do not fit|has no qzeros"),
        (
            {"quant_method": "gptq", "bits": 4},
            fewer(fewer(gptq(4, 1), "qzeros", lambda x: None), "g_idx", lambda x: None),
            "do not fit",
        ),
        (
            compressed("pack-quantized", {"num_bits": 4}),
            fewer(grouped(4, 32), "weight_scale", lambda x: x[None]),
            "do not fit",
        ),
        ({"quant_method": "gptq", "bits": 4}, fewer(gptq(4, 1), "scales", lambda x: x[:1]), "do not belong together"),
        (
            compressed("pack-quantized", {"num_bits": 4}),
            fewer(grouped(4, 32), "weight_scale", lambda x: x[:1].repeat(3, 1)),
            "do not fit",
        ),
        (
            compressed("pack-quantized", {"num_bits": 4}),
            fewer(grouped(4, 32), "weight_scale", lambda x: x.to(torch.int16)),
            "is stored as I16",
        ),
        (compressed("pack-quantized", {"num_bits": 8}), grouped(4, 32), "do not fit"),
    ],
)
def test_scales_that_do_not_fit_are_refused(config, pack, words, wide, tmp_path):
    packed, _ = quantized(wide, tmp_path, pack, config)
    with pytest.raises(LLMNotesError, match=words) as caught:
        convert(packed, tmp_path / "model.gguf")
    assert str(caught.value).endswith(".") and not (tmp_path / "model.gguf").exists()
