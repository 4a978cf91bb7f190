"""Responses answers: a whole response, or the ladder of events of a stream by OpenAI's grammar.

Each item is added empty, filled by deltas, and given whole when it is done; the last event carries the
whole response. Sequence numbers are set where events are encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from tollway.upstream.sandbox.ask import Piece, Refused, Spoken
from tollway.upstream.sandbox.mouths import openai
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.openai_responses.items import REASONED, REASONING
from tollway.upstream.sandbox.mouths.openai_responses.read import ResponsesAsk
from tollway.upstream.sandbox.signing import Signer

Item = dict[str, Any]
_SUMMARY_PART: Final = 0
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def asked(saying: Saying) -> ResponsesAsk:
    assert isinstance(saying.ask, ResponsesAsk)
    return saying.ask


def usage(saying: Saying) -> dict[str, Any]:
    """Exact counts. `input_tokens` includes cached tokens, `output_tokens` reasoning tokens."""
    prompt, cached = saying.ask.prompt_tokens, saying.cached
    written = cached.written_5m + cached.written_1h
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached.read, "cache_write_tokens": written},
        "output_tokens": saying.tokens,
        "output_tokens_details": {"reasoning_tokens": saying.reasoning_tokens},
        "total_tokens": prompt + saying.tokens,
    }


def response(saying: Saying, status: str, output: list[Item]) -> dict[str, Any]:
    """The response object in one of its states."""
    ended = status in ("completed", "incomplete")
    reason = _INCOMPLETE.get(saying.choices[0].finish) if status == "incomplete" else None
    return {
        "id": f"resp_{saying.stamp.id}",
        "object": "response",
        "created_at": saying.stamp.created,
        "completed_at": saying.stamp.created + 1 if status == "completed" else None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "max_tool_calls": None,
        "model": saying.model,
        "output": output,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "safety_identifier": None,
        "service_tier": "default",
        "truncation": "disabled",
        "user": None,
        **asked(saying).echo,
        "usage": usage(saying) if ended else None,
    }


def whole(saying: Saying, signer: Signer, owner: str) -> Frame:
    """The answer as one response."""
    output = [_item(saying, place, signer, owner) for place in _places(saying)]
    return Frame("whole", response(saying, status(saying), output), saying.tokens)


def status(saying: Saying) -> str:
    """How the response ends."""
    return "incomplete" if saying.choices[0].finish in _INCOMPLETE else "completed"


def failed(saying: Saying, error: Refused) -> dict[str, Any]:
    """The response that could not be finished."""
    found = response(saying, "failed", [])
    return {**found, "error": {"code": error.code or "server_error", "message": error.message}}


def stream(saying: Saying, signer: Signer, owner: str) -> Iterator[Frame]:
    """The events, in order."""
    begun = response(saying, "in_progress", [])
    yield Frame("start", {"type": "response.created", "response": begun})
    yield Frame("start", {"type": "response.in_progress", "response": begun})
    output = []
    for place in _places(saying):
        item = _item(saying, place, signer, owner)
        output.append(item)
        yield from _item_events(saying, place.index, place.segment, item)
    state = status(saying)
    yield Frame("done", {"type": f"response.{state}", "response": response(saying, state, output)})


class _Place(Struct, frozen=True):
    """A piece of the answer that becomes an item. `last`: nothing comes after it."""

    index: int
    segment: list[Piece]
    last: bool


def _places(saying: Saying) -> list[_Place]:
    found = saying.choices[0].segments()
    return [_Place(at, segment, at == len(found) - 1) for at, segment in enumerate(found)]


def _item(saying: Saying, place: _Place, signer: Signer, owner: str) -> Item:
    """An output item as it stands at the end."""
    spoken, segment = saying.choices[0], place.segment
    kind = segment[0].kind
    state = "incomplete" if place.last and spoken.finish == "length" else "completed"
    name = f"{saying.stamp.id}{place.index:02x}"
    if kind == "reasoning":
        return _reasoning(saying, segment, name, signer, owner)
    coupled = name + (REASONED if spoken.tokens("reasoning") else "")
    if kind == "call":
        return _call(spoken, segment, coupled, state)
    return {
        "id": f"msg_{coupled}",
        "type": "message",
        "status": state,
        "role": "assistant",
        "content": [_part(saying, segment)],
    }


def _reasoning(saying: Saying, segment: list[Piece], name: str, signer: Signer, owner: str) -> Item:
    text = "".join(piece.text for piece in segment)
    shown = asked(saying).summarised and not saying.choices[0].redacted
    found: Item = {
        "id": f"rs_{name}",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}] if shown else [],
    }
    if asked(saying).encrypted:
        found["encrypted_content"] = signer.sign(REASONING, text, owner)
    return found


def _call(spoken: Spoken, segment: list[Piece], name: str, state: str) -> Item:
    call = spoken.calls[segment[0].call]
    given = "".join(piece.text for piece in segment[1:])
    found: Item = {"call_id": call.id, "name": call.name, "status": state}
    if call.space:
        found["namespace"] = call.space
    if call.custom:
        return {"id": f"ctc_{name}", "type": "custom_tool_call", "input": given, **found}
    return {"id": f"fc_{name}", "type": "function_call", "arguments": given, **found}


def _part(saying: Saying, segment: list[Piece]) -> dict[str, Any]:
    text = "".join(piece.text for piece in segment)
    if segment[0].kind == "refusal":
        return {"type": "refusal", "refusal": text}
    annotations = [
        {
            "type": "url_citation",
            "start_index": cited.start,
            "end_index": cited.end,
            "title": cited.title,
            "url": cited.url,
        }
        for cited in saying.choices[0].citations
    ]
    return {
        "type": "output_text",
        "text": text,
        "annotations": annotations,
        "logprobs": _logprobs(saying, segment),
    }


def _logprobs(saying: Saying, pieces: list[Piece]) -> list[dict[str, Any]]:
    top = asked(saying).top_logprobs
    return [] if top is None else [openai.logprob(piece.text, top) for piece in pieces]


def _item_events(saying: Saying, index: int, segment: list[Piece], item: Item) -> Iterator[Frame]:
    kind = segment[0].kind
    added = {**item, "status": "in_progress"}
    if kind == "reasoning":
        yield _added(index, {**item, "summary": []})
        yield from _summary_events(index, segment, item)
    elif kind == "call":
        field = "input" if "input" in item else "arguments"
        yield _added(index, {**added, field: ""}, tokens=1)
        yield from _call_events(index, segment, item, field)
    else:
        yield _added(index, {**added, "content": []})
        yield from _message_events(saying, index, segment, item)
    # Reasoning that is not shown was generated all the same.
    silent = len(segment) if kind == "reasoning" and not item["summary"] else 0
    payload = {"type": "response.output_item.done", "output_index": index, "item": item}
    yield Frame("token" if silent else "start", payload, silent)


def _added(index: int, item: Item, tokens: int = 0) -> Frame:
    payload = {"type": "response.output_item.added", "output_index": index, "item": item}
    return Frame("token" if tokens else "start", payload, tokens)


def _summary_events(index: int, segment: list[Piece], item: Item) -> Iterator[Frame]:
    place = {"item_id": item["id"], "output_index": index, "summary_index": _SUMMARY_PART}
    for part in item["summary"]:
        prefix = "response.reasoning_summary"
        yield Frame("start", {"type": f"{prefix}_part.added", **place, "part": {**part, "text": ""}})
        for piece in segment:
            yield Frame(
                "token", {"type": f"{prefix}_text.delta", **place, "delta": piece.text, **_blur(piece)}, 1
            )
        yield Frame("start", {"type": f"{prefix}_text.done", **place, "text": part["text"]})
        yield Frame("start", {"type": f"{prefix}_part.done", **place, "part": part})


def _call_events(index: int, segment: list[Piece], item: Item, field: str) -> Iterator[Frame]:
    prefix = "response.custom_tool_call_input" if field == "input" else "response.function_call_arguments"
    place = {"item_id": item["id"], "output_index": index}
    for piece in segment[1:]:
        yield Frame("token", {"type": f"{prefix}.delta", **place, "delta": piece.text, **_blur(piece)}, 1)
    named = {} if field == "input" else {"name": item["name"]}
    yield Frame("start", {"type": f"{prefix}.done", **place, field: item[field], **named})


def _message_events(saying: Saying, index: int, segment: list[Piece], item: Item) -> Iterator[Frame]:
    [part] = item["content"]
    refused = part["type"] == "refusal"
    field, prefix = ("refusal", "response.refusal") if refused else ("text", "response.output_text")
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    empty = (
        {"type": "refusal", "refusal": ""}
        if refused
        else {**part, "text": "", "annotations": [], "logprobs": []}
    )
    yield Frame("start", {"type": "response.content_part.added", **place, "part": empty})
    for piece in segment:
        told = {} if refused else {"logprobs": _logprobs(saying, [piece])}
        yield Frame(
            "token", {"type": f"{prefix}.delta", **place, "delta": piece.text, **told, **_blur(piece)}, 1
        )
    for number, annotation in enumerate(part.get("annotations", ())):
        payload = {"type": f"{prefix}.annotation.added", **place, "annotation_index": number}
        yield Frame("start", {**payload, "annotation": annotation})
    told = {} if refused else {"logprobs": part["logprobs"]}
    yield Frame("start", {"type": f"{prefix}.done", **place, field: part[field], **told})
    yield Frame("start", {"type": "response.content_part.done", **place, "part": part})


def _blur(piece: Piece) -> dict[str, str]:
    """Padding that hides a delta's length, as OpenAI sends it."""
    return {"obfuscation": "x" * (16 - len(piece.text) % 16)}
