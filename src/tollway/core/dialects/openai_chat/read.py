"""Chat Completions requests read into the canonical exchange."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects import media
from tollway.core.dialects.members import Members, missing, obj, refuse
from tollway.core.dialects.openai_chat import reasoning
from tollway.core.exchange import (
    Extras,
    Media,
    OutputFormat,
    Part,
    ReasoningWish,
    Refusal,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolKind,
    ToolResult,
    Turn,
)
from tollway.core.seals import gather

NAME: Final = "openai_chat"
OUTER: Final = "outer"
"""Among a tool's extras, those of the object around its declaration."""
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AUDIO: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def read_request(body: dict[str, Any]) -> Request:
    """A request body as a Request. Raises GatewayError naming the field that makes no sense."""
    take = Members(body)
    model = take.need_text("model")
    turns = _Messages().read(take.need_array("messages"))
    tools = tuple(_tool(one, f"tools[{at}]") for at, one in enumerate(take.array("tools") or []))
    functions = take.array("functions") or []
    tools += tuple(_function(Members(one, f"functions[{at}]"), {}) for at, one in enumerate(functions))
    choice = _tool_choice(take.take("tool_choice"))
    legacy_choice = _tool_choice(take.take("function_call"))
    return Request(
        model=model,
        turns=tuple(turns),
        origin=NAME,
        tools=tools,
        tool_choice=choice or legacy_choice,
        parallel_tools=take.flag("parallel_tool_calls"),
        sampling=_sampling(take),
        reasoning=_wish(take),
        output=_output(take.inside("response_format")),
        verbosity=take.text("verbosity"),
        stream=take.flag("stream") or False,
        candidates=take.integer("n", 1, 128) or 1,
        logprobs=_logprobs(take),
        modalities=take.strings("modalities") or (),
        user=take.text("user"),
        metadata=take.object("metadata"),
        cache_key=take.text("prompt_cache_key"),
        service_tier=take.text("service_tier"),
        store=take.flag("store"),
        extras=take.extras(NAME),
    )


def _wish(take: Members) -> ReasoningWish | None:
    """How much to think, in OpenAI's word or in OpenRouter's `reasoning`, whose clients expect to see the thoughts."""
    effort = take.choice("reasoning_effort", EFFORTS)
    wish = take.inside("reasoning")
    if wish is None:
        return ReasoningWish(effort=effort) if effort is not None else None
    enabled = wish.flag("enabled")
    effort = wish.choice("effort", EFFORTS) or effort or ("none" if enabled is False else None)
    hidden = wish.flag("exclude")
    return ReasoningWish(
        effort=effort, budget_tokens=wish.integer("max_tokens", 1), show="none" if hidden else "summary"
    )


def _logprobs(take: Members) -> int | None:
    asked, top = take.flag("logprobs"), take.integer("top_logprobs", 0, 20)
    if top and not asked:
        raise refuse("top_logprobs", "needs logprobs to be true")
    return (top or 0) if asked else None


def _sampling(take: Members) -> Sampling:
    stop = take.take("stop")
    if stop is None:
        stop = []
    stops = [stop] if type(stop) is str else stop
    if type(stops) is not list or any(type(one) is not str for one in stops):
        raise refuse("stop", "must be a string or an array of strings")
    newer, older = take.integer("max_completion_tokens", 1), take.integer("max_tokens", 1)
    return Sampling(
        temperature=take.number("temperature", 0, 2),
        top_p=take.number("top_p", 0, 1),
        top_k=take.integer("top_k"),
        seed=take.integer("seed"),
        presence_penalty=take.number("presence_penalty", -2, 2),
        frequency_penalty=take.number("frequency_penalty", -2, 2),
        stop=tuple(stops),
        max_output_tokens=newer if newer is not None else older,
    )


def _output(take: Members | None) -> OutputFormat | None:
    if take is None:
        return None
    kind = take.choice("type", ("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return OutputFormat(kind="json" if kind == "json_object" else "text", extras=take.extras(NAME))
    inner = take.inside("json_schema")
    if inner is None:
        raise missing("response_format.json_schema")
    return OutputFormat(
        kind="json_schema",
        name=inner.text("name") or "",
        schema=inner.object("schema"),
        strict=inner.flag("strict"),
        description=inner.text("description") or "",
        extras=inner.extras(NAME),
    )


def _tool(source: object, path: str) -> Tool:
    take = Members(source, path)
    kind = take.text("type")
    if kind == "function" or (kind is None and "function" in take.rest):
        inner = take.inside("function")
        # Some clients send the flat declaration of the Responses API here.
        return _function(inner, take.rest) if inner is not None else _function(take, {})
    if kind == "custom":
        inner = take.inside("custom")
        return _custom(inner, take.rest) if inner is not None else _custom(take, {})
    if kind is None:
        raise missing(f"{path}.type")
    payload = obj(source, path)
    return Tool(name=str(payload.get("name") or kind), kind="hosted", origin=NAME, payload=payload)


def _function(take: Members, outer: dict[str, Any]) -> Tool:
    return Tool(
        name=take.need_text("name"),
        description=take.text("description") or "",
        schema=take.object("parameters"),
        strict=take.flag("strict"),
        extras=_nested(take.rest, outer),
    )


def _nested(inner: dict[str, Any], outer: dict[str, Any]) -> Extras:
    """What nobody took of a declaration, and of the object around it."""
    rest = {**inner, OUTER: outer} if outer else inner
    return {NAME: rest} if rest else {}


def _custom(take: Members, outer: dict[str, Any]) -> Tool:
    name = take.need_text("name")
    grammar = take.object("format")
    if grammar is not None and type(inner := grammar.get("grammar")) is dict:
        grammar = {"type": "grammar", **inner}
    return Tool(
        name=name,
        kind="custom",
        description=take.text("description") or "",
        grammar=grammar,
        extras=_nested(take.rest, outer),
    )


def _tool_choice(value: object) -> ToolChoice | None:
    if value is None:
        return None
    if type(value) is str:
        match value:
            case "none" | "auto" | "required":
                return ToolChoice(mode=value)
            case _:
                raise refuse("tool_choice", "must be none, auto, required or an object")
    source = obj(value, "tool_choice")
    match source:
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(tools)},
        }:
            return ToolChoice(mode=mode, names=tuple(filter(None, (_chosen(one) for one in tools))))
        case {"type": "function" | "custom"} | {"name": str()}:
            name = _chosen(source)
            if name is None:
                raise missing("tool_choice.function.name")
            return ToolChoice(mode="required", names=(name,))
        case _:
            return ToolChoice(mode="auto", extras={NAME: source})


def _chosen(source: object) -> str | None:
    if type(source) is not dict:
        return None
    inner = source.get("function") or source.get("custom") or source
    name = inner.get("name") if type(inner) is dict else None
    return name if type(name) is str else None


class _Messages:
    """Reads messages in order; calls in the legacy form have no id and are numbered."""

    def __init__(self) -> None:
        self._legacy = 0

    def read(self, messages: list[Any]) -> list[Turn]:
        if not messages:
            raise refuse("messages", "must not be empty")
        return [self._message(Members(one, f"messages[{at}]")) for at, one in enumerate(messages)]

    def _message(self, take: Members) -> Turn:
        role = take.need_text("role")
        match role:
            case "system" | "developer":
                parts = _content(take, needed=True)
                return Turn(role="system", word=role, parts=tuple(parts), extras=take.extras(NAME))
            case "user":
                parts = _content(take, needed=True)
                return Turn(role="user", parts=tuple(parts), extras=take.extras(NAME))
            case "assistant":
                parts = self._assistant(take)
                return Turn(role="assistant", parts=tuple(parts), extras=take.extras(NAME))
            case "tool":
                call_id = take.need_text("tool_call_id")
                return self._result(take, call_id)
            case "function":
                return self._result(take, f"call_legacy_{self._legacy}")
            case _:
                raise refuse(
                    take.where("role"), "must be one of developer, system, user, assistant, tool, function"
                )

    def _result(self, take: Members, call_id: str) -> Turn:
        content = _content(take, needed=True)
        name = take.text("name") or ""
        result = ToolResult(call_id, tuple(content), name=name, extras=take.extras(NAME))
        return Turn(role="user", word="tool", parts=(result,))

    def _assistant(self, take: Members) -> list[Part]:
        parts = _thoughts(take)
        parts += _content(take, needed=False)
        refusal = take.text("refusal")
        if refusal:
            parts.append(Refusal(refusal))
        for at, call in enumerate(take.array("tool_calls") or []):
            parts.append(_call(Members(call, take.where(f"tool_calls[{at}]"))))
        legacy = take.inside("function_call")
        if legacy is not None:
            self._legacy += 1
            parts.append(
                ToolCall(
                    f"call_legacy_{self._legacy}", legacy.need_text("name"), legacy.text("arguments") or ""
                )
            )
        return gather(parts)


def _thoughts(take: Members) -> list[Part]:
    details = take.array("reasoning_details")
    text, extras = reasoning.plain_thought(take.rest)
    take.text("reasoning_content")
    if type(take.rest.get("reasoning")) is str:
        take.text("reasoning")
    told = reasoning.read_details(details or [], "")
    return list(reasoning.all_thoughts(text, extras, told))


def _call(take: Members) -> ToolCall:
    call_id = take.text("id") or ""
    kind: ToolKind = "custom" if take.text("type") == "custom" else "function"
    inner = take.inside("custom" if kind == "custom" else "function")
    if inner is None:
        raise missing(take.where("function"))
    extra = take.take("extra_content")
    seal = reasoning.read_call_seal(extra)
    if extra is not None and seal is None:
        take.rest["extra_content"] = extra
    name = inner.need_text("name")
    arguments = inner.text("input" if kind == "custom" else "arguments") or ""
    extras = take.extras_with(NAME, kind, inner)
    return ToolCall(call_id, name, arguments, kind, extras=extras, seal=seal)


def _content(take: Members, *, needed: bool) -> list[Part]:
    value = take.take("content")
    if type(value) is str:
        return [Text(value)] if value or needed else []
    if value is None:
        if needed:
            raise missing(take.where("content"))
        return []
    if type(value) is not list:
        raise refuse(take.where("content"), "must be a string or an array of parts")
    return [_part(one, f"{take.where('content')}[{at}]") for at, one in enumerate(value)]


def _part(source: object, path: str) -> Part:
    if type(source) is str:
        return Text(source)
    take = Members(source, path)
    kind = take.need_text("type")
    mark = take.take("prompt_cache_breakpoint")
    ttl = None if mark is None or mark is False else _ttl(mark)
    match kind:
        case "text" | "input_text" | "output_text":
            return Text(take.need_text("text"), extras=take.extras(NAME), cache_ttl=ttl)
        case "refusal":
            return Refusal(take.need_text("refusal"), extras=take.extras(NAME), cache_ttl=ttl)
        case "image_url":
            return _image(take, ttl)
        case "input_audio":
            return _audio(take, ttl)
        case "file":
            return _file(take, ttl)
        case _:
            raise refuse(f"{path}.type", f"is {kind!r}, which is no kind of content part")


def _ttl(mark: object) -> str:
    ttl = mark.get("ttl") if type(mark) is dict else None
    return ttl if type(ttl) is str else ""


def _image(take: Members, ttl: str | None) -> Media:
    value = take.take("image_url")
    inner = Members({"url": value} if type(value) is str else value, take.where("image_url"))
    found = media.from_url(inner.need_text("url"), "image/*")
    return Media(
        found.media_type,
        found.source,
        found.value,
        detail=inner.text("detail") or "",
        extras=take.extras_with(NAME, "image_url", inner),
        cache_ttl=ttl,
    )


def _audio(take: Members, ttl: str | None) -> Media:
    inner = take.inside("input_audio")
    if inner is None:
        raise missing(take.where("input_audio"))
    kind = inner.text("format") or "wav"
    return Media(
        _AUDIO.get(kind, f"audio/{kind}"),
        "base64",
        inner.need_text("data"),
        extras=take.extras_with(NAME, "input_audio", inner),
        cache_ttl=ttl,
    )


def _file(take: Members, ttl: str | None) -> Media:
    inner = take.inside("file")
    if inner is None:
        raise missing(take.where("file"))
    name = inner.text("filename") or ""
    data, file_id = inner.text("file_data"), inner.text("file_id")
    extras = take.extras_with(NAME, "file", inner)
    if data is None:
        if file_id is None:
            raise missing(take.where("file.file_data"))
        return Media("application/*", "file", file_id, name=name, extras=extras, cache_ttl=ttl)
    if data.startswith(("data:", "http://", "https://")):
        found = media.from_url(data, media.guessed(name) or "application/*", name)
        return Media(found.media_type, found.source, found.value, name=name, extras=extras, cache_ttl=ttl)
    kind = media.guessed(name) or "application/pdf"
    return Media(kind, "base64", data, name=name, extras=extras, cache_ttl=ttl)
