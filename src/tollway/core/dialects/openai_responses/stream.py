"""Responses streams read into events.

Items are told apart by their place in the output and never by their id: some upstreams change the
ids from event to event. A part ends when its item does, so that what the item says last is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tollway.core.dialects.base import DONE, Reading
from tollway.core.dialects.calls import OpenCall
from tollway.core.dialects.faults import failure
from tollway.core.dialects.openai_responses import answer, output
from tollway.core.dialects.openai_responses.counts import Ran, read_total, so_far
from tollway.core.dialects.openai_responses.errors import read_error
from tollway.core.exchange import (
    Counted,
    Event,
    Extras,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    StillAlive,
    Text,
)
from tollway.core.relay import BadAnswer

NAME: Final = "openai_responses"
_TERMINAL: Final = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
)


_PLACES: Final = frozenset((int, type(None), str, float, bool))


class _Open:
    """An open part. `wrote`: whether any of its text has come."""

    __slots__ = ("call", "index", "others", "piece", "wrote")

    def __init__(self, index: int, call: OpenCall | None = None) -> None:
        self.index = index
        self.call = call
        self.wrote = False
        self.others: list[Any] = []
        self.piece: object = 0


class Reader:
    """Reads a response's events. See StreamReader."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._id: str | None = None
        self._next = 0
        self._open: dict[tuple[object, object], _Open] = {}
        self._items: dict[object, dict[str, Any]] = {}
        self._called = False
        self._ended = False
        self._ran = Ran()
        self._verbs: dict[str, Callable[[dict[str, Any], list[Event]], None]] = {
            "response.output_text.delta": self._text,
            "response.refusal.delta": self._refusal,
            "response.function_call_arguments.delta": self._arguments,
            "response.custom_tool_call_input.delta": self._arguments,
            "response.reasoning_summary_text.delta": self._summary,
            "response.reasoning_text.delta": self._thought,
            "response.reasoning.delta": self._thought,
            "response.output_item.added": self._item,
            "response.output_item.done": self._item_done,
            "response.output_text.annotation.added": self._annotation,
            "response.created": self._created,
            "error": self._error,
        }

    def feed(self, obj: Any) -> list[Event]:
        if obj == DONE or self._ended:
            return []
        kind = obj.get("type") if type(obj) is dict else None
        if type(kind) is not str:
            raise BadAnswer("an event has no type")
        if type(obj.get("output_index")) not in _PLACES or type(obj.get("content_index")) not in _PLACES:
            raise BadAnswer("an event is at no place in the output")
        events: list[Event] = []
        verb = self._verbs.get(kind)
        if verb is not None:
            verb(obj, events)
        elif kind in _TERMINAL:
            self._terminal(kind, obj, events)
        else:
            if self._id is None and type(obj.get("response")) is dict:
                self._created(obj, events)
            events.append(StillAlive())
        return events

    def close(self) -> list[Event]:
        if not self._ended:
            raise BadAnswer("the stream ended without a terminal event")
        return []

    def _created(self, obj: dict[str, Any], events: list[Event]) -> None:
        source = obj.get("response")
        if type(source) is not dict:
            raise BadAnswer("response.created holds no response")
        given = str(source.get("id") or "")
        if self._id is not None:
            if given != self._id:
                raise BadAnswer("a second response started inside the first")
            return
        self._id = given
        self._ran.declared(source.get("tools"))
        extras = answer.start_extras(source)
        events.append(Started(given, str(source.get("model") or ""), extras))

    def _error(self, obj: dict[str, Any], events: list[Event]) -> None:
        self._ended = True
        events.append(failure(read_error(0, obj)))

    def _start(self, key: tuple[object, object], part: Part, events: list[Event]) -> _Open:
        if self._id is None:
            raise BadAnswer("content before response.created")
        found = self._open[key] = _Open(self._next)
        self._next += 1
        events.append(PartStarted(found.index, part))
        return found

    def _text(self, obj: dict[str, Any], events: list[Event]) -> None:
        self._grow(obj, events, Text, output.read_tokens(obj.get("logprobs")) if obj.get("logprobs") else ())

    def _refusal(self, obj: dict[str, Any], events: list[Event]) -> None:
        self._grow(obj, events, Refusal, ())

    def _grow(self, obj: dict[str, Any], events: list[Event], kind: type, tokens: Any) -> None:
        key = (obj.get("output_index"), obj.get("content_index"))
        found = self._open.get(key)
        if found is None:
            item = self._items.get(key[0])
            own = output.item_extras(item) if item is not None else {}
            extras: Extras = {NAME: {"item": own}} if own else {}
            part: Part = Text("", extras=extras) if kind is Text else Refusal("", extras=extras)
            found = self._start(key, part, events)
        delta = obj.get("delta")
        if type(delta) is str and delta:
            found.wrote = True
            events.append(PartGrew(found.index, delta, logprobs=tokens))

    def _annotation(self, obj: dict[str, Any], events: list[Event]) -> None:
        found = self._open.get((obj.get("output_index"), obj.get("content_index")))
        one = obj.get("annotation")
        if found is None or type(one) is not dict:
            return
        if one.get("type") == "url_citation":
            events.append(PartGrew(found.index, citation=output.read_citation(one)))
        else:
            found.others.append(one)

    def _item(self, obj: dict[str, Any], events: list[Event]) -> None:
        item = obj.get("item")
        if type(item) is not dict:
            raise BadAnswer("an output item is no object")
        index = obj.get("output_index")
        self._items[index] = item
        if item.get("type") not in ("function_call", "custom_tool_call"):
            return
        if self._id is None:
            raise BadAnswer("content before response.created")
        part = output.read_call(item, with_arguments=False, token=f"{self._reading.token}{self._next}")
        call = OpenCall(self._next, part, self._reading.undo)
        self._open[index, None] = _Open(self._next, call)
        self._next += 1
        self._called = self._called or not call.answers
        events.append(call.started)

    def _arguments(self, obj: dict[str, Any], events: list[Event]) -> None:
        found = self._open.get((obj.get("output_index"), None))
        if found is None or found.call is None:
            raise BadAnswer("arguments for a call that is not open")
        delta = obj.get("delta")
        if type(delta) is str:
            events.extend(found.call.grow(delta))

    def _summary(self, obj: dict[str, Any], events: list[Event]) -> None:
        self._think(obj, "summary", obj.get("summary_index"), events)

    def _thought(self, obj: dict[str, Any], events: list[Event]) -> None:
        self._think(obj, "full", obj.get("content_index"), events)

    def _think(self, obj: dict[str, Any], form: Any, piece: object, events: list[Event]) -> None:
        key = (obj.get("output_index"), "reasoning")
        found = self._open.get(key)
        if found is None:
            found = self._start(key, Reasoning(form=form), events)
            found.piece = (form, piece)
        delta = obj.get("delta")
        if type(delta) is not str or not delta:
            return
        if found.piece != (form, piece):
            if type(found.piece) is tuple and found.piece[0] != form:
                # The same thought told twice, in full and summarised: the first telling is kept.
                return
            found.piece = (form, piece)
            delta = f"\n\n{delta}"
        found.wrote = True
        events.append(PartGrew(found.index, delta))

    def _item_done(self, obj: dict[str, Any], events: list[Event]) -> None:
        item = obj.get("item")
        if type(item) is not dict:
            raise BadAnswer("an output item is no object")
        index = obj.get("output_index")
        self._items.pop(index, None)
        match item.get("type"):
            case "message":
                self._message_done(index, item, events)
            case "reasoning":
                self._reasoning_done(index, item, events)
            case "function_call" | "custom_tool_call":
                self._call_done(index, item, events)
            case _:
                if self._ran.see(item):
                    events.append(Counted(so_far(self._ran)))
                for part in output.read_item(item, self._reading):
                    self._whole(part, events)

    def _whole(self, part: Part, events: list[Event]) -> None:
        if self._id is None:
            raise BadAnswer("content before response.created")
        self._called = self._called or type(part).__name__ == "ToolCall"
        events += [PartStarted(self._next, part), PartEnded(self._next)]
        self._next += 1

    def _message_done(self, index: object, item: dict[str, Any], events: list[Event]) -> None:
        parts = output.read_message(item)
        for at, part in enumerate(parts):
            found = self._open.pop((index, at), None)
            if found is None:
                self._whole(part, events)
                continue
            if not found.wrote and isinstance(part, Text | Refusal) and part.text:
                events.append(PartGrew(found.index, part.text))
            events.append(PartEnded(found.index, part.extras))
        left = [key for key in self._open if key[0] == index]
        events.extend(PartEnded(self._open.pop(key).index) for key in left)

    def _reasoning_done(self, index: object, item: dict[str, Any], events: list[Event]) -> None:
        found = self._open.pop((index, "reasoning"), None)
        part = output.read_reasoning(item, self._reading.scope)
        if found is None:
            self._whole(part, events)
            return
        if part.seal is not None:
            events.append(PartGrew(found.index, seal=part.seal))
        events.append(PartEnded(found.index, part.extras))

    def _call_done(self, index: object, item: dict[str, Any], events: list[Event]) -> None:
        found = self._open.pop((index, None), None)
        if found is None or found.call is None:
            for part in output.read_item(item, self._reading):
                self._whole(part, events)
            return
        whole = output.read_call(item, with_arguments=True, token="")
        if not found.call.wrote and whole.arguments != "{}":
            events.extend(found.call.grow(whole.arguments))
        events.extend(found.call.end(whole.extras))

    def _terminal(self, kind: str, obj: dict[str, Any], events: list[Event]) -> None:
        source = obj.get("response")
        if type(source) is not dict:
            raise BadAnswer("a terminal event holds no response")
        if self._id is None:
            self._created(obj, events)
        usage = source.get("usage")
        if type(usage) is dict:
            events.append(Counted(read_total(source, self._ran)))
        self._ended = True
        if kind in ("response.failed", "response.cancelled"):
            events.append(failure(read_error(0, source)))
            return
        for found in self._open.values():
            events.extend(found.call.end() if found.call is not None else [PartEnded(found.index)])
        listed = source.get("output")
        if not self._next and type(listed) is list:
            # Some upstreams stream nothing and put the whole answer into the last event.
            for item in listed:
                for part in output.read_item(item, self._reading) if type(item) is dict else ():
                    self._whole(part, events)
        status = "incomplete" if kind == "response.incomplete" else "completed"
        events.append(answer.read_finish({**source, "status": status}, self._called))
