"""Messages' content blocks and canonical parts, in both directions.

A block we do not know is Opaque: it goes home as it came.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from tollway.core import seals
from tollway.core.dialects.members import Members, items, refuse
from tollway.core.dialects.naming import object_of
from tollway.core.exchange import (
    Citation,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    ToolResult,
)
from tollway.core.json import encode

NAME: Final = "anthropic"
REDACTED: Final = "redacted"
_ATTRIBUTION: Final = "x-anthropic-billing-header:"
_URL_CITATIONS: Final = {"web_search_result_location": "url", "search_result_location": "source"}


def read_blocks(value: object, path: str) -> list[Part]:
    """Content, a string or blocks, as parts. Raises GatewayError naming the block that makes no sense."""
    if type(value) is str:
        return [read_text(value, {})] if value else []
    return [_block(one, f"{path}[{at}]") for at, one in enumerate(items(value, path))]


def read_text(text: str, rest: dict[str, Any]) -> Part:
    """A text block. The line by which Claude Code names itself changes with every call and is for Anthropic only."""
    if text.startswith(_ATTRIBUTION):
        return Opaque(NAME, {"type": "text", "text": text, **rest})
    cache = read_cache(rest)
    citations = rest.pop("citations", None)
    found = tuple(read_citation(one) for one in citations) if type(citations) is list else ()
    return Text(text, found, extras={NAME: rest} if rest else {}, cache_ttl=cache)


def read_cache(rest: dict[str, Any]) -> str | None:
    """Take a cache mark we understand fully; any other stays among the extras."""
    mark = rest.get("cache_control")
    if type(mark) is not dict or mark.get("type") != "ephemeral" or not mark.keys() <= {"type", "ttl"}:
        return None
    ttl = mark.get("ttl", "")
    if type(ttl) is not str:
        return None
    del rest["cache_control"]
    return ttl


def _block(source: object, path: str) -> Part:
    if type(source) is str:
        return Text(source)
    if type(source) is dict and len(source) == 2 and source.get("type") == "text":
        text = source.get("text")
        if type(text) is str:
            return read_text(text, {})  # Most blocks are no more than this.
    take = Members(source, path)
    kind = take.need_text("type")
    found: Part
    match kind:
        case "text":
            found = read_text(take.need_text("text"), take.rest)
        case "image" | "document":
            found = _media(kind, take)
        case "thinking" | "redacted_thinking":
            found = _thought(kind, take, take.rest)
        case "tool_use":
            call_id, name = take.need_text("id"), take.need_text("name")
            found = _call(call_id, name, take.object("input") or {}, take.rest)
        case "tool_result":
            found = _result(take)
        case _:
            found = Opaque(NAME, {"type": kind, **take.rest})
    return found


def _thought(kind: str, take: Members, rest: dict[str, Any]) -> Reasoning:
    if kind == "redacted_thinking":
        return redacted(take.need_text("data"), "", rest)
    text, signature = take.need_text("thinking"), take.text("signature")
    return thought(text, signature or "", "", rest)


def thought(text: str, signature: str, scope: str, rest: dict[str, Any]) -> Reasoning:
    """A thinking block; one without a signature has no seal."""
    seal = own_seal(signature, scope, "") if signature else None
    form: Any = "full" if text else "withheld"
    return Reasoning(text, form, seal=seal, cache_ttl=read_cache(rest), extras={NAME: rest} if rest else {})


def redacted(data: str, scope: str, rest: dict[str, Any]) -> Reasoning:
    """A thinking block that only its maker can read."""
    seal = own_seal(data, scope, REDACTED)
    return Reasoning(form="withheld", seal=seal, extras={NAME: rest} if rest else {})


def own_seal(value: str, scope: str, note: str) -> Seal:
    """A signature field's seal: ours unwrapped, or Anthropic's own."""
    found = seals.unwrap(value, NAME)
    return (
        found if value.startswith(seals.PREFIX) and found.value != value else Seal(NAME, value, scope, note)
    )


def _call(call_id: str, name: str, value: dict[str, Any], rest: dict[str, Any]) -> ToolCall:
    cache = read_cache(rest)
    return ToolCall(
        call_id, name, encode(value).decode(), cache_ttl=cache, extras={NAME: rest} if rest else {}
    )


def _result(take: Members) -> ToolResult:
    call_id = take.need_text("tool_use_id")
    content = take.take("content")
    parts = read_blocks(content, take.where("content")) if content is not None else []
    failed = take.flag("is_error") or False
    cache = read_cache(take.rest)
    return ToolResult(call_id, tuple(parts), is_error=failed, cache_ttl=cache, extras=take.extras(NAME))


def _media(kind: str, take: Members) -> Part:
    whole = {"type": kind, **take.rest}
    source = take.inside("source")
    if source is None:
        raise refuse(take.where("source"), "is required")
    via = source.need_text("type")
    family = "image/*" if kind == "image" else "application/pdf"
    found: tuple[Literal["base64", "url", "file", "text"], str, str]
    match via:
        case "base64":
            found = ("base64", source.text("media_type") or family, source.need_text("data"))
        case "url":
            found = ("url", family, source.need_text("url"))
        case "file":
            found = ("file", family, source.need_text("file_id"))
        case "text":
            found = ("text", source.text("media_type") or "text/plain", source.need_text("data"))
        case _:
            return Opaque(NAME, whole)
    name = take.text("title") or ""
    cache = read_cache(take.rest)
    extras = take.extras_with(NAME, "source", source)
    return Media(found[1], found[0], found[2], name=name, cache_ttl=cache, extras=extras)


def read_citation(source: Any) -> Citation:
    """A citation; all of it goes home again."""
    one: dict[str, Any] = source if type(source) is dict else {}
    field = _URL_CITATIONS.get(str(one.get("type")))
    return Citation(
        kind="url" if field else "document",
        url=str(one.get(field) or "") if field else "",
        title=str(one.get("title") or one.get("document_title") or ""),
        cited_text=str(one.get("cited_text") or ""),
        extras={NAME: one},
    )


def write_citation(one: Citation, text: str) -> dict[str, Any]:
    """A citation for a client; what only Anthropic can know is left empty."""
    own = one.extras.get(NAME)
    if own is not None:
        return own
    quoted = one.cited_text or text[one.start : one.end]
    if one.kind == "url":
        return {
            "type": "web_search_result_location",
            "cited_text": quoted,
            "encrypted_index": "",
            "title": one.title,
            "url": one.url,
        }
    return {
        "type": "char_location",
        "cited_text": quoted,
        "document_index": 0,
        "document_title": one.title,
        "start_char_index": one.start or 0,
        "end_char_index": one.end or len(text),
    }


def write_thought(part: Reasoning) -> dict[str, Any]:
    """A thought for a client: Anthropic's seals as they are, others wrapped, none as an empty signature."""
    own = part.extras.get(NAME, {})
    if part.seal is None:
        return {"type": "thinking", "thinking": part.text, "signature": "", **own}
    if part.seal.origin == NAME and part.seal.note == REDACTED and not part.text:
        return {"type": "redacted_thinking", "data": part.seal.value, **own}
    return {"type": "thinking", "thinking": part.text, "signature": write_seal(part.seal), **own}


def write_seal(seal: Seal) -> str:
    """A seal as a signature."""
    return seal.value if seal.origin == NAME else seals.wrap(seal)


def write_call(call: ToolCall) -> dict[str, Any]:
    """A whole call. Arguments that are no object are kept as text in one."""
    value = {"input": call.arguments} if call.kind == "custom" else object_of(call.arguments)
    if value is None:
        value = {"invalid_json": call.arguments}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": value, **call.extras.get(NAME, {})}


def write_answer_part(part: Part) -> dict[str, Any] | None:
    """One part of an answer as a block; None if the dialect has none for it."""
    own = part.extras.get(NAME, {})
    found: dict[str, Any] | None = None
    match part:
        case Text():
            if part.text or own or part.citations:
                found = {"type": "text", "text": part.text, **own}
                if part.citations:
                    found["citations"] = [write_citation(one, part.text) for one in part.citations]
        case Refusal():
            found = {"type": "text", "text": part.text}
        case Reasoning():
            found = write_thought(part)
        case ToolCall():
            found = write_call(part)
        case Opaque():
            found = part.payload if part.origin == NAME else None
        case Media():
            found = {"type": "text", "text": placeholder(part)}
        case _:
            pass
    return found


def placeholder(part: Media) -> str:
    """What a client is told of media its dialect cannot carry in an answer."""
    return part.value if part.source == "url" else f"[{part.family} of type {part.media_type} left out]"
