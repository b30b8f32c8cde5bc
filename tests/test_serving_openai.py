"""The whole way, offline, as a reader goes it: convert, chat, serve, and ask with the package openai."""

import subprocess
import sys

import pytest

from llmnotes.errors import ServerFailed
from llmnotes.serving import Client

from .serving_process import serving

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-test"
GOOSE = [{"role": "user", "content": "What does the goose say?"}]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """Return the Q4_K_M of Pebble that the command `llmnotes convert` writes."""
    path = tmp_path_factory.mktemp("gguf") / "pebble-chat-Q4_K_M.gguf"
    command = ["convert", "pebble-chat", str(path), "--to", "gguf", "--type", "Q4_K_M"]
    done = subprocess.run([sys.executable, "-m", "llmnotes.cli", *command], capture_output=True, timeout=60)
    assert done.returncode == 0 and path.stat().st_size < 4e6, done.stderr
    return path


@pytest.fixture(scope="module")
def server(gguf):
    with serving(gguf, "--threads", "1", key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def openai(server):
    """Return a client of the package openai, as its documentation makes one."""
    package = pytest.importorskip("openai", reason="the package openai is not here; the extra serve brings it")
    with package.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.slow
def test_the_command_line_talks_to_what_it_converted(gguf):
    command = [sys.executable, "-m", "llmnotes.cli", "chat", str(gguf), "--threads", "1", "--temperature", "0"]
    done = subprocess.run(command, input=b"What does the goose say?\n", capture_output=True, timeout=60)
    assert done.returncode == 0 and b"honk" in done.stdout and not done.stderr


def test_the_models_are_listed(openai):
    assert [model.id for model in openai.models.list()] == ["Pebble Chat"]
    assert openai.models.list().data[0].object == "model"


def test_it_chats(openai, server):
    answer = openai.chat.completions.create(model="Pebble Chat", messages=GOOSE, temperature=0, max_tokens=40)
    choice = answer.choices[0]
    assert "honk" in choice.message.content and choice.message.role == "assistant" and choice.finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert choice.message.content == Client(server.url, KEY).chat(GOOSE, 40)  # ours and theirs are told the same


def test_it_streams(openai):
    wish = {"model": "Pebble Chat", "messages": GOOSE, "temperature": 0, "max_tokens": 40}
    whole = openai.chat.completions.create(**wish).choices[0].message.content
    with openai.chat.completions.create(**wish, stream=True, stream_options={"include_usage": True}) as stream:
        events = list(stream)
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole and sum(map(bool, pieces)) > 1
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].usage.completion_tokens > 1


def test_it_completes(openai):
    wish = {"model": "Pebble Chat", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}
    answer = openai.completions.create(**wish)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 12
    pieces = [event.choices[0].text for event in openai.completions.create(**wish, stream=True) if event.choices]
    assert "".join(pieces) == answer.choices[0].text and len(pieces) > 5


def test_what_the_protocol_allows_is_obeyed(openai):
    wish = {"model": "Pebble Chat", "prompt": "Once upon a time", "max_tokens": 20, "temperature": 1.5}
    first, again, other = (openai.completions.create(**wish, seed=seed).choices[0].text for seed in (1, 1, 2))
    assert first == again != other
    stopped = openai.completions.create(model="x", prompt="Once upon a time", max_tokens=50, temperature=0, stop=["."])
    assert "." not in stopped.choices[0].text and stopped.choices[0].finish_reason == "stop"
    grammar = {"grammar": 'root ::= "honk" | "moo"'}  # llama.cpp's own
    named = openai.chat.completions.create(model="x", messages=GOOSE, temperature=0, extra_body=grammar)
    assert named.choices[0].message.content in ("honk", "moo")


def test_it_embeds(openai, server):
    texts = ["The goose says honk.", "A cat", "The cow says moo."]
    found = openai.embeddings.create(model="Pebble Chat", input=texts, encoding_format="float").data
    assert [entry.index for entry in found] == [0, 1, 2] and {len(entry.embedding) for entry in found} == {256}
    packed = openai.embeddings.create(model="Pebble Chat", input=texts).data  # base64, unless it is asked otherwise
    ours = Client(server.url, KEY).embeddings(texts)
    for one, two, three in zip(found, packed, ours, strict=True):
        assert one.embedding == pytest.approx(three, abs=1e-6) and two.embedding == pytest.approx(three, abs=1e-6)


def test_what_it_refuses_is_the_packages_own_error(openai, server):
    import openai as package

    with package.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as stranger:
        for ask in (
            stranger.models.list,
            lambda: stranger.chat.completions.create(model="x", messages=GOOSE),
            lambda: stranger.embeddings.create(model="x", input="x"),
        ):
            with pytest.raises(package.AuthenticationError):
                ask()
    with pytest.raises(package.BadRequestError):
        openai.completions.create(model="x", prompt="honk " * 5000)
    with pytest.raises(ServerFailed, match="401"):
        Client(server.url, "wrong").models()
    assert "honk" in openai.chat.completions.create(model="x", messages=GOOSE, temperature=0).choices[0].message.content


def test_ctrl_c_ends_the_server_while_the_package_listens(gguf):
    package = pytest.importorskip("openai", reason="the package openai is not here; the extra serve brings it")
    with serving(gguf, "--threads", "1") as running:
        with package.OpenAI(base_url=running.url, api_key="none needed", max_retries=0) as client:
            wish = {"model": "x", "prompt": "Once", "max_tokens": 100_000, "extra_body": {"ignore_eos": True}}
            stream = client.completions.create(**wish, stream=True)
            next(iter(stream))
            assert running.end() == 130
            stream.close()
            with pytest.raises(package.APIConnectionError):
                client.models.list()
