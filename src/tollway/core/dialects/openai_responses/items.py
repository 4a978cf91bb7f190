"""Input items of the Responses API read into turns.

Each item is a turn of its own, so that a conversation goes home item by item; dialects that group
them join neighbouring turns. An item we do not know is Opaque.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from tollway.core import seals
from tollway.core.dialects import media
from tollway.core.dialects.members import Members, items, missing, obj, refuse
from tollway.core.dialects.naming import SEARCH
from tollway.core.dialects.openai_responses.output import read_annotations, read_tokens
from tollway.core.exchange import (
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Seal,
    Text,
    ToolCall,
    ToolKind,
    ToolResult,
    Turn,
)
from tollway.core.json import encode

NAME: Final = "openai_responses"
STRING: Final = "string"
"""The word of the one turn that was given as a string."""
_ROLES: Final[dict[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_CALLS: Final[dict[str, ToolKind]] = {"function_call": "function", "custom_tool_call": "custom"}
_OUTPUTS: Final[dict[str, ToolKind]] = {
    "function_call_output": "function",
    "custom_tool_call_output": "custom",
}


def read_input(value: object, path: str) -> list[Turn]:
    """Input, a string or items, as turns. Raises GatewayError naming the item that makes no sense."""
    if type(value) is str:
        return [Turn(role="user", word=STRING, parts=(Text(value),))]
    return _gathered([_item(one, f"{path}[{at}]") for at, one in enumerate(items(value, path))])


def _gathered(turns: list[Turn]) -> list[Turn]:
    """Turns whose seals are back on the calls and texts that had to travel without them."""
    found: list[Turn] = []
    waiting: Seal | None = None
    for turn in turns:
        first = turn.parts[0] if turn.parts else None
        place = first.seal.note if isinstance(first, Reasoning) and not first.text and first.seal else ""
        if place == seals.NEXT and first is not None and first.seal is not None:
            waiting = replace(first.seal, note="")
        elif place == seals.PREVIOUS and found and found[-1].role == "assistant":
            found[-1] = replace(found[-1], parts=tuple(seals.gather((*found[-1].parts, *turn.parts))))
        elif waiting is not None and isinstance(first, Text | ToolCall | Media):
            found.append(replace(turn, parts=(replace(first, seal=waiting), *turn.parts[1:])))
            waiting = None
        else:
            found.append(turn)
    return found


def _item(source: object, path: str) -> Turn:
    take = Members(source, path)
    kind = take.rest.get("type")
    if kind is None and "role" in take.rest:
        kind = "message"
    if type(kind) is not str:
        if "id" in take.rest:
            kind = "item_reference"
        else:
            raise missing(f"{path}.type")
    if kind == "message":
        return _message(take)
    if kind in _CALLS:
        return _turn("assistant", _call(take, _CALLS[kind]))
    if kind in _OUTPUTS:
        return _turn("user", _output(take, _OUTPUTS[kind]))
    if kind == "reasoning":
        return _turn("assistant", _reasoning(take))
    if kind in ("tool_search_call", "tool_search_output") and take.rest.get("execution") == "client":
        return _search(kind, take)
    return _turn("assistant", Opaque(NAME, obj(source, path)))


def _turn(role: Role, part: Part) -> Turn:
    return Turn(role=role, parts=(part,))


def _message(take: Members) -> Turn:
    take.text("type")
    word = take.need_text("role")
    role = _ROLES.get(word)
    if role is None:
        raise refuse(take.where("role"), "must be one of user, assistant, system, developer")
    content = take.take("content")
    if content is None:
        raise missing(take.where("content"))
    parts: list[Part]
    if type(content) is str:
        parts = [Text(content)]
    else:
        parts = [
            _part(one, f"{take.where('content')}[{at}]")
            for at, one in enumerate(items(content, take.where("content")))
        ]
    extras = take.extras(NAME)
    return Turn(role=role, word=word if role == "system" else "", parts=tuple(parts), extras=extras)


def _part(source: object, path: str) -> Part:
    if type(source) is dict and len(source) == 2 and source.get("type") == "input_text":
        text = source.get("text")
        if type(text) is str:
            return Text(text)  # Most parts are no more than this.
    take = Members(source, path)
    kind = take.need_text("type")
    mark = take.take("prompt_cache_breakpoint")
    ttl = None
    if type(mark) is dict:
        ttl = str(mark.get("ttl") or "")
    found: Part
    match kind:
        case "input_text" | "text":
            found = Text(take.need_text("text"), extras=take.extras(NAME), cache_ttl=ttl)
        case "output_text":
            found = _output_text(take)
        case "refusal":
            found = Refusal(take.need_text("refusal"), extras=take.extras(NAME))
        case "input_image":
            found = _image(take, ttl)
        case "input_file":
            found = _file(take, ttl)
        case "input_audio":
            found = _audio(take)
        case _:
            found = Opaque(NAME, {"type": kind, **take.rest})
    return found


def _output_text(take: Members) -> Text:
    text = take.need_text("text")
    citations, others = read_annotations(take.array("annotations"))
    tokens = read_tokens(take.array("logprobs"))
    if others:
        take.rest["annotations"] = others
    return Text(text, citations, tokens, extras=take.extras(NAME))


def _image(take: Members, ttl: str | None) -> Media:
    url, file_id, detail = take.text("image_url"), take.text("file_id"), take.text("detail") or ""
    extras = take.extras(NAME)
    if url is None:
        if file_id is None:
            raise missing(take.where("image_url"))
        return Media("image/*", "file", file_id, detail=detail, extras=extras, cache_ttl=ttl)
    found = media.from_url(url, "image/*")
    return Media(found.media_type, found.source, found.value, detail=detail, extras=extras, cache_ttl=ttl)


def _file(take: Members, ttl: str | None) -> Media:
    name = take.text("filename") or ""
    data, url, file_id = take.text("file_data"), take.text("file_url"), take.text("file_id")
    extras = take.extras(NAME)
    family = media.guessed(name) or "application/pdf"
    if data is not None and not data.startswith("data:"):
        return Media(family, "base64", data, name=name, extras=extras, cache_ttl=ttl)
    if data is not None or url is not None:
        found = media.from_url(data or url or "", family, name)
        return Media(found.media_type, found.source, found.value, name=name, extras=extras, cache_ttl=ttl)
    if file_id is None:
        raise missing(take.where("file_data"))
    return Media("application/*", "file", file_id, name=name, extras=extras, cache_ttl=ttl)


def _audio(take: Members) -> Media:
    inner = take.inside("input_audio")
    if inner is None:
        raise missing(take.where("input_audio"))
    kind = inner.text("format") or "wav"
    return Media(
        "audio/mpeg" if kind == "mp3" else f"audio/{kind}",
        "base64",
        inner.need_text("data"),
        extras=take.extras(NAME),
    )


def _call(take: Members, kind: ToolKind) -> ToolCall:
    take.text("type")
    call_id, name = take.need_text("call_id"), take.need_text("name")
    arguments = take.text("input" if kind == "custom" else "arguments") or ""
    namespace = take.text("namespace") or ""
    return ToolCall(call_id, name, arguments, kind, namespace, extras=take.extras(NAME))


def _output(take: Members, kind: ToolKind) -> ToolResult:
    take.text("type")
    call_id = take.need_text("call_id")
    output = take.take("output")
    parts: list[Part]
    if output is None:
        raise missing(take.where("output"))
    if type(output) is str:
        parts = [Text(output)]
    elif type(output) is list:
        parts = [_part(one, f"{take.where('output')}[{at}]") for at, one in enumerate(output)]
    else:
        raise refuse(take.where("output"), "must be a string or an array of parts")
    return ToolResult(call_id, tuple(parts), kind=kind, extras=take.extras(NAME))


def _reasoning(take: Members) -> Reasoning:
    take.text("type")
    item_id = take.text("id") or ""
    encrypted = take.text("encrypted_content")
    summary, content = take.array("summary") or [], take.array("content") or []
    texts = [one.get("text") for one in (content or summary) if type(one) is dict]
    text = "\n\n".join(one for one in texts if type(one) is str)
    extras: dict[str, Any] = take.rest
    seal = None
    if encrypted:
        seal = seals.unwrap(encrypted, NAME)
        if seal.value == encrypted:
            seal = replace(seal, note=item_id)
    if seal is None and item_id:
        extras["id"] = item_id
    if len(texts) > 1:
        extras["content" if content else "summary"] = content or summary
    form: Any = "full" if content else ("summary" if summary else "withheld")
    return Reasoning(text, form, seal=seal, extras={NAME: extras} if extras else {})


def _search(kind: str, take: Members) -> Turn:
    take.text("type")
    call_id = take.text("call_id") or ""
    if kind == "tool_search_call":
        arguments = take.take("arguments")
        text = arguments if type(arguments) is str else encode(arguments or {}).decode()
        return _turn("assistant", ToolCall(call_id, SEARCH, text, "search", extras=take.extras(NAME)))
    tools = take.rest.get("tools")
    names = [one.get("name") for one in tools if type(one) is dict] if type(tools) is list else []
    text = encode({"tools": [name for name in names if type(name) is str]}).decode()
    result = ToolResult(call_id, (Text(text),), SEARCH, kind="search", extras=take.extras(NAME))
    return _turn("user", result)
