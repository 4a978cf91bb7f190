"""Native relay of Responses: events pass, but the response itself is the gateway's.

Its id, its model and the members in `echo` are written into every response object, because the
gateway keeps the state of a conversation itself. The terminal event carries the usage and waits for
the bill. Items are told apart by their place in the output, as some upstreams change their ids.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.dialects.base import DONE, Reading, Reply
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
)
from tollway.core.dialects.openai_responses.answer import Shown, read_finish, read_response
from tollway.core.dialects.openai_responses.counts import PRICE, Ran, read_total, so_far, write_counts
from tollway.core.dialects.openai_responses.errors import read_error, stream_error, write_error
from tollway.core.dialects.openai_responses.output import read_item
from tollway.core.errors import GatewayError
from tollway.core.exchange import Counted, Event, Grew, Started, ToolCall, size_of_part
from tollway.core.json import encode
from tollway.core.relay import BadAnswer, Fed, Receipt

_DONE: Final = DONE.encode()
_NONE: Final = msgspec.Raw(b"null")
_BROKEN: Final = frozenset(("response.failed", "response.cancelled"))
_TERMINAL: Final = frozenset(("response.completed", "response.incomplete", *_BROKEN))
_CALLS: Final = frozenset(("function_call", "custom_tool_call"))
_CODE: Final = b'"code_interpreter_call"'


class _Event(Struct):
    type: str = ""
    sequence_number: Any = None
    output_index: int | str | float | bool | None = None
    delta: Any = None
    item: msgspec.Raw = _NONE
    response: msgspec.Raw = _NONE


_decode_event = msgspec.json.Decoder(_Event).decode


def _price(usage: dict[str, Any] | None, receipt: Receipt) -> dict[str, Any]:
    return priced(usage, receipt, PRICE, write_counts)


class NativeStream(Stream):
    """A streamed response. `answer` is the response object of its terminal event."""

    def __init__(
        self, name: str, token: str, *, echo: dict[str, Any] | None = None, array: bool = False
    ) -> None:
        super().__init__(name, token, echo=echo, array=array)
        self._changes = {"model": name, **self._echo, "id": f"resp_{token}"}
        self._id: str | None = None
        self._sequence = 0
        self._response: dict[str, Any] = {}
        self._items: list[msgspec.Raw] = []
        self._grew: set[object] = set()
        self._called: set[object] = set()
        self._last: dict[str, Any] = {}
        self._ran = Ran()
        self._before: tuple[int, int, dict[str, Any]] = (0, 0, {})

    def _pass(self, payloads: list[bytes]) -> Fed:
        self._before = (self._sequence, len(self._items), self._response)
        try:
            return super()._pass(payloads)
        except BadAnswer:
            self._forget()
            raise

    def _forget(self) -> None:
        """Nothing of the last payloads reaches the client: the error that follows must fit what did."""
        self._sequence, known, self._response = self._before
        del self._items[known:]

    def _take(self, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        if payload == _DONE:
            return
        try:
            event = _decode_event(payload)
        except UNREADABLE:
            event = read_anyway(payload, _decode_event)
        kind = event.type
        if event.response is not _NONE or kind == "error":
            payload = self._respond(kind, payload, events)
            if self._ended:
                return
        elif kind.endswith(".delta"):
            self._grow(event, events)
        elif event.item is not _NONE:
            self._item(event, events)
        number = event.sequence_number
        self._sequence = number + 1 if type(number) is int else self._sequence + 1
        out += (head(kind), one_line(payload), END)

    def _grow(self, event: _Event, events: list[Event]) -> None:
        if self._id is None:
            raise BadAnswer("content before response.created")
        text = event.delta
        if type(text) is str and text:
            self._grew.add(event.output_index)
            events.append(Grew(len(text) if text.isascii() else size(text)))

    def _item(self, event: _Event, events: list[Event]) -> None:
        if self._id is None:
            raise BadAnswer("content before response.created")
        index = event.output_index
        if event.type == "response.output_item.added":
            item = read_object(bytes(event.item))
            kind = item.get("type")
            if type(kind) is str and kind in _CALLS:
                self._called.add(index)
                self._say(size(item.get("name")), events)
        elif event.type == "response.output_item.done":
            self._items.append(event.item)
            raw = bytes(event.item)
            grown = index in self._grew
            if not grown or _CODE in raw:
                item = read_object(raw)
                if self._ran.see(item):
                    events.append(Counted(so_far(self._ran)))
                if not grown:
                    # What was not told piece by piece is told now.
                    self._whole(item, index, events)

    def _whole(self, item: dict[str, Any], index: object, events: list[Event]) -> None:
        parts = read_item(item, Reading())
        grown = sum(map(size_of_part, parts))
        if index in self._called:
            grown -= size(item.get("name"))
        elif any(isinstance(part, ToolCall) for part in parts):
            self._called.add(index)
        self._grew.add(index)
        self._say(grown, events)

    def _say(self, grown: int, events: list[Event]) -> None:
        if grown > 0:
            events.append(Grew(grown))

    def _respond(self, kind: str, payload: bytes, events: list[Event]) -> bytes:
        """An event with a response object, as the client gets it. The terminal ones are kept until `close`."""
        whole = read_object(payload)
        if kind == "error":
            self._fail(whole, events)
            return b""
        source = whole.get("response")
        if type(source) is not dict:
            if kind in _TERMINAL or self._id is None:
                raise BadAnswer("an event holds no response")
            return payload
        given = str(source.get("id") or "")
        if self._id is None:
            self._id = given
            self._ran.declared(source.get("tools"))
            events.append(Started(given, str(source.get("model") or "")))
        elif kind == "response.created" and given != self._id:
            raise BadAnswer("a second response started inside the first")
        whole["response"] = shown = {**source, **self._changes}
        if kind in _TERMINAL:
            self._last = whole
            self._conclude_with(kind, source, events)
        else:
            self._response = shown
        return encode(whole)

    def _conclude_with(self, kind: str, source: dict[str, Any], events: list[Event]) -> None:
        usage = source.get("usage")
        if type(usage) is dict:
            events.append(Counted(read_total(source, self._ran)))
        if kind in _BROKEN:
            self._fail(source, events)
            return
        self._ended = True
        listed = source.get("output")
        if not self._grew and type(listed) is list:
            # Some upstreams stream nothing and put the whole answer into the last event.
            for at, item in enumerate(listed):
                if type(item) is dict:
                    self._whole(item, at, events)
        status = "incomplete" if kind == "response.incomplete" else "completed"
        events.append(read_finish({**source, "status": status}, bool(self._called)))

    def _fail(self, source: dict[str, Any], events: list[Event]) -> None:
        self._ended = True
        events.append(failure(read_error(0, source)))

    def _conclude(self) -> list[Event]:
        self._forget()
        raise BadAnswer("the stream ended without a terminal event")

    def close(self, receipt: Receipt) -> bytes:
        response = self._last["response"]
        usage = response.get("usage")
        response["usage"] = _price(usage if type(usage) is dict else None, receipt)
        self.answer = response
        return named(self._last)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """First the error in the form whose clients raise it, then the terminal event the others wait for."""
        out: list[bytes] = []
        if not self._response:
            shown = Shown(Reply(token=self._token, model=self._name), "", "", {})
            self._response = {**shown.response("in_progress", []), **self._changes}
            self._emit("response.created", {"response": self._response}, out)
        failed = {
            **self._response,
            "status": "failed",
            "error": stream_error(error),
            "output": self._items,
        }
        self._emit("error", {"error": write_error(error, request_id)[1]["error"]}, out)
        self._emit("response.failed", {"response": failed}, out)
        return b"".join(out)

    def _emit(self, kind: str, members: dict[str, Any], out: list[bytes]) -> None:
        out.append(named({"type": kind, "sequence_number": self._sequence, **members}))
        self._sequence += 1


class NativeWhole(Whole):
    """A whole response."""

    read = read_response
    write_error = write_error
    price = _price

    def __init__(self, name: str, token: str, *, echo: dict[str, Any] | None = None) -> None:
        super().__init__(name, token, echo=echo)
        self._changes["id"] = f"resp_{token}"
