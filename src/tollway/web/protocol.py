"""The server's side of one HTTP/1.1 connection: requests answered in their order, each wait bounded.

It is safe to face the internet with nothing in front: it refuses in JSON, cancels the handler of a
client that leaves, and lets no client hold it up by sending or reading slowly.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, Literal

from uvicorn.config import Config
from uvicorn.server import ServerState

from tollway.core.errors import GatewayError
from tollway.web.cycle import Cycle
from tollway.web.intake import Intake, overloaded
from tollway.web.refusals import whole_refusal
from tollway.web.shared import Shared
from tollway.web.writer import CLIENT_GONE

_TLS_HANDSHAKE: Final = 0x16
_RATE: Final = 1024
"""Bytes a second below which a client is taken to be stalling."""
_DISCARD_MAX: Final = 64 * 1024
_CONNECTIONS_SPARE: Final = 256
_TASK: Final = "request"


# What a connection waits for; each has its deadline. (Words, because naming a member of an enum costs
# more than the rest of a comparison, and this is asked several times a request.)
#   first   the end of the first head
#   head    the end of a later head
#   body    the end of the body of the request being answered
#   answer  the handler, which has its own deadlines
#   idle    the next request, if the client has one
#   linger  the client's closing, after our last word
_Phase = Literal["first", "head", "body", "answer", "idle", "linger"]


class Connection(Intake):
    """One connection. A subclass names the shared state of its server: see `protocol_class`."""

    __slots__ = (
        "_body_began",
        "_discard_left",
        "_phase",
        "_reading",
        "_refusal",
        "_running",
        "_stalled_size",
        "_writable",
        "deadline",
        "stall_deadline",
        "write_paused",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.deadline = math.inf
        self.stall_deadline = math.inf
        self.write_paused = False
        self._phase: _Phase = "first"
        self._body_began = 0.0
        self._running: Cycle | None = None
        self._refusal: GatewayError | None = None
        self._discard_left: float = _DISCARD_MAX
        self._reading = True
        self._stalled_size = 0
        self._writable: asyncio.Event | None = None

    # The transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self.deadline = self.loop.time() + self.limits.header_timeout
        excess = len(self.connections) - self.limits.connections_max
        self.over_cap = excess > 0
        if excess > _CONNECTIONS_SPARE:
            # Too many even to read which of them only ask for health.
            self.refuse(overloaded("connections"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was lost
        self.connections.discard(self)
        self._client_left()
        self.resume_writing()
        self.deadline = self.stall_deadline = math.inf
        self.parser = None  # type: ignore[assignment] # as uvicorn's: it holds our bound methods

    def eof_received(self) -> None:
        # A client that only closed its sending side is treated as gone too: TCP does not tell the two
        # apart, and an answer that nobody may be reading costs credits. The transport then closes.
        self._client_left()

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self._discard_left -= len(data)
            if self._discard_left < 0:
                self.transport.abort()
        elif data[0] == _TLS_HANDSHAKE and self._phase == "first" and not self.head_open:
            self.transport.close()
        else:
            self.take(data)
            self._set_deadline()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch_stall()

    def resume_writing(self) -> None:
        self.write_paused = False
        if not self.transport.is_closing():
            self.stall_deadline = math.inf
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def writable(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()
        await self._writable.wait()

    def hold_input(self) -> None:
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def want_input(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def send_continue(self) -> None:
        running = self._running
        if running is not None and not running.started and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Requests and their handlers.

    def accept(self, cycle: Cycle) -> None:
        if self._running is not None:
            self.waiting.append(cycle)
            return
        self._running = cycle
        try:
            handler = self.handling.begin(cycle)
        except Exception as error:  # noqa: BLE001 - answered and logged as if it were the handler's
            handler = _raising(error)
        self.shared.calls += 1
        # Without a name asyncio would make one up, which costs a quarter of what the task does.
        cycle.task = task = asyncio.Task(handler, loop=self.loop, name=_TASK)
        self.tasks.add(task)
        # What there is to do at its end is no coroutine around it: each would be entered at each resume.
        task.add_done_callback(cycle.ended)

    def finished(self, cycle: Cycle) -> None:
        self._running = None
        if not cycle.keep_alive:
            self._close(linger=cycle.body.more)
        elif self.waiting:
            self.accept(self.waiting.popleft())
            self._set_deadline()
        elif self._refusal is not None:
            self._write_refusal(self._refusal)
        else:
            self._phase = "idle"
            self.deadline = self.loop.time() + self.limits.keep_alive_timeout
            if self.head_open:
                self._set_deadline()

    def cut(self) -> None:
        self._running = None
        self._close(linger=False)

    def shutdown(self) -> None:
        """Finish what was asked for, and take nothing new."""
        last = self.waiting[-1] if self.waiting else self._running
        if last is None:
            self._close(linger=False)
        else:
            last.keep_alive = False

    def _client_left(self) -> None:
        """Stop working for a client that is gone; requests that waited their turn never start."""
        self.deaf = True
        self.waiting.clear()
        self.incoming = None
        running, self._running = self._running, None
        if running is not None:
            running.lost(CLIENT_GONE)

    # Refusals and the end.

    def refuse(self, error: GatewayError) -> None:
        self.deaf = True
        if self._running is None:
            self._write_refusal(error)
        else:
            self._refusal = error

    def body_failed(self, error: GatewayError) -> None:
        super().body_failed(error)
        self._discard_left = math.inf

    def _write_refusal(self, error: GatewayError) -> None:
        path = self.url.partition(b"?")[0].decode("latin-1")
        shared = self.shared
        self.transport.write(
            whole_refusal(error, shared.new_request_id(), shared.envelope_for(path), shared.date_block)
        )
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Say no more. Lingering reads on for a while: closing on unread data would destroy our answer."""
        self.deaf = True
        self.waiting.clear()
        self._discard_left = math.inf
        if self.transport.is_closing():
            return
        self.want_input()
        if linger and self.transport.can_write_eof():
            self._phase = "linger"
            self.deadline = self.loop.time() + self.limits.linger_timeout
            self.transport.write_eof()
        else:
            self.deadline = math.inf
            self.transport.close()
        self._watch_stall()

    # Deadlines.

    def _set_deadline(self) -> None:
        running = self._running
        if running is not None:
            if running is not self.incoming:
                self._phase = "answer"
                self.deadline = math.inf
            elif self._phase != "body":
                self._phase = "body"
                self._body_began = self.loop.time()
                self.deadline = self._body_began + self.limits.body_timeout
        elif self.head_open and self._phase not in ("first", "head", "linger"):
            self._phase = "head"
            self.deadline = self.loop.time() + self.limits.header_timeout

    def expire(self, now: float) -> None:
        if self._phase == "body":
            self._check_body(now)
        elif self._phase == "linger":
            self._check_linger(now)
        elif self.head_open and not self.deaf:
            self.refuse(GatewayError("request_timeout", "the head of the request did not arrive in time"))
        else:
            self.deadline = math.inf
            self.transport.close()

    def _check_body(self, now: float) -> None:
        """A body has its time and, beside it, a second for every KiB that has arrived."""
        cycle = self.incoming
        if cycle is None or cycle.body.fault is not None:
            self.deadline = math.inf
        elif not self._reading:
            self.deadline = now + self.limits.body_timeout  # It is our handler that takes its time.
        else:
            self.deadline = self._body_began + self.limits.body_timeout + cycle.body.received / _RATE
            if self.deadline <= now:
                self.deadline = math.inf
                self.body_failed(
                    GatewayError("request_timeout", "the body of the request did not arrive in time")
                )

    def _check_linger(self, now: float) -> None:
        if not self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        # Our last word is still on its way; whether it gets on is for the stall check to say.
        self.deadline = now + self.limits.linger_timeout
        if self.stall_deadline == math.inf:
            self._watch_stall()

    def _watch_stall(self) -> None:
        self._stalled_size = self.transport.get_write_buffer_size()
        self.stall_deadline = self.loop.time() + self.limits.write_timeout if self._stalled_size else math.inf

    def check_stall(self, now: float) -> None:
        size = self.transport.get_write_buffer_size()
        if size and self._stalled_size - size < self.limits.write_timeout * _RATE:
            self.stall_deadline = math.inf
            self.transport.abort()
            return
        self._stalled_size = size
        self.stall_deadline = now + self.limits.write_timeout if size else math.inf


async def _raising(error: Exception) -> None:
    raise error


def protocol_class(shared: Shared) -> type[Connection]:
    """The class to hand to uvicorn for a server with this state."""
    return type("ServerConnection", (Connection,), {"of_server": shared})
