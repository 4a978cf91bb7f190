"""Native relay of Messages: the upstream's events pass, only `model` and the final usage are touched.

The usage is cumulative: what `message_delta` says replaces what `message_start` said, member by
member. From the delta that names the stop reason on, everything waits for the bill.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tollway.core.dialects import repeats
from tollway.core.dialects.anthropic.answer import read_finish, read_response
from tollway.core.dialects.anthropic.counts import PRICE, note, ran, read_counts, so_far, write_counts
from tollway.core.dialects.anthropic.errors import error_body, read_error, write_error
from tollway.core.dialects.faults import failure
from tollway.core.dialects.native import (
    END,
    UNREADABLE,
    Stream,
    Whole,
    head,
    named,
    one_line,
    priced,
    read_anyway,
    read_object,
    size,
    without,
)
from tollway.core.errors import GatewayError
from tollway.core.exchange import Counted, Event, Finished, Grew, Started
from tollway.core.json import encode
from tollway.core.relay import BadAnswer, Carrier, Fed, Receipt

_Other = str | float | bool | list[Any] | None
"""What an event nobody knows may have where we know an object."""


class _Delta(Struct):
    text: Any = None
    thinking: Any = None
    partial_json: Any = None


class _Block(Struct):
    type: Any = None
    name: Any = None
    text: Any = None
    thinking: Any = None
    input: Any = None


class _Event(Struct):
    type: str = ""
    delta: _Delta | _Other = None
    content_block: _Block | _Other = None


_decode_event = msgspec.json.Decoder(_Event).decode


def _price(usage: dict[str, Any] | None, receipt: Receipt) -> dict[str, Any]:
    return priced(usage, receipt, PRICE, write_counts)


class NativeStream(Stream):
    """A streamed message."""

    def __init__(
        self, name: str, token: str, *, echo: dict[str, Any] | None = None, array: bool = False
    ) -> None:
        super().__init__(name, token, echo=echo, array=array)
        self._id: str | None = None
        self._called = False
        self._unwritten = 0
        self._usage: dict[str, Any] = {}
        self._ran: dict[str, int] = {}
        self._finish: Finished | None = None
        self._told: dict[str, Any] | None = None
        self._before: list[bytes] = []
        self._after: list[bytes] = []
        self._holding = False
        self._frames = repeats.Frames()

    @property
    def carrier(self) -> Carrier | None:
        return None if self._split.tail else self._frames.last

    def feed(self, chunk: bytes) -> Fed:
        frame = self._frames.last
        if frame is not None and not self._split.tail:
            fed = frame.feed(chunk)
            if fed is not None:
                return fed
        fed = super().feed(chunk)
        if self._holding or self._ended:
            # What comes now waits for the bill, or is not looked at.
            self._frames.last = None
        return fed

    def _take(self, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        frame = self._frames.last
        fed = None if frame is None or self._holding else frame.feed_payload(payload)
        if fed is not None:
            out.append(fed.out)
            events += fed.events
            return
        try:
            event = _decode_event(payload)
        except UNREADABLE:
            event = read_anyway(payload, _decode_event)
        kind = event.type
        if kind == "content_block_delta":
            if self._id is None:
                raise BadAnswer("content before message_start")
            delta = event.delta
            if type(delta) is _Delta:
                self._grow(delta, events)
                if delta.text and not (self._holding or self._frames.spent()):
                    self._learn(event, delta, payload)
        elif kind == "ping":
            out += (head(kind), one_line(payload), END)
            return
        elif self._around(event, payload, out, events):
            return
        (self._after if self._holding else out).extend((head(kind), one_line(payload), END))

    def _around(self, event: _Event, payload: bytes, out: list[bytes], events: list[Event]) -> bool:
        """Everything that is no growth. Returns whether the event has been dealt with; else it passes as it is."""
        match event.type:
            case "message_start":
                self._start(read_object(payload), out, events)
            case "message_delta":
                self._message_delta(read_object(payload), out, events)
            case "error":
                self._ended = True
                events.append(failure(read_error(0, read_object(payload))))
            case "content_block_start":
                self._start_block(event.content_block, events)
                return False
            case "content_block_stop":
                self._stop_block(events)
                return False
            case "message_stop":
                if self._id is None:
                    raise BadAnswer("message_stop before message_start")
                self._holding = self._ended = True
                events.append(self._finish or read_finish({}, self._called))
                return False
            case "":
                # An event without a type has no name either, and no client looks at those.
                pass
            case _:
                return False
        return True

    def _grow(self, delta: _Delta, events: list[Event]) -> None:
        text = delta.text
        if text is None:
            text = delta.thinking
            if text is None:
                text = delta.partial_json
                if self._unwritten and type(text) is str and text and not text.isspace():
                    self._unwritten = 0
        if type(text) is str and text:
            events.append(Grew(len(text) if text.isascii() else size(text)))

    def _learn(self, event: _Event, delta: _Delta, payload: bytes) -> None:
        """Keep what surrounds the text of an event, as far as it can come again with another text."""
        text = delta.text
        # Data of several lines would not come again as one.
        theirs = repeats.part(payload, b"text", text) if type(text) is str and b"\n" not in payload else None
        if theirs is None:
            return
        probed = repeats.probed(theirs)
        try:
            twin = _decode_event(probed)
        except UNREADABLE:
            return
        if type(twin.delta) is not _Delta:
            return
        # With another text in its place the same must be said of all else: then what was found is the text.
        found, twin.delta.text = twin.delta.text, text
        ours = repeats.parted(probed, theirs)
        if found == repeats.PROBE_TEXT and twin == event and ours is not None:
            self._frames.keep(repeats.Frame(head(event.type), theirs, ours))

    def _start_block(self, block: object, events: list[Event]) -> None:
        if self._id is None:
            raise BadAnswer("content before message_start")
        self._unwritten = 0
        if type(block) is not _Block:
            return
        grown = size(block.text) + size(block.thinking) + size(block.name)
        if grown:
            events.append(Grew(grown))
        if block.type == "server_tool_use" and note(ran({"type": block.type, "name": block.name}), self._ran):
            events.append(Counted(so_far(self._usage, self._ran)))
        if block.type == "tool_use":
            self._called = True
            # Arguments may come with the start instead of piece by piece; no arguments are `{}`.
            self._unwritten = len(encode(block.input if type(block.input) is dict else {}))

    def _stop_block(self, events: list[Event]) -> None:
        if self._unwritten:
            events.append(Grew(self._unwritten))
            self._unwritten = 0

    def _start(self, whole: dict[str, Any], out: list[bytes], events: list[Event]) -> None:
        message = whole.get("message")
        if type(message) is not dict:
            raise BadAnswer("message_start holds no message")
        given = str(message.get("id") or "")
        if self._id is not None:
            # A proxy that tried again may repeat the start; a different one is another answer.
            if given == self._id:
                return
            raise BadAnswer("a second message started inside the first")
        self._id = given
        events.append(Started(given, str(message.get("model") or "")))
        self._count(message, events)
        if type(message.get("usage")) is not dict:
            # Clients break without it; some upstreams do not count.
            message["usage"] = write_counts(None)
        message.update({"model": self._name, **self._echo})
        out.append(named(whole))

    def _count(self, source: dict[str, Any], events: list[Event]) -> None:
        usage = source.get("usage")
        if type(usage) is dict and usage:
            source["usage"] = usage = without(usage, PRICE)
            self._usage.update((name, value) for name, value in usage.items() if value is not None)
            events.append(Counted(read_counts(self._usage, self._ran)))

    def _message_delta(self, whole: dict[str, Any], out: list[bytes], events: list[Event]) -> None:
        if self._id is None:
            raise BadAnswer("message_delta before message_start")
        self._count(whole, events)
        delta = whole.get("delta")
        if type(delta) is dict and delta.get("stop_reason") is not None:
            self._finish = read_finish(delta, self._called)
            self._holding = True
        if not self._holding:
            out.append(named(whole))
            return
        if self._told is not None:
            self._before += [named(self._told), *self._after]
            self._after = []
        self._told = whole

    def _conclude(self) -> list[Event]:
        if self._finish is None:
            raise BadAnswer("the stream ended without a stop reason")
        self._after.append(named({"type": "message_stop"}))
        return [self._finish]

    def close(self, receipt: Receipt) -> bytes:
        told = self._told or {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        }
        last = told.get("usage")
        told["usage"] = _price(last if type(last) is dict and last else self._usage or None, receipt)
        return b"".join((*self._before, named(told), *self._after))

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return named(error_body(error, request_id))


class NativeWhole(Whole):
    """A whole message."""

    read = read_response
    write_error = write_error
    price = _price
