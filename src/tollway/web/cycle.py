"""One request and its response on a connection: the body in, the answer out, the handler between.

A cycle is the ResponseWriter of its handler. Whatever the handler does, the client sees a whole
answer, a refusal in its envelope, or a cut connection; never a truncated answer that looks whole.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

from tollway.core.errors import GatewayError
from tollway.web.body import READ_AHEAD, Body, Source
from tollway.web.refusals import render
from tollway.web.shared import Shared
from tollway.web.writer import DRAINING

JOIN_MAX: Final = 64 * 1024
"""Bytes of a body up to which copying it behind its head is cheaper than a second piece."""
BODILESS: Final = frozenset((204, 304))
CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"
_RESET: Final = struct.pack("ii", 1, 0)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 600)}

# How the body of the response is framed. Nothing is framed before the start, after the end, and
# where the client must not be sent a body.
Framing = Literal["nothing", "chunked", "until_close", "length"]


class Handling(Protocol):
    """What answers requests."""

    shares_scopes: bool
    """Whether it leaves scopes as they are, so that requests with one head may share theirs."""

    def begin(self, cycle: Cycle) -> Coroutine[Any, Any, None]:
        """The handler of a request, about to run."""
        ...

    def failed(self, cycle: Cycle, error: BaseException) -> None:
        """Answer for a handler that raised, if nothing has been sent."""
        ...


class Link(Source, Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    shared: Shared
    handling: Handling
    tasks: set[asyncio.Task[None]]
    write_paused: bool

    def finished(self, cycle: Cycle) -> None:
        """The response is complete."""
        ...

    def cut(self) -> None:
        """Close the connection once what was written is sent, though the response is not complete."""
        ...

    async def writable(self) -> None:
        """Wait until the client has read most of what was written, or has left."""
        ...


class Cycle:
    """One request and its response; a ResponseWriter.

    `scope` describes the request in ASGI's words; `request` is what the handling makes of it.
    """

    __slots__ = (
        "_body",
        "_came",
        "_framing",
        "_link",
        "_transport",
        "complete",
        "gone",
        "keep_alive",
        "request",
        "scope",
        "started",
        "task",
    )

    def __init__(
        self, link: Link, scope: Mapping[str, Any], body: Body | None, keep_alive: bool, came: bytes = b""
    ) -> None:
        """`came`: the body, if it is small (READ_AHEAD) and came whole with its head; `body` is what it is else."""
        self._link = link
        self._transport = link.transport
        self._body = body
        self._came = came
        self.scope = scope
        self.keep_alive = keep_alive
        self.request: Any = None
        self.task: asyncio.Task[None] | None = None
        self.gone = False
        self.started = False
        self.complete = False
        """Whether nothing more will be sent: the response is whole, or was cut."""
        self._framing: Framing = "nothing"

    @property
    def log(self) -> logging.Logger:
        return self._link.shared.log

    @property
    def body(self) -> Body:
        """The body of the request.

        One that came whole is read in one piece by nearly all, and then has nothing to wait for, to
        weigh or to hold back. For whatever else happens to it, it becomes a Body here.
        """
        body = self._body
        if body is None:
            came, self._came = self._came, b""
            self._body = body = Body(self._link, len(came), READ_AHEAD, False)
            if came:
                body.feed(came)
            body.end()
            if self.gone or self.complete:
                body.close()
        return body

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()

    def lost(self, reason: str) -> None:
        """The client has left: the handler is cancelled, unless it has answered already."""
        if self.gone:
            return
        self.gone = True
        self._framing = "nothing"
        self._close_body()
        if not self.complete and self.task is not None:
            self.task.cancel(reason)

    # The handler.

    def ended(self, task: asyncio.Task[None]) -> None:
        """The handler has ended, however it did; whatever it did not do for the client is done here."""
        link = self._link
        link.tasks.discard(task)
        link.shared.calls -= 1
        self.task = None
        if task.cancelled():
            self._cancelled(task)
        elif (error := task.exception()) is not None:
            self._failed(error)
        elif not self.complete and not self.gone:
            self.log.error("the handler of %s did not complete its response", self.scope["path"])
            self.give_up(internal())
        self.request = None  # It names this cycle: holding it would be a loop.

    def _cancelled(self, task: asyncio.Task[None]) -> None:
        if self.gone or self.complete:
            return
        try:
            task.result()
        except asyncio.CancelledError as cancelled:
            draining = DRAINING in cancelled.args
        if draining:
            message = "the gateway is shutting down and could not wait for this answer; try again"
            self.give_up(GatewayError("draining", message, scope="gateway", retry_after_ms=1000))
        else:
            self.log.error("the handler of %s was cancelled", self.scope["path"])
            self.give_up(internal())

    def _failed(self, error: BaseException) -> None:
        try:
            self._link.handling.failed(self, error)
        except Exception as worse:
            worse.__context__ = worse.__context__ or error
            self.log.exception("the handler of %s failed", self.scope["path"])
        self.give_up(internal())

    def give_up(self, error: GatewayError) -> None:
        """Refuse a request that nothing has been sent for, cut the answer of one that has; nothing where all is said."""
        if self.gone or self.complete:
            return
        if self.started:
            self._cut()
        else:
            shared = self._link.shared
            block, body = render(error, shared.new_request_id(), shared.envelope_for(self.scope["path"]))
            self.keep_alive = False
            self.respond(error.status, block, body)

    def _cut(self) -> None:
        """End a response that will not be whole, so that its end cannot be mistaken for the proper one."""
        if self._framing == "until_close":
            # Here the close is the end mark, so only a reset says that something is missing.
            self.abort()
        else:
            self._over()
            self._link.cut()

    # The response, as ResponseWriter has it.

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        if self.started or self.complete:
            self.check_start()
        size = len(body)
        if size > JOIN_MAX or status in BODILESS or self.scope["method"] == "HEAD":
            self._respond_apart(status, headers, body)
            return
        head = self.head(status, headers, b"content-length: %d\r\n" % size, body)
        self.started = True
        if not self.gone:
            self._transport.write(head)
        self.finish()

    def _respond_apart(self, status: int, headers: bytes, body: bytes) -> None:
        """The same where the body is large, or must not be sent."""
        line = b"" if status in BODILESS else b"content-length: %d\r\n" % len(body)
        if not line or self.scope["method"] == "HEAD":
            body = b""
        head = self.head(status, headers, line)
        self.started = True
        if not self.gone:
            self._transport.writelines((head, body))
        self.finish()

    def start(self, status: int, headers: bytes) -> None:
        self.check_start()
        framing: Framing = "nothing" if self.gone else self.framing(status)
        head = self.head(status, headers, CHUNKED_LINE if framing == "chunked" else b"")
        body = self._body
        if body is not None and body.more and not self.gone:
            # Nobody will read it, and only a connection that is read from tells when its client leaves.
            body.discard()
            self._link.want_input()
        self.open(head, framing)

    def open(self, head: bytes, framing: Framing) -> None:
        """Send the head of a response; its body will be framed so."""
        self.started = True
        if not self.gone:
            self._framing = framing
            self._transport.write(head)

    def write(self, chunk: bytes) -> None:
        if self._framing == "chunked":
            if chunk:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        elif self._framing != "nothing":
            self._transport.write(chunk)
        elif not self.started:
            raise RuntimeError("a chunk was written before the response was started")

    @property
    def chunked(self) -> bool:
        return self._framing == "chunked"

    def write_framed(self, chunk: bytes) -> bool:
        if self._framing == "chunked":
            self._transport.write(chunk)
        return self._link.write_paused

    @property
    def congested(self) -> bool:
        return self._link.write_paused

    async def drain(self) -> None:
        if self._link.write_paused:
            await self._link.writable()

    def end(self, last: bytes = b"") -> None:
        if not self.started:
            raise RuntimeError("a response was ended before it was started")
        if self.complete:
            return
        if self._framing == "chunked":
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n")
        else:
            self.write(last)
        self.finish()

    def abort(self) -> None:
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if self._framing == "until_close" and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._over()
        self._transport.abort()

    async def read_body(self, limit: int) -> bytes:
        if self._body is not None or self.gone or self.complete or len(self._came) > limit:
            return await self.body.read(limit)
        came, self._came = self._came, b""
        return came

    def weigh(self, size: int) -> None:
        self.body.weigh(size)

    def check_start(self) -> None:
        if self.started or self.complete:
            raise RuntimeError("a response was started twice")

    def framing(self, status: int) -> Framing:
        """How the body of a response is framed whose length is not known."""
        if self.scope["method"] == "HEAD" or status in BODILESS:
            return "nothing"
        return "chunked" if self.scope["http_version"] == "1.1" else "until_close"

    def head(self, status: int, headers: bytes, framing: bytes, joined: bytes = b"") -> bytes:
        """The head of the response, and what of its body goes out joined to it."""
        body = self._body
        if body is not None and body.more:
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"".join((_STATUS_LINES[status], self._link.shared.date_block, headers, framing, end, joined))

    def _over(self) -> None:
        self.complete = True
        self._framing = "nothing"
        self._close_body()

    def finish(self) -> None:
        """The response is whole."""
        self.complete = True
        self._framing = "nothing"
        if self._body is not None:
            self._body.close()
        if not self.gone:
            self._link.finished(self)


def internal() -> GatewayError:
    """The refusal of a request whose handler broke."""
    return GatewayError(
        "internal_error", "something went wrong inside the gateway; the call was not completed"
    )
