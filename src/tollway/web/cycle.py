"""One request and its response on a connection: the body in, the answer out, the handler between.

A cycle speaks to the handler in two ways, the ResponseWriter of writer.py and ASGI's `receive` and
`send`, over one state. Whatever the handler does, the client sees a whole answer, a refusal in its
envelope, or a cut connection; never a truncated answer that looks whole.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

from tollway.core.errors import GatewayError
from tollway.web.body import Body, Source
from tollway.web.refusals import render
from tollway.web.shared import Shared
from tollway.web.writer import DRAINING, EXTENSION, ClientGone, header_block

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JOIN_MAX: Final = 64 * 1024
_BODILESS: Final = frozenset((204, 304))
_OWN_HEADERS: Final = frozenset(
    (b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"date")
)
_RESET: Final = struct.pack("ii", 1, 0)
_CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 600)}

# How the body of the response is framed. Nothing is framed before the start, after the end, and
# where the client must not be sent a body.
_Framing = Literal["nothing", "chunked", "until_close", "length"]


class Link(Source, Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    shared: Shared
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
    """One request and its response; a ResponseWriter, and the two callables of ASGI."""

    __slots__ = (
        "_body_handed_over",
        "_framing",
        "_head_only",
        "_left",
        "_link",
        "_modern",
        "_pending",
        "_scope",
        "_transport",
        "body",
        "complete",
        "gone",
        "keep_alive",
        "started",
        "task",
    )

    def __init__(self, link: Link, scope: Scope, body: Body, keep_alive: bool) -> None:
        self._link = link
        self._transport = link.transport
        self._scope: Scope | None = scope
        self.body = body
        self.keep_alive = keep_alive
        self.task: asyncio.Task[None] | None = None
        self.gone = False
        self.started = False
        self.complete = False
        """Whether nothing more will be sent: the response is whole, or was cut."""
        self._framing: _Framing = "nothing"
        self._left = 0
        self._pending: Message | None = None
        self._body_handed_over = False
        self._head_only = scope["method"] == "HEAD"
        self._modern = scope["http_version"] == "1.1"
        scope["extensions"] = {EXTENSION: self}

    def lost(self, reason: str) -> None:
        """The client has left: the handler is cancelled, unless it has answered already."""
        if self.gone:
            return
        self.gone = True
        self._framing = "nothing"
        self.body.close()
        if not self.complete and self.task is not None:
            self.task.cancel(reason)

    # The handler.

    async def run(self, app: App) -> None:
        """Run the handler to its end; whatever it does not do for the client is done here."""
        scope, self._scope = self._scope, None  # The scope names this cycle: holding it would be a loop.
        assert scope is not None
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError as cancelled:
            self._cancelled(scope, cancelled)
        except GatewayError as error:
            self._give_up(scope, error)
        except Exception as error:
            if not (self.gone and isinstance(error, OSError)):
                self._link.shared.log.exception("the handler of %s failed", scope["path"])
            self._give_up(scope, _internal())
        else:
            if not self.complete and not self.gone:
                self._link.shared.log.error("the handler of %s did not complete its response", scope["path"])
                self._give_up(scope, _internal())

    def _cancelled(self, scope: Scope, cancelled: asyncio.CancelledError) -> None:
        if self.gone or self.complete:
            return
        if DRAINING in cancelled.args:
            message = "the gateway is shutting down and could not wait for this answer; try again"
            self._give_up(scope, GatewayError("draining", message, scope="gateway", retry_after_ms=1000))
        else:
            self._link.shared.log.error("the handler of %s was cancelled", scope["path"])
            self._give_up(scope, _internal())

    def _give_up(self, scope: Scope, error: GatewayError) -> None:
        if self.gone or self.complete:
            return
        if self.started:
            self._cut()
        else:
            shared = self._link.shared
            block, body = render(error, shared.new_request_id(), shared.envelope_for(scope["path"]))
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
            self._check_start()
        line = b"" if status in _BODILESS else b"content-length: %d\r\n" % len(body)
        head = self._head(status, headers, line)
        self.started = True
        if not self.gone:
            if self._head_only or not line:
                self._transport.write(head)
            elif len(body) > _JOIN_MAX:
                self._transport.writelines((head, body))
            else:
                self._transport.write(head + body)
        self._finish()

    def start(self, status: int, headers: bytes) -> None:
        self._check_start()
        framing: _Framing = "nothing"
        if not self._head_only and status not in _BODILESS and not self.gone:
            framing = "chunked" if self._modern else "until_close"
        head = self._head(status, headers, _CHUNKED_LINE if framing == "chunked" else b"")
        self.started = True
        self._framing = framing
        if self.gone:
            return
        if self.body.more:
            # Nobody will read it, and only a connection that is read from tells when its client leaves.
            self.body.discard()
            self._link.want_input()
        self._transport.write(head)

    def write(self, chunk: bytes) -> None:
        if self._framing == "chunked":
            if chunk:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        elif self._framing == "until_close":
            self._transport.write(chunk)
        elif self._framing == "length":
            if len(chunk) > self._left:
                raise RuntimeError("the response is longer than its Content-Length")
            self._left -= len(chunk)
            self._transport.write(chunk)
        elif not self.started:
            raise RuntimeError("a chunk was written before the response was started")

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
            if self._framing == "length" and self._left:
                raise RuntimeError(f"the response ended {self._left} bytes short of its Content-Length")
        self._finish()

    def abort(self) -> None:
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if self._framing == "until_close" and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._over()
        self._transport.abort()

    def read_body(self, limit: int) -> Coroutine[Any, Any, bytes]:
        return self.body.read(limit)

    def weigh(self, size: int) -> None:
        self.body.weigh(size)

    def _check_start(self) -> None:
        if self.started or self.complete:
            raise RuntimeError("a response was started twice")

    def _head(self, status: int, headers: bytes, framing: bytes) -> bytes:
        if self.body.more:
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"".join((_STATUS_LINES[status], self._link.shared.date_block, headers, framing, end))

    def _over(self) -> None:
        self.complete = True
        self._framing = "nothing"
        self.body.close()

    def _finish(self) -> None:
        self.complete = True
        self._framing = "nothing"
        self.body.close()
        if not self.gone:
            self._link.finished(self)

    # ASGI.

    async def receive(self) -> Message:
        """ASGI's receive. Raises GatewayError as `read_body` does, unless the response has started."""
        if not self._body_handed_over and not self.body.closed:
            try:
                data = await self.body.read_some()
            except ClientGone:
                return {"type": "http.disconnect"}
            except GatewayError:
                if not self.started:
                    raise
            else:
                more = self.body.more
                self._body_handed_over = not more
                return {"type": "http.request", "body": data, "more_body": more}
        await self.body.until_closed()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises ClientGone when the client has left."""
        if self.gone:
            raise ClientGone("the client left before its response was complete")
        kind = message["type"]
        if kind == "http.response.start":
            self._check_start()
            self._pending = message
        elif kind != "http.response.body":
            raise RuntimeError(f"{kind} is not a message of an HTTP response")
        else:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
            await self.drain()

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            head = self._start_asgi(pending["status"], pending.get("headers", ()))
            if not more and self._framing == "length" and len(body) == self._left <= _JOIN_MAX:
                self._transport.write(head + body)
                self._finish()
                return
            self._transport.write(head)
        if more:
            self.write(body)
        else:
            self.end(body)

    def _start_asgi(self, status: int, headers: Any) -> bytes:
        pairs = [(bytes(name).lower(), bytes(value)) for name, value in headers]
        given = dict(pairs)
        length = int(given[b"content-length"]) if b"content-length" in given else None
        framing: _Framing = "nothing"
        line = b""
        if not self._head_only and status not in _BODILESS:
            framing = "length" if length is not None else "chunked" if self._modern else "until_close"
        if length is not None and status != HTTPStatus.NO_CONTENT:
            line = b"content-length: %d\r\n" % length
        elif framing == "chunked":
            line = _CHUNKED_LINE
        if b"close" in given.get(b"connection", b"").lower():
            self.keep_alive = False
        head = self._head(status, header_block(pair for pair in pairs if pair[0] not in _OWN_HEADERS), line)
        self.started = True
        self._framing, self._left = framing, length or 0
        return head


def _internal() -> GatewayError:
    return GatewayError(
        "internal_error", "something went wrong inside the gateway; the call was not completed"
    )
