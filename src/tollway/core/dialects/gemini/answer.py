"""generateContent answers, whole and streamed: read through the stream's reader, written chunk by chunk."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import AnswerFailed, Bill, Reading, Reply
from tollway.core.dialects.faults import failed_error
from tollway.core.dialects.gemini.counts import write_counts
from tollway.core.dialects.gemini.errors import error_body
from tollway.core.dialects.gemini.grounding import write_grounding, write_logprobs
from tollway.core.dialects.gemini.proto import NAME
from tollway.core.dialects.gemini.stream import REASONS, Reader
from tollway.core.dialects.naming import object_of
from tollway.core.dialects.order import Order
from tollway.core.errors import GatewayError
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
    Refusal,
    Response,
    Seal,
    Started,
    Text,
    ToolCall,
    Usage,
)
from tollway.core.fold import Broken, Growing, fold
from tollway.core.seals import wrap_base64

_WORDS: Final[dict[FinishReason, str]] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "pause": "STOP",
    "error": "OTHER",
    "other": "OTHER",
}
_ONLY_TOP: Final = "promptFeedback"


def read_response(body: dict[str, Any], reading: Reading) -> Response:
    """A whole answer as a Response. Raises AnswerFailed if it failed, BadAnswer if it is none."""
    reader = Reader(reading)
    try:
        return fold([*reader.feed(body), *reader.close()])
    except Broken as broken:
        raise AnswerFailed(broken.failed or Failed("server", str(broken))) from None


def write_response(response: Response, reply: Reply, bill: Bill | None) -> dict[str, Any]:
    """A whole answer as one GenerateContentResponse."""
    parts = [found for part in response.parts if (found := write_part(part)) is not None]
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": parts},
        "finishReason": write_reason(response.finish),
        "index": 0,
    }
    texts = [part for part in response.parts if isinstance(part, Text)]
    tokens = [one for text in texts for one in text.logprobs]
    candidate.update(_told(response.finish, texts, tokens))
    feedback = candidate.pop(_ONLY_TOP, None)
    top: dict[str, Any] = {} if feedback is not None and not parts else {"candidates": [candidate]}
    if feedback is not None:
        top[_ONLY_TOP] = feedback
    return {
        **top,
        "usageMetadata": write_counts(response.usage, bill),
        "modelVersion": reply.model or response.model,
        "responseId": reply.token or response.id,
        **response.extras.get(NAME, {}),
    }


def _told(finish: Finished, texts: list[Text], tokens: list[Logprob]) -> dict[str, Any]:
    """What a candidate says of its texts at the end; Gemini's own words if it was Gemini that said them."""
    found: dict[str, Any] = dict(finish.extras.get(NAME, {}))
    if "groundingMetadata" not in found and "citationMetadata" not in found:
        grounding = write_grounding(texts)
        if grounding is not None:
            found["groundingMetadata"] = grounding
    if tokens:
        found["logprobsResult"] = write_logprobs(tokens)
    return found


def write_reason(finish: Finished) -> str:
    """Gemini's word for why the answer ended."""
    reason: FinishReason = "stop" if finish.reason == "tool_calls" else finish.reason
    if finish.raw and NAME in finish.extras and _ONLY_TOP in finish.extras[NAME]:
        return finish.raw
    if REASONS.get(finish.raw) == reason or (finish.raw.isupper() and finish.reason == "other"):
        return finish.raw
    return _WORDS[finish.reason]


def write_seal(seal: Seal) -> str:
    """A seal as a thoughtSignature, which must be base64."""
    return seal.value if seal.origin == NAME else wrap_base64(seal)


def write_part(part: Part) -> dict[str, Any] | None:
    """One part of an answer; None if the dialect has none for it."""
    found: dict[str, Any] | None = None
    own = part.extras.get(NAME, {})
    match part:
        case Text() | Refusal():
            found = {"text": part.text, **own}
        case Reasoning():
            found = {"text": part.text, **own}
            if part.text or (part.seal is not None and part.seal.origin != NAME):
                found["thought"] = True
        case ToolCall():
            found = _call(part, own)
        case Media():
            found = {"inlineData": {"mimeType": part.media_type, "data": part.value}, **own}
            if part.source == "url":
                found = {"fileData": {"mimeType": part.media_type, "fileUri": part.value}, **own}
        case Opaque() if part.origin == NAME:
            found = part.payload
        case _:
            pass
    if found is not None and part.seal is not None:
        found = {**found, "thoughtSignature": write_seal(part.seal)}
    return found


def _call(part: ToolCall, own: dict[str, Any]) -> dict[str, Any]:
    arguments = {"input": part.arguments} if part.kind == "custom" else object_of(part.arguments)
    inner: dict[str, Any] = {"name": part.name, "args": arguments if arguments is not None else {}}
    if arguments is None:
        inner["args"] = {"invalid_json": part.arguments}
    rest = dict(own)
    if rest.pop("declared", None) is None:
        inner = {"id": part.id, **inner}
    return {"functionCall": inner, **rest}


class Writer:
    """Writes chunks. See StreamWriter.

    Calls are written once they are complete. The last chunk, with the reason, the sources and the
    usage, is held back until `close`.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._order = Order()
        self._frame: dict[str, Any] = {}
        self._parts: dict[int, Growing] = {}
        self._texts: list[Text] = []
        self._usage: Usage | None = None
        self._finish: Finished | None = None

    def send(self, event: Event) -> list[Any]:
        self._order.take(event)
        found: list[Any] = []
        match event:
            case PartGrew():
                found = self._grow(event)
            case PartStarted():
                found = self._start(event)
            case PartEnded():
                found = self._end(event)
            case Counted():
                self._usage = event.usage
            case Started():
                self._begin(event)
            case Finished():
                self._finish = event
            case Failed():
                found = [error_body(failed_error(event), self._reply.token, 502)]
            case _:
                pass
        return found

    def close(self, bill: Bill | None = None) -> list[Any]:
        self._order.close()
        assert self._finish is not None
        tokens = [one for text in self._texts for one in text.logprobs]
        told = _told(self._finish, self._texts, tokens)
        last: dict[str, Any] = {}
        feedback = told.pop(_ONLY_TOP, None)
        if feedback is not None:
            last[_ONLY_TOP] = feedback
        if feedback is None or self._order.count:
            content = {"role": "model", "parts": [{"text": ""}]}
            reason = write_reason(self._finish)
            last["candidates"] = [{"content": content, "finishReason": reason, "index": 0, **told}]
        return [{**last, "usageMetadata": write_counts(self._usage, bill), **self._frame}]

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        self._order.fail()
        return [error_body(error, request_id, error.status)]

    def _begin(self, event: Started) -> None:
        self._frame = {
            "modelVersion": self._reply.model or event.model,
            "responseId": self._reply.token or event.id,
            **event.extras.get(NAME, {}),
        }

    def _chunk(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], **self._frame}

    def _start(self, event: PartStarted) -> list[Any]:
        part = event.part
        self._parts[event.index] = Growing(part)
        if isinstance(part, Text | Refusal | Reasoning) and part.text:
            return [self._chunk(_words(part, part.text))]
        return []

    def _grow(self, event: PartGrew) -> list[Any]:
        part = self._order.parts[event.index]
        self._parts[event.index].grow(event)
        if event.text and type(part) is not ToolCall:
            return [self._chunk(_words(part, event.text))]
        return []

    def _end(self, event: PartEnded) -> list[Any]:
        growing = self._parts.pop(event.index)
        growing.end(event)
        part = growing.whole()
        match part:
            case Text() | Refusal() | Reasoning():
                if isinstance(part, Text):
                    self._texts.append(part)
                if part.seal is None:
                    return []
                signed = write_part(replace(part, text=""))
                if signed is not None and isinstance(part, Reasoning) and part.text:
                    signed["thought"] = True
                return [self._chunk(signed)] if signed is not None else []
            case _:
                written = write_part(part)
                return [self._chunk(written)] if written is not None else []


def _words(part: Part, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"text": text}
    if type(part) is Reasoning:
        found["thought"] = True
    own = part.extras.get(NAME)
    if own:
        found.update(own)
    return found
