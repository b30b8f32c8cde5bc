"""Views of a storage against NumPy's own: every stride, both byte orders, no more memory than the elements need."""

import numpy as np
import pytest

from llmnotes.errors import FileBroken
from llmnotes.formats import strided, zips
from llmnotes.formats.strided import Storage, strided_view, values

RANDOM = np.random.default_rng(0).integers(0, 256, 24 * 16, np.uint8)


def source(tmp_path, data: bytes):
    (tmp_path / "a").write_bytes(data)
    return zips.Source(tmp_path / "a")


@pytest.mark.parametrize("dtype", ["U8", "F16", "F32", "F64", "C64", "C128"])
@pytest.mark.parametrize("big", [False, True])
def test_every_view_is_numpys(tmp_path, dtype, big):
    kind = np.dtype({"U8": "u1", "F16": "f2", "F32": "f4", "F64": "f8", "C64": "c8", "C128": "c16"}[dtype])
    base = RANDOM.view(kind.newbyteorder(">" if big else "<"))[:24].reshape(2, 3, 4)
    storage = Storage("key", dtype, base.nbytes, 5, big)
    with source(tmp_path, b"start" + base.tobytes()) as file:
        views = [
            base,
            base.T,
            base.transpose(1, 0, 2),
            base[:, ::2, 1:3],
            base[1, 2, 3:].reshape(()),
            base[:, 1],
            base[0:0],
        ]
        views += [np.broadcast_to(base[0, 0], (5, 4)), base[None, :, None]]
        for view in views:
            first = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // kind.itemsize
            strides = [stride // kind.itemsize for stride in view.strides]
            found = strided_view(file, "a", storage, dtype, first if view.size else 0, view.shape, strides)
            assert b"".join(values(file, found)) == view.astype(kind.newbyteorder("<")).tobytes()
            if found.offset is not None and view.size:
                assert not (big and kind.itemsize > 1) and file.read(found.offset, view.nbytes) == view.tobytes()


def test_elements_that_lie_far_apart_are_read_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(strided, "ROOM", 1000)
    base = np.arange(4000, dtype="<u4").reshape(40, 100)
    with source(tmp_path, base.tobytes()) as file:
        read, most = file.read, []
        monkeypatch.setattr(file, "read", lambda offset, count: most.append(count) or read(offset, count))
        for view, strides in ((base[:, 3:5], (100, 1)), (base[::13, ::50], (1300, 50)), (base[:, 3:5].T, (1, 100))):
            first = int(view[0, 0])
            found = strided_view(file, "a", Storage(0, "U32", base.nbytes, 0), "U32", first, view.shape, strides)
            assert b"".join(values(file, found)) == view.tobytes()
    assert max(most) <= 1000


@pytest.mark.parametrize(
    "first, shape, strides",
    [(0, (25,), (1,)), (24, (1,), (1,)), (-1, (1,), (1,)), (0, (2, 2), (1,)), (0, (3,), (12,)), (True, (1,), (1,))]
    + [(0, (1 << 30,), (0,)), (0, (1 << 62, 4), (0, 0)), (0, (2.0,), (1,)), (0, (-1,), (1,))],
)
def test_a_view_beyond_its_storage_is_refused(tmp_path, first, shape, strides):
    with source(tmp_path, bytes(100)) as file, pytest.raises(FileBroken):
        strided_view(file, "a", Storage("key", "F32", 96, 0), "F32", first, shape, strides)
