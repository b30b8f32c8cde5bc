"""Other programs with our GGUF: what the documentation of `llmnotes.serving` says of them."""

import re
import subprocess
import sys

import pytest

import llmnotes.serving
from llmnotes.formats import convert, inspect
from llmnotes.formats.gguf import entries
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir
from llmnotes.serving import Client

UNUSED = 5  # the type of a token that llama.cpp gives no text
TALK = """
import sys
from gpt4all import GPT4All
name, folder, template = sys.argv[1:]
model = GPT4All(name, model_path=folder, allow_download=False, device="cpu", n_ctx=512)
how = {"temp": 0, "repeat_penalty": 1.0, "max_tokens": 20}
with model.chat_session("", template):
    print(model.generate("What does the goose say?", **how), flush=True)
print(model.generate("Once upon a time", **how), flush=True)
"""
TOLD = llmnotes.serving.__doc__


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "pebble-chat.gguf"
    convert(weights_dir("pebble-chat"), path, type="Q8_0")
    return path


@pytest.fixture(scope="module")
def prompt():
    """Return what Pebble's own template makes of a chat."""
    tokenizer = open_model("pebble-chat", say=lambda line: None).tokenizer
    messages = [("user", "What does the goose say?"), ("assistant", "Honk."), ("user", "Why?")]
    asked = [{"role": role, "content": text} for role, text in messages]
    made = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    return messages, made.removeprefix(tokenizer.bos_token)


def test_every_address_is_one_that_our_client_takes():
    addresses = re.findall(r"llmnotes chat (\S+)", TOLD.split("settings")[1])
    assert [Client(address, model="x").url for address in addresses] == addresses and len(addresses) == 3


def test_ollama_is_told_pebbles_template(prompt):
    template = re.search(r'TEMPLATE "(.*)"', TOLD)[1]
    begin, body, end = re.fullmatch(r"(.*)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*)", template).groups()
    messages, expected = prompt
    turns = [body.replace("{{ .Role }}", role).replace("{{ .Content }}", text) for role, text in messages]
    assert begin + "".join(turns) + end == expected
    assert re.search(r'PARAMETER stop "(.*)"', TOLD)[1] in expected


def test_gpt4all_is_told_pebbles_template(prompt):
    template = re.search(r'chat_session\("", "(.*)"\)', TOLD)[1]
    messages, expected = prompt
    assert expected.startswith(template.format(messages[0][1])) and expected.endswith(template.format("Why?"))


@pytest.mark.parametrize("model", ["pebble", "pebble-chat"])
def test_no_token_of_ours_is_without_text(model, tmp_path):
    convert(weights_dir(model), tmp_path / "p.gguf", type="F16")
    keys = entries(tmp_path / "p.gguf")
    kinds, tokens = list(keys["tokenizer.ggml.token_type"].value), list(keys["tokenizer.ggml.tokens"].value)
    assert len(kinds) == len(tokens) == 2048 and UNUSED not in kinds and all(tokens)
    assert inspect(tmp_path / "p.gguf").metadata["tokenizer.ggml.add_bos_token"] is True  # Ollama adds it


def talk(file, template: str):
    command = [sys.executable, "-c", TALK, file.name, str(file.parent), template]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_gpt4all_opens_it_and_answers(gguf):
    pytest.importorskip("gpt4all", reason="gpt4all is not here; pip install gpt4all==2.8.2 brings it")
    done = talk(gguf, re.search(r'chat_session\("", "(.*)"\)', TOLD)[1])
    assert done.returncode == 0 and "honk" in done.stdout.splitlines()[0] and "there lived" in done.stdout, done.stderr


def test_gpt4all_breaks_on_a_token_without_text(gguf, tmp_path):
    pytest.importorskip("gpt4all", reason="gpt4all is not here; pip install gpt4all==2.8.2 brings it")
    keys = entries(gguf)
    at = list(keys["tokenizer.ggml.tokens"].value).index("Ġthere")
    kinds = list(keys["tokenizer.ggml.token_type"].value)
    as_bytes = b"".join(kind.to_bytes(4, "little") for kind in kinds)
    data = gguf.read_bytes()
    assert data.count(as_bytes) == 1
    kinds[at] = UNUSED
    changed = b"".join(kind.to_bytes(4, "little") for kind in kinds)
    (tmp_path / "gap.gguf").write_bytes(data.replace(as_bytes, changed))
    done = talk(tmp_path / "gap.gguf", "<|user|> {0}<|end|><|assistant|>")
    assert done.returncode and "stringsOverlap must not be empty" in done.stderr
