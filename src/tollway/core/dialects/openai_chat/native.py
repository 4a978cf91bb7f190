"""Native relay of Chat Completions: the upstream's bytes pass, only `model` and `usage` are touched.

Usage is always asked of the upstream; here it is taken out of the stream, and put back with its
cost only if the client asked for it. Every event is decoded into a few typed fields, because a
tariff that depends on guessing which bytes may hold usage is not one to bill by; only an event that
differs from a decoded one in nothing but its text is not (`repeats`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core import sse
from tollway.core.dialects import repeats
from tollway.core.dialects.openai_chat.usage import read_told
from tollway.core.errors import GatewayError, openai_envelope
from tollway.core.exchange import Answered, Counted, Event, Failed, Finished, FinishReason, Grew, Started
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer, Carrier, Fed, Receipt

DONE: Final = b"[DONE]"
ERROR_TEXT_MAX: Final = 500

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
}


_NONE: Final = msgspec.Raw(b"null")
_NOTHING: Final = (b"null", b"[]", b"{}")


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LEAD: Final = b"data: "
_NOISE: Final = b"obfuscation"


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NONE
    function_call: msgspec.Raw = _NONE
    audio: msgspec.Raw = _NONE


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk, strict=False).decode


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _delta_size(delta: _Delta) -> int:
    content = delta.content
    size = 0 if not content else len(content) if content.isascii() else _size(content)
    if delta.reasoning_content or delta.reasoning or delta.refusal:
        size += _size(delta.reasoning_content) + _size(delta.reasoning) + _size(delta.refusal)
    for raw in (delta.tool_calls, delta.function_call, delta.audio):
        if raw is not _NONE:
            text = bytes(raw)
            size += 0 if text in _NOTHING else len(text)
    return size


def _no_chunk(error: Exception) -> BadAnswer:
    return BadAnswer(f"an event is not a chat completion chunk: {error}")


def _whole(payload: bytes) -> dict[str, Any]:
    """All of a chunk. Raises BadAnswer: what the typed fields leave out may still be no text."""
    try:
        found: dict[str, Any] = decode(payload)
    except _UNREADABLE as error:
        raise _no_chunk(error) from None
    return found


def _is_text(delta: _Delta) -> bool:
    """Whether a delta brings content, and nothing else that counts."""
    return bool(delta.content) and _delta_size(delta) == _size(delta.content)


def failure(error: object) -> Failed:
    """An upstream's in-band error object as an event."""
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        message = str(error.get("message") or "no message")[:ERROR_TEXT_MAX]
        return Failed(str(code or "error")[:64], message, {"code": code, "message": message})
    return Failed("error", str(error)[:ERROR_TEXT_MAX])


class NativeStream:
    """A streamed answer. See Relay for the contract."""

    streamed = True
    content_type = b"text/event-stream; charset=utf-8"
    answer = None

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._model = model
        self._model_json = encode(model)
        self._include_usage = include_usage
        self._split = sse.Splitter()
        self._id = ""
        self._created = 0
        self._usage: dict[str, Any] | None = None
        self._last: dict[str, Any] = {}
        self._late: list[bytes] = []
        self._done = False
        self._finished = False
        self._frames = repeats.Frames()

    @property
    def carrier(self) -> Carrier | None:
        return None if self._split.tail else self._frames.last

    def feed(self, chunk: bytes) -> Fed:
        frame = self._frames.last
        if frame is not None and not self._split.tail:
            fed = frame.feed(chunk)
            if fed is not None:
                return fed
        try:
            payloads = self._split.feed(chunk)
        except sse.EventTooLong as error:
            raise BadAnswer(str(error)) from None
        return self._pass(payloads)

    def _pass(self, payloads: list[bytes]) -> Fed:
        events: list[Event] = []
        out: list[bytes] = []
        at = 0
        while at < len(payloads):
            frame = self._frames.last
            stop = at if frame is None else frame.stop(payloads, at)
            fed = frame.feed_split(payloads[at:stop]) if frame is not None and stop > at else None
            if fed is not None:
                out.append(fed.out)
                events += fed.events
            else:
                stop = max(stop, at + 1)
                for payload in payloads[at:stop]:
                    self._take(payload, out, events)
            at = stop
        return Fed(out[0] if len(out) == 1 else b"".join(out), events)

    def end(self) -> Fed:
        events: list[Event] = []
        out: list[bytes] = []
        for payload in self._split.end():
            self._take(payload, out, events)
        if not (self._done or self._finished):
            raise BadAnswer("the stream ended without a finish reason or [DONE]")
        return Fed(b"".join(out), events)

    def _take(self, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        if not payload or payload == DONE:
            if payload:
                self._done = True
            else:
                out.append(sse.COMMENT)
            return
        try:
            chunk = _decode_chunk(payload)
        except _UNREADABLE as error:
            raise _no_chunk(error) from None
        if payload.find(b"\n") >= 0:
            # One event may be spread over several data lines; it goes out on one.
            payload = payload.replace(b"\n", b"")
        if chunk.error is not None:
            events.append(failure(chunk.error))
            return
        known = self._id or chunk.id is None
        if not known and chunk.id is not None:
            self._id, self._created = chunk.id, chunk.created or 0
            events.append(Started(chunk.id, chunk.model or ""))
        if chunk.choices:
            self._see(chunk.choices, events)
        if chunk.usage is not None:
            self._count(chunk, payload, out, events)
        else:
            if known and not self._frames.spent():
                self._learn(chunk, payload)
            self._pass_on(chunk, payload, out)

    def _learn(self, chunk: _Chunk, payload: bytes) -> None:
        """Keep what surrounds the text of an event, as far as it can come again with another text."""
        choices = chunk.choices
        if not choices or len(choices) > 1 or choices[0].finish_reason is not None:
            return
        delta = choices[0].delta
        if delta is None or not _is_text(delta):
            return
        theirs = repeats.part(payload, b"content", delta.content or "", _NOISE)
        if theirs is None:
            return
        probed = repeats.probed(theirs)
        twin = _decode_chunk(probed)
        if twin.choices is None or twin.choices[0].delta is None:
            return
        # With another text in its place the same must be said of all else: then what was found is the text.
        found, twin.choices[0].delta.content = twin.choices[0].delta.content, delta.content
        ours = repeats.parted(self._sent(chunk, probed), theirs)
        if found != repeats.PROBE_TEXT or twin != chunk or ours is None:
            return
        self._frames.keep(repeats.Frame(_LEAD, theirs, ours))

    def _sent(self, chunk: _Chunk, payload: bytes) -> bytes:
        """The payload as the client gets it. What is looked for in it has quotes no text has: before a colon."""
        if not self._include_usage:
            payload = payload.replace(b',"usage":null', b"")
        if chunk.model != self._model and chunk.model is not None:
            payload = self._renamed(chunk.model, payload)
        return payload

    def _pass_on(self, chunk: _Chunk, payload: bytes, out: list[bytes]) -> None:
        payload = self._sent(chunk, payload)
        if self._usage is not None and not chunk.choices:
            self._late.append(payload)
        else:
            out.append(b"data: %b\n\n" % payload)

    def _see(self, choices: list[_Choice], events: list[Event]) -> None:
        for choice in choices:
            if choice.delta is not None:
                size = _delta_size(choice.delta)
                if size:
                    events.append(Grew(size))
            if choice.finish_reason is not None:
                self._finished = True
                raw = choice.finish_reason
                events.append(Finished(_REASONS.get(raw, "other"), raw))

    def _count(self, chunk: _Chunk, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        assert chunk.usage is not None
        self._usage = chunk.usage
        whole = _whole(payload)
        events.append(Counted(read_told(whole)))
        if not chunk.choices:
            self._last = whole
        else:
            # Some upstreams repeat running totals on every chunk: the content goes on, the
            # totals wait for the last usage chunk.
            whole["model"] = self._model
            whole["usage"] = None
            if not self._include_usage:
                del whole["usage"]
            out.append(sse.event(encode(whole)))

    def _renamed(self, theirs: str, payload: bytes) -> bytes:
        name = encode(theirs)
        for colon in (b":", b": "):
            changed = payload.replace(b'"model"' + colon + name, b'"model"' + colon + self._model_json, 1)
            if changed != payload:
                return changed
        whole = _whole(payload)
        whole["model"] = self._model
        return encode(whole)

    def close(self, receipt: Receipt) -> bytes:
        out = []
        if self._include_usage:
            last = self._last or {
                "id": self._id,
                "object": "chat.completion.chunk",
                "created": self._created,
                "choices": [],
            }
            last["model"] = self._model
            last["usage"] = priced_usage(self._usage, receipt)
            out.append(sse.event(encode(last)))
        out.extend(sse.event(payload) for payload in self._late)
        out.append(sse.event(DONE))
        return b"".join(out)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return sse.event(encode(openai_envelope(error, request_id)))

    def keep_alive(self) -> bytes:
        return sse.COMMENT


class NativeWhole:
    """A whole answer: one JSON object, held until it is complete and paid."""

    streamed = False
    carrier = None
    content_type = b"application/json"
    answer = None

    def __init__(self, model: str) -> None:
        self._model = model
        self._chunks: list[bytes] = []
        self._answer: dict[str, Any] = {}

    def feed(self, chunk: bytes) -> Fed:
        self._chunks.append(chunk)
        return Fed(b"", [])

    def end(self) -> Fed:
        try:
            answer = decode(b"".join(self._chunks))
        except _UNREADABLE:
            raise BadAnswer("the answer is not JSON") from None
        if type(answer) is not dict:
            raise BadAnswer("the answer is not a JSON object")
        if answer.get("error") is not None and not answer.get("choices"):
            return Fed(b"", [failure(answer["error"])])
        choices = answer.get("choices")
        if type(choices) is not list or not choices:
            raise BadAnswer("the answer has no choices")
        self._answer = answer
        usage = answer.get("usage")
        if len(choices) == 1 and type(usage) is dict:
            size, reason = _read_choice(choices[0])
            if size and type(reason) is str:
                # Most answers: what `read_whole` says, at once.
                return Fed(b"", [Answered(size, _REASONS.get(reason, "other"), read_told(answer))])
        return Fed(b"", read_whole(answer, choices))

    def close(self, receipt: Receipt) -> bytes:
        answer = self._answer
        answer["model"] = self._model
        usage = answer.get("usage")
        answer["usage"] = priced_usage(usage if type(usage) is dict else None, receipt)
        return encode(answer)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return encode(openai_envelope(error, request_id))

    def keep_alive(self) -> bytes:
        return b""


_THEIR_PRICES: Final = frozenset(("cost", "cost_details", "is_byok"))
"""What routers tell of their own prices, which are not the caller's."""
_CONTENT_FIELDS: Final = frozenset(
    ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio")
)


def read_whole(answer: dict[str, Any], choices: list[Any]) -> list[Event]:
    """The events that a whole answer stands for. Raises BadAnswer."""
    events: list[Event] = [Started(str(answer.get("id") or ""), str(answer.get("model") or ""))]
    for choice in choices:
        size, reason = _read_choice(choice)
        if size:
            events.append(Grew(size))
        if type(reason) is str:
            events.append(Finished(_REASONS.get(reason, "other"), reason))
    if type(answer.get("usage")) is dict:
        events.append(Counted(read_told(answer)))
    return events


def _read_choice(choice: object) -> tuple[int, object]:
    """How much a choice of a whole answer says, and why it ended. Raises BadAnswer."""
    if type(choice) is not dict or type(message := choice.get("message")) is not dict:
        raise BadAnswer("a choice has no message")
    return _message_size(message), choice.get("finish_reason")


def _message_size(message: dict[str, Any]) -> int:
    """Bytes of what a whole answer's message says."""
    size = 0
    for name, value in message.items():
        if value and name in _CONTENT_FIELDS:
            if type(value) is not str:
                size += len(encode(value))
            else:
                size += len(value) if value.isascii() else _size(value)
    return size


def priced_usage(usage: dict[str, Any] | None, receipt: Receipt) -> dict[str, Any]:
    """The usage a client sees: the upstream's own fields, plus what the call cost in credits."""
    if usage is None:
        usage = {
            "prompt_tokens": receipt.input,
            "completion_tokens": receipt.output,
            "total_tokens": receipt.input + receipt.output,
        }
    if usage.keys().isdisjoint(_THEIR_PRICES):
        priced = usage.copy()
    else:
        priced = {name: value for name, value in usage.items() if name not in _THEIR_PRICES}
    priced["cost"] = receipt.cost
    if receipt.estimated:
        priced["estimated"] = True
    return priced
