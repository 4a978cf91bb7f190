"""Chat Completions streams: chunks read into events, events written as chunks."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import DONE, Bill, Reading, Reply
from tollway.core.dialects.calls import OpenCall
from tollway.core.dialects.faults import failed_error, failure
from tollway.core.dialects.openai_chat import answer, reasoning
from tollway.core.dialects.openai_chat.counts import read_counts, write_counts
from tollway.core.dialects.openai_chat.errors import read_error
from tollway.core.dialects.order import Order
from tollway.core.errors import GatewayError, openai_envelope
from tollway.core.exchange import (
    Counted,
    Event,
    Extras,
    Failed,
    Finished,
    Media,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    Text,
    ToolCall,
    Usage,
)
from tollway.core.fold import Growing
from tollway.core.relay import BadAnswer
from tollway.core.seals import PREVIOUS, carrier

NAME: Final = "openai_chat"


class _Call:
    """A tool call as its fragments come in; it opens once its name can no longer grow."""

    __slots__ = ("extra", "id", "kind", "name", "opened")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.kind = "function"
        self.extra: object = None
        self.opened: OpenCall | None = None


class Reader:
    """Reads the first choice's chunks. See StreamReader.

    The end is not announced until `[DONE]` or the end of the stream, because some upstreams send
    content, or usage, after the finish reason.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._started = False
        self._next = 0
        self._open: tuple[int, type] | None = None
        self._entry: dict[str, Any] | None = None
        self._thought: list[str] = []
        self._calls: dict[object, _Call] = {}
        self._made: list[_Call] = []
        self._last: _Call | None = None
        self._audio: dict[str, Any] = {}
        self._raw: str | None = None
        self._extras: dict[str, Any] = {}
        self._ended = False

    def feed(self, obj: Any) -> list[Event]:
        if type(obj) is not dict:
            if obj == DONE:
                return self._end()
            raise BadAnswer("an event is not a chat completion chunk")
        if self._ended:
            return []
        events: list[Event] = []
        choices = obj.get("choices")
        if "error" in obj and obj["error"] is not None:
            self._ended = True
            return [failure(read_error(0, obj))]
        if not self._started and (obj.get("id") or choices):
            self._started = True
            events.append(
                Started(str(obj.get("id") or ""), str(obj.get("model") or ""), answer.start_extras(obj))
            )
        for choice in choices if type(choices) is list else ():
            if type(choice) is dict and not choice.get("index"):
                self._choice(choice, events)
        usage = obj.get("usage") or _groq_usage(obj)
        if type(usage) is dict and self._started:
            events.append(Counted(read_counts(usage, obj.get("service_tier"))))
        return events

    def close(self) -> list[Event]:
        if not self._ended and self._raw is None:
            raise BadAnswer("the stream ended without a finish reason or [DONE]")
        return self._end()

    def _end(self) -> list[Event]:
        if self._ended:
            return []
        if not self._started:
            raise BadAnswer("the stream ended before it began")
        self._ended = True
        events: list[Event] = []
        self._shut(events)
        self._shut_calls(events)
        if self._audio.get("data"):
            part = answer.read_audio(self._audio)
            events += [PartStarted(self._next, part), PartEnded(self._next)]
        called = any(call.opened is not None and not call.opened.answers for call in self._calls.values())
        events.append(answer.read_finish(self._raw, called, self._extras))
        return events

    def _choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        delta = choice.get("delta")
        if type(delta) is dict and delta:
            self._delta(delta, choice, events)
        raw = choice.get("finish_reason")
        if type(raw) is str and raw and self._raw is None:
            self._raw = raw

    def _delta(self, delta: dict[str, Any], choice: dict[str, Any], events: list[Event]) -> None:
        content = delta.get("content")
        if type(content) is str and content:
            if len(delta) > 1:
                self._think(delta, events)
            index = self._text(Text, events)
            logprobs = choice.get("logprobs")
            tokens = answer.read_logprobs(logprobs.get("content")) if type(logprobs) is dict else ()
            events.append(PartGrew(index, content, logprobs=tokens))
        else:
            self._think(delta, events)
        if len(delta) > 1 or not content:
            self._rest(delta, events)

    def _rest(self, delta: dict[str, Any], events: list[Event]) -> None:
        refusal = delta.get("refusal")
        if type(refusal) is str and refusal:
            events.append(PartGrew(self._text(Refusal, events), refusal))
        calls = delta.get("tool_calls")
        if type(calls) is list and calls:
            for fragment in calls:
                if type(fragment) is dict:
                    self._fragment(fragment, events)
        legacy = delta.get("function_call")
        if type(legacy) is dict:
            self._fragment({"index": 0, "function": legacy}, events)
        if delta.get("annotations"):
            self._annotate(delta["annotations"], events)
        if type(delta.get("audio")) is dict:
            reasoning.grow_entry(self._audio, delta["audio"])
        for part in answer.read_images(delta.get("images")):
            self._shut(events)
            events += [PartStarted(self._next, part), PartEnded(self._next)]
            self._next += 1

    def _think(self, delta: dict[str, Any], events: list[Event]) -> None:
        details = delta.get("reasoning_details")
        if type(details) is list and details:
            for entry in details:
                if type(entry) is dict:
                    self._detail(entry, events)
            return
        text, extras = reasoning.plain_thought(delta)
        if text:
            index = self._text(Reasoning, events, extras)
            self._thought.append(text)
            events.append(PartGrew(index, text))

    def _detail(self, entry: dict[str, Any], events: list[Event]) -> None:
        text = reasoning.entry_text(entry)
        if text and self._thought and "".join(self._thought).endswith(text):
            # The thought was streamed as plain text; the entry repeats it with what its maker wants back.
            self._entry = dict(entry)
            self._shut(events)
            return
        known = self._entry
        same = known is not None and self._open is not None and self._open[1] is Reasoning
        if same and known is not None and _same_entry(known, entry):
            reasoning.grow_entry(known, entry)
        else:
            self._shut(events)
            self._entry = dict(entry)
            self._open = (self._next, Reasoning)
            form = reasoning.entry_form(entry)
            events.append(PartStarted(self._next, Reasoning(form=form)))
            self._next += 1
        text = reasoning.entry_text(entry)
        if text and self._open is not None:
            events.append(PartGrew(self._open[0], text))

    def _text(self, kind: type, events: list[Event], extras: Extras | None = None) -> int:
        """The open part of this kind; a part of another kind is closed first."""
        if self._open is not None:
            if self._open[1] is kind:
                return self._open[0]
            self._shut(events)
        part: Part
        if kind is Text:
            part = Text("")
        else:
            part = Refusal("") if kind is Refusal else Reasoning(extras=extras or {})
        index = self._next
        self._next += 1
        self._open = (index, kind)
        events.append(PartStarted(index, part))
        return index

    def _shut(self, events: list[Event]) -> None:
        """Close the open text, if there is one. What a thought's maker wants back is known only now."""
        if self._open is None:
            return
        index = self._open[0]
        if self._entry is not None:
            seal = reasoning.entry_seal(self._entry, self._reading.scope)
            events.append(PartGrew(index, seal=seal))
            self._entry = None
        events.append(PartEnded(index))
        self._open = None
        self._thought = []

    def _annotate(self, value: object, events: list[Event]) -> None:
        citations, others = answer.read_annotations(value)
        index = self._text(Text, events)
        events.extend(PartGrew(index, citation=one) for one in citations)
        if others:
            self._shut(events)
            ended = events.pop()
            assert isinstance(ended, PartEnded)
            events.append(PartEnded(ended.index, {NAME: {"annotations": others}}))

    def _fragment(self, fragment: dict[str, Any], events: list[Event]) -> None:
        call = self._call_of(fragment)
        kind = fragment.get("type")
        if kind == "custom":
            call.kind = "custom"
        inner = fragment.get("custom" if call.kind == "custom" else "function")
        if fragment.get("extra_content"):
            call.extra = fragment["extra_content"]
        if type(inner) is not dict:
            return
        name = inner.get("name")
        # A name may come in pieces, or again and again with every fragment.
        if type(name) is str and name and call.opened is None and name != call.name:
            call.name += name
        text = inner.get("input" if call.kind == "custom" else "arguments")
        if type(text) is dict:
            text = answer.encode_arguments(text)
        if type(text) is not str or not text:
            return
        if call.opened is None:
            # A call without arguments that came before stays before.
            for earlier in self._made[: self._made.index(call)]:
                if earlier.opened is None and earlier.name:
                    self._begin(earlier, events)
            self._begin(call, events)
        assert call.opened is not None
        events.extend(call.opened.grow(text))

    def _call_of(self, fragment: dict[str, Any]) -> _Call:
        """The call a fragment belongs to: by index, unless an id says that it is a new one."""
        given = fragment.get("id")
        call_id = given if type(given) is str else ""
        index = fragment.get("index")
        if type(index) is not int:
            index = None
        known = self._last if index is None else self._calls.get(index)
        if known is not None and (not call_id or not known.id or known.id == call_id):
            known.id = known.id or call_id
            self._last = known
            return known
        call = _Call()
        call.id = call_id
        if known is not None and index is not None:
            self._calls[("past", len(self._calls))] = known
        self._calls[len(self._calls) if index is None else index] = call
        self._made.append(call)
        self._last = call
        return call

    def _begin(self, call: _Call, events: list[Event]) -> None:
        self._shut(events)
        at = sum(1 for one in self._made if one.opened is not None)
        part = ToolCall(
            answer.call_id(call.id, at, self._reading),
            call.name,
            kind="custom" if call.kind == "custom" else "function",
            seal=reasoning.upstream_call_seal(call.extra, self._reading.scope),
        )
        call.opened = OpenCall(self._next, part, self._reading.undo)
        self._next += 1
        events.append(call.opened.started)

    def _shut_calls(self, events: list[Event]) -> None:
        calls = sorted(self._made, key=lambda one: one.opened.index if one.opened else self._next)
        for call in calls:
            if call.opened is None:
                self._begin(call, events)
            assert call.opened is not None
            events.extend(call.opened.end())


def _same_entry(known: dict[str, Any], entry: dict[str, Any]) -> bool:
    if entry.get("type") not in (None, known.get("type")):
        return False
    return entry.get("index") is not None and entry.get("index") == known.get("index")


def _groq_usage(obj: dict[str, Any]) -> object:
    extension = obj.get("x_groq")
    return extension.get("usage") if type(extension) is dict else None


class Writer:
    """Writes chunks. See StreamWriter; the last payload is DONE."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._order = Order()
        self._id = ""
        self._model = ""
        self._created = reply.created
        self._top: dict[str, Any] = {}
        self._parts: dict[int, Growing] = {}
        self._calls: dict[int, int] = {}
        self._wrote: set[int] = set()
        self._offset = 0
        self._entries = 0
        self._usage: Usage | None = None

    def send(self, event: Event) -> list[Any]:
        self._order.take(event)
        if type(event) is PartGrew:
            return self._grow(event)
        found: list[Any] = []
        match event:
            case PartStarted():
                found = self._start(event)
            case PartEnded():
                found = self._end(event)
            case Counted():
                self._usage = event.usage
            case Started():
                found = [self._begin(event)]
            case Finished():
                found = self._finish(event)
            case Failed():
                found = [openai_envelope(failed_error(event), self._reply.token)]
            case _:
                pass
        return found

    def close(self, bill: Bill | None = None) -> list[Any]:
        self._order.close()
        if not self._reply.include_usage:
            return [DONE]
        last = {**self._top_members(), "choices": [], "usage": write_counts(self._usage, bill)}
        return [last, DONE]

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        self._order.fail()
        return [openai_envelope(error, request_id)]

    def _begin(self, event: Started) -> dict[str, Any]:
        own = event.extras.get(NAME, {})
        self._id = f"chatcmpl-{self._reply.token}" if self._reply.token else event.id
        self._model = self._reply.model or event.model
        self._created = self._reply.created or own.get("created", 0)
        self._top = {name: value for name, value in own.items() if name != "created"}
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _finish(self, event: Finished) -> list[Any]:
        last = self._chunk({}, answer.write_reason(event))
        if event.reason == "content_filter" and not self._order.count:
            return [self._chunk({"refusal": answer.DECLINED}), last]
        return [last]

    def _top_members(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            **self._top,
        }

    def _chunk(
        self, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
        }
        if self._top:
            chunk.update(self._top)
        if self._reply.include_usage:
            chunk["usage"] = None
        return chunk

    def _start(self, event: PartStarted) -> list[Any]:
        part = event.part
        self._parts[event.index] = Growing(part)
        found: list[Any] = []
        match part:
            case ToolCall():
                return [self._start_call(event.index, part)]
            case Media() if part.family == "audio":
                audio = {"id": "audio", "expires_at": 0, "transcript": "", **part.extras.get(NAME, {})}
                found.append(self._chunk({"audio": {**audio, "data": part.value}}))
            case Media():
                found.append(self._chunk({"images": [answer.write_image(part)]}))
            case Text() | Refusal() | Reasoning() if part.text:
                found.append(self._words(part, part.text, answer.write_logprobs((part,))))
            case _:
                pass
        return found

    def _start_call(self, index: int, part: ToolCall) -> dict[str, Any]:
        at = self._calls[index] = len(self._calls)
        if part.arguments.strip():
            self._wrote.add(index)
        call = answer.write_call(part, verbatim=False)
        call[call["type"]]["input" if part.kind == "custom" else "arguments"] = part.arguments
        return self._chunk({"tool_calls": [{"index": at, **call}]})

    def _grow(self, event: PartGrew) -> list[Any]:
        index = event.index
        part = self._order.parts[index]
        if event.citation is not None or event.seal is not None or type(part) is not ToolCall:
            self._parts[index].grow(event)
        if not event.text:
            return []
        if type(part) is ToolCall:
            if not event.text.isspace():
                self._wrote.add(index)
            kind, field = ("custom", "input") if part.kind == "custom" else ("function", "arguments")
            return [self._chunk({"tool_calls": [{"index": self._calls[index], kind: {field: event.text}}]})]
        logprobs = None
        if event.logprobs:
            logprobs = {"content": [answer.write_logprob(one) for one in event.logprobs], "refusal": None}
        return [self._words(part, event.text, logprobs)]

    def _words(self, part: Part, text: str, logprobs: Any) -> dict[str, Any]:
        if type(part) is Text:
            return self._chunk({"content": text}, None, logprobs)
        if type(part) is Refusal:
            return self._chunk({"refusal": text})
        return self._chunk({part.extras.get(NAME, {}).get("field", "reasoning_content"): text})

    def _end(self, event: PartEnded) -> list[Any]:
        growing = self._parts.pop(event.index)
        growing.end(event)
        part = growing.whole()
        found: list[Any] = []
        match part:
            case Text():
                annotations = answer.write_citations(part, self._offset)
                self._offset += len(part.text)
                if annotations:
                    found.append(self._chunk({"annotations": annotations}))
            case ToolCall() if event.index not in self._wrote and part.kind != "custom":
                at = self._calls[event.index]
                found.append(self._chunk({"tool_calls": [{"index": at, "function": {"arguments": "{}"}}]}))
            case Reasoning():
                found.extend(self._sealed(part))
            case _:
                pass
        if part.seal is not None and isinstance(part, Text | Media):
            found.extend(self._sealed(carrier(part.seal, PREVIOUS)))
        return found

    def _sealed(self, part: Reasoning) -> list[Any]:
        """A thought with what its maker wants back: whole, so that a client need only keep it."""
        if part.seal is None:
            return []
        entry = reasoning.write_entry(part, self._entries, part.seal)
        self._entries += 1
        return [self._chunk({"reasoning_details": [entry]})]
