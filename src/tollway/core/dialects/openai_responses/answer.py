"""Whole Responses answers, read from an upstream and written for a client."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import AnswerFailed, Bill, Reading, Reply, Target
from tollway.core.dialects.faults import failure
from tollway.core.dialects.openai_responses import output
from tollway.core.dialects.openai_responses.counts import read_total, write_counts
from tollway.core.dialects.openai_responses.errors import read_error
from tollway.core.dialects.openai_responses.read import INSTRUCTIONS
from tollway.core.dialects.openai_responses.write import write_request
from tollway.core.exchange import (
    Finished,
    FinishReason,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    ToolCall,
)
from tollway.core.relay import BadAnswer
from tollway.core.seals import spread

NAME: Final = "openai_responses"
DECLINED: Final = "The model declined to answer."
_TOP: Final = frozenset(
    ("id", "object", "model", "output", "usage", "status", "error", "incomplete_details", "output_text")
)
_INCOMPLETE: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
}


def read_response(body: dict[str, Any], reading: Reading) -> Response:
    """A whole response as a Response. Raises AnswerFailed if it failed, BadAnswer if it is none."""
    listed = body.get("output")
    if body.get("status") in ("failed", "cancelled") or (type(listed) is not list and body.get("error")):
        raise AnswerFailed(failure(read_error(0, body)))
    if type(listed) is not list:
        raise BadAnswer("the response has no output")
    parts = [part for item in listed if type(item) is dict for part in output.read_item(item, reading)]
    usage = body.get("usage")
    return Response(
        id=str(body.get("id") or ""),
        model=str(body.get("model") or ""),
        parts=tuple(parts),
        finish=read_finish(body, any(type(part) is ToolCall for part in parts)),
        usage=read_total(body) if type(usage) is dict else None,
        extras=start_extras(body),
    )


def start_extras(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a response says beyond its output and its end."""
    rest = {name: value for name, value in body.items() if name not in _TOP}
    return {NAME: rest} if rest else {}


def read_finish(body: dict[str, Any], called: bool) -> Finished:
    """Why the answer ended."""
    if body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        why = details.get("reason") if type(details) is dict else None
        word = why if type(why) is str else "incomplete"
        return Finished(_INCOMPLETE.get(word, "other"), word)
    return Finished("tool_calls" if called else "stop", "completed")


class Shown:
    """A response object in the making: what does not change from event to event."""

    def __init__(self, reply: Reply, own_id: str, model: str, extras: dict[str, Any]) -> None:
        created = reply.created or extras.get("created_at", 0)
        self.token = reply.token
        self.id = f"resp_{reply.token}" if reply.token else own_id
        self._members: dict[str, Any] = {
            **(_echo(reply.request) if reply.request is not None or "tools" not in extras else {}),
            **extras,
            **reply.echo,
            "id": self.id,
            "object": "response",
            "created_at": created,
            "model": reply.model or model,
            "error": None,
            "incomplete_details": None,
        }

    def item_id(self, prefix: str, index: int) -> str:
        """An item's id, the same in every event."""
        return f"{prefix}_{self.token or self.id.removeprefix('resp_')}{index}"

    def response(self, status: str, items: list[Any], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response object as it is at this moment."""
        return {**self._members, "status": status, "output": items, "usage": usage}

    def finished(self, finish: Finished, items: list[Any], usage: dict[str, Any]) -> dict[str, Any]:
        """The response object at its end."""
        reason = incomplete_reason(finish)
        found = self.response("incomplete" if reason else "completed", items, usage)
        if reason:
            found["incomplete_details"] = {"reason": reason}
        return found


def incomplete_reason(finish: Finished) -> str | None:
    """Why the answer is not complete; None if it is."""
    if finish.raw in _INCOMPLETE and _INCOMPLETE[finish.raw] == finish.reason:
        return finish.raw
    if finish.reason == "length":
        return "max_output_tokens"
    return "content_filter" if finish.reason == "content_filter" else None


def _echo(request: Request | None) -> dict[str, Any]:
    """The members in which a response repeats its request; clients demand that they are there."""
    body: dict[str, Any] = {}
    if request is not None:
        instructions = tuple(turn for turn in request.turns[:1] if turn.word == INSTRUCTIONS)
        body = write_request(replace(request, turns=instructions), Target()).body
    text = body.get("text") or {}
    reasoning = body.get("reasoning") or {}
    return {
        "background": False,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": body.get("service_tier") or "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_logprobs": body.get("top_logprobs", 0),
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation", "disabled"),
        "user": body.get("user"),
    }


def write_response(response: Response, reply: Reply, bill: Bill | None) -> dict[str, Any]:
    """A whole answer as one response object."""
    shown = Shown(reply, response.id, response.model, response.extras.get(NAME, {}))
    parts: list[Part] = spread(response.parts)
    if response.finish.reason == "content_filter" and not parts:
        parts = [Refusal(DECLINED)]
    items = write_items(parts, shown)
    return shown.finished(response.finish, items, write_counts(response.usage, bill))


def write_items(parts: list[Part], shown: Shown) -> list[Any]:
    """Parts as output items: neighbouring texts of one message share an item."""
    items: list[Any] = []
    message: dict[str, Any] | None = None
    own: dict[str, Any] | None = None
    for part in parts:
        words = content_of(part)
        if words is None:
            message = None
            item = write_item(part, shown, len(items))
            if item is not None:
                items.append(item)
            continue
        theirs = part.extras.get(NAME, {}).get("item")
        if message is None or theirs != own:
            message, own = new_message(shown, len(items), theirs), theirs
            message["status"] = "completed"
            items.append(message)
        message["content"].append(words)
    return items


def new_message(shown: Shown, index: int, own: dict[str, Any] | None) -> dict[str, Any]:
    """A message item without content."""
    found = {
        "id": shown.item_id("msg", index),
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
    }
    return {**found, "content": [], **(own or {})}


def content_of(part: Part) -> dict[str, Any] | None:
    """A part as content of a message; None if it is an item of its own."""
    match part:
        case Text():
            return output.write_text(part)
        case Refusal():
            return output.write_refusal(part)
        case Media() if part.family != "image" or part.source != "base64":
            text = (
                part.value if part.source == "url" else f"[{part.family} of type {part.media_type} left out]"
            )
            return output.write_text(Text(text))
        case _:
            return None


def write_item(part: Part, shown: Shown, index: int) -> dict[str, Any] | None:
    """A complete part as an item of its own; None if the dialect has none for it."""
    match part:
        case Reasoning():
            return output.write_reasoning(part, shown.item_id("rs", index))
        case ToolCall():
            prefix = {"function": "fc", "custom": "ctc", "search": "tsc"}[part.kind]
            return output.write_call(part, shown.item_id(prefix, index))
        case Media():
            return output.write_image(part, shown.item_id("ig", index))
        case Opaque() if part.origin == NAME:
            return part.payload
        case _:
            return None
