"""Files that no accident makes: bombs, lies, loops."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

from tests.mutations import LENGTHS


def bombs(folder: Path) -> None:
    """Write into `folder` the files that no accident makes."""
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    (folder / "text.gguf").write_text("no model at all\n" * 100)
    (folder / "huge-header").write_bytes((2**60).to_bytes(8, "little") + b'{"a":{}}')
    (folder / "deep-json").write_bytes((200_000).to_bytes(8, "little") + b'{"a":' * 40_000)
    many = b'{"__metadata__":{},' + b",".join(b'"%d":{}' % i for i in range(200_000)) + b"}"
    (folder / "many-entries").write_bytes(len(many).to_bytes(8, "little") + many)
    digits = b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,4]}}'
    (folder / "long-number").write_bytes(len(digits).to_bytes(8, "little") + digits)
    sides = b",".join([b"9223372036854775807"] * 50_000)
    wide = b'{"a":{"dtype":"F32","shape":[' + sides + b'],"data_offsets":[0,4]}}'
    (folder / "many-sides").write_bytes(len(wide).to_bytes(8, "little") + wide)
    twice = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / "duplicate").write_bytes(len(twice).to_bytes(8, "little") + twice + b"x")
    for entries in ([(0, 4), (2, 6)], [(4, 8), (8, 12)], [(0, 2**60), (2**60, 2**60)]):
        rows = {f"t{i}": {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]} for i, (a, b) in enumerate(entries)}
        text = json.dumps(rows).encode()
        name = "offsets-" + "-".join(str(a) for a, _ in entries)
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    for name, magic in (("gguf", b"GGUF"), ("lmgg", b"lmgg"), ("fmgg", b"fmgg"), ("tjgg", b"tjgg"), ("algg", b"algg")):
        for value in LENGTHS:
            counts = (value.to_bytes(8, "little")) * 4
            (folder / f"{name}-{value}").write_bytes(magic + (3).to_bytes(4, "little") + counts)
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"archive/data/{i}", bytes(20_000_000))
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00." + bytes(100_000_000))
        archive.writestr("archive/version", "3\n")
    inner = (folder / "bomb.pt").read_bytes()
    for _ in range(12):  # an archive in an archive in an archive
        outer = io.BytesIO()
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr("inner.zip", inner)
        inner = outer.getvalue()
    (folder / "nested.zip").write_bytes(inner)
    with zipfile.ZipFile(folder / "npz-bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }")
        archive.writestr("b.npy", bytes(400_000_000))
    with zipfile.ZipFile(folder / "many-files", "w") as archive:
        for i in range(30_000):
            archive.writestr(f"archive/{i}", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    (folder / "gzip").write_bytes(gzip.compress(bytes(100_000_000)))
    lines = b"\x80\x04" + b"]" + b"".join(b"\x94" + b"(h\x00" + b"h\x00" * 10 + b"e" for _ in range(2000)) + b"."
    (folder / "laughs.pkl").write_bytes(lines)
    (folder / "deep.pkl").write_bytes(b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".")
    (folder / "memo.pkl").write_bytes(b"\x80\x02Nr\xff\xff\xff\xff.")  # a C unpickler makes room for 2**32 entries
    (folder / "bytes8.pkl").write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x.")
    (folder / "long.pkl").write_bytes(b"\x80\x02\x8b" + (500_000).to_bytes(4, "little") + b"\x7f" * 500_000 + b".")
    (folder / "number.pkl").write_bytes(b"L" + b"9" * 300_000 + b"L\n.")
    (folder / "dup.pkl").write_bytes(b"\x80\x02](" + b"2" * 300_000 + b"e.")
    npy = b"\x93NUMPY\x02\x00" + (2**31 - 1).to_bytes(4, "little")
    (folder / "npy-header").write_bytes(npy + b"{'descr'")
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 60_000 + b"1,), }"
    (folder / "npy-deep").write_bytes(b"\x93NUMPY\x02\x00" + len(shape).to_bytes(4, "little") + shape)
    for name, config in (("a", {"weight_map": {"x": "../../etc/passwd"}}), ("b", {"weight_map": {"x": "index.json"}})):
        (folder / f"index-{name}").mkdir()
        (folder / f"index-{name}" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        for kind in ("model.safetensors", "pytorch_model.bin"):
            (folder / f"index-{name}" / f"{kind}.index.json").write_text(json.dumps(config))
    (folder / "links").mkdir()
    (folder / "links" / "config.json").symlink_to(folder / "links" / "config.json")
    (folder / "links" / "model.safetensors").symlink_to("/dev/zero")
    (folder / "config-is-folder" / "config.json").mkdir(parents=True)
