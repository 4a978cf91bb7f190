"""Whole Messages answers, read from an upstream and written for a client."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.anthropic import blocks
from tollway.core.dialects.anthropic.counts import ran_in, read_counts, write_counts
from tollway.core.dialects.anthropic.errors import read_error
from tollway.core.dialects.base import AnswerFailed, Bill, Reading, Reply
from tollway.core.dialects.calls import client_call
from tollway.core.dialects.faults import failure
from tollway.core.exchange import (
    Finished,
    FinishReason,
    Opaque,
    Part,
    Refusal,
    Response,
    Text,
    ToolCall,
)
from tollway.core.json import encode
from tollway.core.relay import BadAnswer
from tollway.core.seals import spread

NAME: Final = "anthropic"
REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "content_filter",
}
_WORDS: Final[dict[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
    "error": "end_turn",
    "other": "end_turn",
}
_TOP: Final = frozenset(
    ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage")
)


def read_response(body: dict[str, Any], reading: Reading) -> Response:
    """A whole message as a Response. Raises BadAnswer if it is none."""
    content = body.get("content")
    if type(content) is not list:
        if body.get("type") == "error":
            raise AnswerFailed(failure(read_error(0, body)))
        raise BadAnswer("the message has no content")
    parts = [read_answer_block(block, reading) for block in content]
    usage = body.get("usage")
    return Response(
        id=str(body.get("id") or ""),
        model=str(body.get("model") or ""),
        parts=tuple(parts),
        finish=read_finish(body, any(type(part) is ToolCall for part in parts)),
        usage=read_counts(usage, ran_in(content)) if type(usage) is dict else None,
        extras=start_extras(body),
    )


def start_extras(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the top of a message says beyond what we know."""
    rest = {name: value for name, value in body.items() if name not in _TOP}
    return {NAME: rest} if rest else {}


def read_finish(source: dict[str, Any], called: bool, more: dict[str, Any] | None = None) -> Finished:
    """Why the answer ended. `called`: whether it holds calls for the client."""
    raw = source.get("stop_reason")
    word = raw if type(raw) is str else ""
    reason: FinishReason = REASONS.get(word, "other" if word else "stop")
    if reason == "tool_calls" and not called:
        reason = "stop"
    elif reason == "stop" and called:
        reason = "tool_calls"
    hit = source.get("stop_sequence")
    details = source.get("stop_details")
    extras = dict(more or {})
    if details is not None:
        extras["stop_details"] = details
    return Finished(reason, word, hit if type(hit) is str else None, {NAME: extras} if extras else {})


def read_answer_block(block: Any, reading: Reading) -> Part:
    """One block of an answer, leniently: what is not as we know it is Opaque."""
    if type(block) is not dict:
        raise BadAnswer("a content block is no object")
    source: dict[str, Any] = block
    match source:
        case {"type": "text", "text": str(text), **rest}:
            found = blocks.read_text(text, rest)
            return found if isinstance(found, Text) else Text(text)
        case {"type": "thinking", "thinking": str(text), **rest}:
            signature = rest.pop("signature", None)
            return blocks.thought(text, signature if type(signature) is str else "", reading.scope, rest)
        case {"type": "redacted_thinking", "data": str(data), **rest}:
            return blocks.redacted(data, reading.scope, rest)
        case {"type": "tool_use", "name": str(name), **rest}:
            return read_answer_call(name, rest, reading)
        case {"type": str()}:
            return Opaque(NAME, source)
        case _:
            raise BadAnswer("a content block has no type")


def read_answer_call(name: str, rest: dict[str, Any], reading: Reading) -> ToolCall | Text:
    """A tool_use block as the client knows the call."""
    value = rest.pop("input", None)
    given = rest.pop("id", None)
    arguments = value if type(value) is str else encode(value if type(value) is dict else {}).decode()
    call_id = given if type(given) is str and given else f"toolu_{reading.token}"
    call = ToolCall(call_id, name, arguments, extras={NAME: rest} if rest else {})
    return client_call(call, reading.undo)


def write_response(response: Response, reply: Reply, bill: Bill | None) -> dict[str, Any]:
    """A whole answer as one message."""
    parts = spread(response.parts)
    content = [found for part in parts if (found := blocks.write_answer_part(part)) is not None]
    refused = any(type(part) is Refusal for part in parts)
    return {
        "id": f"msg_{reply.token}" if reply.token else response.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model or response.model,
        "content": content,
        **write_finish(response.finish, refused),
        "usage": write_counts(response.usage, bill),
        **response.extras.get(NAME, {}),
    }


def write_finish(finish: Finished, refused: bool) -> dict[str, Any]:
    """stop_reason, stop_sequence and stop_details."""
    word = finish.raw if REASONS.get(finish.raw) == finish.reason else _WORDS[finish.reason]
    if refused and finish.reason == "stop":
        word = "refusal"
    if finish.stop is not None and finish.reason == "stop":
        word = "stop_sequence"
    found: dict[str, Any] = {"stop_reason": word, "stop_sequence": finish.stop}
    details = finish.extras.get(NAME, {}).get("stop_details")
    if details is not None:
        found["stop_details"] = details
    return found
