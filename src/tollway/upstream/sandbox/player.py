"""Plays one response's steps on a connection, by callbacks: no task, no thread, one timer at most.

A streamed response gives way to the event loop after every piece of body, so that a client which
leaves stops the generation at once, and many streams share the loop fairly.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, assert_never

from tollway.upstream.sandbox.records import Outcome, Record
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.steps import Data, Drip, Hangup, Head, Pause, Raw, Silence, Step, Steps

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class Player:
    """`ended(outcome, keep_alive)` is called once, unless the player is stopped first."""

    def __init__(
        self,
        transport: asyncio.Transport,
        steps: Steps,
        record: Record | None,
        request: Request,
        ended: Callable[[Outcome, bool], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._steps = steps
        self._record = record
        self._request = request
        self._ended = ended
        self._timer: asyncio.Handle | None = None
        self._paused = False
        self._stopped = False
        self._keep_alive = request.keep_alive
        self._chunked = False
        self._streaming = False
        self._held = b""
        self._drip: float | None = None
        self._drops = bytearray()

    def play(self) -> None:
        """Carry out steps until one must be waited for. Called again by the timer and on resuming."""
        self._timer = None
        while not (self._stopped or self._paused or self._timer):
            if self._drops:
                self._let_drop()
                continue
            step = next(self._steps, None)
            if step is not None:
                self._take(step)
            elif not self._finish_body():
                self._end("completed")

    def pause(self) -> None:
        """The client reads too slowly; nothing is generated until `resume`."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._timer is None and not self._stopped:
            self._timer = self._loop.call_soon(self.play)

    def stop(self) -> None:
        """The connection is gone: generate nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, step: Step) -> None:
        if isinstance(step, Data):
            self._body(step)
        elif isinstance(step, Head):
            self._held = self._head(step)
        elif isinstance(step, Raw):
            self._write(step.payload)
        elif isinstance(step, Pause):
            self._write(b"")
            self._timer = self._loop.call_later(step.seconds, self.play)
        elif isinstance(step, Drip):
            self._drip = step.seconds
        elif isinstance(step, Silence):
            self._write(b"")
            self._stopped = True
        elif isinstance(step, Hangup):
            self._hang_up(reset=step.reset)
        else:
            assert_never(step)

    def _head(self, head: Head) -> bytes:
        self._streaming = head.length is None
        self._chunked = self._streaming and not head.until_close and self._request.http11
        if self._streaming and not self._chunked:
            self._keep_alive = False
        lines = [f"HTTP/1.1 {head.status} {_PHRASES.get(head.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in head.headers]
        if head.length is not None:
            lines.append(f"content-length: {head.length}")
        elif self._chunked:
            lines.append("transfer-encoding: chunked")
        if not self._keep_alive:
            lines.append("connection: close")
        elif not self._request.http11:
            lines.append("connection: keep-alive")
        if self._record is not None:
            self._record.status = head.status
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _body(self, data: Data) -> None:
        if data.payload and self._request.method != "HEAD":
            framed = b"%x\r\n%b\r\n" % (len(data.payload), data.payload) if self._chunked else data.payload
            self._write(framed)
        if self._record is not None:
            self._record.generated_tokens += data.tokens
        if self._streaming and self._timer is None:
            self._timer = self._loop.call_soon(self.play)

    def _write(self, payload: bytes) -> None:
        """Write, together with a head that waited for company."""
        if self._held:
            payload = self._held + payload
            self._held = b""
        if not payload:
            return
        if self._drip is None:
            self._transport.write(payload)
        else:
            self._drops += payload

    def _let_drop(self) -> None:
        drop = bytes(self._drops[:1])
        del self._drops[:1]
        self._transport.write(drop)
        self._timer = self._loop.call_later(self._drip or 0, self.play)

    def _finish_body(self) -> bool:
        """Write what ends the body. Returns whether there are drops left to write."""
        last = b"0\r\n\r\n" if self._chunked else b""
        self._chunked = False
        self._write(last)
        return bool(self._drops)

    def _hang_up(self, *, reset: bool) -> None:
        self._write(b"")
        if reset:
            connection: socket.socket = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
        self._keep_alive = False
        self._end("broken")

    def _end(self, outcome: Outcome) -> None:
        self.stop()
        self._ended(outcome, self._keep_alive)
