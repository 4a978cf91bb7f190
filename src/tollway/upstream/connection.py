"""One HTTP/1.1 connection: writes a request under flow control, feeds the parser, keeps the deadlines.

A connection carries one exchange at a time. While it carries none it is idle, and whatever
arrives then means it must not be used again. There is one timer: it fires when the earliest known
deadline may have passed, looks what is due, and is armed again only if the answer is "nothing".
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, cast

import httptools

from tollway.upstream.answer import HELD_MAX, Answer
from tollway.upstream.outbox import Outbox
from tollway.upstream.recall import Heads, Recall
from tollway.upstream.transport import FaultKind, UpstreamRequest
from tollway.upstream.wire import (
    HEAD_MAX,
    HEADERS_MAX,
    INFORMATIONAL_MAX,
    Framing,
    Refused,
    framing,
    refuse_large_head,
)

WRITE_SLICE: Final = 64 * 1024
"""Request bodies beyond this are written in slices of it, as the upstream takes them."""
STALE_WINDOW: Final = 1.0
"""A reused connection that ends unanswered within these seconds was stale; later, the upstream took the request."""
_PARTS_MAX: Final = 64
"""Pieces of a body held before they are joined: many tiny chunks would cost more in objects than in bytes."""
_SALVAGE_SLICE: Final = 64 * 1024
_TIMER_SLACK: Final = 0.001
_Deadline = tuple[FaultKind, float, str]


class Home(Protocol):
    """Where a connection goes when its exchange is over."""

    keep: float
    """Seconds an idle connection is kept."""
    heads: Heads
    """What its connections have learnt of the heads they get."""
    outbox: Outbox
    """Where requests go that fit into one write."""

    def released(self, connection: Connection) -> None:
        """The connection is free for another exchange."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection is gone. Said once."""
        ...


class Connection(asyncio.Protocol):
    """A connection of a pool. `used` counts exchanges begun.

    `stale` says, once it has failed, that it was kept from an earlier exchange and already dead.
    """

    __slots__ = (
        "_answer",
        "_barren",
        "_between",
        "_deadlines",
        "_fed",
        "_feed",
        "_framing",
        "_gone",
        "_heard_at",
        "_home",
        "_informational",
        "_inside",
        "_kept_until",
        "_known",
        "_lines",
        "_loop",
        "_method",
        "_now",
        "_parser",
        "_parts",
        "_plain",
        "_reading_paused",
        "_reusable",
        "_spoiled",
        "_timer",
        "_timer_at",
        "_total_at",
        "_transport",
        "_unsent",
        "_writing_paused",
        "_wrote_at",
        "on_body",
        "on_chunk_complete",
        "on_chunk_header",
        "stale",
        "used",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, home: Home) -> None:
        self._loop = loop
        self._now: Callable[[], float] = loop.time
        self._home = home
        # The parser puts the parts of a body straight into this list, without a call of ours for each;
        # while an exchange goes on, its answer is read from the same list.
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        # Likewise without a call of ours: not empty while the parser is inside a chunk.
        self._inside: list[None] = []
        self.on_chunk_header = partial(self._inside.append, None)
        self.on_chunk_complete = self._inside.clear
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._known: Recall | None = None
        self._lines: list[tuple[bytes, bytes]] = []
        self._barren = self._informational = 0
        self._between = False
        self._framing: Framing = "length"
        self._gone = False
        self._reading_paused = False
        self._writing_paused = False
        self._spoiled = False
        self._unsent: memoryview | None = None
        # Of an idle connection: since when it is idle.
        self._heard_at = loop.time()
        self._kept_until = self._heard_at + home.keep
        self.stale = False
        self.used = 0

    # --- what the pool and the answer ask ---------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether something can be written, as far as is known."""
        transport = self._transport
        return not self._gone and transport is not None and not transport.is_closing()

    def trusted(self, now: float) -> bool:
        """Whether this idle connection is alive, and not too old to be used at loop time `now`."""
        transport = self._transport
        return now < self._kept_until and transport is not None and not (self._gone or transport.is_closing())

    def begin(self, request: UpstreamRequest, head: bytes, now: float, total_at: float) -> Answer:
        """Write the request; the answer fills as the response arrives. `now` and `total_at` are loop times."""
        transport = self._transport
        assert transport is not None
        answer = self._answer = Answer(self, self._loop, self._parts)
        self.used += 1
        self._method = method = request.method
        self._deadlines = deadlines = request.deadlines
        # The answer to HEAD may tell the length of a body that does not follow.
        self._known = self._home.heads.known if method != "HEAD" else None
        self._total_at = total_at
        self._wrote_at = now
        if len(request.body) <= WRITE_SLICE:
            self._home.outbox.write(transport, head + request.body, wait=request.together)
        else:
            self._unsent = memoryview(request.body)
            transport.write(head)
            self._write_on()
        due = now + deadlines.first_byte
        if due < self._timer_at or total_at < self._timer_at:
            self._arm(min(due, total_at))
        return answer

    def drained(self) -> None:
        """The reader has taken all that was buffered: read on, and count silence from now."""
        if self._reading_paused and self._transport is not None and not self._gone:
            self._reading_paused = False
            self._heard_at = self._now()
            self._transport.resume_reading()
            self._arm(min(self._heard_at + self._deadlines.idle, self._total_at))

    def cut(self, kind: FaultKind, message: str) -> None:
        """Close the connection at once, fail its answer and give up its place in the pool."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.fail(kind, message)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._gone:
            return
        self._gone = True
        self._unsent = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._home.lost(self)

    # --- what the event loop tells ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Transports of uvloop do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Nothing was asked: whatever this is, it must not become the answer to the next request.
            self.abort()
            return
        self._heard_at = self._now()
        if self._between and answer.hand(data):
            # The usual segment of a stream is whole chunks: nothing of it was for the parser to say, which stays between two.
            return
        if (known := self._known) is not None:
            self._known = None
            body = known.body(data)
            if body is not None:
                answer.recall(known, data, body)
                self._reusable = not self._spoiled
                self._free(answer)
                answer.wake()
                return
        self._read(answer, data)

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._answer is not None:
            self._salvage()
        self._ended(exc)

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._answer is not None and not self._gone:
            self._wrote_at = self._now()
            self._arm(min(self._wrote_at + self._deadlines.write, self._total_at))

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._answer is not None and not self._gone:
            self._wrote_at = self._now()
            self._write_on()

    def _read(self, answer: Answer, data: bytes) -> None:
        """Let the parser read what came, and see what it made of it."""
        size = len(data)
        first = not (answer.status or self._barren)
        if not answer.status:
            self._fed = size
            self._plain = first and data.startswith(b"HTTP/1.1 ")
        parts = self._parts
        before = len(parts)
        self._between = False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._misread(answer, error)
            return
        answer.held += size
        if answer.complete:
            self._finish(answer)
            if first and self._reusable:
                self._home.heads.missed(data, answer.lines)
        elif len(parts) == before:
            self._barren += size
            if self._barren > HEAD_MAX:
                self.cut(
                    "too_large",
                    f"the upstream sent more than {HEAD_MAX} bytes of headers or chunk framing",
                )
                return
        else:
            self._barren = 0
            # Outside of chunks only a size line holds a line feed, and with that the next chunk begins.
            self._between = self._framing == "chunked" and not self._inside and data.endswith(b"\n")
            if len(parts) > _PARTS_MAX:
                parts[:] = [b"".join(parts)]
            if answer.held > HELD_MAX and not self._reading_paused and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
        answer.wake()

    # --- what the parser tells --------------------------------------------------------------

    def on_message_begin(self) -> None:
        answer = self._answer
        if answer is not None and answer.complete:
            raise Refused("the upstream sent more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200 and self._is_informational(status):
            return
        lines = self._lines
        if len(lines) > HEADERS_MAX or self._barren + self._fed > HEAD_MAX:
            refuse_large_head(lines)
        # The parser can say the version only as a string it makes; most responses begin with it.
        version = "1.1" if self._plain else parser.get_http_version()
        self._framing = framing(self._method, status, version, lines)
        answer.status = status
        answer.lines = lines
        # What comes after the head are trailers, which nobody downstream can read.
        self._lines = []
        due = self._heard_at + self._deadlines.idle
        if due < self._timer_at:
            self._arm(due)
        if self._unsent is not None and status >= 400:
            # The upstream refused before it had read everything; the rest would be written for nothing.
            self._unsent = None
            self._spoiled = True
        if self._method == "HEAD":
            # The parser cannot know that no body follows, so this connection ends here, unused further.
            answer.complete = True
            self._reusable = False

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is not None and answer.status:
            answer.complete = True
            self._reusable = not self._spoiled and self._parser.should_keep_alive()

    # --- the course of one exchange ---------------------------------------------------------

    def _is_informational(self, status: int) -> bool:
        if not 100 <= status < 200 or status == 101:
            return False
        self._plain = False
        self._informational += 1
        if self._informational > INFORMATIONAL_MAX:
            raise Refused(f"the upstream sent more than {INFORMATIONAL_MAX} informational responses")
        self._lines.clear()
        return True

    def _finish(self, answer: Answer) -> None:
        """The response is here in full: the connection is free at once, whenever the body is pulled."""
        parts = self._parts
        if self._method == "HEAD":
            parts.clear()
        answer.parts = parts.copy() if len(parts) < 2 else [b"".join(parts)]
        parts.clear()
        self._lines = []
        self._barren = self._informational = 0
        self._free(answer)

    def _free(self, answer: Answer) -> None:
        """Make the connection free for the next exchange, or end it."""
        transport = self._transport
        assert transport is not None
        self._answer = answer.line = None
        if self._reusable and self._unsent is None and transport.get_write_buffer_size() == 0:
            if self._reading_paused:
                self._reading_paused = False
                transport.resume_reading()
            home = self._home
            self._kept_until = kept_until = self._heard_at + home.keep
            if kept_until + home.keep < self._timer_at:
                self._arm(kept_until + home.keep)
            home.released(self)
        else:
            self.abort()

    def _misread(self, answer: Answer, error: Exception) -> None:
        """The parser stopped. A response that was complete before it did stands; the connection does not."""
        if answer.complete:
            self._reusable = False
            self._finish(answer)
            answer.wake()
        elif isinstance(refusal := error.__context__, Refused):
            self.cut("too_large" if refusal.too_large else "protocol", refusal.message)
        else:
            self.cut("protocol", f"the upstream's response is not HTTP/1.1: {error}")

    def _ended(self, exc: Exception | None) -> None:
        """The upstream will send nothing more: the proper end of some bodies, a fault in all else."""
        answer = self._answer
        if answer is None or self._gone:
            self.abort()
        elif exc is None and answer.status and self._framing == "close":
            answer.complete = True
            self._reusable = False
            self._finish(answer)
            answer.wake()
        elif answer.status or self._barren:
            reason = f": {exc}" if exc else ""
            self.cut("truncated", f"the upstream ended its response before it was complete{reason}")
        else:
            self.stale = self.used > 1 and self._now() - self._wrote_at < STALE_WINDOW
            self.cut(
                "reset", f"the upstream closed the connection without answering{f': {exc}' if exc else ''}"
            )

    def _salvage(self) -> None:
        """Read what the kernel still holds when writing failed: often the answer that made the upstream hang up.

        An upstream that refuses a large body answers and closes, which resets the connection under
        our writing, and the event loop gives up without reading. Its socket is closed only after
        `connection_lost` returns, so it can still be read here; TLS records cannot.
        """
        transport = self._transport
        self._spoiled = True
        self._known = None
        if transport is None or self._gone or transport.get_extra_info("sslcontext") is not None:
            return
        descriptor = transport.get_extra_info("socket").fileno()
        for _ in range(HELD_MAX // _SALVAGE_SLICE):
            try:
                data = os.read(descriptor, _SALVAGE_SLICE)
            except OSError:
                return
            if not data or self._answer is None:
                return
            self.data_received(data)

    def _write_on(self) -> None:
        """Write slices of the body until the transport asks for a pause or all is handed over."""
        transport = self._transport
        assert transport is not None
        while self._unsent is not None and not self._writing_paused and not transport.is_closing():
            piece = self._unsent[:WRITE_SLICE]
            self._unsent = self._unsent[WRITE_SLICE:] or None
            transport.write(piece)
        if self._unsent is None:
            self._wrote_at = self._now()

    # --- deadlines --------------------------------------------------------------------------

    def _arm(self, at: float) -> None:
        """Make sure the timer fires no later than loop time `at`. It may fire earlier, and then looks again."""
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._look)
            self._timer_at = at

    def _look(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._gone:
            return
        kind, at, message = self._next_deadline()
        if at > self._now() + _TIMER_SLACK:
            self._arm(at)
        else:
            self.cut(kind, message)

    def _next_deadline(self) -> _Deadline:
        answer = self._answer
        if answer is None:
            return "closed", self._heard_at + self._home.keep, "the connection was idle for too long"
        limits = self._deadlines
        told = f"the upstream's answer was not complete after {limits.total:g} s"
        total: _Deadline = "total_timeout", self._total_at, told
        stage: _Deadline
        if self._writing_paused and not answer.status:
            stage = (
                "write_timeout",
                self._wrote_at + limits.write,
                f"the upstream read nothing for {limits.write:g} s",
            )
        elif not answer.status:
            stage = (
                "first_byte_timeout",
                self._wrote_at + limits.first_byte,
                f"no response began within {limits.first_byte:g} s",
            )
        elif self._reading_paused:
            # The reader is slow, not the upstream.
            return total
        else:
            stage = (
                "idle_timeout",
                self._heard_at + limits.idle,
                f"the upstream was silent for {limits.idle:g} s",
            )
        return stage if stage[1] <= total[1] else total
