"""Translated relays: an answer in the upstream's dialect goes out in the client's, by way of the canonical events."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tollway.core import sse
from tollway.core.dialects.base import (
    DONE,
    AnswerFailed,
    Bill,
    Dialect,
    IllegalEvent,
    Reading,
    Reply,
)
from tollway.core.dialects.framing import Array
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Event,
    Failed,
    Response,
    Usage,
)
from tollway.core.fold import outline
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer, Fed, Receipt

_DONE: Final = DONE.encode()


class TranslatedStream:
    """A streamed answer. See Relay for the contract; `array`: one JSON array instead of server-sent events."""

    streamed = True
    carrier = None

    def __init__(
        self, upstream: Dialect, client: Dialect, reading: Reading, reply: Reply, *, array: bool = False
    ) -> None:
        self._split = sse.Splitter()
        self._reader = upstream.reader(reading)
        self._writer = client.writer(reply)
        self._array = Array() if array else None
        self._frame = self._array.frame if self._array else client.frame
        self._keep_alive = b"\n" if array else client.keep_alive
        self.content_type = b"application/json" if array else b"text/event-stream; charset=utf-8"
        self.answer: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> Fed:
        try:
            payloads = self._split.feed(chunk)
        except sse.EventTooLong as error:
            raise BadAnswer(str(error)) from None
        return self._take(payloads)

    def end(self) -> Fed:
        fed = self._take(self._split.end())
        if fed.events and type(fed.events[-1]) is Failed:
            return fed
        events = self._reader.close()
        return Fed(fed.out + self._write(events), fed.events + events)

    def _take(self, payloads: list[bytes]) -> Fed:
        events: list[Event] = []
        for payload in payloads:
            if payload:
                events += self._reader.feed(DONE if payload == _DONE else _object(payload))
        return Fed(self._write(events), events)

    def _write(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        frame = self._frame
        try:
            for event in events:
                if type(event) is Failed:
                    # Whoever reads the events ends the answer, with an error that says what was charged.
                    break
                out += [frame(one) for one in self._writer.send(event)]
        except IllegalEvent as error:
            raise BadAnswer(f"its events do not follow its own grammar: {error}") from None
        return b"".join(out)

    def close(self, receipt: Receipt) -> bytes:
        objects = self._writer.close(_bill(receipt))
        for one in objects:
            if type(one) is dict and type(one.get("response")) is dict:
                self.answer = one["response"]
        return b"".join(map(self._frame, objects)) + self._tail()

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return b"".join(map(self._frame, self._writer.fail(error, request_id))) + self._tail()

    def _tail(self) -> bytes:
        return self._array.close() if self._array else b""

    def keep_alive(self) -> bytes:
        return self._keep_alive


class TranslatedWhole:
    """A whole answer: read when it is complete, written when it is paid."""

    streamed = False
    carrier = None
    content_type = b"application/json"

    def __init__(self, upstream: Dialect, client: Dialect, reading: Reading, reply: Reply) -> None:
        self._upstream = upstream
        self._client = client
        self._reading = reading
        self._reply = reply
        self._chunks: list[bytes] = []
        self._response: Response | None = None
        self.answer: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> Fed:
        self._chunks.append(chunk)
        return Fed(b"", [])

    def end(self) -> Fed:
        body = _object(b"".join(self._chunks))
        if type(body) is not dict:
            raise BadAnswer("the answer is not a JSON object")
        try:
            response = self._upstream.read_response(body, self._reading)
        except AnswerFailed as error:
            return Fed(b"", [error.failed])
        self._response = response
        return Fed(b"", outline(response))

    def close(self, receipt: Receipt) -> bytes:
        assert self._response is not None, "an answer is closed after its end"
        self.answer = self._client.write_response(self._response, self._reply, _bill(receipt))
        return encode(self.answer)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return encode(self._client.write_error(error, request_id)[1])

    def keep_alive(self) -> bytes:
        return b""


def _object(payload: bytes) -> Any:
    try:
        return decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("the answer is not JSON") from None


def _bill(receipt: Receipt) -> Bill:
    # Our own count is shown only where the upstream had none.
    usage = Usage(input=receipt.input, output=receipt.output) if receipt.estimated else None
    return Bill(cost=receipt.cost, estimated=receipt.estimated, usage=usage)
