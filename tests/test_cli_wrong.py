"""Two hundred wrong invocations, each made from a command and one thing that is wrong: a sentence and status 2 each."""

import json
import re
import signal
import zipfile
from pathlib import Path

from llmnotes.cli.main import main

READS = {  # a command, and words after a wrong file
    "inspect": [],
    "scan": [],
    "convert": ["new.gguf"],
    "chat": [],
    "serve": ["--port", "0"],
    "run": [],
    "finetune": [],
    "merge": ["new"],
    "fit": ["--ram", "16GB"],
}
COMMANDS = (
    "start lab run claims progress doctor new-notebook inspect scan convert finetune merge serve chat fit cache".split()
)
NUMBERS = ("x", "", "1.5", "nan", "-1", "0x10", "1e400", "9" * 30, " ")


def files(folder: Path) -> dict[str, str]:
    """Write files that are no model, no notebook and no settings; return {what is wrong: name}."""
    made = {
        "empty": b"",
        "text.txt": b"Once upon a time",
        "noise.gguf": bytes(range(256)) * 20,
        "cut.gguf": b"GGUF\x03\x00\x00\x00" + b"\xff" * 16,
        "long.safetensors": (1 << 62).to_bytes(8, "little") + b"{}",
        "list.safetensors": (2).to_bytes(8, "little") + b"[]",
        "broken.json": b'{"model_type": ',
        "number.json": b"7",
        "deep.json": b"[" * 100_000,
        "latin.yaml": "modèle: x".encode("latin-1"),
        "tabs.yaml": b"model:\n\t- x",
        "broken.ipynb": b'{"cells": 3}',
        "zeros.bin": bytes(4096),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "other.pt", "w") as archive:
        archive.writestr("readme", "nothing")
    (folder / "folder").mkdir()
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_text(json.dumps({"model_type": "no such type", "hidden_size": "wide"}))
    (folder / "loop").symlink_to(folder / "loop")
    return {name: name for name in [*made, "other.pt", "folder", "config", "loop"]}


def settings(folder: Path) -> list[str]:
    """Write files of settings with one wrong line each; return their names."""
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (folder / "bad.jsonl").write_text('{"prompt": "a"\n')
    (folder / "other.jsonl").write_text('{"question": "a"}\n[]\n7\n')
    right = {"model": "pebble", "data": "rows.jsonl", "output": "new", "steps": 1}
    wrong = [
        {"model": "peble"},
        {"model": 7},
        {"model": None},
        {"model": ["pebble"]},
        {"model": "folder"},
        {"data": "nowhere.jsonl"},
        {"data": "folder"},
        {"data": "empty"},
        {"data": "bad.jsonl"},
        {"data": "other.jsonl"},
        {"data": "noise.gguf"},
        {"data": {}},
        {"output": "folder/no/such/place"},
        {"output": "text.txt"},
        {"output": "config"},
        {"output": ""},
        {"steps": 0},
        {"steps": -1},
        {"steps": "many"},
        {"steps": float("nan")},
        {"steps": True},
        {"steps": 10**30},
        {"epochs": 1},
        {"stepz": 1},
        {"learning_rate": "fast"},
        {"learning_rate": -1},
        {"learning_rate": float("inf")},
        {"method": "magic"},
        {"lora": {"r": 0}},
        {"lora": {"r": 10**9}},
        {"lora": 8},
        {"max_length": 0},
        {"batch_size": 0},
        {"seed": -1},
        {7: 7},
    ]
    names = []
    for number, line in enumerate(wrong):
        (folder / f"settings-{number}.yaml").write_text(json.dumps({**right, **line}), encoding="utf-8")
        names.append(f"settings-{number}.yaml")
    return names


def invocations(folder: Path) -> list[list[str]]:
    """Return what to type, wrong in one place each."""
    names = files(folder)
    found: list[list[str]] = [[], ["nothing"], ["--nothing"], [""], ["doctor", "--jsn"], ["INSPECT", "pebble"]]
    found += [[command, "--no-such-option"] for command in COMMANDS]
    found += [[command, "a", "b", "c"] for command in COMMANDS if command not in ("scan", "run")]
    found += [
        [command] for command in ("inspect", "scan", "convert", "finetune", "serve", "chat", "fit", "new-notebook")
    ]
    missing = ("nowhere.gguf", "./no/where", "peble", "", "a" * 300, "~nobody/x", "http://[", "-", "a/b/c")
    for command, rest in READS.items():
        if command in ("run", "scan", "finetune"):
            found += [[command, name, *rest] for name in missing if (command, name) != ("scan", "-")]
        else:
            found += [[command, name, *rest] for name in missing]
        if command != "scan":  # which says of every file what is in it
            found += [[command, name, *rest] for name in names]
    found += [["finetune", name] for name in settings(folder)]
    for option in ("--context", "--vram", "--ram"):
        found += [["fit", "llama-3.2-1b", option, number] for number in NUMBERS if (option, number) != ("--vram", "")]
    found += [["fit", "llama-3.2-1b", *words.split()] for words in ("--precision Q9", "--machine pc", "--train all")]
    for option in ("--context", "--threads", "--gpu-layers", "--parallel", "--port"):
        found += [
            ["serve", "pebble", option, number] for number in NUMBERS if (option, number) != ("--gpu-layers", "-1")
        ]
    for option in ("--context", "--threads", "--max-tokens", "--seed", "--temperature"):
        found += [["chat", "pebble", option, number] for number in ("x", "", "1.5.", "0x10", "9" * 30 + "x")]
    found += [["serve", "pebble", *words] for words in (["--host", "256.1.1.1"], ["--api-key", ""], ["--type", "Q9"])]
    found += [["convert", "pebble", *words.split()] for words in ("a.gguf --type Q9", "a.xyz", "a.gguf --to nothing")]
    for size in ("0", "-1", "x", "", "1e400G", "1 TB TB", "9" * 400):
        found.append(["convert", "pebble", "a.gguf", "--split-max-size", size])
    found += [["convert", "pebble", target] for target in ("text.txt", "folder", "no/a.gguf", "", "text.txt/a.gguf")]
    matrices = [name for name in names if name != "text.txt"]
    found += [["convert", "pebble", "a.gguf", "--imatrix", name] for name in [*matrices, "nowhere.txt", ""]]
    found += [["run", "--jobs", number, "x.ipynb"] for number in NUMBERS]
    found += [["start", folder] for folder in ("folder/..", "text.txt", "text.txt/a", "a" * 300, "loop")]
    found += [["new-notebook", name] for name in ("24_topic", "x", "", "../24_topic")]
    return found


def test_of_200_wrong_invocations_none_ends_in_a_traceback_or_a_wrong_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def start(*_, **__):
        raise AssertionError("an engine starts, so nothing was found wrong")

    monkeypatch.setattr("xllamacpp.Server", start)
    monkeypatch.setattr("llmnotes.serving.runtime.Child", start)
    heard = signal.getsignal(signal.SIGINT)  # which `serve` changes
    typed, faults = invocations(tmp_path), []
    for words in typed:
        try:
            status = main(words)
        except SystemExit as stop:  # argparse has printed what is wrong
            status = stop.code
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines() or [""]
        usage = lines[0].startswith("usage: ")
        one = usage or (len(lines) <= 1 + (words[0] == "finetune") and re.search(r"[.?)]$|/v1$", lines[-1]))
        if status != 2 or captured.out or not one or "a fault of llmnotes" in lines[-1]:
            said = captured.err
            faults.append(f"{words!r}: {str(status)[:200]}: {said[:300]!r} {captured.out[:100]!r}")
    signal.signal(signal.SIGINT, heard)
    assert len(typed) >= 200
    assert not faults, f"{len(faults)} of {len(typed)}:\n" + "\n".join(faults)
