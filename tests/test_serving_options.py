"""Options of `serve`, `chat` and `load` that llama.cpp has: each is seen in its log or in its answer."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmnotes import cli, vision
from llmnotes.errors import BadSettings
from llmnotes.formats import convert
from llmnotes.llama_cpp import engine
from llmnotes.models import path_of
from llmnotes.pebble import weights_dir
from llmnotes.serving import load, terminal
from llmnotes.serving.bindings import Bindings
from llmnotes.vision.pictures import draw, scenes

from .serving_process import serving

pytestmark = pytest.mark.slow

# The server with our settings, whose log says what it made of them.
TALKING = """
import json, os, sys, time, xllamacpp
from llmnotes.serving import ModelFile
from llmnotes.llama_cpp import engine
start = xllamacpp.Server
def loudly(params):
    params.verbosity = 4
    return start(params)
xllamacpp.Server = loudly
server = engine.start(ModelFile.read(sys.argv[1]), n_threads=1, n_ctx=512, **json.loads(sys.argv[2]))
time.sleep(0.3)  # a thread writes the log
os._exit(0)
"""


def logged(gguf, settings: str) -> str:
    command = [sys.executable, "-c", TALKING, str(gguf), settings]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True).stdout


@pytest.mark.parametrize(
    ("settings", "cache", "flash", "slots"),
    [
        ("{}", "f16", "auto", 1),
        ('{"cache": "Q8_0", "parallel": 3}', "q8_0", "enabled", 3),
        ('{"cache": "Q4_0", "flash_attention": "on"}', "q4_0", "enabled", 1),
        ('{"parallel": 7}', "f16", "auto", 7),  # 512 tokens at once do not divide by 7 or by 3
        ('{"flash_attention": "off"}', "f16", "disabled", 1),
        ('{"exact": true, "cache": "Q8_0"}', "f32", "disabled", 1),
    ],
)
def test_the_engine_does_what_it_is_told(gguf, settings, cache, flash, slots):
    said = logged(gguf, settings)
    assert f"K ({cache}):" in said and f"V ({cache}):" in said
    assert re.search(r"flash_attn += (\w+)", said)[1] == flash and f"n_slots = {slots}," in said


def test_a_draft_writes_ahead_and_changes_no_word(gguf, tmp_path):
    convert(weights_dir("pebble-chat"), tmp_path / "draft.gguf", type="Q4_0")
    wish = {"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
    with load(gguf, n_threads=1) as alone, load(gguf, n_threads=1, draft=tmp_path / "draft.gguf") as drafted:
        plain, quick = (one.ask("/completions", **wish) for one in (alone, drafted))
    assert plain["choices"][0]["text"] == quick["choices"][0]["text"]
    assert quick["timings"]["draft_n_accepted"] > 20 and "draft_n" not in plain["timings"]


def test_serve_passes_all_of_it_on(gguf, tmp_path):
    convert(weights_dir("pebble-chat"), tmp_path / "draft.gguf", type="Q4_0")
    options = ["--cache", "q8_0", "--flash-attention", "on", "--draft", str(tmp_path / "draft.gguf"), "--threads", "1"]
    with serving(gguf, *options) as running:
        _, body = running.ask("/completions", {"prompt": "Once upon a time", "max_tokens": 30}, key="any")
    assert b'"draft_n"' in body


def test_what_does_not_go_together_is_one_sentence(gguf, tiny_folder, capsys):
    model = SimpleNamespace(name="Tiny", path=Path("tiny.gguf"), context=512, template=None, pooling=None)
    for layers in (-2, 1 << 31):
        with pytest.raises(BadSettings, match=f"n_gpu_layers is {layers}; give a number from 0, or -1 for all layers"):
            engine.start(model, n_gpu_layers=layers)
    with pytest.raises(BadSettings, match="There is no cache Q3_K with flash attention auto; choose among F16, F32"):
        engine.start(model, cache="Q3_K")
    with pytest.raises(
        BadSettings, match="A cache in Q8_0 needs flash attention; turn it on, or keep the cache in F16"
    ):
        engine.start(model, cache="Q8_0", flash_attention="off")
    with pytest.raises(BadSettings, match="take a draft with the model's own vocabulary"):
        load(gguf, draft=tiny_folder)
    with pytest.raises(BadSettings, match="is not told about cache, flash attention, draft and projector here; leave"):
        Bindings(model, 1, None, 512, False, cache="Q8_0")
    assert cli.main(["chat", str(gguf), "--cache", "Q9"]) == 2 and "There is no cache Q9" in capsys.readouterr().err


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture of Pebble's world."""
    file = tmp_path_factory.mktemp("picture") / "scene.png"
    draw(scenes(1, seed=3)[0], random.Random(1)).save(file)
    return file


def test_a_llava_brings_its_projector_and_chat_takes_a_picture(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMNOTES_HOME", str(tmp_path))
    folder = path_of("pebble-llava")
    assert folder == path_of("pebble-llava") and (folder / "config.json").is_file()
    words = ["chat", "pebble-llava", "--threads", "1", "--temperature", "0", "--image", str(picture)]
    command = [sys.executable, "-m", "llmnotes.cli", *words]
    done = subprocess.run(command, input=b"How many are there?\n", capture_output=True, timeout=120)
    assert done.returncode == 0 and b"puts CLIP's class token after the patches" in done.stderr
    assert done.stdout.decode().strip() in ("one.", "two.", "three.", "four.")
    with serving("pebble-llava", "--threads", "1") as running:
        assert "class token" in running.read()
        seen = {"type": "image_url", "image_url": {"url": terminal.picture(picture)}}
        parts = [seen, {"type": "text", "text": "How many are there?"}]
        wish = {"messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 20}
        status, body = running.ask("/chat/completions", wish, key="any")
    assert status == 200 and json.loads(body)["choices"][0]["message"]["content"] == done.stdout.decode().strip()
    assert json.loads(body)["usage"]["prompt_tokens"] > 36  # a picture is 36 tokens


def test_llama_cpp_shows_the_picture_where_the_template_has_it(picture):
    url = terminal.picture(picture)
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "How many?"}]
    with load("pebble-llava", n_threads=1) as runtime:
        root = runtime.url.removesuffix("/v1")
        marker = runtime.ask(f"{root}/props")["media_marker"]
        found = runtime.ask(f"{root}/apply-template", messages=[{"role": "user", "content": parts}])["prompt"]
    _, processor = vision.load(stage=0)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    theirs = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert "<|bos|>" + found.replace(marker, "<image>") == theirs


def test_a_picture_for_nobody_is_refused(gguf, picture, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    for words, said in (
        ([str(gguf), "--image", str(picture)], "cannot see pictures; give its projector with --mmproj."),
        ([str(gguf), "--image", str(tmp_path / "none.png")], "cannot be read"),
        ([str(gguf), "--image", str(tmp_path / "text.png")], "is no picture that llama.cpp reads; give a PNG"),
        ([str(gguf), "--mmproj", str(gguf)], "is no projector; make one from the model's folder with"),
    ):
        assert cli.main(["chat", *words]) == 2 and said in capsys.readouterr().err
