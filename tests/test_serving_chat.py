"""`llmnotes chat`: through a pipe, in a terminal, with a model and with a server."""

import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmnotes.errors import MissingPart, ServerFailed
from llmnotes.formats import convert
from llmnotes.pebble import weights_dir
from llmnotes.serving import Client, load
from llmnotes.serving.terminal import Wrapping, converse, printable

from .processes import SECONDS, started
from .serving_process import serving

pytestmark = pytest.mark.slow


def chat(*words, said: str = ""):
    command = [sys.executable, "-m", "llmnotes.cli", "chat", *map(str, words)]
    return subprocess.run(command, input=said.encode(), capture_output=True, timeout=60)


def test_a_pipe_is_read_to_its_end(gguf):
    done = chat(gguf, "--temperature", "0", said="What does the goose say?\n\nWhat does the cow say?")
    lines = done.stdout.decode().strip().splitlines()
    assert done.returncode == 0 and lines == ["honk.", "moo."] and not done.stderr
    assert chat(gguf).returncode == 0


def test_a_server_is_a_model_too(gguf):
    with serving(gguf, "--threads", "1", key="secret") as server:
        done = chat(server.url, "--api-key", "secret", "--temperature", "0", said="What does the goose say?\n")
        assert done.returncode == 0 and b"honk" in done.stdout
        done = chat(server.url, "--api-key", "other", said="Hello\n")
        assert done.returncode == 2 and b"401" in done.stderr and b"Traceback" not in done.stderr
        address = server.url
    done = chat(address, said="Hello\n")
    assert done.returncode == 2 and b"does not answer" in done.stderr and done.stderr.count(b"\n") == 1


def test_a_model_without_a_template_goes_on(stories):
    done = chat(stories, "--max-tokens", "5", said="Once upon a time\n")
    assert done.returncode == 0 and b"has no chat template" in done.stderr and done.stdout.strip()


def test_what_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "text.gguf").write_text("Once upon a time")
    for model in (tmp_path / "text.gguf", tmp_path / "none.gguf", "http://", "http://127.0.0.1:1"):
        done = chat(model, said="Hello\n")
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and not done.stdout, done


def test_a_conversation_has_a_history_and_forgets_its_beginning(gguf):
    asked = []
    with load(gguf, n_threads=1, n_ctx=64) as runtime:
        real = runtime.stream

        def stream(messages, **parameters):
            asked.append([message["content"] for message in messages])
            return real(messages, **parameters)

        runtime.stream = stream
        out = []
        lines = [f"What does the {animal} say?" for animal in ("goose", "cow", "wolf", "cat", "dog", "sheep")]
        lines += [f"{line} ({number})" for number in range(3) for line in lines]
        converse(runtime, lines, out.append, system="You are Pebble.", max_tokens=8)
        with pytest.raises(ServerFailed, match="context"):
            converse(runtime, ["honk " * 300], out.append)
    answers = "".join(out).splitlines()
    assert len(answers) >= 6 and "honk" in answers[0]
    assert asked[1][:2] == ["You are Pebble.", lines[0]] and asked[1][-1] == lines[1]  # with what was said before
    last = [messages for messages in asked if messages[-1] == lines[-1]][-1]
    assert lines[0] not in last and last[0] == "You are Pebble." and lines[-2] in last


@contextmanager
def recording():
    """Be a server that has one model, and keep the headers of the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "m"}]}')

        def log_message(self, *_):
            """Say nothing."""

    with listening(Handler) as url:
        yield url, asked


def test_nothing_of_the_environment_is_sent(monkeypatch):
    """The package openai would send the key of OpenAI to any server, and ask through a proxy."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with recording() as (url, asked):
        assert Client(url).models() == Client(url, "mine").models() == ["m"]
        assert Client(url.replace("127.0.0.1", "localhost")).models() == ["m"]
    assert {headers["Connection"] for headers in asked} == {"close"}  # the next request may come as a server closes it
    assert len(asked) == 3 and "secret" not in "".join(map(str, asked)) and asked[1]["Authorization"] == "Bearer mine"


class Fake:
    """A client whose answers are given; an exception among them is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def stream(self, messages, **parameters):
        self.asked.append([(message["role"], message["content"]) for message in messages])
        for piece in self.answers.pop(0):
            if isinstance(piece, BaseException):
                raise piece
            yield piece


def test_someone_who_types_may_stop_an_answer_and_goes_on_after_an_error():
    fake, out = Fake(["half", KeyboardInterrupt()], [ServerFailed("No.")], ["well"]), []
    converse(fake, ["a", "b", "c"], out.append, interactive=True)
    assert "".join(out) == "half\nNo.\nwell\n"
    assert fake.asked[-1] == [("user", "a"), ("assistant", "half"), ("user", "c")]
    with pytest.raises(KeyboardInterrupt):
        converse(Fake(["half", KeyboardInterrupt()]), ["a"], out.append)


def test_someone_who_types_has_commands():
    lines = ["/help", "/system Be brief.", "a", "/system", "b", "/banana", "/etc/passwd is?", "/quit", "c"]
    fake, out = Fake(["x"], ["y"], ["z"]), []
    converse(fake, lines, out.append, interactive=True)
    said = "".join(out)
    assert "/system TEXT" in said and "The model is told: Be brief.\nx\n" in said and "told nothing.\ny\n" in said
    assert "There is no command /banana; /help lists them." in said and said.endswith("z\n")
    assert [messages[0] for messages in fake.asked] == [("system", "Be brief."), ("user", "a"), ("user", "a")]
    assert len(fake.asked[2]) == 5 and fake.asked[2][-1] == ("user", "/etc/passwd is?")
    fake = Fake(["x"])
    converse(fake, ["/quit"], out.append)  # what comes from a pipe is no command
    assert fake.asked == [[("user", "/quit")]]


def test_lines_are_broken_between_words():
    dice, width = random.Random(0), 20
    words = ["".join(dice.choices("abcdefgh", k=dice.randrange(1, 12))) for _ in range(200)]
    text, out = " ".join(words), []
    lines = Wrapping(out.append, width)
    for start in range(0, len(text), 3):
        lines(text[start : start + 3])
    lines("\n")
    assert "".join(out).splitlines() == textwrap.wrap(text, width)
    for whole in ("  def f():\n\n    return 1\n", "x" * 50 + "\n", "犬" * 30 + "\n"):
        out.clear()
        lines(whole)
        assert "".join(out).replace("\n", "") == whole.replace("\n", "")
    assert max(map(len, "".join(out).splitlines())) <= 10  # signs that are two columns wide


def test_it_samples_as_the_models_makers_say(tmp_path):
    """The text of a seed is that of llama.cpp told what is in the folder's generation_config.json, or its defaults."""
    begin, makers = "Once upon a time", {"temperature": 1.6, "top_k": 7, "top_p": 0.9}
    folder, words = tmp_path / "model", ("--max-tokens", "30", "--threads", "1")
    shutil.copytree(weights_dir("pebble"), folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    texts = []
    for said, wanted in ({}, {"temperature": 0.8, "top_k": 40, "top_p": 0.95}), (makers, makers):
        settings = folder / "generation_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | said))
        file = convert(folder, tmp_path / f"{len(said)}.gguf", type="F16").target
        drawn, greedy = (chat(file, *how, *words, said=begin) for how in (("--seed", "5"), ("--temperature", "0")))
        with load(file, n_threads=1) as runtime:
            texts.append(runtime.complete(begin, 30, seed=5, min_p=0.05, **wanted) + "\n")
            assert greedy.stdout.decode() == runtime.complete(begin, 30) + "\n"
        assert drawn.stdout.decode() == texts[-1] != greedy.stdout.decode()
    assert texts[0] != texts[1]


def test_a_terminal_obeys_no_model():
    assert printable("a\tb\nc\x1b]0;x\x07\x9b2J\r🙂\u200d") == "a\tb\nc\\x1b]0;x\\x07\\x9b2J\\r🙂\u200d"


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_it_talks_in_a_terminal_and_ends_at_ctrl_d(gguf):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "llmnotes.cli", "chat", str(gguf), "--threads", "1", "--temperature", "0"]
    with started(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        os.write(ours, b"What does the goose say?\n\x04")
        out, _ = process.communicate(timeout=SECONDS)
    os.close(ours)
    assert process.returncode == 0 and b"honk" in out


@contextmanager
def answering(status: int, body: bytes):
    """Be a server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            """Say nothing."""

    with listening(Handler) as url:
        yield url


@contextmanager
def listening(handler):
    """Answer requests with `handler` in a thread."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"", "not OpenAI's"),
        (200, b"<html>", "not OpenAI's"),
        (200, b"[]", "not OpenAI's"),
        (200, b'{"choices": []}', "not OpenAI's"),
        (200, b'{"choices": [{"message": {"content": 5}, "text": 5}]}', "not OpenAI's"),
        (500, b"oops", "answers 500"),
        (404, b'{"error": "no model"}', "answers 404: no model"),
        (400, b'{"error": {"message": "too \\u001b[2Jlong", "type": 5}}', "answers 400"),
    ],
)
def test_a_strange_server_is_one_sentence(status, body, reason):
    with answering(status, body) as url:
        client = Client(url, model="m")
        for ask in (
            lambda: client.complete("x"),
            lambda: client.chat([]),
            client.models,
            lambda: client.embeddings("x"),
        ):
            with pytest.raises(ServerFailed, match=reason) as raised:
                ask()
            assert "\x1b" not in str(raised.value)


@pytest.mark.slow
def test_a_stream_is_read_as_it_comes():
    events = [
        b": a comment",
        b"event: x",
        b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}',
        b'data:{"choices":[{"delta":{"content":"honk"}}]}',
        b'data: {"choices": [], "usage": {}}',
    ]
    with answering(200, b"\n\n".join([*events, b"data: [DONE]", b"", b""])) as url:
        assert list(Client(url, model="m").stream([])) == ["honk"]
    broken = [b'data: {"error": {"message": "out of memory"}}', b"data: {", b"data: 5", b""]
    for last, reason in zip(broken, ["out of memory", "not OpenAI's", "breaks off", "in the middle"], strict=True):
        with answering(200, b"\n\n".join([*events, last])) as url, pytest.raises(ServerFailed, match=reason):
            list(Client(url, model="m").stream([]))


class Short(BaseHTTPRequestHandler):
    """Breaks off before it has sent what it promised."""

    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'data: {"choices": []}\n\n')

    def log_message(self, *_):
        """Say nothing."""


def test_no_server_and_one_that_breaks_off_are_one_sentence():
    for wrong in ("ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://127.0.0.1:99999"):
        with pytest.raises(ServerFailed, match="is not the address of a server; give one such as"):
            Client(wrong)
    with listening(Short) as url:
        with pytest.raises(ServerFailed, match="breaks off in the middle of its answer; ask again"):
            list(Client(url, model="m").stream([]))
    with pytest.raises(ServerFailed, match="does not answer .*; check the address, and that the server runs"):
        Client(url).models()  # it has ended


def test_models_are_asked_for_once():
    with answering(200, json.dumps({"data": [{"id": "m"}], "choices": [{"text": "x"}]}).encode()) as url:
        client = Client(url.removesuffix("/v1"))
        assert client.url == url and client.complete("x") == "x" and client.model == "m"


def test_without_its_package_a_client_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingPart, match=r"openai is missing; bring it with: .*openai>="):
        Client("http://127.0.0.1:1").models()
