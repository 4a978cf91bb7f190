"""A client of few lines that shows what is on the wire: status, headers, body, and how the response ended."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, NamedTuple

WAIT = 10.0
CHAT = "/v1/chat/completions"


class Answer(NamedTuple):
    """`end`: "complete" (by its framing), "eof" (closed before), "reset", "bad" (invalid framing), "closed" (framed by the end)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    end: str

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    def payloads(self) -> list[str]:
        """The data of each event, whatever the line ends."""
        events = self.body.decode().replace("\r\n", "\n").split("\n\n")
        return [
            line[5:].removeprefix(" ")
            for event in events
            for line in event.split("\n")
            if line.startswith("data:")
        ]

    def chunks(self) -> list[Any]:
        return [json.loads(payload) for payload in self.payloads() if payload != "[DONE]"]

    def text(self, field: str = "content") -> str:
        choices = [choice for chunk in self.chunks() for choice in chunk.get("choices", ())]
        return "".join(choice["delta"].get(field) or "" for choice in choices)


class Raw:
    """One connection."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=WAIT)
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_for(self, needle: bytes, times: int = 1) -> bytes:
        """Everything received so far, once it contains `needle` that often."""
        while self._buffer.count(needle) < times:
            more = self.socket.recv(65536)
            assert more, f"closed before {needle!r}: {self._buffer!r}"
            self._buffer += more
        return self._buffer

    def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing arrives, not even the end of the connection."""
        self.socket.settimeout(seconds)
        try:
            self._pull()
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(WAIT)

    def _pull(self) -> bool:
        more = self.socket.recv(65536)
        self._buffer += more
        return bool(more)

    def read(self) -> Answer:
        """One response."""
        try:
            while b"\r\n\r\n" not in self._buffer:
                if not self._pull():
                    return Answer(0, [], self._buffer, "eof")
        except ConnectionResetError:
            return Answer(0, [], self._buffer, "reset")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
        ]
        if status == 100:
            return self.read()
        body, end = self._body(dict(headers))
        return Answer(status, headers, body, end)

    def _body(self, headers: dict[str, str]) -> tuple[bytes, str]:
        body = b""
        try:
            if "content-length" in headers:
                wanted = int(headers["content-length"])
                while len(self._buffer) < wanted:
                    if not self._pull():
                        return self._buffer, "eof"
                body, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
                return body, "complete"
            if headers.get("transfer-encoding") == "chunked":
                while True:
                    chunk, end = self._chunk()
                    body += chunk
                    if end:
                        return body, end
            while self._pull():
                pass
            return self._buffer, "closed"
        except ConnectionResetError:
            return body, "reset"

    def _chunk(self) -> tuple[bytes, str]:
        while b"\r\n" not in self._buffer:
            if not self._pull():
                return b"", "eof"
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        try:
            size = int(line, 16)
        except ValueError:
            return b"", "bad"
        while len(self._buffer) < size + 2:
            if not self._pull():
                return b"", "eof"
        chunk, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return chunk, "" if size else "complete"


def post(body: object, path: str = CHAT, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: sandbox", f"content-length: {len(payload)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def get(path: str, method: str = "GET") -> bytes:
    """The bytes of a GET."""
    return f"{method} {path} HTTP/1.1\r\nhost: sandbox\r\n\r\n".encode()


def question(model: str, text: object = "Hello", **fields: object) -> dict[str, Any]:
    """A chat body with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


class Sandbox:
    """The server under test, as its callers see it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self) -> Raw:
        return Raw(self.port)

    def fetch(self, request: bytes) -> Answer:
        with Raw(self.port) as raw:
            raw.send(request)
            return raw.read()

    def ask(self, model: str, text: object = "Hello", **fields: object) -> Answer:
        return self.fetch(post(question(model, text, **fields)))

    def stats(self) -> dict[str, Any]:
        return self.fetch(get("/sandbox/stats")).json()

    def wait_stats(self, **wanted: int) -> dict[str, Any]:
        """The counters, once they are as wanted."""
        deadline = time.monotonic() + WAIT
        while True:
            stats = self.stats()
            if all(stats[name] == value for name, value in wanted.items()):
                return stats
            assert time.monotonic() < deadline, f"wanted {wanted}, got {stats}"
