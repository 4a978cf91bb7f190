"""Output items of the Responses API and canonical parts, in both directions."""

from __future__ import annotations

from typing import Any, Final

from tollway.core import seals
from tollway.core.dialects.base import Reading
from tollway.core.dialects.calls import client_call
from tollway.core.dialects.naming import SEARCH, object_of
from tollway.core.exchange import (
    Citation,
    Logprob,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
)
from tollway.core.json import encode

NAME: Final = "openai_responses"
_PART: Final = frozenset(("type", "text", "annotations", "logprobs", "refusal"))
_MESSAGE: Final = frozenset(("type", "role", "content", "status"))
_CALL: Final = frozenset(
    ("type", "call_id", "name", "arguments", "input", "namespace", "status", "id", "execution")
)
_REASONING: Final = frozenset(("type", "id", "summary", "content", "encrypted_content", "status"))
_IMAGE: Final = frozenset(("type", "result", "status"))


def read_item(item: dict[str, Any], reading: Reading) -> list[Part]:
    """The parts of one output item: a message has several, everything else is one."""
    match item.get("type"):
        case "message":
            return read_message(item)
        case "reasoning":
            return [read_reasoning(item, reading.scope)]
        case "function_call" | "custom_tool_call":
            return [client_call(read_call(item, with_arguments=True, token=reading.token), reading.undo)]
        case "tool_search_call" if item.get("execution") == "client":
            return [read_search(item)]
        case "image_generation_call" if type(item.get("result")) is str and item["result"]:
            rest = {name: value for name, value in item.items() if name not in _IMAGE}
            kind = item.get("output_format")
            media_type = f"image/{kind}" if type(kind) is str else "image/png"
            return [Media(media_type, "base64", item["result"], extras={NAME: rest})]
        case _:
            return [Opaque(NAME, item)]


def item_extras(item: dict[str, Any]) -> dict[str, Any]:
    """What a message item says of itself, kept with each of its parts so that they can be put together again."""
    return {name: value for name, value in item.items() if name not in _MESSAGE}


def read_message(item: dict[str, Any]) -> list[Part]:
    """The content parts of a message item."""
    content = item.get("content")
    own = item_extras(item)
    return [read_content(one, own) for one in (content if type(content) is list else []) if type(one) is dict]


def read_content(source: dict[str, Any], item: dict[str, Any]) -> Part:
    """One content part of an output message."""
    rest: dict[str, Any] = {name: value for name, value in source.items() if name not in _PART}
    if item:
        rest["item"] = item
    if source.get("type") == "refusal":
        return Refusal(str(source.get("refusal") or ""), extras={NAME: rest} if rest else {})
    citations, others = read_annotations(source.get("annotations"))
    if others:
        rest["annotations"] = others
    return Text(
        str(source.get("text") or ""),
        citations,
        read_tokens(source.get("logprobs")),
        extras={NAME: rest} if rest else {},
    )


def read_annotations(value: object) -> tuple[tuple[Citation, ...], list[Any]]:
    """URL citations, and the annotations that are something else."""
    citations: list[Citation] = []
    others: list[Any] = []
    for one in value if type(value) is list else []:
        if type(one) is dict and one.get("type") == "url_citation":
            citations.append(read_citation(one))
        else:
            others.append(one)
    return tuple(citations), others


def read_citation(one: dict[str, Any]) -> Citation:
    """A url_citation annotation."""
    known = ("type", "url", "title", "start_index", "end_index")
    rest = {name: value for name, value in one.items() if name not in known}
    start, end = one.get("start_index"), one.get("end_index")
    return Citation(
        kind="url",
        url=str(one.get("url") or ""),
        title=str(one.get("title") or ""),
        start=start if type(start) is int else None,
        end=end if type(end) is int else None,
        extras={NAME: rest} if rest else {},
    )


def read_tokens(value: object) -> tuple[Logprob, ...]:
    """Token probabilities; what is not one is passed over."""
    found: list[Logprob] = []
    for one in value if type(value) is list else []:
        if type(one) is not dict or type(one.get("token")) is not str:
            continue
        number, data = one.get("logprob"), one.get("bytes")
        plain = list(one["token"].encode("utf-8", "surrogatepass"))
        found.append(
            Logprob(
                one["token"],
                float(number) if isinstance(number, int | float) else 0.0,
                read_tokens(one.get("top_logprobs")),
                tuple(data) if type(data) is list and data != plain else None,
            )
        )
    return tuple(found)


def read_reasoning(item: dict[str, Any], scope: str) -> Reasoning:
    """A reasoning item; what its maker wants back is its encrypted content, and its id with it."""
    content, summary = item.get("content"), item.get("summary")
    listed = content if type(content) is list and content else summary
    texts = [one.get("text") for one in (listed if type(listed) is list else []) if type(one) is dict]
    text = "\n\n".join(one for one in texts if type(one) is str)
    return Reasoning(
        text,
        reasoning_form(item),
        seal=reasoning_seal(item, scope),
        extras=reasoning_extras(item),
    )


def reasoning_form(item: dict[str, Any]) -> Any:
    """full, summary or withheld, by what the item holds."""
    if item.get("content"):
        return "full"
    return "summary" if item.get("summary") else "withheld"


def reasoning_seal(item: dict[str, Any], scope: str) -> Seal | None:
    """The seal of a reasoning item, with the item's id as its note."""
    encrypted = item.get("encrypted_content")
    if type(encrypted) is not str or not encrypted:
        return None
    return Seal(NAME, encrypted, scope, str(item.get("id") or ""))


def reasoning_extras(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What else a reasoning item says; several pieces of text go home as they came."""
    rest = {name: value for name, value in item.items() if name not in _REASONING}
    if not item.get("encrypted_content") and item.get("id"):
        rest["id"] = item["id"]
    for name in ("content", "summary"):
        value = item.get(name)
        if type(value) is list and len(value) > 1:
            rest[name] = value
    return {NAME: rest} if rest else {}


def read_call(item: dict[str, Any], *, with_arguments: bool, token: str) -> ToolCall:
    """A function_call or custom_tool_call item as the upstream names the tool."""
    custom = item.get("type") == "custom_tool_call"
    text = item.get("input" if custom else "arguments") if with_arguments else ""
    arguments = text if type(text) is str else ""
    if with_arguments and not custom and not arguments.strip():
        arguments = "{}"
    given = item.get("call_id") or item.get("id")
    rest = {name: value for name, value in item.items() if name not in _CALL}
    if item.get("id"):
        rest["id"] = item["id"]
    return ToolCall(
        given if type(given) is str else f"call_{token}",
        str(item.get("name") or ""),
        arguments,
        "custom" if custom else "function",
        str(item.get("namespace") or ""),
        extras={NAME: rest} if rest else {},
    )


def read_search(item: dict[str, Any]) -> ToolCall:
    """A tool_search_call the client carries out."""
    value = item.get("arguments")
    arguments = value if type(value) is str else encode(value or {}).decode()
    rest = {name: found for name, found in item.items() if name not in _CALL}
    if item.get("id"):
        rest["id"] = item["id"]
    return ToolCall(
        str(item.get("call_id") or item.get("id") or ""),
        SEARCH,
        arguments,
        "search",
        extras={NAME: rest} if rest else {},
    )


def write_text(part: Text, offset: int = 0) -> dict[str, Any]:
    """A text as an output_text part."""
    own = {name: value for name, value in part.extras.get(NAME, {}).items() if name != "item"}
    annotations = [write_citation(one, part.text, offset) for one in part.citations if one.kind == "url"]
    annotations += own.pop("annotations", [])
    return {
        "type": "output_text",
        "text": part.text,
        "annotations": annotations,
        "logprobs": [write_token(one) for one in part.logprobs],
        **own,
    }


def write_citation(one: Citation, text: str, offset: int = 0) -> dict[str, Any]:
    """A citation as a url_citation annotation."""
    return {
        "type": "url_citation",
        "url": one.url,
        "title": one.title,
        "start_index": offset + (one.start or 0),
        "end_index": offset + (len(text) if one.end is None else one.end),
        **one.extras.get(NAME, {}),
    }


def write_token(one: Logprob) -> dict[str, Any]:
    """A token's probability and those of its alternatives."""
    found = _token(one)
    found["top_logprobs"] = [_token(other) for other in one.top]
    return found


def _token(one: Logprob) -> dict[str, Any]:
    data = one.token.encode("utf-8", "surrogatepass") if one.data is None else one.data
    return {"token": one.token, "logprob": one.logprob, "bytes": list(data)}


def write_refusal(part: Refusal) -> dict[str, Any]:
    """A refusal as a content part."""
    own = {name: value for name, value in part.extras.get(NAME, {}).items() if name != "item"}
    return {"type": "refusal", "refusal": part.text, **own}


def write_reasoning(part: Reasoning, item_id: str) -> dict[str, Any]:
    """A thought as a reasoning item; seals of other dialects travel wrapped in its encrypted content."""
    seal = part.seal
    own = part.extras.get(NAME, {})
    home = seal is not None and seal.origin == NAME
    found: dict[str, Any] = {
        "id": (seal.note if home and seal is not None else "") or own.get("id") or item_id,
        "type": "reasoning",
        "summary": [],
        "status": "completed",
    }
    if part.text:
        kind = "reasoning_text" if part.form == "full" and (home or NAME in part.extras) else "summary_text"
        found["content" if kind == "reasoning_text" else "summary"] = [{"type": kind, "text": part.text}]
    if seal is not None:
        found["encrypted_content"] = seal.value if home else seals.wrap(seal)
    return {**found, **{name: value for name, value in own.items() if name != "id"}}


def write_call(part: ToolCall, item_id: str, status: str = "completed") -> dict[str, Any]:
    """A call as an item of its kind."""
    own = {"id": item_id, **part.extras.get(NAME, {})}
    if part.kind == "custom":
        kind: dict[str, Any] = {"type": "custom_tool_call", "call_id": part.id, "input": part.arguments}
        kind["name"] = part.name
    elif part.kind == "search":
        value = object_of(part.arguments)
        arguments: Any = part.arguments if value is None else value
        return {
            "type": "tool_search_call",
            "call_id": part.id,
            "arguments": arguments,
            "execution": "client",
            "status": status,
            **own,
        }
    else:
        written = part.arguments if part.arguments.strip() or status == "in_progress" else "{}"
        kind = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": written}
    if part.namespace:
        kind["namespace"] = part.namespace
    return {**kind, "status": status, **own}


def write_image(part: Media, item_id: str) -> dict[str, Any] | None:
    """An image as the item of a finished image generation; None for any other media."""
    if part.family != "image" or part.source != "base64":
        return None
    own = part.extras.get(NAME, {})
    return {
        "id": item_id,
        "type": "image_generation_call",
        "status": "completed",
        "result": part.value,
        **own,
    }
