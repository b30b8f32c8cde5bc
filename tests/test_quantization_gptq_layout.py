"""GPTQ's layout and errors against gptqmodel and transformers, which load what is written here."""

import importlib.util
import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from llmnotes.errors import CannotWrite, NotConvertible, NotQuantizable
from llmnotes.formats import gptq as folders
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir
from llmnotes.pebble.corpus import documents
from llmnotes.quantization import gptq, gptq_layout, grouped
from llmnotes.quantization.models import layerwise
from llmnotes.quantization.models.gptq import quantize_model

SMALL = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def gptqmodel():
    if importlib.util.find_spec("gptqmodel") is None or importlib.util.find_spec("optimum") is None:
        pytest.skip("gptqmodel and optimum are not installed")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("GPTQMODEL_CPU_WORKERS", "2")
        import gptqmodel
    return gptqmodel


@pytest.fixture(scope="module")
def pebble():
    return open_model("pebble", say=lambda line: None)


@pytest.fixture(scope="module")
def windows(pebble):
    return list(layerwise.token_windows((d.text for d in documents(400, seed=11)), pebble.tokenizer, 2048))


def stream(codes, bits):
    """The words of one column, from Python's whole numbers."""
    whole = sum(int(code) << bits * place for place, code in enumerate(codes))
    return [
        word - (1 << 32) * (word >> 31)
        for word in (whole >> 32 * i & 0xFFFFFFFF for i in range(len(codes) * bits // 32))
    ]


@pytest.mark.parametrize("bits", grouped.BITS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_words_are_a_stream_of_bits_and_come_back(bits, symmetric):
    layer = grouped.round_to_nearest(SMALL, bits, 32, symmetric)
    layer.zeros[0, 0] = 0 if not symmetric else layer.zeros[0, 0]
    version = gptq_layout.version([layer])
    assert version == (1 if symmetric else 2)
    packed = gptq_layout.pack(layer, version)
    assert packed["qweight"].shape == (96 * bits // 32, 64) and packed["qweight"].dtype == np.int32
    assert packed["qzeros"].shape == (3, 64 * bits // 32) and packed["scales"].dtype == np.float16
    for row in (0, 17, 63):
        assert packed["qweight"][:, row].tolist() == stream(layer.codes[row], bits)
    assert packed["qzeros"][1].tolist() == stream(layer.zeros[:, 1].numpy().astype(int) - (version == 1), bits)
    back = gptq_layout.unpack(packed, bits, version)
    for name in ("codes", "scales", "zeros", "group_of"):
        assert (getattr(back, name) == getattr(layer, name)).all(), name
    assert (back.dequantize() == layer.dequantize()).all()
    nbytes = sum(values.nbytes for values in packed.values())
    assert layer.bits_per_weight == pytest.approx(8 * nbytes / layer.codes.numel())


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: gptq_layout.pack(grouped.round_to_nearest(torch.ones(40, 32), 3)), "multiples of 32"),
        (lambda: gptq_layout.pack(grouped.round_to_nearest(torch.ones(32, 40), 2)), "multiples of 32"),
        (lambda: gptq_layout.pack(grouped.round_to_nearest(torch.ones(32, 32), 4, symmetric=False)), "version 2"),
        (lambda: gptq_layout.unpack({}, 4), "no qweight"),
        (lambda: gptq_layout.unpack(gptq_layout.pack(grouped.round_to_nearest(SMALL, 4)), 3), "bits"),
        (lambda: gptq_layout.unpack({}, 6), "no layout"),
        (lambda: gptq_layout.settings({}, 128, True), "none"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(call, word):
    with pytest.raises(NotQuantizable, match=word):
        call()
    packed = gptq_layout.pack(grouped.round_to_nearest(SMALL, 4))
    packed["g_idx"][0] = 5
    with pytest.raises(NotQuantizable, match="g_idx"):
        gptq_layout.unpack(packed, 4)


def test_a_folder_holds_the_codes_and_everything_else(pebble, tmp_path):
    layers = {
        name: grouped.round_to_nearest(module.weight, 4)
        for name, module in pebble.model.named_modules()
        if name.endswith("_proj")
    }
    folder = folders.save(weights_dir("pebble"), layers, tmp_path / "packed")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["bits"] == 4 and config["hidden_size"] == 256
    original = {part for part in pebble.model.state_dict() if "norm" in part or "embed" in part}
    stored = load_names(folder / "model.safetensors")
    assert original <= stored and len(stored) == len(original) + 4 * 28
    assert (folder / "tokenizer.json").read_bytes() == (weights_dir("pebble") / "tokenizer.json").read_bytes()
    with pytest.raises(CannotWrite, match="exists"):
        folders.save(weights_dir("pebble"), layers, folder)
    with pytest.raises(NotConvertible, match="no nothing.weight"):
        folders.save(weights_dir("pebble"), {"nothing": layers["model.layers.0.mlp.up_proj"]}, tmp_path / "other")
    with pytest.raises(NotConvertible, match="shape"):
        folders.save(
            weights_dir("pebble"),
            {"model.layers.0.mlp.down_proj": layers["model.layers.0.mlp.up_proj"]},
            tmp_path / "other",
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed"]


def load_names(path):
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return set(file.keys())


def test_settings_with_half_a_character_are_copied_as_they_are(pebble, tmp_path):
    model = shutil.copytree(weights_dir("pebble"), tmp_path / "model")
    config = json.loads((model / "config.json").read_text(encoding="utf-8")) | {"_name_or_path": "\ud800 ë"}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    name = "model.layers.0.mlp.up_proj"
    folders.save(model, {name: grouped.round_to_nearest(pebble.model.get_submodule(name).weight, 4)}, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf-8"))["_name_or_path"] == "\ud800 ë"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "bits, group, symmetric, order",
    [(3, 128, True, "static"), (2, 64, False, "activation"), (8, None, True, "natural")],
)
def test_transformers_loads_what_is_written_here(gptqmodel, pebble, windows, tmp_path, bits, group, symmetric, order):
    import copy

    from transformers import AutoModelForCausalLM

    model = copy.deepcopy(pebble.model)
    layers = quantize_model(model, windows[:1], bits, group, symmetric, order)
    folder = folders.save(weights_dir("pebble"), layers, tmp_path / "packed", group, symmetric)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, layer in layers.items():
        module = loaded.get_submodule(name)
        assert "gptqmodel" in type(module).__module__
        with torch.no_grad():
            weight = module(torch.eye(module.in_features)).T
        # gptqmodel multiplies in float16, which has 11 bits; the numbers themselves are ours.
        assert ((weight - layer.dequantize()).abs() <= 2.0**-11 * layer.dequantize().abs() + 1e-7).all(), name
    with torch.no_grad():
        ours, theirs = model(windows[0][:2]).logits, loaded(windows[0][:2]).logits
    assert (ours - theirs).abs().max() < 1e-3 * ours.abs().max()
    assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() > 0.99


@pytest.mark.filterwarnings("ignore")
def test_every_layer_of_pebble_is_rounded_as_well_as_by_gptqmodel(gptqmodel, pebble, windows):
    from gptqmodel.quantization.gptq import GPTQ

    orders = {
        "natural": {"desc_act": False, "act_group_aware": False},
        "activation": {"desc_act": True, "act_group_aware": False},
        "group": {"desc_act": False, "act_group_aware": True},
        "static": {"desc_act": True, "act_group_aware": False, "static_groups": True},
    }
    cases = [(3, True, "static"), (3, True, "natural"), (4, False, "group"), (2, False, "activation")]
    for number, site in enumerate(layerwise.sites(pebble.model, windows)):
        bits, symmetric, order = cases[number % 4]
        for name, layer in zip(site.names, site.layers, strict=True):
            settings = gptqmodel.QuantizeConfig(
                bits=bits,
                group_size=128,
                sym=symmetric,
                damp_percent=0.01,
                fallback=None,
                offload_to_disk=False,
                **orders[order],
            )
            copy = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
            copy.weight.data.copy_(layer.weight)
            peer = GPTQ(copy, settings)
            peer.quantizer.configure(perchannel=True)
            peer.H, peer.nsamples = site.hessian.clone(), site.tokens
            peer.finalize_hessian = lambda target_device=None, peer=peer: peer.H
            theirs = gptq.output_error(layer.weight, peer.quantize()[0], site.hessian)
            ours = gptq.quantize(layer.weight, site.hessian, bits, 128, symmetric, order, search=False)
            assert gptq.output_error(layer.weight, ours, site.hessian) < 1.02 * theirs, name
            searched = gptq.quantize(layer.weight, site.hessian, bits, 128, symmetric, order)
            assert gptq.output_error(layer.weight, searched, site.hessian) < 1.02 * theirs, name


@pytest.mark.filterwarnings("ignore")
def test_what_gptqmodel_packs_is_read_here(gptqmodel):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    for bits in grouped.BITS:
        layer = grouped.round_to_nearest(SMALL, bits, 32, symmetric=False)
        linear = torch.nn.Linear(96, 64, bias=False)
        linear.weight.data.copy_(layer.dequantize())
        peer = TorchLinear(bits, 32, False, False, 96, 64, register_buffers=True)
        peer.pack_original(linear, layer.scales, layer.zeros.float(), layer.group_of)
        theirs = {name: getattr(peer, name).numpy() for name in ("qweight", "qzeros", "scales", "g_idx")}
        ours = gptq_layout.pack(layer, version=2)
        for name, values in theirs.items():
            assert (values == ours[name]).all(), (bits, name)
