"""PyTorch's files, against PyTorch: every tensor bit for bit, and our archive byte for byte."""

import errno
import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmnotes import formats
from llmnotes.errors import FileBroken, LLMNotesError, NotConvertible, UnknownFormat
from llmnotes.formats import convert, files
from llmnotes.formats.pytorch import write as pytorch_write
from llmnotes.formats.repack import parts_and_ties
from llmnotes.formats.results import PlannedTensor
from llmnotes.formats.stretch import stretches

from .counting import calls

KINDS = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 "
KINDS = (KINDS + "float8_e4m3fn float8_e5m2 float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz").split()


def raw(tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def flat(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(item, f"{name}.{key}" if name else str(key))


def same(path, expected) -> formats.Inspection:
    """Compare every tensor of a file with what torch loads from it."""
    found = formats.inspect(path)
    assert {tensor.name for tensor in found.tensors} == set(expected)
    for tensor in found.tensors:
        assert tensor.shape == tuple(expected[tensor.name].shape)
        assert b"".join(formats.read(found, tensor)) == raw(expected[tensor.name]), tensor.name
    return found


def states() -> dict:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(300, 200, generator=generator)
    kinds = {kind: torch.rand(3, 5, generator=generator).to(getattr(torch, kind)) for kind in KINDS}
    views = {"table": table, "tied": table, "turned": table.t(), "some": table[::3, 1:5], "one": torch.tensor(2.0)}
    views |= {"repeated": torch.ones(1).expand(4, 3), "none": torch.zeros(0, 3), "row": table[7]}
    return {"model": kinds, "views": views, "list": [torch.ones(2), (torch.zeros(1),)], "step": 3, "name": "x" * 300}


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
def test_all_types_and_views(tmp_path, zip_file):
    value = states()
    if not zip_file:  # torch itself cannot read these back from its legacy file
        value["model"] = {
            kind: value["model"][kind] for kind in KINDS if not kind.startswith(("uint1", "uint3", "float8"))
        }
        del value["model"]["uint64"]
    torch.save(value, tmp_path / "a", _use_new_zipfile_serialization=zip_file)
    found = same(tmp_path / "a", dict(flat(torch.load(tmp_path / "a"))))
    assert found.identity.format == ("PyTorch zip" if zip_file else "PyTorch legacy")
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert tensors["views.tied"].alias == "views.table" and tensors["views.turned"].offset is None
    assert tensors["views.row"].offset == tensors["views.table"].offset + 7 * 800
    assert found.metadata["step"] == 3 and len(found.metadata["name"]) == 200


def test_a_view_larger_than_a_piece(tmp_path):
    torch.save({"turned": torch.arange(6_000_000).reshape(2000, 3000).t()}, tmp_path / "a.pt")
    same(tmp_path / "a.pt", torch.load(tmp_path / "a.pt"))


def test_a_trainers_checkpoint(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}, tmp_path / "a.ckpt")
    found = same(tmp_path / "a.ckpt", dict(flat(torch.load(tmp_path / "a.ckpt"))))
    assert "optimizer.state.0.exp_avg" in {tensor.name for tensor in found.tensors}
    assert found.metadata["optimizer.param_groups"][0]["lr"] == 0.001
    assert found.notes[-1].startswith("The model's own are 2 of these tensors; the others, such as an optimizer's")
    done = convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    loaded = load_file(tmp_path / "a.safetensors")
    assert {name: raw(tensor) for name, tensor in loaded.items()} == {
        name: raw(tensor) for name, tensor in model.state_dict().items()
    }
    assert "optimizer" in done.lost[0] and "step" in done.lost[1]


def test_a_whole_module_and_torchscript(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    torch.save(model, tmp_path / "module.pt")
    same(tmp_path / "module.pt", model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(model).save(tmp_path / "script.pt")
    found = same(tmp_path / "script.pt", model.state_dict())
    assert found.identity.format == "TorchScript"
    convert(tmp_path / "script.pt", tmp_path / "script.safetensors")
    assert load_file(tmp_path / "script.safetensors").keys() == model.state_dict().keys()


def old_tar(path) -> None:
    """Write what PyTorch 0.1 wrote: a tar of storages, tensors and a pickle that refers to these by number."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return str(value.number) if isinstance(value, Tensor) else None

    class Tensor:
        def __init__(self, number):
            self.number = number

    storages, tensors, state = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pickle.dump(1, storages, 2)
    pickle.dump((5, "cpu", torch.FloatStorage), storages, 2)
    storages.write(struct.pack("<q6f", 6, *range(6)))
    pickle.dump([(6, 5, 2, 4)], storages, 2)
    pickle.dump(2, tensors, 2)
    for key, storage, first, shape, strides in ((10, 5, 0, (2, 3), (3, 1)), (11, 6, 1, (3,), (1,))):
        pickle.dump((key, storage, torch.FloatTensor), tensors, 2)
        count = len(shape)
        tensors.write(struct.pack(f"<i4x{count}q{count}qq", count, *shape, *strides, first))
    Pickler(state, 2).dump({"a": Tensor(10), "b": Tensor(11)})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, member in (
            ("sys_info", io.BytesIO()),
            ("pickle", state),
            ("storages", storages),
            ("tensors", tensors),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(member.getvalue())
            archive.addfile(entry, io.BytesIO(member.getvalue()))


def test_the_tar_of_the_first_versions(tmp_path):
    old_tar(tmp_path / "a.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.load(tmp_path / "a.pth", weights_only=False)
    found = same(tmp_path / "a.pth", expected)
    assert found.identity.format == "PyTorch tar" and raw(expected["b"]) == struct.pack("<3f", 3, 4, 5)


def test_big_endian_and_compressed_archives(tmp_path):
    torch.save({"a": torch.arange(6.0), "c": torch.tensor([1 + 2j]), "b": torch.ones(3).bool()}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as old,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            data = b"big" if name.endswith("byteorder") else data
            data = (
                b"".join(struct.pack(">f", x) for (x,) in struct.iter_unpack("<f", data))
                if name[-2:] in ("/0", "/1")
                else data
            )
            new.writestr(name, data)
    found = same(tmp_path / "b.pt", torch.load(tmp_path / "a.pt"))
    assert any("big-endian" in note for note in found.notes)


@pytest.mark.parametrize("count", [1, 2, 13, 300, 1000, 1001, 2000])
def test_our_archive_is_torchs_byte_for_byte(tmp_path, count):
    value = {f"layer.{number}.weight": torch.full((2, number % 3), number) for number in range(count)}
    check_bytes(tmp_path, value)


def test_our_archive_of_all_types_is_torchs(tmp_path):
    value = states()["model"] | {
        "long": torch.zeros(70_000, 1),
        "four": torch.ones(2, 1, 3, 4),
        "word.é": torch.ones(()),
    }
    check_bytes(tmp_path, value | {"tied": value["long"].detach()})


def check_bytes(tmp_path, value) -> None:
    torchs = io.BytesIO()
    torch.save(value, torchs)
    (tmp_path / "model.pt").write_bytes(torchs.getvalue())
    for stored in (files.stored, stretches):  # copied, and mapped from the file
        parts, ties = parts_and_ties(formats.inspect(tmp_path / "model.pt"), stored=stored)
        ours = io.BytesIO()
        pytorch_write.write(ours, parts, ties)
        assert ours.getvalue() == torchs.getvalue()


def test_the_same_bytes_as_two_types_become_two_storages(tmp_path):
    torch.save({"a": torch.ones(6)}, tmp_path / "a.pt")
    (tensor,) = formats.inspect(tmp_path / "a.pt").tensors
    with open(tmp_path / "b.pt", "wb") as file:
        parts = [PlannedTensor(dtype, dtype, (6,), lambda: stretches(tensor)) for dtype in ("F32", "I32")]
        pytorch_write.write(file, parts)
    same(tmp_path / "b.pt", {"F32": torch.ones(6), "I32": torch.ones(6).view(torch.int32)})


class Full(io.BytesIO):
    """A disk on which a number of bytes have room."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 5_000, 1_000_000, 4_001_500])
def test_a_full_disk_is_named_and_not_what_torch_says_of_it(room):
    parts = [zeros(1000), PlannedTensor("b", "F32", (1000, 1000), lambda: [bytes(4_000_000)])]
    with pytest.raises(OSError, match="No space left"):
        pytorch_write.write(Full(room), parts)


def test_a_file_that_became_shorter_is_not_mapped_beyond_its_end(tmp_path):
    torch.save({"a": torch.ones(100_000), "b": torch.zeros(100_000)}, tmp_path / "a.pt")
    parts, ties = parts_and_ties(formats.inspect(tmp_path / "a.pt"), stored=stretches)
    for size in (500_000, 0):
        os.truncate(tmp_path / "a.pt", size)
        with pytest.raises(FileBroken):
            pytorch_write.write(io.BytesIO(), parts, ties)


def test_ties_survive_the_way_to_safetensors_and_back(tmp_path):
    table = torch.randn(5, 4)
    torch.save({"embed": table, "head": table, "norm": torch.ones(4)}, tmp_path / "a.bin")
    done = convert(tmp_path / "a.bin", tmp_path / "a.safetensors")
    assert formats.inspect(tmp_path / "a.safetensors").metadata["head"] == "embed" and "head = embed" in done.lost[0]
    convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to="pytorch")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert back["head"].data_ptr() == back["embed"].data_ptr() and torch.equal(back["head"], table)
    with pytest.raises(NotConvertible):
        convert(tmp_path / "a.bin", tmp_path / "c.safetensors", type="F16")


def damaged(data: bytes) -> dict[str, bytes]:
    directory = data.index(b"PK\1\2")
    size = data.index(b"PK\1\2", directory + 1) + 24  # of the second entry
    return {
        "huge": data[: size - 4] + b"\xff\xff\xff\x7f" * 2 + data[size + 4 :],
        "twice": data.replace(b"a/data/1", b"a/data/0"),
        "encrypted": data[: directory + 8] + b"\x09" + data[directory + 9 :],
        "prefix": data[:4] + data,
        "checksum": data[: directory + 16] + b"\0\0\0\0" + data[directory + 20 :],
        "overlap": data[: directory + 42] + data[size + 18 : size + 22] + data[directory + 46 :],
        "beyond": data.replace(b"K\x05K\x07\x86", b"K\x05K\xff\x86"),
        "no storage": data.replace(b"X\1\0\0\0" + b"1", b"X\1\0\0\0" + b"9"),
        "no end": data[:-22],
    }


@pytest.mark.parametrize("name", list(damaged(b"PK\1\2PK\1\2" + bytes(50))))
def test_an_archive_that_lies_is_refused(tmp_path, name):
    torch.save({"one": torch.ones(5, 7), "two": torch.ones(3)}, tmp_path / "a.pt")
    data = damaged((tmp_path / "a.pt").read_bytes())[name]
    (tmp_path / "b.pt").write_bytes(data)
    with pytest.raises(FileBroken):
        formats.inspect(tmp_path / "b.pt")


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
def test_a_cut_file_gives_one_sentence(tmp_path, zip_file):
    torch.save({"one": torch.ones(5, 7)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zip_file)
    data = (tmp_path / "a.pt").read_bytes()
    for end in range(0, len(data), 37):
        (tmp_path / "b.pt").write_bytes(data[:end])
        with pytest.raises(LLMNotesError):
            formats.inspect(tmp_path / "b.pt")


@pytest.mark.slow
def test_a_checkpoint_that_repeats_itself_without_end_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                data = data[:-1] + b"q\xff" + b"h\xffh\xffh\xff\x87q\xff" * 50 + b"."
            new.writestr(name, data)

    def refused() -> None:
        with pytest.raises(FileBroken, match="repeats"):
            formats.inspect(tmp_path / "b.pt")

    assert calls(refused) < 10_000_000  # some seconds at most; without the limit it would not end


def test_a_large_file_takes_no_more_work(tmp_path):
    work = []
    for rows in (1_000, 100_000):
        part = zeros(rows)
        with open(tmp_path / f"{rows}.pt", "wb") as file:
            pytorch_write.write(file, [part])
        before = os.stat(tmp_path / f"{rows}.pt").st_size
        work.append(calls(lambda rows=rows: formats.inspect(tmp_path / f"{rows}.pt")))
        assert before > 1024 * rows
    assert work[1] < 1.1 * work[0]


def zeros(rows: int) -> PlannedTensor:
    return PlannedTensor("a", "F32", (rows, 256), lambda: (bytes(256 * 4 * 1000) for _ in range(rows // 1000)))


def test_a_storage_that_no_tensor_views_is_noted(tmp_path):
    torch.save({"a": torch.ones(2), "raw": torch.ones(3).untyped_storage()}, tmp_path / "a.pt")
    found = formats.inspect(tmp_path / "a.pt")
    assert [tensor.name for tensor in found.tensors] == ["a"]
    assert any("raw" in note and "storage without a tensor" in note for note in found.notes)


def saved(path, value, zip_file=True) -> bytes:
    torch.save(value, path, _use_new_zipfile_serialization=zip_file)
    assert formats.inspect(path).notes == ()  # torch leaves nothing behind the end
    return path.read_bytes()


def test_a_second_checkpoint_behind_the_first_is_refused(tmp_path):
    old = saved(tmp_path / "old.pt", {"a": torch.ones(3)}, False)
    new = saved(tmp_path / "new.pt", {"b": torch.ones(3)})
    for both in (old + old, old + new, new + old):
        (tmp_path / "both.pt").write_bytes(both)
        with pytest.raises(FileBroken, match=r"both\.pt is several files of torch\.save in a row.*; read them with"):
            formats.inspect(tmp_path / "both.pt")


def test_what_lies_behind_a_checkpoint_is_named(tmp_path):
    old_tar(tmp_path / "tar.pt")
    assert formats.inspect(tmp_path / "tar.pt").notes == ()  # a tar is filled up with zeros
    tar = (tmp_path / "tar.pt").read_bytes()
    old = saved(tmp_path / "old.pt", {"a": torch.ones(3)}, False)
    new = saved(tmp_path / "new.pt", {"a": torch.ones(3)})
    pickled = pickle.dumps({"a": 1}, 2)
    for data, more in ((old, b"more"), (new, b"more"), (tar, tar), (pickled, pickled)):
        (tmp_path / "a.pt").write_bytes(data + more)
        (note,) = formats.inspect(tmp_path / "a.pt").notes
        assert note.startswith("Behind its end lies something else: ") and "which llmnotes does not read" in note
        if data is not pickled:
            assert note in convert(tmp_path / "a.pt", tmp_path / f"{len(data)}.safetensors").lost


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("several", [True, False], ids=["groups", "one group"])
def test_weights_that_zero_3_left_to_other_files_are_refused(tmp_path, zip_file, several):
    module = OrderedDict((name, torch.empty(0)) for name in ("layers.0.weight", "norm"))
    shapes = [OrderedDict([("layers.0.weight", torch.Size([3, 2]))]), OrderedDict(norm=torch.Size([3]))]
    value = {"module": module, "param_shapes": shapes if several else shapes[0]}
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zip_file)
    with pytest.raises(
        UnknownFormat, match=r"a\.pt holds only the shapes of .*ZeRO-3; join them with the zero_to_fp32"
    ):
        formats.inspect(tmp_path / "a.pt")
    # What DeepSpeed writes without that stage has the weights, and one that is empty by its shape is no lack.
    value = {"module": {"w": torch.ones(3), "none": torch.empty(0)}}
    torch.save(value | {"param_shapes": [{"w": torch.Size([3]), "none": torch.Size([0])}]}, tmp_path / "b.pt")
    same(tmp_path / "b.pt", dict(flat(torch.load(tmp_path / "b.pt"))))


def weights() -> dict:
    return {"w": torch.ones(3, 2), "b": torch.ones(3)}


MOMENTS = {
    "torch's names": ({"model": weights(), "exp_avg": weights(), "exp_avg_sq": weights()}, ["w", "b"]),
    "under one key": ({"gpt": weights(), "opt": {"exp_avg": weights(), "exp_avg_sq": weights()}}, ["w", "b"]),
    "behind the names": (weights() | {"w.exp_avg": torch.ones(3, 2)}, ["w", "b"]),
    "momentum": ({"model": weights(), "momentum": weights()}, ["w", "b"]),
    "of some": ({"model": weights(), "grads": {"b": torch.ones(3)}}, ["w", "b"]),
    "lists": ({"model": weights(), "adam_m": [*weights().values()], "adam_v": [*weights().values()]}, ["w", "b"]),
    "letters": ({"params": weights(), "m": weights(), "v": weights()}, ["w", "b"]),
    "beside flat weights": (weights() | {"adam_m": weights()}, ["w", "b"]),
    "optimizers": (
        {"net": weights(), "optimizer_G": {"x": torch.ones(2)}, "optimD_state": [torch.ones(2)]},
        ["w", "b"],
    ),
    # Parts of a model, although they are called so.
    "a head": ({"optim_head": weights(), "body": weights()}, ["optim_head.w", "optim_head.b", "body.w", "body.b"]),
    "a head and a model": (
        {"optim_head": {"w": torch.ones(2)}, "model": weights()},
        ["optim_head.w", "model.w", "model.b"],
    ),
    "queries": ({name: {"w": torch.ones(2)} for name in "qkv"}, ["q.w", "k.w", "v.w"]),
    "other shapes": ({"model": weights(), "moment": {"w": torch.ones(5)}}, ["model.w", "model.b", "moment.w"]),
    "moments alone": ({"exp_avg": {"w": torch.ones(2)}}, ["exp_avg.w"]),
}


@pytest.mark.parametrize("what", MOMENTS)
def test_moments_are_no_weights_under_any_key(tmp_path, what):
    value, names = MOMENTS[what]
    torch.save(value, tmp_path / "a.pt")
    found = same(tmp_path / "a.pt", dict(flat(value)))
    done = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors").keys() == set(names)
    assert len(done.left) == len(found.tensors) - len(names) and set(done.left.values()) <= {"of an optimizer"}


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
def test_arrays_of_numpy_are_named(tmp_path, zip_file):
    value = {"a": torch.ones(2), "b": np.ones(3), "c": {"d": [np.ones((2, 2))], "e": np.float32(1)}}
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zip_file)
    (note,) = formats.inspect(tmp_path / "a.pt").notes
    assert note.startswith("The file holds 2 arrays of NumPy, which llmnotes does not read: b, c.d.0 (torch.from_numpy")
    assert note in convert(tmp_path / "a.pt", tmp_path / "a.safetensors").lost


def test_a_file_whose_tensors_are_not_read_says_why(tmp_path):
    turned = torch.ones(3, dtype=torch.complex64).conj()
    for value, why in (
        ({"w": turned}, r"w is a view of numbers whose sign is turned .* save .resolve_conj"),
        (turned, "It is a view of numbers"),
        ({"w": np.ones(3)}, "1 array of NumPy, .*: w .torch.from_numpy"),
    ):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(NotConvertible, match=rf"a\.pt holds no tensors that llmnotes reads: .*{why}"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
