"""ASGI over a cycle: how apps are run that are no Handling.

An app finds the cycle in its scope, as a ResponseWriter, and may use it instead of `receive` and `send`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, cast

from tollway.core.errors import GatewayError
from tollway.web.cycle import CHUNKED_LINE, JOIN_MAX, Cycle, internal
from tollway.web.writer import EXTENSION, ClientGone, header_block

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

_OWN_HEADERS: Final = frozenset(
    (b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"date")
)


class AsgiHandling:
    """Runs an ASGI app. What it raises is a refusal if it is a GatewayError, and a mistake if not."""

    shares_scopes = False

    def __init__(self, app: App) -> None:
        self._app = app

    def begin(self, cycle: Cycle) -> Coroutine[Any, Any, None]:
        """See cycle.Handling."""
        scope = cast("Scope", cycle.scope)  # Its own.
        scope["extensions"] = {EXTENSION: cycle}
        told = Asgi(cycle)
        return self._app(scope, told.receive, told.send)

    def failed(self, cycle: Cycle, error: BaseException) -> None:
        """See cycle.Handling."""
        if isinstance(error, GatewayError):
            cycle.give_up(error)
        elif not (cycle.gone and isinstance(error, OSError)):
            cycle.log.error("the handler of %s failed", cycle.scope["path"], exc_info=error)
            cycle.give_up(internal())


class Asgi:
    """The two callables of ASGI for one request."""

    __slots__ = ("_body_handed_over", "_cycle", "_left", "_pending")

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._pending: Message | None = None
        self._body_handed_over = False
        self._left: int | None = None
        """Bytes to come of a response whose length was given."""

    async def receive(self) -> Message:
        """ASGI's receive. Raises GatewayError as `read_body` does, unless the response has started."""
        body = self._cycle.body
        if not self._body_handed_over and not body.closed:
            try:
                data = await body.read_some()
            except ClientGone:
                return {"type": "http.disconnect"}
            except GatewayError:
                if not self._cycle.started:
                    raise
            else:
                more = body.more
                self._body_handed_over = not more
                return {"type": "http.request", "body": data, "more_body": more}
        await body.until_closed()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises ClientGone when the client has left."""
        cycle = self._cycle
        if cycle.gone:
            raise ClientGone("the client left before its response was complete")
        kind = message["type"]
        if kind == "http.response.start":
            cycle.check_start()
            self._pending = message
        elif kind != "http.response.body":
            raise RuntimeError(f"{kind} is not a message of an HTTP response")
        else:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
            await cycle.drain()

    def _send_body(self, body: bytes, *, more: bool) -> None:
        cycle = self._cycle
        if self._pending is not None:
            pending, self._pending = self._pending, None
            joined = body if not more and len(body) <= JOIN_MAX else None
            if self._start(pending["status"], pending.get("headers", ()), joined):
                return
        if self._left is not None:
            if len(body) > self._left:
                raise RuntimeError("the response is longer than its Content-Length")
            self._left -= len(body)
        if more:
            cycle.write(body)
        elif self._left and not cycle.complete:
            cycle.write(body)
            raise RuntimeError(f"the response ended {self._left} bytes short of its Content-Length")
        else:
            cycle.end(body)

    def _start(self, status: int, headers: Any, body: bytes | None) -> bool:
        """Send the head, and `body` with it if it is as long as the head says; whether it was."""
        cycle = self._cycle
        pairs = [(bytes(name).lower(), bytes(value)) for name, value in headers]
        given = dict(pairs)
        length = int(given[b"content-length"]) if b"content-length" in given else None
        framing = cycle.framing(status)
        if framing != "nothing" and length is not None:
            framing = "length"
            self._left = length
        line = b""
        if length is not None and status != HTTPStatus.NO_CONTENT:
            line = b"content-length: %d\r\n" % length
        elif framing == "chunked":
            line = CHUNKED_LINE
        if b"close" in given.get(b"connection", b"").lower():
            cycle.keep_alive = False
        block = header_block(pair for pair in pairs if pair[0] not in _OWN_HEADERS)
        if body is not None and framing == "length" and len(body) == length:
            cycle.open(cycle.head(status, block, line, body), framing)
            cycle.finish()
            return True
        cycle.open(cycle.head(status, block, line), framing)
        return False
