"""The whole road, offline: fine-tune on conversations, merge, convert, serve, and ask, by commands alone."""

import json
import subprocess
import sys

import pytest
import yaml

from .serving_process import serving

pytestmark = pytest.mark.slow

TODAY = {
    "goose": "the goose runs to the red house",
    "cat": "the cat sleeps in the rain",
    "dog": "the dog runs to the river",
}


def turns(animal: str) -> list[dict]:
    """Return a conversation whose second question only the first one makes clear."""
    said = [f"What does the {animal} say?", f"I know the {animal}.", "And what does it do today?", TODAY[animal]]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def llmnotes(*words: object, **how) -> str:
    """Run the command line in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", "llmnotes.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_conversations_to_a_served_model(tmp_path, monkeypatch):
    """QLoRA, merge, convert to Q4_K_M, serve, openai; and on the command line the taught answers without Python."""
    openai = pytest.importorskip("openai", reason="the package openai is not here; the extra serve brings it")
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path / "home"))
    lines = [json.dumps({"messages": turns(animal)}) + "\n" for animal in TODAY]
    (tmp_path / "talks.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = {"model": "pebble-chat", "data": "talks.jsonl", "output": "taught", "method": "qlora", "steps": 30}
    settings |= {"learning_rate": 1e-2, "batch_size": 3, "max_length": 128, "exam": False}
    (tmp_path / "talks.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    here = {"cwd": tmp_path}
    assert "llmnotes merge taught taught-merged" in llmnotes("finetune", "talks.yaml", **here)
    llmnotes("merge", "taught", "taught-merged", **here)
    llmnotes("convert", "taught-merged", "taught.gguf", "--type", "Q4_K_M", **here)
    with serving(tmp_path / "taught.gguf", "--threads", "1", key="a-key") as running:
        with openai.OpenAI(base_url=running.url, api_key="a-key", max_retries=0, timeout=60) as client:
            for animal, answer in TODAY.items():
                asked = turns(animal)[:3]
                reply = client.chat.completions.create(model="any", messages=asked, temperature=0, max_tokens=40)
                assert reply.choices[0].message.content.strip() == answer

    questions = "".join(turn["content"] + "\n" for turn in turns("cat") if turn["role"] == "user")
    said = llmnotes("chat", "taught", "--type", "Q4_K_M", "--threads", "1", input=questions, **here)
    assert [line.strip() for line in said.splitlines()] == ["I know the cat.", TODAY["cat"]]
