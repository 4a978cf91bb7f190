"""One client's connection: requests read strictly and within bounds, answered one after another.

A client that closes, even only its sending half, is taken to have left: what is being generated
for it stops at once and is counted as cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import httptools

from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.player import Player
from tollway.upstream.sandbox.records import Outcome, Record
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.routes import heavy
from tollway.upstream.sandbox.service import Service
from tollway.upstream.sandbox.steps import Steps

BODY_MAX: Final = 64 * 1024 * 1024
HEAD_MAX: Final = 64 * 1024
IDLE_SECONDS: Final = 75
_PIPELINED_MAX: Final = 16
_WRITE_HIGH: Final = 64 * 1024


class Connection(asyncio.Protocol):
    """An asyncio protocol. `opened` and `lost` are called with the connection when it comes and goes."""

    def __init__(
        self,
        service: Service,
        opened: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._opened = opened
        self._lost = lost
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._record: Record | None = None
        self._player: Player | None = None
        self._busy = False
        self._deaf = False
        self._active = self._loop.time()
        self._reading = Request()
        self._url = b""
        self._body: list[bytes] = []
        self._head_size = self._body_size = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop transports are no subclasses of asyncio.Transport, so this is a cast and not a check.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._idle = self._loop.call_later(IDLE_SECONDS, self._check_idle)
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._idle.cancel()
        self._queue.clear()
        self._settle("cancelled")
        self._lost(self)

    def eof_received(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        if self._player is not None:
            self._player.pause()

    def resume_writing(self) -> None:
        if self._player is not None:
            self._player.resume()

    def abort(self) -> None:
        """Cut the connection from this side."""
        self._settle("broken")
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._active = self._loop.time()
        if self._deaf:
            return
        if self._in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The parser stops at the head and leaves the body unread, so the request cannot be answered.
            self._queue.pop()
            self._refuse(Refused(400, "No protocol upgrade is offered."))
        except httptools.HttpParserError:
            self._refuse(Refused(400, "The request is not valid HTTP."))
        if self._in_head and self._head_size > HEAD_MAX:
            self._refuse(Refused(431, "The request head is too large."))
        self._next()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._reading = Request(headers={})
        self._url = b""
        self._body = []
        self._body_size = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        before = self._reading.headers.get(key)
        self._reading.headers[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        headers = self._reading.headers
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > BODY_MAX:
            self._refuse(Refused(413, "The request body is too large."))
        elif headers.get("expect", "").lower() == "100-continue" and not (self._busy or self._queue):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._body_size > BODY_MAX:
            self._refuse(Refused(413, "The request body is too large."))
        elif not self._deaf:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        if self._deaf:
            return
        request = self._reading
        request.method = self._parser.get_method().decode("latin-1")
        request.target = self._url.decode("latin-1")
        request.body = b"".join(self._body)
        request.http11 = self._parser.get_http_version() == "1.1"
        request.keep_alive = self._parser.should_keep_alive()
        self._body = []
        self._queue.append(request)
        if len(self._queue) == _PIPELINED_MAX:
            self._transport.pause_reading()

    # One answer after another.

    def _refuse(self, fault: Refused) -> None:
        """Answer what cannot be read, after everything before it, and listen to nothing more."""
        if not self._deaf:
            self._deaf = True
            self._body = []
            self._queue.append(Request(fault=fault, keep_alive=False))

    def _next(self) -> None:
        if self._busy or not self._queue or self._transport.is_closing():
            return
        self._busy = True
        request = self._queue.popleft()
        if len(self._queue) == _PIPELINED_MAX - 1:
            self._transport.resume_reading()
        record = self._record = self._service.receive(request)
        if not heavy(request):
            self._play(request, self._service.respond(request, record))
            return
        # Reading and counting a large body takes long enough to hold up everybody else.
        prepared = self._loop.run_in_executor(None, self._service.respond, request, record)
        prepared.add_done_callback(lambda future: self._prepared(request, future))

    def _prepared(self, request: Request, future: asyncio.Future[Steps]) -> None:
        if not future.cancelled() and not self._transport.is_closing():
            self._play(request, future.result())

    def _play(self, request: Request, steps: Steps) -> None:
        def ended(outcome: Outcome, keep_alive: bool) -> None:
            self._settle(outcome)
            if keep_alive:
                self._loop.call_soon(self._next)
            else:
                self._deaf = True
                self._transport.close()

        self._player = Player(self._transport, steps, self._record, request, ended)
        self._player.play()

    def _settle(self, outcome: Outcome) -> None:
        """The answer in progress, if any, is over."""
        if self._player is not None:
            self._player.stop()
            self._player = None
        if self._record is not None:
            self._service.records.close(self._record, outcome)
            self._record = None
        self._busy = False
        self._active = self._loop.time()

    def _check_idle(self) -> None:
        left = self._active + IDLE_SECONDS - self._loop.time()
        if self._busy or left > 0:
            self._idle = self._loop.call_later(max(left, 1), self._check_idle)
        else:
            self._transport.close()
