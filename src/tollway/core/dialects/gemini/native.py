"""Native relay of generateContent: chunks pass, only `modelVersion` and the last usage are touched.

Every chunk may carry running totals, and the last ones come with the reason for the end: from the
chunk on with which the last candidate ends, everything waits for the bill. There is no terminator.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.dialects.faults import failure, redacted
from tollway.core.dialects.gemini.answer import read_response
from tollway.core.dialects.gemini.counts import (
    PRICE,
    Grounded,
    Totals,
    read_counts,
    read_totals,
    write_counts,
)
from tollway.core.dialects.gemini.errors import error_body, read_error, write_error
from tollway.core.dialects.gemini.stream import FAULTS, REASONS
from tollway.core.dialects.native import (
    UNREADABLE,
    Stream,
    Whole,
    one_line,
    priced,
    read_anyway,
    read_object,
    size,
    without,
)
from tollway.core.errors import GatewayError
from tollway.core.exchange import Counted, Event, Failed, Finished, FinishReason, Grew, Started
from tollway.core.json import encode
from tollway.core.relay import BadAnswer, Receipt

_END: Final = b"\r\n\r\n"


class _Blob(Struct):
    data: Any = None


class _Part(Struct, rename="camel"):
    text: Any = None
    inline_data: _Blob | None = None
    function_call: Any = None
    executable_code: Any = None


class _Content(Struct):
    parts: list[_Part] | None = None


class _Candidate(Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: Any = None
    finish_message: Any = None
    index: int | None = None
    grounding_metadata: Any = None


class _Chunk(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: Totals | None = None
    model_version: Any = None
    response_id: Any = None
    prompt_feedback: Any = None
    error: Any = None


class _LooseChunk(_Chunk, rename="camel"):
    usage_metadata: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_loosely = msgspec.json.Decoder(_LooseChunk).decode


def _price(usage: dict[str, Any] | None, receipt: Receipt) -> dict[str, Any]:
    return priced(usage, receipt, PRICE, write_counts)


def _version(name: object) -> bytes:
    return b'"modelVersion":' + encode(name)


class NativeStream(Stream):
    """A streamed answer, as server-sent events or as one JSON array."""

    pulse = _END

    def __init__(
        self, name: str, token: str, *, echo: dict[str, Any] | None = None, array: bool = False
    ) -> None:
        super().__init__(name, token, echo=echo, array=array)
        self._ours = _version(name)
        self._theirs: tuple[object, bytes] = (None, b"")
        self._started = False
        self._going: set[int] = set()
        self._done: set[int] = set()
        self._called: set[int] = set()
        self._totals: object = None
        self._counted = b""
        self._ran = Grounded()
        self._searched = False
        self._priced = False
        self._failed: Failed | None = None
        self._held: list[bytes] = []

    def _take(self, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        try:
            chunk = _decode_chunk(payload)
        except UNREADABLE:
            chunk = read_anyway(payload, _decode_loosely)
        if chunk.error is not None:
            self._failed = failure(read_error(0, read_object(payload)))
        else:
            self._read(chunk, payload, events)
        if self._failed is not None:
            self._ended = True
            events.append(self._failed)
            return
        version = chunk.model_version
        if (version is not None and version != self._name) or self._priced or self._echo:
            payload = self._changed(payload, version)
        if self._held or (self._done and not self._going):
            self._held.append(payload)
        elif self._array is None:
            out += (b"data: ", one_line(payload), _END)
        else:
            self._frame(payload, out)

    def _read(self, chunk: _Chunk, payload: bytes, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            events.append(Started(str(chunk.response_id or ""), str(chunk.model_version or "")))
        for candidate in chunk.candidates or ():
            self._see(candidate, events)
        if chunk.prompt_feedback is not None:
            self._blocked(chunk.prompt_feedback, events)
        totals = chunk.usage_metadata
        if totals is not None and (totals != self._totals or self._searched):
            self._count(totals, payload, events)

    def _count(self, totals: object, payload: bytes, events: list[Event]) -> None:
        self._totals = totals
        self._searched = False
        found = None
        if type(totals) is Totals:
            found = read_totals(totals, self._ran.tools)
            self._priced = totals.priced()
        if found is None:
            usage = read_object(payload).get("usageMetadata")
            if type(usage) is not dict:
                return
            found = read_counts(usage, self._ran.tools)
            self._priced = not usage.keys().isdisjoint(PRICE)
        self._counted = payload
        events.append(Counted(found))

    def _frame(self, payload: bytes, out: list[bytes]) -> None:
        if self._array is None:
            out += (b"data: ", one_line(payload), _END)
        else:
            out.append(self._array.frame(msgspec.Raw(payload)))

    def _see(self, candidate: _Candidate, events: list[Event]) -> None:
        index = candidate.index or 0
        if candidate.grounding_metadata is not None and self._ran.see(candidate.grounding_metadata):
            self._searched = True
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                text = part.text
                if type(text) is not str:
                    self._other(part, index, events)
                elif text:
                    events.append(Grew(len(text) if text.isascii() else size(text)))
        if index in self._done:
            return
        raw = candidate.finish_reason
        if type(raw) is str and raw and raw != "FINISH_REASON_UNSPECIFIED":
            self._finish(index, raw, candidate.finish_message, events)
        else:
            self._going.add(index)

    def _other(self, part: _Part, index: int, events: list[Event]) -> None:
        grown = 0
        if type(part.function_call) is dict:
            grown = self._call(part.function_call, index)
        elif part.inline_data is not None:
            grown = size(part.inline_data.data)
        elif part.executable_code is not None:
            grown = len(encode(part.executable_code))
        if grown:
            events.append(Grew(grown))

    def _call(self, call: dict[str, Any], index: int) -> int:
        """The bytes of a call, or of a piece of one: it may be named first and then filled in."""
        name, pieces = call.get("name"), call.get("partialArgs")
        if not (name or pieces):
            return 0
        self._called.add(index)
        if pieces or call.get("willContinue"):
            return size(name) + len(encode(pieces or []))
        args = call.get("args")
        return size(name) + len(encode(args if type(args) is dict else {}))

    def _finish(self, index: int, raw: str, why: object, events: list[Event]) -> None:
        self._going.discard(index)
        self._done.add(index)
        if raw in FAULTS and not self._going and len(self._done) == 1:
            # The only answer is none: better no answer than one that passes for success.
            message = redacted(why or f"the model's answer ended with {raw}")
            self._failed = Failed("server", message, {"code": raw})
            return
        reason: FinishReason = REASONS.get(raw, "other")
        if reason == "stop" and index in self._called:
            reason = "tool_calls"
        events.append(Finished(reason, raw))

    def _blocked(self, feedback: object, events: list[Event]) -> None:
        why = feedback.get("blockReason") if type(feedback) is dict else None
        if type(why) is str and why and not self._done:
            self._going.clear()
            self._done.add(0)
            found = REASONS.get(why, "other")
            events.append(Finished("content_filter" if found == "other" else found, why))

    def _changed(self, payload: bytes, version: object) -> bytes:
        """A chunk with our model name, without the upstream's price."""
        if not (self._priced or self._echo):
            if version != self._theirs[0]:
                self._theirs = (version, _version(version))
            pieces = payload.split(self._theirs[1])
            # Twice, it may also stand in the arguments of a call, which are none of our business.
            if len(pieces) == 2:
                return self._ours.join(pieces)
        whole = read_object(payload)
        usage = whole.get("usageMetadata")
        if type(usage) is dict:
            whole["usageMetadata"] = without(usage, PRICE)
        return encode({**whole, "modelVersion": self._name, **self._echo})

    def _conclude(self) -> list[Event]:
        if self._going or not self._done:
            raise BadAnswer("the stream ended without a finish reason")
        return []

    def close(self, receipt: Receipt) -> bytes:
        last = read_object(self._held.pop())
        usage = last.get("usageMetadata")
        if type(usage) is not dict and self._counted:
            usage = read_object(self._counted)["usageMetadata"]
        last["usageMetadata"] = _price(usage if type(usage) is dict else None, receipt)
        out: list[bytes] = []
        for payload in (*self._held, encode(last)):
            self._frame(payload, out)
        return b"".join(out) + self._tail()

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        out: list[bytes] = []
        self._frame(encode(error_body(error, request_id, error.status)), out)
        return b"".join(out) + self._tail()

    def _tail(self) -> bytes:
        return self._array.close() if self._array else b""


class NativeWhole(Whole):
    """A whole answer."""

    model_member = "modelVersion"
    usage_member = "usageMetadata"
    read = read_response
    write_error = write_error
    price = _price
