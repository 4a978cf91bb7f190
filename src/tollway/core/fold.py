"""Events folded into a whole answer, and a whole answer unfolded into events.

A whole answer is the fold of its stream: writers of whole answers and of streams see the same
parts, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from tollway.core.exchange import (
    Citation,
    Counted,
    Event,
    Extras,
    Failed,
    Finished,
    Grew,
    Logprob,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Response,
    Seal,
    Started,
    Text,
    ToolCall,
    Usage,
    size_of_part,
)


class Broken(ValueError):
    """The events are no complete answer; `failed` says why, if the upstream did."""

    def __init__(self, message: str, failed: Failed | None = None) -> None:
        super().__init__(message)
        self.failed = failed


class Growing:
    """One part while its stream goes on. Fragments are kept apart and joined once, at the end."""

    __slots__ = ("_citations", "_extras", "_logprobs", "_part", "_seal", "_texts")

    def __init__(self, part: Part) -> None:
        self._part = part
        self._texts: list[str] = []
        self._citations: list[Citation] = []
        self._logprobs: list[Logprob] = []
        self._seal: Seal | None = None
        self._extras: Extras = {}

    def grow(self, event: PartGrew) -> None:
        if event.text:
            self._texts.append(event.text)
        if event.citation is not None:
            self._citations.append(event.citation)
        if event.logprobs:
            self._logprobs.extend(event.logprobs)
        if event.seal is not None:
            self._seal = event.seal

    def end(self, event: PartEnded) -> None:
        self._extras = event.extras

    def whole(self) -> Part:
        """The part as it is now. Arguments of a function call are never empty: no arguments are `{}`."""
        part = self._part
        if self._seal is not None:
            part = replace(part, seal=self._seal)
        if self._extras:
            part = replace(part, extras=merged(part.extras, self._extras))
        text = "".join(self._texts)
        match part:
            case Text():
                return self._whole_text(part, text)
            case Refusal():
                return replace(part, text=part.text + text) if text else part
            case Reasoning():
                return self._whole_thought(part, text)
            case ToolCall():
                written = part.arguments + text
                if not written.strip() and part.kind != "custom":
                    written += "{}"
                return replace(part, arguments=written)
            case _:
                return part

    def _whole_thought(self, part: Reasoning, text: str) -> Reasoning:
        if not text:
            return part
        # What a thought says decides whether it was withheld, not what it began with.
        form = "full" if part.form == "withheld" else part.form
        return replace(part, text=part.text + text, form=form)

    def _whole_text(self, part: Text, text: str) -> Text:
        if text:
            part = replace(part, text=part.text + text)
        if self._citations:
            part = replace(part, citations=part.citations + tuple(self._citations))
        if self._logprobs:
            part = replace(part, logprobs=part.logprobs + tuple(self._logprobs))
        return part


def merged(first: Extras, then: Extras) -> Extras:
    """Extras of both, the later winning member by member."""
    return {name: {**first.get(name, {}), **then.get(name, {})} for name in (*first, *then)}


class Folder:
    """Feed it every event; `response` is the answer once it is finished."""

    def __init__(self) -> None:
        self._started = Started("", "")
        self._parts: dict[int, Growing] = {}
        self._usage: Usage | None = None
        self._finished: Finished | None = None
        self._failed: Failed | None = None

    def add(self, event: Event) -> None:
        """Take one event. Raises KeyError if a part grows or ends that never started."""
        match event:
            case PartGrew():
                self._parts[event.index].grow(event)
            case PartStarted():
                self._parts[event.index] = Growing(event.part)
            case PartEnded():
                self._parts[event.index].end(event)
            case Started():
                self._started = event
            case Counted():
                self._usage = event.usage
            case Finished():
                self._finished = event
            case Failed():
                self._failed = event
            case _:
                pass

    def response(self) -> Response:
        """The whole answer. Raises Broken if the stream failed or never finished."""
        if self._failed is not None:
            raise Broken(self._failed.message, self._failed)
        if self._finished is None:
            raise Broken("the answer did not finish")
        return Response(
            id=self._started.id,
            model=self._started.model,
            parts=tuple(self._parts[index].whole() for index in sorted(self._parts)),
            finish=self._finished,
            usage=self._usage,
            extras=self._started.extras,
        )


def fold(events: Iterable[Event]) -> Response:
    """The whole answer that a finished stream of events is. Raises Broken."""
    folder = Folder()
    for event in events:
        folder.add(event)
    return folder.response()


def unfold(response: Response) -> list[Event]:
    """The events that fold into `response`; each part arrives in one piece."""
    events: list[Event] = [Started(response.id, response.model, response.extras)]
    for index, part in enumerate(response.parts):
        events.append(PartStarted(index, part))
        events.append(PartEnded(index))
    events.append(response.finish)
    if response.usage is not None:
        events.append(Counted(response.usage))
    return events


def outline(response: Response) -> list[Event]:
    """What billing and attempts need to know of a whole answer: its size, its end and its counts."""
    finish = response.finish
    events: list[Event] = [Started(response.id, response.model)]
    size = sum(map(size_of_part, response.parts))
    if size:
        events.append(Grew(size))
    events.append(Finished(finish.reason, finish.raw, finish.stop))
    if response.usage is not None:
        events.append(Counted(response.usage))
    return events
