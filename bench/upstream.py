"""The fake upstream behind every contender: the cheapest chat completions server that still answers properly.

It answers from prepared bytes, so that on one core it is not what limits the gateway under test.
A streamed answer is written one event per write, the next one on the next turn of the loop or
after a fixed gap. Every completion is counted, so that a contender which caches or retries cannot
pass for a fast one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
from typing import Any, Final, cast

import httptools
import uvloop

WORD: Final = "tarmac"
"""Stands once in every streamed chunk, and nowhere else in an answer's frame, so that chunks can be counted."""
TEXT: Final = " ".join([WORD] * 40)
PROMPT_TOKENS: Final = 40
COMPLETION_TOKENS: Final = 80
CHAT: Final = b"/v1/chat/completions"
MODEL: Final = "bench"
_ID: Final = "chatcmpl-B8x2QmT7vLr4KdWn"
_CREATED: Final = 1_760_000_000


def usage(completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
    }


def response(status: bytes, body: bytes, content_type: bytes = b"application/json") -> bytes:
    """A whole HTTP/1.1 answer with Content-Length."""
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
        status,
        content_type,
        len(body),
    )
    return head + body


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def whole_answer() -> bytes:
    """A chat completion of about 600 bytes, with usage."""
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED,
        "model": MODEL,
        "choices": [choice],
        "usage": usage(COMPLETION_TOKENS),
        "system_fingerprint": "fp_44709d6fcb",
    }
    return response(b"200 OK", _dump(answer))


def _event(data: bytes) -> bytes:
    """One server-sent event as one HTTP chunk."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(choices: list[dict[str, Any]], extra: dict[str, Any]) -> bytes:
    head = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": MODEL}
    return _event(_dump({**head, "choices": choices, **extra}))


def stream_pieces(chunks: int, *, with_usage: bool) -> list[bytes]:
    """The writes of one streamed answer: a head, `chunks` content events of about 170 bytes, a finish, usage if asked, the end."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    extra: dict[str, Any] = {"usage": None} if with_usage else {}

    def content(delta: dict[str, str], finish: str | None) -> bytes:
        return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}], extra)

    pieces = [content({"content": f" {WORD}"}, None) for _ in range(chunks)]
    if pieces:
        first = content({"role": "assistant", "content": f" {WORD}"}, None)
        pieces[0] = head + b"Transfer-Encoding: chunked\r\n\r\n" + first
    pieces.append(content({}, "stop"))
    if with_usage:
        pieces.append(_chunk([], {"usage": usage(chunks)}))
    pieces.append(_event(b"[DONE]") + b"0\r\n\r\n")
    return pieces


class Upstream:
    """What all connections share: the prepared answers, the pace of streams and the count of completions."""

    def __init__(self, chunks: int = 100, gap: float = 0.0) -> None:
        self.completions = 0
        self.streams = 0
        self.whole = whole_answer()
        listing = {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "bench"}],
        }
        self.models = response(b"200 OK", _dump(listing))
        self.pace(chunks, gap)

    def pace(self, chunks: int, gap: float) -> None:
        """Set the events of a streamed answer and the seconds between them; 0 is the next turn of the loop."""
        if chunks < 1 or gap < 0:
            raise ValueError("a stream has at least one chunk and no negative gap")
        self.gap = gap
        self.stream = stream_pieces(chunks, with_usage=False)
        self.stream_with_usage = stream_pieces(chunks, with_usage=True)

    def control(self, method: bytes, body: bytes) -> bytes:
        """GET /bench tells how many completions were begun and how many streams are open; POST /bench sets the pace."""
        if method == b"POST":
            told = json.loads(body)
            self.pace(int(told["chunks"]), float(told["gap"]))
        return response(b"200 OK", _dump({"completions": self.completions, "streams": self.streams}))


class UpstreamProtocol(asyncio.Protocol):
    """One kept-alive connection; requests are answered in turn, pipelining is cut off."""

    _transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._url = b""
        self._body: list[bytes] = []
        self._pieces: list[bytes] = []
        self._sent = 0
        self._paused = False
        self._stays = True
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not registered as ones

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end_stream()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._pieces:
            self._later()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url, body = self._url, b"".join(self._body)
        self._stays = self._parser.should_keep_alive()  # the parser forgets it after this call
        self._url = b""
        self._body.clear()
        if self._pieces:
            self._transport.abort()
        elif url == CHAT:
            self._complete(body)
        else:
            self._reply(self._answer_cold(url, body))

    def _answer_cold(self, url: bytes, body: bytes) -> bytes:
        if url == b"/bench":
            return self._upstream.control(self._parser.get_method(), body)
        if url == b"/v1/models":
            return self._upstream.models
        return response(b"404 Not Found", b'{"error":{"message":"no such path"}}')

    def _complete(self, body: bytes) -> None:
        self._upstream.completions += 1
        if b'"stream"' not in body:
            self._reply(self._upstream.whole)
            return
        request = json.loads(body)
        if not request.get("stream"):
            self._reply(self._upstream.whole)
            return
        asked = (request.get("stream_options") or {}).get("include_usage")
        self._pieces = self._upstream.stream_with_usage if asked else self._upstream.stream
        self._sent = 0
        self._upstream.streams += 1
        self._next()

    def _reply(self, answer: bytes) -> None:
        self._transport.write(answer)
        if not self._stays:
            self._transport.close()

    def _next(self) -> None:
        self._timer = None
        if self._sent >= len(self._pieces):
            return
        self._transport.write(self._pieces[self._sent])
        self._sent += 1
        if self._sent < len(self._pieces):
            if not self._paused:
                self._later()
            return
        self._end_stream()
        if not self._stays:
            self._transport.close()

    def _end_stream(self) -> None:
        if self._pieces:
            self._pieces = []
            self._upstream.streams -= 1

    def _later(self) -> None:
        if self._timer is not None:
            return
        gap = self._upstream.gap
        self._timer = self._loop.call_later(gap, self._next) if gap else self._loop.call_soon(self._next)


async def listen(upstream: Upstream, port: int = 0) -> tuple[asyncio.Server, int]:
    """Serve `upstream` on 127.0.0.1; returns the server and its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: UpstreamProtocol(upstream), "127.0.0.1", port, backlog=1024)
    return server, int(server.sockets[0].getsockname()[1])


async def _serve(port: int) -> None:
    server, bound = await listen(Upstream(), port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(bound, flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Run alone: `python -m bench.upstream --port 9000`; prints its port once it listens."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description="The fake upstream, alone.")
    parser.add_argument("--port", type=int, default=0)
    told = parser.parse_args()
    gc.freeze()
    uvloop.run(_serve(told.port))


if __name__ == "__main__":
    main()
