"""Chat Completions requests read into an Ask, refusing what OpenAI would refuse."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from tollway.upstream.sandbox import attachments, tokens
from tollway.upstream.sandbox.ask import Ask, Attachment, Choice, JsonFormat, Refused, Role, Tool, Turn
from tollway.upstream.sandbox.mouths import openai, reading
from tollway.upstream.sandbox.mouths.reading import string

Count = Annotated[int, Meta(ge=1)]
Content = str | list[dict[str, Any]] | None


class _Function(Struct):
    name: str = ""
    arguments: str = ""
    parameters: Any = None


class _Custom(Struct):
    name: str = ""
    input: str = ""


class _Call(Struct):
    id: str = ""
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Tool(Struct):
    type: Literal["function", "custom"]
    function: _Function | None = None
    custom: _Custom | None = None


class _JsonSchema(Struct):
    name: str = ""
    schema: Any = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(Struct):
    include_usage: bool | None = None


class Body(Struct):
    """A request body. Fields that are not here are accepted and mean nothing to the sandbox."""

    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=1024)] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None


class ChatAsk(Ask, frozen=True, kw_only=True):
    """An Ask with what only this dialect can say. `top_logprobs` is None where logprobs are not wanted."""

    include_usage: bool = False
    top_logprobs: int | None = None


_decode: Final = msgspec.json.Decoder(Body).decode
_ROLES: Final[dict[str, Role]] = {"developer": "system", "function": "tool"}


def read(body: bytes) -> ChatAsk:
    """The request. Raises Refused with OpenAI's status, code and param."""
    return _ask(reading.read_body(body, _decode, openai.explain))


def _ask(body: Body) -> ChatAsk:
    names = {call.id: _call_name(call) for one in body.messages for call in one.tool_calls or ()}
    offered = tuple(_tool(tool, at) for at, tool in enumerate(body.tools or ()))
    choice, allowed = _choice(body.tool_choice)
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    options = body.stream_options
    openai.check_picky(body, "temperature", "top_p", "stop", "max_tokens")
    _check_pairs(body.messages)
    return ChatAsk(
        model=body.model,
        turns=tuple(_turn(message, names) for message in body.messages),
        streamed=bool(body.stream),
        tools=offered if allowed is None else tuple(tool for tool in offered if tool.name in allowed),
        tools_weight=reading.weight_of(body.tools, body.response_format),
        choice=choice,
        parallel=body.parallel_tool_calls is not False,
        format=_format(body.response_format),
        output_max=body.max_completion_tokens or body.max_tokens,
        stops=stops,
        n=body.n or 1,
        seed=body.seed or 0,
        effort=body.reasoning_effort or "medium",
        include_usage=bool(options and options.include_usage),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _check_pairs(messages: list[_Message]) -> None:
    """Every tool call is answered right after it was made, and nothing else is."""
    asked: set[str] = set()
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in asked:
                text = (
                    "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                )
                raise openai.bad_value(text, f"messages[{at}].role")
            asked.discard(message.tool_call_id)
            continue
        if asked:
            break
        if message.tool_calls:
            asked = {call.id for call in message.tool_calls}
    if asked:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(sorted(asked))}"
        )
        raise openai.bad_value(text, "messages")


def _call_name(call: _Call) -> str:
    one = call.function or call.custom
    return one.name if one else ""


def _turn(message: _Message, names: dict[str, str]) -> Turn:
    text, attached = _content(message.content)
    extra = 0
    for call in message.tool_calls or ():
        given = (call.function.arguments if call.function else "") + (
            call.custom.input if call.custom else ""
        )
        extra += tokens.count(_call_name(call)) + tokens.count(given)
    source = names.get(message.tool_call_id or "", message.name or "")
    role = _ROLES.get(message.role) or message.role
    assert role != "developer"
    assert role != "function"
    return reading.turn(role, (text,), attached, extra=extra, source=source)


def _content(content: Content) -> tuple[str, tuple[Attachment, ...]]:
    """The text parts, joined by line ends, and everything else."""
    if not isinstance(content, list):
        return content or "", ()
    texts: list[str] = []
    attached: list[Attachment] = []
    for part in content:
        kind = part.get("type")
        if kind in ("text", "refusal"):
            texts.append(string(part, kind))
        elif kind in _ATTACHMENTS:
            inner = part.get(kind)
            attached.append(_attachment(kind, inner if isinstance(inner, dict) else {}))
        else:
            raise Refused(400, "Invalid content part type.", code="invalid_value", param="messages")
    return "\n".join(texts), tuple(attached)


_ATTACHMENTS: Final = ("image_url", "input_audio", "file")


def _attachment(kind: str, inner: dict[str, Any]) -> Attachment:
    if kind == "image_url":
        return attachments.image(string(inner, "url"))
    if kind == "input_audio":
        return attachments.audio(string(inner, "data"), string(inner, "format"))
    return attachments.file(string(inner, "filename") or string(inner, "file_id"), string(inner, "file_data"))


def _tool(given: dict[str, Any], at: int) -> Tool:
    tool = reading.converted(given, _Tool, f"tools[{at}]", openai.explain)
    if tool.type == "custom" and tool.custom is not None and tool.custom.name:
        return Tool(tool.custom.name, None, custom=True)
    if tool.type == "function" and tool.function is not None and tool.function.name:
        return Tool(tool.function.name, tool.function.parameters)
    raise openai.missing(f"tools[{at}].{tool.type}.name")


def _choice(given: str | dict[str, Any] | None) -> tuple[Choice, frozenset[str] | None]:
    """The tool choice, and the names it is restricted to if it is."""
    if given is None or given == "auto":
        return Choice(), None
    if isinstance(given, str):
        return Choice("required" if given == "required" else "none"), None
    kind = given.get("type")
    inner = given.get(kind) if isinstance(kind, str) else None
    if kind in ("function", "custom") and isinstance(inner, dict):
        return Choice("required", string(inner, "name")), None
    if kind == "allowed_tools" and isinstance(inner, dict):
        listed = inner.get("tools")
        names = [_allowed_name(one) for one in listed] if isinstance(listed, list) else []
        return Choice("required" if inner.get("mode") == "required" else "auto"), frozenset(names)
    raise Refused(400, "Invalid value for 'tool_choice'.", code="invalid_value", param="tool_choice")


def _allowed_name(one: Any) -> str:
    inner = one.get(one.get("type")) if isinstance(one, dict) else None
    return string(inner, "name") if isinstance(inner, dict) else ""


def _format(given: dict[str, Any] | None) -> JsonFormat | None:
    if given is None:
        return None
    form = reading.converted(given, _Format, "response_format", openai.explain)
    if form.type == "text":
        return None
    if form.type == "json_object":
        return JsonFormat()
    if form.json_schema is None or form.json_schema.schema is None:
        raise Refused(
            400, "Missing required parameter: 'response_format.json_schema.schema'.", param="response_format"
        )
    return JsonFormat(form.json_schema.schema)
