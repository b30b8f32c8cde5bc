"""Requests and answers as HTTP/1.1 writes them (RFC 9112): read from a connection, and written for one."""

import asyncio
import json
import re
from dataclasses import dataclass
from http import HTTPStatus

HEAD = 1 << 16  # bytes of the first line and the headers
BODY = 1 << 28  # bytes of a request's body: some pictures
SECONDS = 10  # how long a client may be silent in the middle of its request
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
Headers = list[tuple[str, str]]  # names in lower case


class BadRequest(Exception):
    """What a client sent is no request: (HTTP status, why)."""


@dataclass(frozen=True)
class Request:
    """A request; `headers` without those that are about the connection."""

    method: str
    target: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the first header `name`, which is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def as_bytes(self, host: str, without: tuple[str, ...] = (), more: Headers | None = None) -> bytes:
        """Return the request as it goes to a server at `host`, which is to close the connection after its answer."""
        headers = [(name, value) for name, value in self.headers if name not in without] + (more or [])
        headers += [("host", host), ("connection", "close"), ("content-length", str(len(self.body)))]
        return head_of(f"{self.method} {self.target} HTTP/1.1", headers) + self.body


CONNECTION = ("host", "connection", "keep-alive", "transfer-encoding", "content-length", "expect", "upgrade", "te")


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Return the request that comes, or None if the connection ends without one. Raises `BadRequest`."""
    try:
        first, headers = await asyncio.wait_for(read_head(reader), SECONDS)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if not (method.isalpha() and method.isupper() and target.startswith("/") and version.startswith("HTTP/1.")):
        raise BadRequest(400, "This is no HTTP request; send one such as GET /v1/models HTTP/1.1.")
    if any(name == "expect" for name, _ in headers):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    lengths = {value for name, value in headers if name == "content-length"}
    coding = [value.lower() for name, value in headers if name == "transfer-encoding"]
    try:
        if coding:
            if coding != ["chunked"] or lengths:
                raise BadRequest(400, "The body of the request has two lengths or an unknown coding; send one length.")
            body = await _chunks(reader)
        else:
            body = await _sized(reader, lengths)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
        return None
    return Request(method, target, [pair for pair in headers if pair[0] not in CONNECTION], body)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, Headers]:
    """Return (first line, headers) of a request or an answer. Raises `BadRequest`."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise BadRequest(431, "The headers of the request are too long; send fewer.") from None
    first, *lines = text.strip("\r\n").split("\r\n")
    pairs = [line.partition(":")[::2] for line in lines]
    if not all(TOKEN.fullmatch(name) and "\n" not in value and "\r" not in value for name, value in pairs):
        raise BadRequest(400, "A header of the request is malformed; write each as Name: value.")
    return first, [(name.lower(), value.strip()) for name, value in pairs]


async def _sized(reader: asyncio.StreamReader, lengths: set[str]) -> bytes:
    if not lengths:
        return b""
    length = next(iter(lengths))
    if len(lengths) > 1 or not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "The Content-Length of the request is no number; give the bytes of the body.")
    if len(length) > 12 or int(length) > BODY:
        raise BadRequest(413, f"The body of the request is longer than {BODY >> 20} MiB; send less.")
    return await asyncio.wait_for(reader.readexactly(int(length)), SECONDS + int(length) / 1e5)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while chunk := await asyncio.wait_for(read_chunk(reader), SECONDS):
        body += chunk
        if len(body) > BODY:
            raise BadRequest(413, f"The body of the request is longer than {BODY >> 20} MiB; send less.")
    return bytes(body)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """Return the next piece of a body whose length is not known beforehand; b"" at its end. Raises `BadRequest`."""
    line = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
    try:
        size = int(line, 16)
        if not 0 <= size <= BODY or not line.isalnum():
            raise ValueError
    except ValueError:
        raise BadRequest(400, "A chunk of the request has no size; send its length in hexadecimal digits.") from None
    chunk = await reader.readexactly(size)
    while not size and await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # headers after the body
    if size:
        await reader.readexactly(2)
    return chunk


def head_of(first: str, headers: Headers) -> bytes:
    """Return the first line and the headers as bytes, with the empty line that ends them."""
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers), "", ""]).encode("latin-1", "replace")


def answer(status: int, body: object, headers: Headers) -> bytes:
    """Return a whole answer whose body is JSON; None is no body."""
    text = b"" if body is None else json.dumps(body).encode()
    own = [("content-type", "application/json; charset=utf-8"), ("content-length", str(len(text)))]
    return head_of(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", own + [("connection", "close")] + headers) + text


def error(status: int, message: str, headers: Headers, kind: str = "invalid_request_error") -> bytes:
    """Return the answer that says what was wrong, in the form of OpenAI and llama.cpp."""
    return answer(status, {"error": {"code": status, "message": message, "type": kind}}, headers)
