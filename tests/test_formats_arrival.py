"""Every tensor of a source arrives or is named, and nothing arrives that the source lacks."""

import argparse
import collections
import io
import pickle
import shutil
import types
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llmnotes import formats
from llmnotes.errors import NotConvertible, UnknownFormat
from llmnotes.formats import conversion, convert
from llmnotes.formats.describe import conversion_dict


def written(value, tmp_path, **settings):
    """Return (what a conversion of a checkpoint wrote, the conversion)."""
    torch.save(value, tmp_path / "a.pt", **settings)
    done = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    everything = {tensor.name for tensor in formats.inspect(tmp_path / "a.pt").tensors if not tensor.alias}
    assert everything == set(done.left) | {name for sources in done.made.values() for name in sources}
    assert set(conversion_dict(done)["left_out"]) == set(done.left)
    return load_file(tmp_path / "a.safetensors"), done


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def trained():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return model.state_dict(), optimizer.state_dict()


def test_a_flat_state_dict_with_an_epoch_beside_it_stays_whole(tiny_folder, tmp_path):
    state = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict()
    found, done = written({**state, "epoch": 3}, tmp_path)
    assert found.keys() | {"lm_head.weight"} == state.keys()  # tied, so that the metadata names it
    assert "lm_head.weight" in done.made and "epoch" in " ".join(done.lost)


def test_two_tensors_of_one_name_both_arrive(tmp_path):
    found, done = written(
        {"a": {"b": torch.zeros(2)}, "a.b": torch.ones(2), 7: torch.ones(3), "7": torch.zeros(3)}, tmp_path
    )
    expected = {"a.b": torch.zeros(2), "a.b#2": torch.ones(2), "7": torch.ones(3), "7#2": torch.zeros(3)}
    assert same(found, expected) and "a.b#2, 7#2" in done.lost[0]


KEYS = ["state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "backbone"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("other", ["optimizer", "optimizer_state", "optim", "trainer"])
def test_an_optimizers_moments_are_no_weights(tmp_path, key, other):
    state, moments = trained()
    found, done = written({key: state, other: moments, "epoch": 3, "rng_state": torch.get_rng_state()}, tmp_path)
    assert same(found, state)
    assert "of an optimizer" in done.lost[0] and "exp_avg" in done.lost[0] and "rng_state" in done.lost[1]


def test_a_trainers_checkpoint_in_a_folder_is_no_different(tiny_folder, tmp_path):
    state, moments = trained()
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tiny_folder / "config.json", folder)
    torch.save({"model_state_dict": state, "optimizer": moments}, folder / "pytorch_model.bin")
    done = convert(folder, tmp_path / "out", to="safetensors")
    assert same(load_file(tmp_path / "out" / "model.safetensors"), state) and "exp_avg" in done.lost[0]


def test_two_networks_keep_their_names_and_an_average_is_named(tmp_path):
    state, moments = trained()
    found, done = written({"model": state, "head": {"w": torch.ones(2)}, "optimizer": moments}, tmp_path)
    assert same(found, {f"model.{name}": t for name, t in state.items()} | {"head.w": torch.ones(2)})
    average = {name: t + 1 for name, t in state.items()}
    (tmp_path / "b").mkdir()
    found, done = written({"model": state, "model_ema": average}, tmp_path / "b")
    assert same(found, state) and "beside model: model_ema." in done.lost[0]


def test_an_optimizer_alone_counts_as_it_is(tmp_path):
    found, done = written(trained()[1], tmp_path)
    assert "state.0.exp_avg" in found and not done.left


class Passing(torch.nn.Module):
    """A module with what its state dict does not have."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 2)
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("kept", torch.ones(3))
        self.register_buffer("passing", torch.zeros(3), persistent=False)
        self.plain = torch.ones(4)

    def forward(self, x):
        return self.inner(x) * self.scale + self.plain[:2] + self.passing[:2] + torch.tensor([[0.5, 0.5], [1.0, 1.0]])


def test_a_pickled_module_becomes_its_state_dict(tmp_path):
    module = torch.nn.Sequential(Passing(), torch.nn.Linear(2, 2))
    module[0].cache = {"last": torch.ones(5)}
    found, done = written(module, tmp_path)
    assert same(found, module.state_dict())
    assert set(done.left) == {"0.passing", "0.cache.last", "0.plain"} and "0.plain" in done.lost[0]
    (tmp_path / "b").mkdir()
    found, done = written({"model": module, "optimizer": trained()[1]}, tmp_path / "b")
    assert same(found, module.state_dict()) and "model.0.plain" in done.left
    net = torch.nn.Module()
    net.model = torch.nn.Linear(2, 2)  # the only part has a usual name, and the state dict says it
    (tmp_path / "c").mkdir()
    assert written(net, tmp_path / "c")[0].keys() == net.state_dict().keys()


def test_a_program_of_torchscript_becomes_its_state_dict_and_a_frozen_one_its_constants(tmp_path):
    module = torch.nn.Sequential(Passing(), torch.nn.Linear(2, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        script = torch.jit.script(module)
        script.save(tmp_path / "a.pt")
        torch.jit.freeze(script).save(tmp_path / "b.pt")
        torch.jit.trace(module, torch.ones(1, 3)).save(tmp_path / "c.pt")
        expected = torch.jit.load(tmp_path / "a.pt").state_dict()
    for name, left in (("a", {"0.plain"}), ("c", {"CONSTANTS.c0", "CONSTANTS.c1"})):
        done = convert(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors")
        assert same(load_file(tmp_path / f"{name}.safetensors"), expected) and set(done.left) == left
    assert "that is a constant of its program: CONSTANTS.c0" in " ".join(done.lost)
    convert(tmp_path / "b.pt", tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    assert found.keys() == {f"CONSTANTS.c{at}" for at in range(len(found))}
    weights = [expected[f"{layer}.{kind}"] for layer in ("0.inner", "1") for kind in ("weight", "bias")]
    assert all(any(torch.equal(weight, other) for other in found.values()) for weight in weights)


class Words(dict):
    """A dictionary of somebody's own, as libraries of settings have them."""


class Slots:
    __slots__ = ("w",)


Pair = collections.namedtuple("Pair", "a b")


def test_tensors_in_objects_of_any_class_are_found(tmp_path):
    slots, words = Slots(), Words(w=torch.ones(1))
    slots.w = torch.ones(2)
    words.more = torch.ones(3)
    value = {
        "words": words,
        "slots": slots,
        "pair": Pair(torch.ones(4), torch.ones(5)),
        "names": argparse.Namespace(w=torch.ones(6)),
        "queue": collections.deque([torch.ones(7)]),
        "plain": types.SimpleNamespace(w=torch.ones(8)),
    }
    found, _ = written(value, tmp_path)
    assert sorted(t.numel() for t in found.values()) == list(range(1, 9)) and found["words.w"].numel() == 1


def test_tensors_that_cannot_be_reached_by_a_name_are_named(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.importance = torch.ones(2)
    found, done = written({"w": weight, "by": {torch.ones(3): 1}}, tmp_path)
    assert found.keys() == {"w"} and "the file holds 2 tensors, which llmnotes does not read" in done.lost[0]


def test_a_tensor_that_is_not_read_is_named_whatever_holds_it(tiny_folder, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tiny_folder / "config.json", folder)
    torch.save({"w": torch.ones(2), "thin": torch.eye(3).to_sparse()}, folder / "pytorch_model.bin")
    done = convert(folder, tmp_path / "out", to="safetensors")
    assert done.lost[0] == "thin is the result of _rebuild_sparse_tensor, which llmnotes does not read."


class Old:
    """A tensor or a parameter as torch 0.3 pickled them."""

    def __init__(self, *made):
        self.made = made

    def __reduce__(self):
        return self.made


def test_parameters_of_torch_0_3(tmp_path):
    storages = {"0": torch.arange(6.0).untyped_storage()}
    tensor = Old(torch._utils._rebuild_tensor, (Storage("0", 6), 0, (2, 3), (3, 1)))
    state = (True, False, collections.OrderedDict())
    value = {"w": Old(torch.nn.Parameter, (tensor,), state), "v": Old(torch.nn.Parameter, (tensor,))}
    data = io.BytesIO()
    pickler = Referring(data, 2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, data, 2)
    pickler.dump(value)
    pickle.dump(["0"], data, 2)
    data.write((6).to_bytes(8, "little") + bytes(storages["0"].tolist()))
    (tmp_path / "a.pt").write_bytes(data.getvalue())
    expected = torch.load(tmp_path / "a.pt", weights_only=False)
    convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert torch.equal(found["w"], expected["w"]) and torch.equal(expected["w"], torch.arange(6.0).reshape(2, 3))
    assert formats.inspect(tmp_path / "a.safetensors").metadata["v"] == "w"


class Storage:
    def __init__(self, key, count):
        self.id = ("storage", torch.FloatStorage, key, "cpu", count, None)


class Referring(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def test_a_checkpoint_for_tensorflow_says_what_stayed_behind(tmp_path):
    state, moments = trained()
    torch.save({"model": state, "optimizer": moments, "epoch": 3}, tmp_path / "a.pt")
    done = convert(tmp_path / "a.pt", tmp_path / "a.index")
    assert "exp_avg" in done.lost[0] and "epoch" in " ".join(done.lost)
    assert {t.name for t in formats.inspect(tmp_path / "a.index").tensors} == state.keys()


def test_what_gguf_computes_itself_is_named(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "folder")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file(weights | {name: torch.ones(4)}, folder / "model.safetensors", {"format": "pt"})
    done = convert(folder, tmp_path / "a.gguf", type="F32")
    assert done.lost[0] == f"Left out: 1 tensor that llama.cpp computes itself: {name}."


# Faults that a converter could have, and what is said of each.
def forgets(done):
    return {"made": dict(list(done.made.items())[1:])}


def invents(done):
    return {"made": done.made | {"new": ("nowhere",)}}


def made_of_nothing(done):
    return {"made": done.made | {"new": ()}}


def wrong_size(done):
    return {"nbytes": done.nbytes + 4}


def writes_less(done):
    return {"made": done.made | {"b2": ("b",)}}


FAULTS = [(forgets, "is lost"), (invents, "not in the source"), (made_of_nothing, "not in the source")]
FAULTS += [(wrong_size, "have 20 bytes, and not 24"), (writes_less, "b2 stands in one of plan and file alone")]


@pytest.mark.parametrize("fault, says", FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
@pytest.mark.parametrize("name", ["b.safetensors", "b.pt", "b.index"])
def test_a_converter_with_a_fault_leaves_nothing(tmp_path, monkeypatch, fault, says, name):
    from dataclasses import replace

    torch.save({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / "a.pt")
    to = {"b.safetensors": "safetensors", "b.pt": "pytorch", "b.index": "tensorflow"}[name]
    pair = ("PyTorch zip", to)
    right = conversion.CONVERTERS[pair]
    monkeypatch.setitem(conversion.CONVERTERS, pair, lambda *args: replace(done := right(*args), **fault(done)))
    with pytest.raises(NotConvertible, match=f"{says}.*fault of llmnotes"):
        convert(tmp_path / "a.pt", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["a.pt"]


def test_a_target_that_cannot_be_read_again_is_removed(tiny_folder, tmp_path, monkeypatch):
    pair = ("Hugging Face folder", "safetensors")
    right = conversion.CONVERTERS[pair]

    def cuts(*args):
        done = right(*args)
        (done.target / "model.safetensors").write_bytes(b"no weights")
        return done

    monkeypatch.setitem(conversion.CONVERTERS, pair, cuts)
    with pytest.raises(NotConvertible, match="cannot be read back"):
        convert(tiny_folder, tmp_path / "out", to="safetensors")
    assert not (tmp_path / "out").exists()


def test_a_distributed_checkpoint_is_refused_by_name_and_torch_makes_it_one_file(tmp_path):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    state, moments = trained()
    parts, one = tmp_path / "parts", tmp_path / "one"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it saves and loads in a single process, and says so
        dcp.save({"model": state, "optimizer": moments}, checkpoint_id=parts)
        dcp.save({"w": torch.ones(3)}, checkpoint_id=one)
        dcp_to_torch_save(parts, tmp_path / "a.pt")
    shutil.copy(parts / "__0_0.distcp", tmp_path / "alone.bin")  # its content says it, too
    for path in (parts, parts / "__0_0.distcp", one, one / "__0_0.distcp", tmp_path / "alone.bin"):
        for read in (formats.inspect, lambda path: convert(path, tmp_path / "b.safetensors")):
            with pytest.raises(UnknownFormat, match="distributed checkpoint of PyTorch.*dcp_to_torch_save"):
                read(path)
    convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert same(load_file(tmp_path / "a.safetensors"), state)
