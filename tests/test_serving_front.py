"""What stands before llama.cpp in `llmnotes serve`: origins, request parameters, tools, refusals, the log."""

import asyncio
import json
import shutil
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmnotes.errors import ProcessDied, ServerFailed
from llmnotes.formats import convert
from llmnotes.llama_cpp.child import Child
from llmnotes.models import open_model
from llmnotes.pebble import weights_dir
from llmnotes.serving import Client, ModelFile, load, serve
from llmnotes.serving.chats import Chat
from llmnotes.serving.front import Front
from llmnotes.serving.http_messages import HEAD
from llmnotes.serving.parameters import Abilities, mistake, reworded

from .samples import write_tiny_model
from .serving_process import OPENER, serving

pytestmark = pytest.mark.slow

GOOSE = [{"role": "user", "content": "What does the goose say?"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "clock")
]
# A template with tools, in the form that Qwen and Hermes use.
WITH_TOOLS = """{%- if tools %}<|im_start|>system
<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
Answer with <tool_call>
{"name": "...", "arguments": {}}
</tool_call><|im_end|>
{% endif %}{%- for message in messages %}{%- if message.tool_calls %}<|im_start|>assistant{% for tool_call in
message.tool_calls %}
<tool_call>
{"name": "{{ tool_call.function.name }}", "arguments": {{ tool_call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def server(gguf, tmp_path_factory):
    with serving(gguf, "--threads", "1", "--verbose") as running:
        yield running


def asked(server, page: str, wish: dict | None = None, method: str | None = None, **headers: str):
    """Return (status, headers, body) of one request."""
    data = None if wish is None else json.dumps(wish).encode()
    names = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(server.url + page, data, names, method=method)
    try:
        with OPENER.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


OWN = [
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:3000",
    "http://127.0.0.1:8000",
    "http://[::1]:3000",
]
HOSTILE = [
    *("http://elsewhere.example", "null", "http://localhost.elsewhere.example", "http://notlocalhost:3000"),
    *("http://localhost:3000.elsewhere.example", "http://localhost@elsewhere.example", "file://localhost"),
    *("http://127.0.0.1.elsewhere.example", "http://elsewhere.example/localhost", "http://localhost:3000/x"),
]


def test_pages_of_this_machine_may_ask_and_others_may_not(server):
    for origin in OWN:
        status, headers, _ = asked(server, "/models", Origin=origin)
        assert status == 200 and headers["Access-Control-Allow-Origin"] == origin
        wanted = "authorization,content-type,x-stainless-lang"  # what the package openai sends from a page
        more = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": wanted}
        status, headers, _ = asked(server, "/chat/completions", method="OPTIONS", Origin=origin, **more)
        assert status < 300 and headers["Access-Control-Allow-Headers"] == wanted
        assert "POST" in headers["Access-Control-Allow-Methods"]
        status, headers, _ = asked(server, "/completions", {"prompt": "x", "max_tokens": 0}, Origin=origin)
        assert status == 400 and headers["Access-Control-Allow-Origin"] == origin  # a page may read what was wrong
    for origin in HOSTILE:
        for method, wish in (("GET", None), ("OPTIONS", None), ("POST", {"prompt": "x"})):
            page = "/models" if method == "GET" else "/completions"
            status, headers, body = asked(server, page, wish, method, Origin=origin)
            assert status == 403 and headers["Access-Control-Allow-Origin"] is None, (origin, method)
            assert b"may not ask without a key" in body


def test_with_a_key_every_page_that_has_it_may_ask(gguf):
    with serving(gguf, "--threads", "1", key="secret") as running:
        for key, expected in (("Bearer secret", 200), ("Bearer no", 401)):
            status, headers, _ = asked(running, "/models", Origin="https://app.example", Authorization=key)
            assert status == expected and headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert asked(running, "/models", X_Api_Key="secret")[0] == 200  # as Anthropic's clients send it


REFUSED = [
    ("/completions", {"max_tokens": 0}, "max_tokens is 0"),
    ("/chat/completions", {"max_completion_tokens": 0}, "max_completion_tokens is 0"),
    ("/completions", {"echo": True}, "echo is not supported"),
    ("/completions", {"suffix": "x"}, "suffix is not supported"),
    ("/completions", {"best_of": 3}, "best_of is not supported"),
    ("/completions", {"stop": [""]}, "stop holds an empty text"),
    ("/completions", {"stop": ""}, "stop holds an empty text"),
    ("/completions", {"stop": 5}, "stop is neither"),
    ("/chat/completions", {"functions": [{"name": "f"}]}, "send them as tools"),
    ("/chat/completions", {"modalities": ["audio"]}, "text alone"),
    ("/embeddings", {"dimensions": 8}, "have 256 numbers"),
    ("/chat/completions", {"tool_choice": "required"}, "has no tools"),
    ("/chat/completions", {"tools": TOOLS, "tool_choice": "required"}, "no place for tools"),
    ("/chat/completions", {"tools": TOOLS}, "no place for tools"),
    ("/chat/completions", {"tools": [{}]}, "A tool is an object"),
    ("/chat/completions", {"messages": [{"content": "x"}]}, "A message is an object with a role"),
    ("/chat/completions", {"messages": [{"role": "user", "content": [5]}]}, "A part of a message"),
    ("/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "has no text"),
    ("/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "cannot see pictures"),
    ("/embeddings", {"input": "honk " * 600}, "an embedding takes 512"),
    ("/completions", {"prompt": "honk " * 600}, "start serve with a longer --context"),
]


@pytest.mark.parametrize(("page", "wish", "words"), REFUSED)
def test_what_llama_cpp_would_ignore_or_call_its_own_failure_is_400(server, page, wish, words):
    sound = {"/completions": {"prompt": "x"}, "/chat/completions": {"messages": GOOSE}, "/embeddings": {"input": "x"}}
    status, _, body = asked(server, page, sound[page] | {"max_tokens": 3} | wish)
    error = json.loads(body)["error"]
    assert status == error["code"] == 400 and words in error["message"], body
    assert error["message"].count(". ") == 0 and error["message"].endswith(".")


def test_what_asks_for_nothing_is_no_mistake(server):
    wish = {"echo": False, "stop": None, "suffix": None, "best_of": 1, "max_tokens": 3}
    assert asked(server, "/completions", {"prompt": "x"} | wish)[0] == 200
    wish = {"tools": TOOLS, "tool_choice": "none", "functions": [], "modalities": ["text"], "max_tokens": 3}
    assert asked(server, "/chat/completions", {"messages": GOOSE} | wish)[0] == 200
    assert asked(server, "/embeddings", {"input": "x", "dimensions": 256})[0] == 200


def test_no_message_advises_an_option_that_is_not_there(server):
    for page in ("/rerank", "/../slots", "/../metrics"):
        status, _, body = asked(server, page, {"query": "a", "documents": ["b"]} if page == "/rerank" else None)
        assert status in (404, 501) and b"--" not in body, body
    said = "This server does not support embeddings. Start it with `--embeddings`", 501
    assert reworded(*said) == ("llmnotes serve does not support embeddings.", 501)


def test_an_answer_does_not_begin_with_the_templates_space(server, gguf):
    with load(gguf, n_threads=1) as runtime:
        raw = runtime.chat(GOOSE)
    wish = {"messages": GOOSE, "temperature": 0, "max_tokens": 40}
    whole = json.loads(asked(server, "/chat/completions", wish)[2])["choices"][0]["message"]["content"]
    assert raw.startswith(" ") and whole == raw[1:]
    assert "".join(Client(server.url).stream(GOOSE)) == whole
    body = asked(server, "/chat/completions", wish | {"stream": True, "n": 2})[2].decode()
    pieces = {0: "", 1: ""}
    for line in body.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                pieces[choice["index"]] += choice["delta"].get("content") or ""
    assert pieces == {0: whole, 1: whole}
    text = json.loads(asked(server, "/completions", {"prompt": "Once", "max_tokens": 3, "temperature": 0})[2])
    assert text["choices"][0]["text"].startswith(" ")  # a continuation does


def test_one_model_can_be_asked_for(server):
    openai = pytest.importorskip("openai", reason="the package openai is not here; the extra serve brings it")
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        assert client.models.retrieve("Pebble Chat").id == "Pebble Chat"
        with pytest.raises(openai.NotFoundError, match="There is no model other here"):
            client.models.retrieve("other")


def test_it_notes_each_request(gguf):
    with serving(gguf, "--threads", "1", "--verbose") as running:
        asked(running, "/completions", {"prompt": "x", "max_tokens": 2})
        asked(running, "/completions", {"prompt": "x", "max_tokens": 0})
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"\x1b[2J\r\n\r\n")
            connection.recv(1000)
        lines = [running.read() for _ in range(3)]
    assert "127.0.0.1  POST /v1/completions  200  " in lines[0] and "  400  " in lines[1]
    assert "cannot be read  400" in lines[2] and "\x1b" not in "".join(lines)


def test_an_answer_is_noted_when_the_client_goes_before_llama_cpp():
    notes, over = [], asyncio.Event()

    async def llama_cpp(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await over.wait()  # it leaves the connection open
        writer.close()

    async def talk():
        behind = await asyncio.start_server(llama_cpp, "127.0.0.1", 0)
        child = SimpleNamespace(address=f"http://127.0.0.1:{behind.sockets[0].getsockname()[1]}", key="key")
        abilities = Abilities("m", 8, chats=False, tools=False, pictures=False)
        front = Front(child, abilities, "", None, notes.append)
        server = await asyncio.start_server(front.serve, "127.0.0.1", 0, limit=HEAD)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
        for _ in range(200):
            if notes:
                break
            await asyncio.sleep(0.05)
        over.set()
        server.close(), behind.close()
        await asyncio.sleep(0.1)  # both connections end

    asyncio.run(talk())
    assert len(notes) == 1 and "GET /v1/models  200" in notes[0]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /v1/models HTTP/1.1\r\nA-b: c\r\n\r\n", b" 200 "),
        (b"GET /v1/models HTTP/1.1\r\nA : c\r\n\r\n", b" 400 "),
        (b"GET /v1/models HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b" 400 "),
        (b"GET /v1/models HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b" 413 "),
        (b"GET /v1/models HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b" 400 "),
        (b"GET /v1/models HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", b" 400 "),
        (b"GET /v1/models HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", b" 431 "),
        (b"get it\r\n\r\n", b" 400 "),
        (
            b"POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'1\r\n{\r\n1c\r\n"prompt":"x","max_tokens":2}\r\n0\r\nA: b\r\n\r\n',
            b" 100 ",
        ),
    ],
)
def test_what_is_no_request_is_refused(server, sent, expected):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(4096):
            found += piece
    assert expected in found[:30] and found.count(b"\r\nconnection: close") == 1
    assert b'"text":' in found if b"100-c" in sent else True


@pytest.fixture(scope="module")
def without_template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("none")
    write_tiny_model(folder / "tiny")
    convert(folder / "tiny", folder / "tiny.gguf")
    return folder / "tiny.gguf"


def test_a_model_without_a_template_is_not_given_another_ones(without_template):
    with serving(without_template, "--threads", "1") as running:
        assert "has no chat template" in running.read()
        status, _, body = asked(running, "/chat/completions", {"messages": GOOSE})
        assert status == 400 and b"has no chat template, so it cannot chat" in body
        assert asked(running, "/completions", {"prompt": "a", "max_tokens": 3})[0] == 200


def test_a_tool_that_is_required_is_called_or_missed(tmp_path):
    """The model is random: left alone it ends most answers in text, and where a call is required it can only go on."""
    folder = tmp_path / "tools"
    write_tiny_model(folder)
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    forced = [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": {}}}]
    with serving(folder, "--threads", "1", "--context", "2048") as running:
        wish = {"messages": GOOSE, "tools": TOOLS, "max_tokens": 400, "temperature": 1.0}
        found = [json.loads(asked(running, "/chat/completions", wish | {"seed": seed})[2]) for seed in range(5)]
        assert "stop" in [answer["choices"][0]["finish_reason"] for answer in found]
        for choice in ("required", {"type": "function", "function": {"name": "clock"}}):
            for seed in range(5):
                body = asked(running, "/chat/completions", wish | {"tool_choice": choice, "seed": seed})
                answer = json.loads(body[2])
                assert body[0] == 422 and "called no tool" in answer["error"]["message"], answer
        streamed = asked(running, "/chat/completions", wish | {"tool_choice": "required", "stream": True})
        assert b"called no tool" in streamed[2] and streamed[2].rstrip().endswith(b"data: [DONE]")
        with pytest.raises(ServerFailed, match="called no tool"):
            list(Client(running.url).stream(GOOSE, 20, tools=TOOLS, tool_choice="required"))
        wish |= {"tool_choice": {"type": "function", "function": {"name": "banana"}}}
        status, _, body = asked(running, "/chat/completions", wish)
        assert status == 400 and b"choose among weather, clock" in body
    chat = Chat.of({"tools": TOOLS, "tool_choice": "required"}, "")
    chat.see(0, {"tool_calls": forced})
    assert not chat.uncalled() and Chat.of({}, "") is None and Chat.of([], " ") is None


def test_the_sentences_of_parameters():
    pebble = Abilities("Pebble", None, chats=True, tools=True, pictures=False)
    assert "have a fixed number of numbers" in mistake("/embeddings", {"dimensions": 8}, pebble)
    assert mistake("/chat/completions", {"messages": 5}, pebble) is None  # llama.cpp says so itself
    assert mistake("/other", {"max_tokens": 0}, pebble) is None and mistake("/completions", [], pebble) is None


@pytest.mark.parametrize(
    ("kind", "number"), [("pooling_mode_lasttoken", 3), ("pooling_mode_cls_token", 2), (None, None)]
)
def test_a_text_becomes_the_vector_that_the_file_asks_for(kind, number, tmp_path):
    folder = shutil.copytree(weights_dir("pebble"), tmp_path / "model")
    if kind:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 256, kind: True}))
    convert(folder, tmp_path / "m.gguf", type="F32")
    assert ModelFile.read(tmp_path / "m.gguf").pooling == number
    lm, text = open_model("pebble", say=lambda line: None), "The goose says honk."
    with torch.no_grad():
        states = lm.model.model(torch.tensor([lm.tokenizer(text)["input_ids"]])).last_hidden_state[0]
    expected = {3: states[-1], 2: states[0], None: states.mean(0)}[number].numpy()
    with serving(tmp_path / "m.gguf", "--threads", "1") as running:
        client = Client(running.url)
        found = np.array(client.embeddings([text])[0])
        assert client.complete("Once upon a time", 4)  # and it goes on with texts as before
    assert found @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=1e-4)


def test_it_ends_when_llama_cpp_does(gguf, monkeypatch):
    def begun(self, *rest, **more):
        begin(self, *rest, **more)
        children.append(self)

    begin, children = Child.__init__, []
    monkeypatch.setattr(Child, "__init__", begun)
    with pytest.raises(ProcessDied, match="has ended with exit status -?[0-9]+; start serve again, with fewer layers"):
        serve(gguf, port=0, n_threads=1, say=lambda line: children[0].close())


def test_a_client_is_told_when_llama_cpp_does_not_answer():
    child = SimpleNamespace(address="http://127.0.0.1:1", key="x")
    front = Front(child, Abilities("Pebble", 256, True, False, False), "", None, None)

    async def asked() -> bytes:
        server = await asyncio.start_server(front.serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /v1/models HTTP/1.1\r\n\r\n")
        found = await reader.read()
        writer.close()
        server.close()
        return found

    found = asyncio.run(asked())
    assert b" 502 " in found and b"llama.cpp does not answer; start serve again." in found
