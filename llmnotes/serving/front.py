"""What `llmnotes serve` puts before llama.cpp's server: keys, origins of web pages, and refusals in one sentence.

llmnotes' and llama.cpp's servers are two processes. Requests are read here and checked; the answers pass as llama.cpp
wrote them, piece by piece, except errors and the space that some chat templates put before an answer.
"""

import asyncio
import hmac
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from llmnotes.errors import visible
from llmnotes.llama_cpp.child import Child
from llmnotes.serving.chats import Chat
from llmnotes.serving.http_messages import (
    HEAD,
    BadRequest,
    Headers,
    Request,
    answer,
    error,
    head_of,
    read_chunk,
    read_head,
    read_request,
)
from llmnotes.serving.parameters import CHAT, Abilities, mistake, reworded

PIECE = 1 << 16  # bytes that are passed on at once
OWN_PAGES = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")  # origins of this machine
OPEN = ("/health", "/v1/health")  # asked without a key
NOT_PASSED_ON = ("origin", "authorization", "x-api-key", "accept-encoding")


@dataclass(frozen=True)
class Front:
    """The server that clients see, before the one in `child`.

    With a `key`, each request must have it; without one, web pages may ask only if their origin is this machine.
    `note` receives a line for each request that was answered.
    """

    child: Child
    model: Abilities
    separator: str
    key: str | None
    note: Callable[[str], object] | None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection, and close it."""
        began, line, status = time.monotonic(), "a request that cannot be read", 0
        try:
            request = await read_request(reader, writer)
            if request is not None:
                line = f"{request.method} {request.target}"
                status = await self._answer(request, reader, writer)
        except BadRequest as refused:
            status, sentence = refused.args
            writer.write(error(status, sentence, []))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # one of the two connections broke off, or llama.cpp's answer did
        finally:
            if self.note is not None and status:
                peer = (writer.get_extra_info("peername") or ("?",))[0]
                clock = time.strftime("%H:%M:%S")
                self.note(visible(f"{clock}  {peer}  {line[:200]}  {status}  {time.monotonic() - began:.2f} s"))
            with suppress(OSError):
                if status:
                    await writer.drain()
                writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Answer `request` and return the HTTP status."""
        origin, path = request.header("origin"), urlsplit(request.target).path
        cors = self._cors(origin)
        refusal = None
        if origin and not cors:
            sentence = f"Web pages of {origin} may not ask without a key; start serve with LLMNOTES_API_KEY set."
            refusal = 403, sentence, "permission_error"
        elif request.method == "OPTIONS":
            wanted = request.header("access-control-request-headers")
            allowed = [("access-control-allow-methods", "GET, POST, OPTIONS")]
            allowed += [("access-control-allow-headers", wanted)] if wanted else []
            writer.write(answer(204, None, cors + allowed))
            return 204
        elif not (path in OPEN or self._knows_key(request)):
            refusal = 401, "Invalid API Key", "authentication_error"
        elif request.method == "POST" and (wrong := mistake(path.removeprefix("/v1"), _json(request), self.model)):
            refusal = 400, wrong, "invalid_request_error"
        if refusal:
            status, sentence, kind = refusal
            writer.write(error(status, sentence, cors, kind))
            return status
        return await self._passed_on(request, path, cors, reader, writer)

    def _cors(self, origin: str | None) -> Headers:
        """Return the headers that let a page of `origin` read the answer; none for a page that may not."""
        if not origin or not (self.key or OWN_PAGES.fullmatch(origin)):
            return []
        return [("access-control-allow-origin", origin), ("vary", "Origin")]

    def _knows_key(self, request: Request) -> bool:
        sent = request.header("authorization") or f"Bearer {request.header('x-api-key') or ''}"
        return self.key is None or hmac.compare_digest(sent.encode(), f"Bearer {self.key}".encode())

    async def _passed_on(
        self, request: Request, path: str, cors: Headers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        """Let llama.cpp answer, unless the client goes away before; return the HTTP status."""
        named = re.fullmatch(r"(?:/v1)?/models/(.+)", path)
        target = Request("GET", "/v1/models", [], b"") if named and request.method == "GET" else request
        where = urlsplit(self.child.address)
        try:
            theirs, backend = await asyncio.open_connection(where.hostname, where.port, limit=HEAD)
        except OSError:
            writer.write(error(502, "llama.cpp does not answer; start serve again.", cors, "server_error"))
            return 502
        told: list[int] = []
        relay = asyncio.create_task(
            self._relayed(target, named and unquote(named[1]), cors, theirs, backend, writer, told)
        )
        gone = asyncio.create_task(_end_of(reader))
        try:
            await asyncio.wait({relay, gone}, return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                await relay
            return told[0] if told else 0  # who has the whole answer may go before llama.cpp's connection ends
        finally:  # a connection that closes ends the computation, too
            for task in (relay, gone):
                task.cancel()
            backend.close()

    async def _relayed(
        self,
        request: Request,
        name: str | None,
        cors: Headers,
        theirs: asyncio.StreamReader,
        backend: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        told: list[int],
    ) -> None:
        """Send `request` to llama.cpp and its answer to the client; `told` receives the HTTP status before that."""
        where = urlsplit(self.child.address)
        backend.write(request.as_bytes(where.netloc, NOT_PASSED_ON, [("authorization", f"Bearer {self.child.key}")]))
        first, headers = await read_head(theirs)
        status = int(first.split()[1])
        chunked = ("transfer-encoding", "chunked") in headers
        kept = [pair for pair in headers if not pair[0].startswith(("access-control-", "connection", "keep-alive"))]
        chats = request.method == "POST" and urlsplit(request.target).path.removeprefix("/v1") == CHAT
        watched = Chat.of(_json(request), self.separator) if chats else None
        if status >= 400 or name is not None or (watched and not chunked):
            text = await theirs.read() if not chunked else await _unchunked(theirs)
            status, whole = self._changed(status, text, name, watched, cors)
            told.append(status)
            writer.write(whole)
            return
        told.append(status)
        writer.write(head_of(first, kept + cors + [("connection", "close")]))
        if watched and chunked:
            await self._stream(theirs, writer, watched)
        while piece := await theirs.read(PIECE):
            writer.write(piece)
            await writer.drain()

    def _changed(
        self, status: int, text: bytes, name: str | None, chat: Chat | None, cors: Headers
    ) -> tuple[int, bytes]:
        """Return (HTTP status, answer) for a whole answer of llama.cpp: an error, the list of models, or a chat."""
        body = json.loads(text)
        if status >= 400:
            message, ours = reworded(str(body["error"]["message"]), status)
            kind = body["error"]["type"] if ours == status else "invalid_request_error"
            body["error"] |= {"message": message, "code": ours, "type": kind}
            return ours, answer(ours, body, cors)
        if name is not None:
            found = next((entry for entry in body["data"] if name in (entry["id"], *entry.get("aliases", []))), None)
            if found is None:
                sentence = f"There is no model {name} here; /v1/models lists them."
                return 404, error(404, sentence, cors, "not_found_error")
            return 200, answer(200, found, cors)
        if chat:
            for choice in body["choices"]:
                chat.see(choice["index"], choice["message"])
            if chat.uncalled():
                return 422, error(422, chat.complaint(self.model.name), cors, "no_tool_call")
        return status, answer(status, body, cors)

    async def _stream(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter, chat: Chat) -> None:
        """Pass on a stream as long as `chat` has to see it."""
        while chat.left and (chunk := await read_chunk(theirs)):
            lines = []
            for line in chunk.split(b"\n"):
                if line == b"data: [DONE]" and chat.uncalled():
                    refusal = {"code": 422, "message": chat.complaint(self.model.name), "type": "no_tool_call"}
                    lines += [b"data: " + json.dumps({"error": refusal}).encode(), b""]
                lines.append(chat.line(line))
            piece = b"\n".join(lines)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if chat.left:  # the stream is over
            writer.write(b"0\r\n\r\n")


def _json(request: Request) -> object:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return None  # llama.cpp says so


async def _unchunked(theirs: asyncio.StreamReader) -> bytes:
    pieces = []
    while piece := await read_chunk(theirs):
        pieces.append(piece)
    return b"".join(pieces)


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the client closes the connection; what it sends after its request is not read."""
    with suppress(OSError):
        while await reader.read(PIECE):
            pass
