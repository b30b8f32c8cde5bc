"""Ask a server that speaks OpenAI's protocol: ours, or any other.

The package openai sends the requests. What it does not do is here: one sentence for every error, llama.cpp's own
parameters, and streams. Its stream objects cost four times as much processor time for each token as reading the lines
does, and they cannot tell a stream that was cut off from one that has ended.
"""

import json
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmnotes.errors import MissingPart, ServerFailed
from llmnotes.parts import bring

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI, Stream

OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
TOO_LONG = "exceed_context_size_error"  # what llama.cpp's server calls a prompt that is longer than the context
Messages = Sequence[dict]


class Client:
    """A server behind `url`, such as http://127.0.0.1:8080/v1; "/v1" is added to an address without a path.

    `key` is sent as a bearer token, `model` is the model's name at the server (by default the first that the server
    lists), and `seconds` is how long to wait for an answer. The most probable token is always taken, unless a
    `temperature` above 0 is given; with None it is the server's own. All other request parameters, such as `top_p`,
    `seed`, `stop` or llama.cpp's `grammar`, are sent as they are.

    Every method raises `ServerFailed` if the server does not answer, or answers with an error, and `MissingPart`
    without the package openai. Does not try again, and does not send this machine's own addresses through a proxy.
    """

    def __init__(self, url: str, key: str | None = None, model: str | None = None, seconds: float = 600):
        if not _is_address(url):
            raise ServerFailed(f"{url} is not the address of a server; give one such as http://127.0.0.1:8080/v1")
        self.url = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
        self.key, self.model, self.seconds = key, model, seconds

    def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        try:
            return [entry["id"] for entry in self.ask("/models")["data"]]
        except (KeyError, TypeError):
            raise self._not_openai() from None

    def complete(self, prompt: str | list[int], max_tokens: int = 64, **parameters: object) -> str:
        """Return the continuation of `prompt`, which is a text or a list of tokens."""
        answer = self.ask("/completions", prompt=prompt, **self._with_defaults(max_tokens, parameters))
        return self._text(answer, "text")

    def chat(self, messages: Messages, max_tokens: int = 256, **parameters: object) -> str:
        """Return the answer to `messages`, each {"role": ..., "content": ...}, in the model's own chat template."""
        answer = self.ask("/chat/completions", messages=list(messages), **self._with_defaults(max_tokens, parameters))
        return self._text(answer, "message")

    def stream(self, prompt: str | Messages, max_tokens: int = 256, **parameters: object) -> Iterator[str]:
        """Yield the answer piece by piece as it is written: that of `complete` for a text, of `chat` for messages."""
        request = self._with_defaults(max_tokens, parameters) | {"stream": True}
        if isinstance(prompt, str):
            events, field = self._events("/completions", request | {"prompt": prompt}), "text"
        else:
            events, field = self._events("/chat/completions", request | {"messages": list(prompt)}), "delta"
        for event in events:
            if event.get("choices"):  # the last event of some servers counts tokens and has no choice
                piece = self._text(event, field)
                if piece:
                    yield piece

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text; ours gives the mean of its tokens' last states, scaled to length 1."""
        answer = self.ask("/embeddings", input=list(texts), model=self._model())
        try:
            return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]
        except (KeyError, TypeError):
            raise self._not_openai() from None

    def ask(self, path: str, **parameters: object) -> dict:
        """Send `parameters` to an endpoint and return the whole answer; without parameters, GET it.

        `path` is one below the address, such as "/completions", or a whole URL.
        """
        openai = self._openai
        with self._one_sentence():
            text = openai.post(path, cast_to=str, body=parameters) if parameters else openai.get(path, cast_to=str)
        try:
            answer = json.loads(text)
        except ValueError:
            raise self._not_openai() from None
        if not isinstance(answer, dict):
            raise self._not_openai()
        return answer

    @cached_property
    def _openai(self) -> "OpenAI":
        try:
            from openai import DefaultHttpxClient, OpenAI  # takes half a second, so only when it is needed
        except ImportError:
            raise MissingPart(f"openai is missing; bring it with: {bring('openai')}") from None
        own = urlsplit(self.url).hostname in OWN_HOSTS
        client = OpenAI(
            base_url=self.url,
            api_key=self.key or "none",  # without one, openai would send the key of the environment
            timeout=self.seconds,
            max_retries=0,
            default_headers={"Connection": "close"},  # llama.cpp may close a kept connection as the next request comes
            http_client=DefaultHttpxClient(trust_env=not own),  # the environment may name a proxy
        )
        client.organization = client.project = None  # these come from the environment, too
        weakref.finalize(self, client.close)  # close the connections when nothing refers to this object any more
        return client

    def _model(self) -> str:
        if self.model is None:
            self.model = next(iter(self.models()), "default")
        return self.model

    def _with_defaults(self, max_tokens: int, parameters: dict) -> dict:
        wanted = {"model": self._model(), "max_tokens": max_tokens, "temperature": 0, **parameters}
        return {name: value for name, value in wanted.items() if value is not None}

    def _text(self, answer: dict, field: str) -> str:
        """Return the text of the first choice; "" where it has none."""
        try:
            choice = answer["choices"][0][field]
            text = choice if field == "text" else choice.get("content")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._not_openai() from None
        if not isinstance(text, str | None):
            raise self._not_openai()
        return text or ""

    def _events(self, path: str, parameters: dict) -> Iterator[dict]:
        """Yield the events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        openai = self._openai
        with self._one_sentence():
            from openai import Stream

            stream = openai.post(path, cast_to=object, body=parameters, stream=True, stream_cls=Stream[object])
        with stream:
            for line in self._lines(stream):
                name, _, data = line.decode(errors="replace").strip().partition(":")
                data = data.strip()
                if name != "data":  # a comment that keeps the connection open, or an empty line
                    continue
                if data == "[DONE]":
                    return
                try:
                    event = json.loads(data)
                except ValueError:
                    raise self._not_openai() from None
                if not isinstance(event, dict) or "error" in event:
                    error = event.get("error") if isinstance(event, dict) else None
                    message = error.get("message") if isinstance(error, dict) else error
                    raise ServerFailed(f"{self.url} breaks off: {str(message)[:300]}; ask again.")
                yield event
        raise self._cut_off()

    def _lines(self, stream: "Stream[object]") -> Iterator[bytes]:
        rest = b""
        try:
            for chunk in stream.response.iter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except Exception:  # of httpx or of httpx2: which one depends on openai's version
            raise self._cut_off() from None
        yield rest

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Turn the exceptions of a request into `ServerFailed`."""
        from openai import APIConnectionError, APIStatusError

        try:
            yield
        except APIStatusError as error:
            raise self._refusal(error) from None
        except (APIConnectionError, ValueError) as error:  # ValueError: a key that no header can carry
            raise ServerFailed(
                f"{self.url} does not answer ({error.__cause__ or error}); check the address, and that the server runs."
            ) from None

    def _refusal(self, error: "APIStatusError") -> ServerFailed:
        """Return the error that a server answers with."""
        found, kind, message = error.body, "", error.response.reason_phrase
        if isinstance(found, dict):
            kind, message = found.get("type", ""), found.get("message", message)
        elif isinstance(found, str) and error.response.text.startswith("{"):  # {"error": "..."}; not a page of HTML
            message = found
        if error.status_code == 401:
            message = f"{message}; give its key with --api-key"
        return ServerFailed(f"{self.url} answers {error.status_code}: {str(message)[:300].rstrip('.')}.", str(kind))

    def _cut_off(self) -> ServerFailed:
        return ServerFailed(f"{self.url} breaks off in the middle of its answer; ask again.")

    def _not_openai(self) -> ServerFailed:
        return ServerFailed(f"{self.url} answers in a way that is not OpenAI's; check that the address ends in /v1.")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number, or above 65535
        return False
