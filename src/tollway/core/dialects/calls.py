"""Tool calls as they stream in from an upstream that was sent translated tools.

The reader of a stream knows a call by the name the upstream was told; the events it yields know it by
the client's. Arguments of wrapped tools are held until they are complete, because only whole JSON
can be unwrapped; those of the stand-in for structured output are the answer's text.
"""

from __future__ import annotations

from tollway.core.dialects.base import Undo
from tollway.core.dialects.naming import unwrapped_arguments
from tollway.core.exchange import (
    Event,
    Extras,
    PartEnded,
    PartGrew,
    PartStarted,
    Seal,
    Text,
    ToolCall,
    ToolKind,
)


def client_call(call: ToolCall, undo: Undo) -> ToolCall | Text:
    """A whole call as the client knows it; the stand-in for structured output becomes text."""
    if call.name == undo.answer_tool and undo.answer_tool:
        return Text(call.arguments)
    sent = undo.tools.get(call.name)
    if sent is None:
        return call
    return ToolCall(
        call.id,
        sent.name,
        unwrapped_arguments(sent, call.arguments),
        sent.kind,
        sent.namespace,
        extras=call.extras,
        seal=call.seal,
    )


class OpenCall:
    """One call while it streams."""

    __slots__ = ("_held", "_sent", "answers", "index", "started", "wrote")

    def __init__(self, index: int, call: ToolCall, undo: Undo) -> None:
        self.index = index
        self.answers = bool(undo.answer_tool) and call.name == undo.answer_tool
        self.wrote = False
        self._sent = None if self.answers else undo.tools.get(call.name)
        self._held: list[str] | None = [] if self._sent is not None and self._sent.kind == "custom" else None
        self.started = PartStarted(index, self._part(call))

    def _part(self, call: ToolCall) -> ToolCall | Text:
        if self.answers:
            return Text("")
        if self._sent is None:
            return call
        kind: ToolKind = self._sent.kind
        return ToolCall(
            call.id, self._sent.name, "", kind, self._sent.namespace, extras=call.extras, seal=call.seal
        )

    def grow(self, text: str) -> list[Event]:
        """More of the arguments."""
        if not text:
            return []
        self.wrote = self.wrote or not text.isspace()
        if self._held is not None:
            self._held.append(text)
            return []
        return [PartGrew(self.index, text)]

    def end(self, extras: Extras | None = None, seal: Seal | None = None) -> list[Event]:
        """The arguments are complete. A function called without arguments is called with `{}`."""
        events: list[Event] = []
        if self._held is not None and self._sent is not None:
            text = unwrapped_arguments(self._sent, "".join(self._held))
            if text:
                events.append(PartGrew(self.index, text))
        elif not self.wrote and not self.answers and self._is_json():
            events.append(PartGrew(self.index, "{}"))
        if seal is not None:
            events.append(PartGrew(self.index, seal=seal))
        events.append(PartEnded(self.index, extras or {}))
        return events

    def _is_json(self) -> bool:
        part = self.started.part
        return isinstance(part, ToolCall) and part.kind != "custom"
