"""The shape a conversation must have: what three of the four dialects insist on, put right once.

Every call is answered, by results in the order of the calls, in the turn right after it; what answers
no call becomes text. A conversation that goes home in its own dialect is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.exchange import (
    Loss,
    Opaque,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)

OPENING: Final = "(The conversation so far follows.)"
"""Stands in for the user's first word where a conversation starts with the assistant's."""


JSON_ONLY: Final = "Answer with one JSON object and nothing else."
"""Asks for JSON in words, where a dialect has no mode for it or takes the mode only with the word."""


def unasked_json(request: Request, turns: Iterable[Turn]) -> bool:
    """Whether JSON without a schema is wanted and none of these turns says so: OpenAI refuses its JSON mode then."""
    if request.output is None or request.output.kind != "json":
        return False
    return not any(
        isinstance(part, Text) and "json" in part.text.lower() for turn in turns for part in turn.parts
    )


def shaped(turns: Iterable[Turn]) -> tuple[list[Turn], list[Loss]]:
    """Turns with neighbouring assistant turns joined and every call answered right after it."""
    losses: list[Loss] = []
    found: list[Turn] = []
    group: list[Turn] = []
    for turn in joined(turns, "assistant"):
        if turn.role == "assistant":
            found.extend(_answered(found, group, losses))
            group = []
            found.append(turn)
        else:
            group.append(turn)
    found.extend(_answered(found, group, losses))
    return found, losses


def joined(turns: Iterable[Turn], *roles: str) -> list[Turn]:
    """Turns with neighbours of the same role made one, for the roles given."""
    found: list[Turn] = []
    for turn in turns:
        if found and turn.role == found[-1].role and turn.role in roles:
            found[-1] = replace(found[-1], parts=found[-1].parts + turn.parts)
        else:
            found.append(turn)
    return found


def _answered(before: list[Turn], group: list[Turn], losses: list[Loss]) -> list[Turn]:
    calls = _calls(before)
    if not calls and not any(type(part) is ToolResult for turn in group for part in turn.parts):
        return group
    results: dict[str, ToolResult] = {}
    rest: list[Turn] = []
    for turn in group:
        parts = tuple(_sorted_out(turn.parts, calls, results, losses))
        if parts:
            rest.append(replace(turn, parts=parts))
    if not calls:
        return rest
    losses.extend(
        Loss("messages", f"the call {call.id!r} has no result; one that says so was added")
        for call in calls.values()
        if call.id not in results
    )
    answers = tuple(results.get(call.id) or _unanswered(call) for call in calls.values())
    return [Turn(role="user", parts=answers), *rest]


def _calls(before: list[Turn]) -> dict[str, ToolCall]:
    if not before or before[-1].role != "assistant":
        return {}
    return {part.id: part for part in before[-1].parts if isinstance(part, ToolCall)}


def _sorted_out(
    parts: Iterable[Part], calls: dict[str, ToolCall], results: dict[str, ToolResult], losses: list[Loss]
) -> Iterable[Part]:
    for part in parts:
        if not isinstance(part, ToolResult):
            yield part
        elif part.call_id in calls and part.call_id not in results:
            results[part.call_id] = replace(part, name=part.name or calls[part.call_id].name)
        else:
            losses.append(
                Loss("messages", f"the result of {part.call_id!r} answers no call; it was made text")
            )
            yield Text(f"[Result of an earlier tool call {part.call_id}]")
            yield from part.content


def _unanswered(call: ToolCall) -> ToolResult:
    text = Text("No result was given for this call.")
    return ToolResult(call.id, (text,), name=call.name, is_error=True, kind=call.kind)


def hoisted(turns: Iterable[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The leading system turns, and the rest."""
    listed = list(turns)
    for at, turn in enumerate(listed):
        if turn.role != "system":
            return listed[:at], listed[at:]
    return listed, []


def call_names(turns: Iterable[Turn]) -> dict[str, str]:
    """Call id -> tool name, for dialects whose results name the tool."""
    return {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolCall)}


def rejoined(
    messages: Iterable[dict[str, Any]], content: str, opening: dict[str, Any]
) -> list[dict[str, Any]]:
    """Written messages without the empty ones, neighbours of one role made one, the user's first.

    `content`: the name of a message's list. `opening`: what the user says where nobody let them speak first.
    """
    found: list[dict[str, Any]] = []
    for message in messages:
        if not message[content]:
            continue
        if found and found[-1]["role"] == message["role"]:
            found[-1][content] += message[content]
        else:
            found.append(message)
    if not found or found[0]["role"] != "user":
        found.insert(0, {"role": "user", content: [{**opening}]})
    return found


def foreign(request: Request, dialect: str, *, cache_marks: bool = False) -> list[Loss]:
    """The fields of the request's own dialect that `dialect` cannot say, each named once.

    `cache_marks`: whether the upstream takes marks of what to cache.
    """
    losses = [
        Loss(name, f"no {dialect} field corresponds", "capability" if name in _STATE else "note")
        for origin, fields in request.extras.items()
        if origin != dialect
        for name in fields
        if name not in _SILENT
    ]
    if request.origin == dialect:
        return losses
    names: set[str] = set()
    marked = any(tool.cache_ttl is not None for tool in request.tools)
    for turn in request.turns:
        if turn.extras:
            names.update(f"messages[].{name}" for name in _foreign_names(turn.extras, dialect))
        for part in turn.parts:
            marked = marked or part.cache_ttl is not None
            if part.extras and not isinstance(part, Opaque | Reasoning):
                names.update(f"messages[].content[].{name}" for name in _foreign_names(part.extras, dialect))
    for tool in request.tools:
        names.update(f"tools[].{name}" for name in _foreign_names(tool.extras, dialect))
    if marked and not cache_marks:
        losses.append(Loss("cache_control", "the upstream takes no cache marks"))
    losses.extend(Loss(name, f"no {dialect} field corresponds") for name in sorted(names))
    return losses


# What only the provider that keeps it can resolve: without it the conversation is another one.
_STATE = frozenset(("cachedContent", "cached_content", "conversation", "prompt"))
# What a client asks of the transport, or of us, and not of the model.
_SILENT = frozenset(("stream_options", "include", "client_metadata"))
# What a dialect says of a part for its own bookkeeping; nobody misses it abroad.
_BOOKKEEPING = frozenset(
    ("item", "field", "id", "status", "annotations", "logprobs", "phase", "type", "index", "caller")
)


def _foreign_names(extras: dict[str, dict[str, object]], dialect: str) -> list[str]:
    return [
        name
        for origin, fields in extras.items()
        if origin != dialect
        for name in fields
        if name not in _BOOKKEEPING
    ]
