"""The load generator: prepared requests over kept-alive connections, every answer checked.

The loop is closed: each connection sends its next request when the answer to the last one is
complete. An answer that is not exactly what the fake upstream said counts as wrong, and a
measurement with a wrong answer yields no ratio.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import httptools
import msgspec
from msgspec import Struct

from bench.upstream import COMPLETION_TOKENS, PROMPT_TOKENS, TEXT, WORD

Check = Callable[[bytes], str | None]
"""Says what is wrong with an answer's body, None if nothing is."""

_WORD: Final = WORD.encode()


class Target(Struct, frozen=True):
    """Where a contender is asked, and as whom."""

    port: int
    path: str
    model: str
    headers: dict[str, str] = {}


class Shape(Struct, frozen=True):
    """What is asked. `body`: size of the request body in bytes; `chunks`: content events of a stream, 0 for a whole answer."""

    body: int = 300
    chunks: int = 0


class Outcome(Struct):
    """What one run saw. Times in seconds; `firsts` are times to the first byte of an answer.

    `frames` counts the HTTP chunks of all bodies, so that a gateway which merges a stream's chunks is seen.
    """

    requests: int = 0
    seconds: float = 0.0
    latencies: list[float] = []
    firsts: list[float] = []
    frames: int = 0
    wrong: Counter[str] = msgspec.field(default_factory=Counter)
    reconnects: int = 0


class _Message(Struct):
    content: str


class _Choice(Struct):
    message: _Message
    finish_reason: str


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int


class _Whole(Struct):
    model: str
    choices: list[_Choice]
    usage: _Usage


_decode = msgspec.json.Decoder(_Whole).decode


def check_whole(model: str) -> Check:
    """Accepts the upstream's whole answer under the name `model`, whatever fields a gateway adds."""

    def check(body: bytes) -> str | None:
        try:
            answer = _decode(body)
        except msgspec.DecodeError as error:
            return f"not a chat completion: {error}"
        if len(answer.choices) != 1 or answer.choices[0].message.content != TEXT:
            return "another text"
        if (answer.usage.prompt_tokens, answer.usage.completion_tokens) != (PROMPT_TOKENS, COMPLETION_TOKENS):
            return "another usage"
        return None if answer.model == model else f"another model: {answer.model[:40]}"

    return check


def check_stream(model: str, chunks: int) -> Check:
    """Accepts a stream of exactly `chunks` content events, one finish, one usage and [DONE] at the end."""
    name = json.dumps(model).encode()

    def check(body: bytes) -> str | None:
        if not body.rstrip().endswith(b"data: [DONE]"):
            return "no [DONE] at the end of a stream"
        if (seen := body.count(_WORD)) != chunks:
            return f"{seen} content chunks instead of {chunks}"
        if body.count(b'"stop"') != 1:
            return "not one finish_reason in a stream"
        if body.count(b'"prompt_tokens"') != 1:
            return "not one usage in a stream"
        return None if body.count(name) >= chunks else "another model in a stream"

    return check


def prepare(target: Target, shape: Shape) -> bytes:
    """The bytes of one request, its body padded to `shape.body` bytes (but never below what the fields need)."""
    value: dict[str, Any] = {
        "model": target.model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. Answer briefly."},
            {"role": "user", "content": ""},
        ],
        "temperature": 0.2,
        "max_tokens": max(256, shape.chunks),
    }
    if shape.chunks:
        value["stream"] = True
        value["stream_options"] = {"include_usage": True}
    missing = shape.body - len(json.dumps(value))
    words = "How does a toll road decide what a lorry pays? "
    value["messages"][1]["content"] = (words * (missing // len(words) + 1))[: max(missing, 1)]
    body = json.dumps(value).encode()
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: 127.0.0.1:{target.port}",
        "User-Agent: bench",
        "Accept: */*",
        "Content-Type: application/json",
        *(f"{name}: {text}" for name, text in target.headers.items()),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """One kept-alive connection of a load; it has at most one request under way."""

    _transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = 0.0
        self._first_at = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not registered as ones

    def send(self) -> None:
        self._busy = True
        self._first_at = 0.0
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        if not self._first_at:
            self._first_at = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"broken framing: {error}")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_chunk_header(self) -> None:
        self._load.outcome.frames += 1

    def on_message_complete(self) -> None:
        if not self._busy:
            self._fail("an answer to no request")
            return
        now = time.perf_counter()
        body = b"".join(self._parts)
        self._parts.clear()
        self._busy = False
        status = self._parser.get_status_code()
        problem = (
            self._load.check(body)
            if status == 200
            else f"status {status}: {body[:200].decode(errors='replace')}"
        )
        self._load.answered(problem, now - self._sent_at, self._first_at - self._sent_at)
        if self._parser.should_keep_alive():
            self._load.free(self)
        else:
            self._transport.close()

    def _fail(self, problem: str) -> None:
        self._transport.abort()
        if self._busy:
            self._busy = False
            self._load.answered(problem)
        else:
            self._load.outcome.wrong[problem] += 1

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._busy:
            self._fail("the connection closed before the answer was complete")
        self._load.lost(self)

    def close(self) -> None:
        self._busy = False
        self._transport.abort()


class Load:
    """`connections` connections to one target. Use: run (warm-up), run (measured), close."""

    def __init__(self, target: Target, shape: Shape, connections: int) -> None:
        self.request = prepare(target, shape)
        self.check = check_stream(target.model, shape.chunks) if shape.chunks else check_whole(target.model)
        self.outcome = Outcome()
        self._port = target.port
        self._wanted = connections
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._left = 0
        self._under_way = 0
        self._deadline = 0.0
        self._done: asyncio.Future[None] | None = None

    async def run(self, requests: int, seconds: float) -> Outcome:
        """Send at most `requests`, none after `seconds`, and wait for every answer.

        An answer that takes 30 s longer than that counts as wrong. Raises OSError if no connection
        can be made.
        """
        self.outcome = Outcome()
        while len(self._open) < self._wanted:
            self._idle.append(await self._connect())
        self._left = requests
        self._done = asyncio.get_running_loop().create_future()
        collecting = gc.isenabled()
        gc.collect()
        gc.disable()
        begun = time.perf_counter()
        self._deadline = begun + seconds
        ready, self._idle = self._idle, []
        try:
            for connection in ready:
                self.free(connection)
            await asyncio.wait_for(self._done, seconds + 30)
        except TimeoutError:
            self.outcome.wrong["no answer within 30 s after the end"] += self._under_way
        finally:
            self.outcome.seconds = time.perf_counter() - begun
            self._left = 0
            if collecting:
                gc.enable()
        return self.outcome

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        self._open.add(connection)
        return connection

    def _more(self) -> bool:
        return self._left > 0 and time.perf_counter() < self._deadline

    def free(self, connection: _Connection) -> None:
        """The connection may carry the next request, if there is one."""
        if self._more():
            self._left -= 1
            self._under_way += 1
            connection.send()
        else:
            self._idle.append(connection)
            self._end_if_over()

    def answered(self, problem: str | None, latency: float | None = None, first: float | None = None) -> None:
        """One request is over; the times are those of an answer that came, right or wrong."""
        self._under_way -= 1
        self.outcome.requests += 1
        if problem is not None:
            self.outcome.wrong[problem] += 1
        if latency is not None and first is not None:
            self.outcome.latencies.append(latency)
            self.outcome.firsts.append(first)

    def lost(self, connection: _Connection) -> None:
        """The other side closed a connection: open another if there is work for it."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._more():
            self.outcome.reconnects += 1
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._opening.add(task)
        self._end_if_over()

    async def _reconnect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            connection = await self._connect()
        except OSError as error:
            self.outcome.wrong[f"cannot connect again: {error}"] += 1
            self._opening.discard(task)
            self._end_if_over()
        else:
            self._opening.discard(task)
            self.free(connection)

    def _end_if_over(self) -> None:
        if self._under_way == 0 and not self._opening and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def close(self) -> None:
        """Cut every connection."""
        connections, self._open = self._open, set()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in connections:
            connection.close()


def wrong_text(wrong: Mapping[str, int]) -> str:
    """The wrong answers of a run in one line, the most frequent first."""
    common = sorted(wrong.items(), key=lambda item: -item[1])
    return "; ".join(f"{count} x {problem}" for problem, count in common[:3])
