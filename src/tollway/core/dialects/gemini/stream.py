"""generateContent answers, streamed or whole, read into events: every chunk is a whole answer's shape.

Texts of one kind that follow one another are one part. A signature that arrives alone belongs to the
thought that is open, or is a part of its own. The end is announced when the stream ends, because
content and usage may still follow the chunk that says why.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Reading
from tollway.core.dialects.calls import client_call
from tollway.core.dialects.faults import failure
from tollway.core.dialects.gemini.counts import Grounded, read_counts
from tollway.core.dialects.gemini.errors import read_error
from tollway.core.dialects.gemini.grounding import read_citations, read_logprobs
from tollway.core.dialects.gemini.partial import PartialCall
from tollway.core.dialects.gemini.proto import NAME
from tollway.core.exchange import (
    Counted,
    Event,
    Failed,
    Finished,
    FinishReason,
    Logprob,
    Media,
    Opaque,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Seal,
    Started,
    StillAlive,
    Text,
    ToolCall,
)
from tollway.core.json import encode
from tollway.core.relay import BadAnswer

REASONS: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "CONTINUATION": "pause",
}
FAULTS: Final = frozenset(
    (
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    )
)  # fmt: skip
_TOP: Final = frozenset(("candidates", "usageMetadata", "modelVersion", "responseId"))
_CANDIDATE: Final = frozenset(("content", "finishReason", "index", "logprobsResult"))
_PLAIN: Final = frozenset(("text", "thought", "thoughtSignature"))


class Reader:
    """Reads the first candidate's chunks. See StreamReader."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._started = False
        self._next = 0
        self._kind: type | None = None
        self._texts: list[str] = []
        self._partial: PartialCall | None = None
        self._called = False
        self._raw: str | None = None
        self._extras: dict[str, Any] = {}
        self._usage: dict[str, Any] | None = None
        self._ran = Grounded()
        self._searched = False
        self._ended = False

    def feed(self, obj: Any) -> list[Event]:
        if type(obj) is not dict:
            raise BadAnswer("an event is not a generateContent response")
        if self._ended:
            return []
        if obj.get("error") is not None:
            self._ended = True
            return [failure(read_error(0, obj))]
        events: list[Event] = []
        if not self._started:
            self._started = True
            rest = {
                name: value for name, value in obj.items() if name not in _TOP and name != "promptFeedback"
            }
            model, answer_id = str(obj.get("modelVersion") or ""), str(obj.get("responseId") or "")
            events.append(Started(answer_id, model, {NAME: rest} if rest else {}))
        listed = obj.get("candidates")
        for candidate in listed if type(listed) is list else ():
            if type(candidate) is dict and not candidate.get("index"):
                self._candidate(candidate, events)
        if type(obj.get("promptFeedback")) is dict:
            self._blocked(obj["promptFeedback"])
        usage = obj.get("usageMetadata")
        if type(usage) is dict and (usage != self._usage or self._searched):
            self._usage = usage
            self._searched = False
            events.append(Counted(read_counts(usage, self._ran.tools)))
        return events or [StillAlive()]

    def close(self) -> list[Event]:
        if self._ended:
            return []
        if self._raw is None:
            raise BadAnswer("the stream ended without a finish reason")
        self._ended = True
        events: list[Event] = []
        self._end_partial(events)
        self._shut(events)
        extras = {NAME: self._extras} if self._extras else {}
        if self._raw in FAULTS:
            message = str(self._extras.get("finishMessage") or f"the model's answer ended with {self._raw}")
            events.append(Failed("server", message, {"code": self._raw}))
            return events
        reason: FinishReason = REASONS.get(self._raw, "other")
        if "promptFeedback" in self._extras and reason == "other":
            reason = "content_filter"
        if reason == "stop" and self._called:
            reason = "tool_calls"
        events.append(Finished(reason, self._raw, extras=extras))
        return events

    def _blocked(self, feedback: dict[str, Any]) -> None:
        self._extras["promptFeedback"] = feedback
        reason = feedback.get("blockReason")
        if type(reason) is str and self._raw is None:
            self._raw = reason

    def _candidate(self, candidate: dict[str, Any], events: list[Event]) -> None:
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        tokens: tuple[Logprob, ...] = ()
        if "logprobsResult" in candidate:
            tokens = read_logprobs(candidate["logprobsResult"])
        for part in parts if type(parts) is list else ():
            if type(part) is dict:
                self._part(part, tokens, events)
                tokens = ()
        if "groundingMetadata" in candidate and self._ran.see(candidate["groundingMetadata"]):
            self._searched = True
        if len(candidate) > 2:
            self._told(candidate, events)
        raw = candidate.get("finishReason")
        if type(raw) is str and raw and raw != "FINISH_REASON_UNSPECIFIED":
            self._end_partial(events)
            self._raw = raw

    def _told(self, candidate: dict[str, Any], events: list[Event]) -> None:
        rest = {name: value for name, value in candidate.items() if name not in _CANDIDATE}
        self._extras.update(rest)
        if self._kind is not Text:
            return
        index = self._next - 1
        citations = read_citations(rest, "".join(self._texts))
        events.extend(PartGrew(index, citation=one) for one in citations)

    def _part(self, part: dict[str, Any], tokens: tuple[Logprob, ...], events: list[Event]) -> None:
        text = part.get("text")
        call = part.get("functionCall")
        if type(call) is dict:
            self._call(call, part, events)
            return
        self._end_partial(events)
        if type(text) is str:
            self._words(text, part, tokens, events)
        elif part.keys() <= _PLAIN:
            self._words("", part, tokens, events)
        else:
            self._whole(self._other(part), events)

    def _signature(self, part: dict[str, Any]) -> Seal | None:
        value = part.get("thoughtSignature")
        return Seal(NAME, value, self._reading.scope) if type(value) is str and value else None

    def _words(
        self, text: str, part: dict[str, Any], tokens: tuple[Logprob, ...], events: list[Event]
    ) -> None:
        kind: type = Reasoning if part.get("thought") is True else Text
        seal = self._signature(part) if "thoughtSignature" in part else None
        if not text and seal is not None and not (kind is Reasoning and self._kind is Reasoning):
            self._whole(Reasoning(form="withheld", seal=seal), events)
            return
        if not text and seal is None:
            events.append(StillAlive())
            return
        if self._kind is not kind:
            self._shut(events)
            self._kind = kind
            rest = {name: value for name, value in part.items() if name not in _PLAIN}
            extras = {NAME: rest} if rest else {}
            first: Part = Text("", extras=extras) if kind is Text else Reasoning(extras=extras)
            events.append(PartStarted(self._next, first))
            self._next += 1
        if text:
            if kind is Text:
                self._texts.append(text)
            events.append(PartGrew(self._next - 1, text, logprobs=tokens if kind is Text else ()))
        if seal is not None:
            events.append(PartGrew(self._next - 1, seal=seal))
            self._shut(events)

    def _shut(self, events: list[Event]) -> None:
        if self._kind is not None:
            events.append(PartEnded(self._next - 1))
            self._kind = None
            self._texts = []

    def _whole(self, part: Part, events: list[Event]) -> None:
        self._shut(events)
        self._called = self._called or type(part) is ToolCall
        events += [PartStarted(self._next, part), PartEnded(self._next)]
        self._next += 1

    def _other(self, part: dict[str, Any]) -> Part:
        data = part.get("inlineData")
        if type(data) is dict and type(data.get("data")) is str:
            kind = str(data.get("mimeType") or "application/octet-stream")
            known = ("inlineData", "thoughtSignature")
            rest = {name: value for name, value in part.items() if name not in known}
            extras = {NAME: rest} if rest else {}
            return Media(kind, "base64", data["data"], seal=self._signature(part), extras=extras)
        return Opaque(NAME, part)

    def _call(self, call: dict[str, Any], part: dict[str, Any], events: list[Event]) -> None:
        """A call comes whole, or named first and then filled in, until an empty piece or anything else ends it."""
        name = call.get("name")
        if type(name) is str and name:
            self._end_partial(events)
        fragments = call.get("partialArgs")
        if self._partial is None and not (fragments or call.get("willContinue")):
            if type(name) is str and name:
                self._whole(
                    self._client_call(name, call, call.get("args"), self._signature(part), part), events
                )
            return
        if self._partial is None:
            self._partial = PartialCall(call, self._signature(part))
        self._partial.add(fragments)
        events.append(StillAlive())
        if not call.get("willContinue"):
            self._end_partial(events)

    def _end_partial(self, events: list[Event]) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            made = self._client_call(
                str(partial.call.get("name") or ""), partial.call, partial.value, partial.seal, {}
            )
            self._whole(made, events)

    def _client_call(
        self, name: str, call: dict[str, Any], value: object, seal: Seal | None, part: dict[str, Any]
    ) -> Part:
        given = call.get("id")
        own = type(given) is str and given
        rest = {key: found for key, found in part.items() if key not in ("functionCall", "thoughtSignature")}
        if not own:
            rest["declared"] = "no id"
        made = ToolCall(
            str(given) if own else f"call_{self._reading.token}{self._next}",
            name,
            encode(value if type(value) is dict else {}).decode(),
            extras={NAME: rest} if rest else {},
            seal=seal,
        )
        return client_call(made, self._reading.undo)
