"""The order in which events may come: the table every stream writer asks before it writes.

    new       Started -> open
    open      PartStarted (the next index), PartGrew and PartEnded (of an open part), Counted,
              StillAlive; Finished (no part open) -> finished
    finished  Counted, StillAlive; close -> closed
    closed    nothing
Failed is legal in every state but closed, and leads there.
"""

from __future__ import annotations

from typing import Final, Literal

from tollway.core.dialects.base import IllegalEvent
from tollway.core.exchange import (
    Counted,
    Event,
    Failed,
    Finished,
    Grew,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    StillAlive,
    Text,
    ToolCall,
)

Phase = Literal["new", "open", "finished", "closed"]
_ANYWHERE: Final = (Counted, StillAlive)
_GROWING: Final = (Text, Refusal, Reasoning, ToolCall)


class Order:
    """Where a stream stands. `parts`: the open parts by index, as they started."""

    __slots__ = ("count", "parts", "phase")

    def __init__(self) -> None:
        self.phase: Phase = "new"
        self.count = 0
        self.parts: dict[int, Part] = {}

    def take(self, event: Event) -> None:
        """Step over one event. Raises IllegalEvent and stays where it is."""
        if type(event) is PartGrew:
            self._check_growth(event)
        elif type(event) is Failed:
            if self.phase == "closed":
                raise IllegalEvent("the answer is closed")
            self.phase = "closed"
        elif type(event) is Started:
            self._step("new", "open", event)
        elif self.phase == "finished":
            if not isinstance(event, _ANYWHERE):
                raise IllegalEvent(f"{type(event).__name__} after the answer finished")
        elif self.phase != "open":
            raise IllegalEvent(f"{type(event).__name__} while the answer is {self.phase}")
        else:
            self._inside(event)

    def close(self) -> None:
        """The writer is about to end the answer. Raises IllegalEvent unless it finished."""
        if self.phase != "finished":
            raise IllegalEvent(f"close while the answer is {self.phase}")
        self.phase = "closed"

    def fail(self) -> None:
        """The writer is about to end the answer with an error. Raises IllegalEvent if it ended."""
        if self.phase == "closed":
            raise IllegalEvent("the answer is closed")
        self.phase = "closed"

    def _step(self, source: Phase, target: Phase, event: Event) -> None:
        if self.phase != source:
            raise IllegalEvent(f"{type(event).__name__} while the answer is {self.phase}")
        self.phase = target

    def _check_growth(self, event: PartGrew) -> None:
        part = self.parts.get(event.index)
        if part is None or self.phase != "open":
            raise IllegalEvent(f"part {event.index} is not open")
        if event.text and not isinstance(part, _GROWING):
            raise IllegalEvent(f"a {type(part).__name__} does not grow")
        if (event.citation is not None or event.logprobs) and not isinstance(part, Text):
            raise IllegalEvent("only text has sources and probabilities")

    def _inside(self, event: Event) -> None:
        match event:
            case PartStarted():
                if event.index != self.count:
                    raise IllegalEvent(f"part {event.index} started where {self.count} is next")
                self.count += 1
                self.parts[event.index] = event.part
            case PartEnded():
                if self.parts.pop(event.index, None) is None:
                    raise IllegalEvent(f"part {event.index} is not open")
            case Finished():
                if self.parts:
                    raise IllegalEvent(f"finished with parts {sorted(self.parts)} open")
                self.phase = "finished"
            case Grew():
                raise IllegalEvent("a native relay's event says too little to be written")
            case _:
                pass
