"""What the dialect tests share: golden cases, one way to run a cell of the matrix, and what values mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tollway.core.dialects.base import Bill, Reading, Reply, Target
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import (
    Event,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
)

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("openai_chat", "openai_responses", "anthropic", "gemini")
REPLY = Reply(token="T0ken", model="public-model", created=1_790_000_000)
READING = Reading(scope="sc0pe", token="R0")


def golden(dialect: str, case: str) -> dict[str, Any]:
    return json.loads((GOLDEN / dialect / f"{case}.json").read_text())


def cases(having: str) -> list[str]:
    """The cases whose files, in every dialect, have a member of this name."""
    names = sorted(path.stem for path in (GOLDEN / NAMES[0]).glob("*.json"))
    return [name for name in names if all(having in golden(dialect, name) for dialect in NAMES)]


def read_request(dialect: str, body: dict[str, Any]) -> Request:
    return DIALECTS[dialect].read_request(body)


def write_request(dialect: str, request: Request, **target: Any):
    return DIALECTS[dialect].write_request(request, Target(**target))


def translated(client: str, upstream: str, body: dict[str, Any], **target: Any):
    """A client's body as it reaches the upstream."""
    return write_request(upstream, read_request(client, body), **target)


def wire(dialect: str, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """A written body with what the route would add from the path, so that it can be read again."""
    if dialect == "gemini":
        return {"model": request.model, "stream": request.stream, **body}
    return body


def events_of(dialect: str, objects: list[Any], reading: Reading | None = None) -> list[Event]:
    reader = DIALECTS[dialect].reader(reading or Reading())
    events = [event for one in objects for event in reader.feed(one)]
    return events + reader.close()


def objects_of(
    dialect: str, events: list[Event], reply: Reply = REPLY, bill: Bill | None = None
) -> list[Any]:
    writer = DIALECTS[dialect].writer(reply)
    objects = [one for event in events for one in writer.send(event)]
    return objects + writer.close(bill)


def relayed(upstream: str, client: str, objects: list[Any], reply: Reply = REPLY) -> list[Any]:
    """An upstream's stream as the client sees it."""
    return objects_of(client, events_of(upstream, objects, READING), reply)


def meaning(request: Request) -> dict[str, Any]:
    """What a request says, whatever the dialect: turns joined by role, ids by order, no extras."""
    turns: list[tuple[str, list[Any]]] = []
    ids: dict[str, int] = {}
    for turn in request.turns:
        parts = [_part(part, ids) for part in turn.parts]
        if turns and turns[-1][0] == turn.role:
            turns[-1][1].extend(parts)
        else:
            turns.append((turn.role, parts))
    output = request.output
    return {
        "turns": turns,
        "tools": [(tool.name, tool.description, tool.schema) for tool in request.tools],
        "choice": (request.tool_choice.mode, request.tool_choice.names) if request.tool_choice else None,
        "temperature": request.sampling.temperature,
        "schema": output.schema if output is not None else None,
        "effort": request.reasoning.effort if request.reasoning is not None else None,
    }


def answer_meaning(response: Response) -> dict[str, Any]:
    """What an answer says: neighbouring texts joined, no ids of its own, no extras."""
    parts: list[Any] = []
    for part in response.parts:
        said = _part(part, {})
        if isinstance(part, Reasoning) and not part.text:
            continue
        if parts and said[0] == "text" == parts[-1][0]:
            parts[-1] = ("text", parts[-1][1] + said[1])
        else:
            parts.append(said)
    usage = response.usage
    return {
        "parts": parts,
        "reason": response.finish.reason,
        "usage": (usage.input, usage.output, usage.cache_read, usage.reasoning) if usage else None,
    }


def _part(part: Part, ids: dict[str, int]) -> tuple[Any, ...]:
    match part:
        case Text():
            return ("text", part.text)
        case Refusal():
            return ("refusal", part.text)
        case Reasoning():
            return ("reasoning", part.text)
        case Media():
            return ("media", part.media_type, part.source, part.value)
        case ToolCall():
            ids.setdefault(part.id, len(ids))
            return ("call", ids[part.id], part.name, json.loads(part.arguments or "{}"))
        case ToolResult():
            return ("result", ids.get(part.call_id), tuple(_part(one, ids) for one in part.content))
        case Opaque():
            return ("opaque", part.origin)
        case _:
            raise AssertionError(part)
