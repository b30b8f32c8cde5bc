"""Ask a server that speaks OpenAI's protocol: ours, or any other."""

import json
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from llmnotes.errors import ServerFailed

LINE = 1 << 22  # bytes of one line of a stream, at most
ANSWER = 1 << 28  # bytes of one answer, at most
HERE = ("127.0.0.1", "localhost", "::1")
Messages = Sequence[dict]


class Client:
    """A server behind `url`, such as http://127.0.0.1:8080/v1; "/v1" is added to an address without a path.

    `key` is sent as a bearer token, `model` with every wish (by default the first that the server lists). The most
    probable token is always taken, unless a `temperature` above 0 is given. Every further argument, such as `top_p`,
    `seed`, `stop` or llama.cpp's `grammar`, is passed on as it is.

    Every method raises `ServerFailed` if the server does not answer, or answers no. Does not try again.
    """

    def __init__(self, url: str, key: str | None = None, model: str | None = None, seconds: float = 600):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerFailed(f"{url} is no address of a server; give one such as http://127.0.0.1:8080/v1")
        self.url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        self.key, self.model, self.seconds = key, model, seconds
        # A proxy knows nothing of this machine's own ports.
        self._opener = build_opener(ProxyHandler({})) if parts.hostname in HERE else build_opener()

    def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        try:
            return [entry["id"] for entry in self.ask("/models")["data"]]
        except (KeyError, TypeError):
            raise self._strange() from None

    def complete(self, prompt: str | list[int], max_tokens: int = 64, **wish) -> str:
        """Return how `prompt`, a text or its tokens, goes on."""
        return self._choice(self.ask("/completions", prompt=prompt, **self._wish(max_tokens, wish)), "text")

    def chat(self, messages: Messages, max_tokens: int = 256, **wish) -> str:
        """Return the answer to `messages`, each {"role": ..., "content": ...}, in the model's own chat template."""
        answer = self.ask("/chat/completions", messages=list(messages), **self._wish(max_tokens, wish))
        return self._choice(answer, "message")

    def stream(self, what: str | Messages, max_tokens: int = 256, **wish) -> Iterator[str]:
        """Yield the answer piece by piece as it is written: that of `complete` for a text, of `chat` for messages."""
        wish = self._wish(max_tokens, wish) | {"stream": True}
        if isinstance(what, str):
            page, wish, field = "/completions", wish | {"prompt": what}, "text"
        else:
            page, wish, field = "/chat/completions", wish | {"messages": list(what)}, "delta"
        for event in self._stream(page, wish):
            if event.get("choices"):  # the last event of some servers counts tokens and holds none
                piece = self._choice(event, field)
                if piece:
                    yield piece

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector of length 1 for each text: the mean of its tokens' last states, if the server is ours."""
        answer = self.ask("/embeddings", input=list(texts), model=self._model())
        try:
            return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]
        except (KeyError, TypeError):
            raise self._strange() from None

    def ask(self, page: str, **wish) -> dict:
        """Return the answer of one page below the address, or of a whole address; without a wish it is only fetched."""
        with self._open(page, wish or None) as answer:
            try:
                found = json.loads(answer.read(ANSWER))
            except (ValueError, OSError, HTTPException):
                raise self._strange() from None
        if not isinstance(found, dict):
            raise self._strange()
        return found

    def _model(self) -> str:
        if self.model is None:
            self.model = next(iter(self.models()), "default")
        return self.model

    def _wish(self, max_tokens: int, wish: dict) -> dict:
        return {"model": self._model(), "max_tokens": max_tokens, "temperature": 0, **wish}

    def _choice(self, answer: dict, field: str) -> str:
        """Return the text of the first choice; "" where it is silent."""
        try:
            found = answer["choices"][0][field]
            text = found if field == "text" else found.get("content")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._strange() from None
        if not isinstance(text, str | None):
            raise self._strange()
        return text or ""

    def _stream(self, page: str, wish: dict) -> Iterator[dict]:
        with self._open(page, wish) as answer:
            yield from self._events(answer)

    def _open(self, page: str, wish: dict | None):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            data = None if wish is None else json.dumps(wish).encode()
            address = page if "://" in page else self.url + page
            return self._opener.open(Request(address, data, headers), timeout=self.seconds)
        except HTTPError as error:
            raise self._refusal(error) from None
        except (URLError, OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServerFailed(
                f"{self.url} does not answer ({reason}); check the address, and that the server runs."
            ) from None

    def _refusal(self, error: HTTPError) -> ServerFailed:
        """Return what a server says when it says no, as an error."""
        kind, message = "", error.reason
        try:
            with error:
                found = json.loads(error.read(1 << 16))["error"]
            kind, message = (found.get("type", ""), found["message"]) if isinstance(found, dict) else ("", found)
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            pass
        if error.code == 401:
            message = f"{message}; give its key with --api-key"
        return ServerFailed(f"{self.url} answers {error.code}: {str(message)[:300].rstrip('.')}.", kind=str(kind))

    def _events(self, answer) -> Iterator[dict]:
        """Yield the events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        try:
            while line := answer.readline(LINE):
                name, _, data = line.decode(errors="replace").strip().partition(":")
                if name != "data":  # a comment that keeps the line open, or nothing
                    continue
                if data.strip() == "[DONE]":
                    return
                event = json.loads(data)
                if not isinstance(event, dict) or "error" in event:
                    said = event.get("error") if isinstance(event, dict) else None
                    said = said.get("message") if isinstance(said, dict) else said
                    raise ServerFailed(f"{self.url} breaks off: {str(said)[:300]}; ask again.")
                yield event
        except (ValueError, OSError, HTTPException):
            raise self._strange() from None
        raise ServerFailed(f"{self.url} breaks off in the middle of its answer; ask again.")

    def _strange(self) -> ServerFailed:
        return ServerFailed(f"{self.url} answers in a way that is not OpenAI's; check that the address ends in /v1.")
