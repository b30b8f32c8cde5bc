"""`llmnotes serve`, the real process, asked with nothing but HTTP, well and badly."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmnotes.errors import BadSettings, FileUnreadable, ServerFailed
from llmnotes.serving import Client, gguf_of
from llmnotes.serving.server import _open_port, serve

from .serving_process import serving

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-test"
HELLO = [{"role": "user", "content": "What does the goose say?"}]


@pytest.fixture(scope="module")
def server(gguf):
    with serving(gguf, "--threads", "2", key=KEY) as running:
        yield running


def test_it_speaks_the_protocol(server):
    assert "512 tokens each" in server.line and server.url.startswith("http://127.0.0.1:")
    status, body = server.ask("/models")
    assert status == 200 and [entry["id"] for entry in json.loads(body)["data"]] == ["Pebble Chat"]
    wish = {"model": "Pebble Chat", "temperature": 0, "max_tokens": 12}
    answer = json.loads(server.ask("/chat/completions", wish | {"messages": HELLO})[1])
    assert answer["object"] == "chat.completion" and answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["role"] == "assistant" and answer["usage"]["completion_tokens"] > 0
    assert "honk" in answer["choices"][0]["message"]["content"]
    answer = json.loads(server.ask("/completions", wish | {"prompt": "Once upon a time"})[1])
    assert answer["object"] == "text_completion" and answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12
    status, body = server.ask("/chat/completions", wish | {"messages": HELLO, "stream": True})
    events = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line.strip()]
    assert status == 200 and events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "honk" in "".join(pieces) and sum(map(bool, pieces)) > 1
    answer = json.loads(server.ask("/embeddings", {"model": "x", "input": ["A cat", "A dog"]})[1])
    assert [len(entry["embedding"]) for entry in answer["data"]] == [256, 256]


def test_our_client_speaks_it_too(server):
    client = Client(f"http://127.0.0.1:{server.port}", KEY)
    assert client.models() == ["Pebble Chat"] and "honk" in client.chat(HELLO)
    assert "".join(client.stream(HELLO)) == client.chat(HELLO)
    assert len(client.embeddings(["A cat"])[0]) == 256


def test_a_wrong_key_gets_401(server):
    for page, wish in (("/models", None), ("/completions", {"prompt": "x"}), ("/embeddings", {"input": "x"})):
        assert server.ask(page, wish, key="wrong")[0] == 401
        assert server.ask(page, wish, key=KEY)[0] == 200
    with pytest.raises(ServerFailed, match="401.*--api-key"):
        Client(server.url, "wrong").complete("x")


WRONG = [
    *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe\x00", b"[" * 50_000, b'{"prompt":"\xff"}', b"{}"),
    *({"prompt": wrong} for wrong in (None, 5, {}, [], ["a", None], [99_999_999], [-3], [[]], True, "honk " * 5000)),
    *({"prompt": "x", "max_tokens": wrong} for wrong in ("a", -5, [], {}, 10**12)),
    *({"prompt": "x", "max_tokens": 2, "temperature": wrong} for wrong in ("hot", [], {})),
    *({"prompt": "x", "max_tokens": 2, "n": wrong} for wrong in (0, 1000, "a")),
    *({"prompt": "x", "max_tokens": 2, "grammar": wrong} for wrong in ("root ::= (", "x" * 50_000)),
    *({"messages": wrong} for wrong in ("x", 5, [5], [{}], [{"role": "user"}], [{"role": 5, "content": "x"}])),
    *({"messages": [{"role": "user", "content": wrong}]} for wrong in ({}, [5], 5, [{"type": "image_url"}])),
    {"messages": HELLO, "tools": 5},
    *({"input": wrong} for wrong in (None, 5, {}, [], [None], [[99_999_999]], "honk " * 5000)),
]


TEXT = {"role": "user", "content": "x"}
# What llama.cpp's own server calls its own failure, though it is the client's.
CALLED_500 = [
    *(("/chat/completions", {"messages": [message]}) for message in ({"content": "x"}, TEXT | {"role": 5})),
    *(
        ("/chat/completions", {"messages": [TEXT | {"content": [part]}]})
        for part in ({"type": "text"}, {"type": "text", "text": 5})
    ),
    *(("/chat/completions", {"messages": [TEXT], "tools": wrong}) for wrong in (5, {}, [5], [{}])),
    ("/chat/completions", {"messages": [TEXT | {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ("/embeddings", {"input": "honk " * 5000}),
]


def test_what_llama_cpp_calls_its_own_failure_is_the_clients(server):
    found = [server.ask(page, wish) for page, wish in CALLED_500]
    assert [status for status, _ in found] == [400] * len(CALLED_500)
    assert all(json.loads(body)["error"]["message"] for _, body in found)
    assert "honk" in Client(server.url, KEY).chat(HELLO)


def test_it_survives_500_malformed_requests(server):
    pages = ["/completions", "/chat/completions", "/embeddings"]
    statuses = []
    for number in range(420):
        page = pages[number // len(WRONG) % 3]
        status, body = server.ask(page, WRONG[number % len(WRONG)])
        statuses.append(status)
        assert status != 200 or json.loads(body), (page, WRONG[number % len(WRONG)])
        if status >= 400:
            assert json.loads(body)["error"]["message"], (page, body)
    assert statuses.count(400) > 250 and set(statuses) == {200, 400}, statuses
    noise = random.Random(0)
    good = json.dumps({"prompt": "Once", "max_tokens": 200, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
    whole = head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(good) + good
    for number in range(80):  # connections that are cut, and bytes that are no HTTP
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            kind = number % 4
            if kind == 0:
                connection.sendall(whole[: noise.randrange(1, len(whole))])
            elif kind == 1:
                connection.sendall(noise.randbytes(200))
            elif kind == 2:
                connection.sendall(whole)  # an answer that nobody waits for
            else:
                connection.sendall(head + b"Content-Length: -1\r\n\r\n" + good)
    status, body = server.ask("/chat/completions", {"messages": HELLO, "temperature": 0})
    assert status == 200 and "honk" in json.loads(body)["choices"][0]["message"]["content"]


@pytest.mark.slow
def test_fifty_clients_at_once_get_their_own_answers(server):
    """A short form of a minute with 50 clients: no answer is lost, and none is another's."""
    client = Client(server.url, KEY)
    prompts = [f"Q: What does the {animal} say?\nA:" for animal in ("goose", "cow", "wolf", "cat", "dog", "sheep")]
    alone = {prompt: client.complete(prompt, 4, stop=["\n"]) for prompt in prompts}
    assert len(set(alone.values())) > 3

    def ask(number: int) -> bool:
        mine = prompts[number % len(prompts)]
        one = Client(server.url, KEY, model="Pebble Chat")
        for count in range(4):
            streamed = (number + count) % 2
            found = "".join(one.stream(mine, 4, stop=["\n"])) if streamed else one.complete(mine, 4, stop=["\n"])
            assert found == alone[mine], (mine, found)
        return True

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(50)))


def test_ctrl_c_ends_it_in_the_middle_of_an_answer(gguf):
    with serving(gguf, "--threads", "1") as running:
        client = Client(running.url)
        stream = client.stream("Once upon a time", 100_000, ignore_eos=True)
        next(stream)
        broken = []

        def listen() -> None:
            with pytest.raises(ServerFailed):
                list(stream)
            broken.append(True)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        assert running.end() == 130
        listener.join(10)
        assert broken, "the answer was awaited, or its end is no error"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), 2).close()


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM of Unix")
def test_sigterm_ends_it_whoever_holds_a_connection(gguf):
    """A client that asks nothing, one that stops in a request, one that reads nothing of a long answer."""
    wish = json.dumps({"prompt": "Once", "max_tokens": 100_000, "stream": True, "ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(wish)}\r\n\r\n".encode()
    with serving(gguf, "--threads", "1") as running, ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60)) for _ in range(3)]
        sockets[1].sendall(head + wish[:5])
        sockets[2].sendall(head + wish)
        assert sockets[2].recv(1) == b"H"
        assert running.end(signal.SIGTERM) == 143


def test_a_folder_is_served(stories):
    with serving(stories, "--threads", "1", "--type", "Q8_0", "--context", "64") as running:
        assert "stories260K" in running.line and "256 tokens each" in running.line
        answer = json.loads(running.ask("/completions", {"prompt": "Once upon", "max_tokens": 3}, key="any")[1])
        assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.slow
def test_what_cannot_be_served_is_refused_before_the_port_opens(gguf, tmp_path):
    data = gguf.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-5000])
    (tmp_path / "unknown.gguf").write_bytes(data.replace(b"llama", b"lxxma"))
    (tmp_path / "lacks.gguf").write_bytes(data.replace(b"blk.2.ffn_up", b"blk.2.ffn_ux"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for words, reason in (
            ([str(tmp_path / "cut.gguf"), "--port", "0"], "cut.gguf is damaged"),
            ([str(tmp_path / "lacks.gguf"), "--port", "0"], "tensor 'blk.2.ffn_up.weight' not found"),
            ([str(tmp_path / "unknown.gguf"), "--port", "0"], "unknown model architecture: 'lxxma'"),
            ([str(gguf), "--port", port], f"Port {port} of 127.0.0.1 cannot be opened"),
            ([str(gguf), "--port", "99999"], "Port 99999 of 127.0.0.1 cannot be opened"),
            ([str(gguf), "--port", "0", "--api-key", "a b"], "The API key"),
            ([str(gguf), "--port", "0", "--parallel", "0"], "parallel is 0"),
        ):
            command = [sys.executable, "-m", "llmnotes.cli", "serve", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2 and not done.stdout, words
            assert reason in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_what_the_child_refuses_is_refused_here_too(monkeypatch, tiny_folder):
    with pytest.raises(BadSettings, match="The API key is empty or has characters that a header cannot carry; take"):
        serve(tiny_folder, key="a b")
    for host, port in (("127.0.0.1", 99_999), ("no host", 0)):
        with pytest.raises(ServerFailed, match=f"Port {port} of {host} cannot be opened .*; choose another"):
            _open_port(host, port)

    def locked(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(FileUnreadable, match=r"tiny cannot be read \(Permission denied\); check its permissions"):
        gguf_of(tiny_folder)
