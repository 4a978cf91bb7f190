"""generateContent requests read into the canonical exchange.

The API keeps the model, and whether to stream, in the path: the route puts both into the body as
`model` and `stream` before it is read here.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec.structs import replace

from tollway.core.dialects.gemini.parts import read_part
from tollway.core.dialects.gemini.proto import MODALITIES, MODES, NAME, ProtoMembers, worded
from tollway.core.dialects.gemini.schema import from_gemini
from tollway.core.dialects.members import obj, refuse
from tollway.core.exchange import (
    OutputFormat,
    Part,
    ReasoningWish,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

_MODES: Final[dict[str, Literal["auto", "none", "required"]]] = {
    "AUTO": "auto",
    "VALIDATED": "auto",
    "MODE_UNSPECIFIED": "auto",
    "ANY": "required",
    "NONE": "none",
}


def read_request(body: dict[str, Any]) -> Request:
    """A request body as a Request. Raises GatewayError naming the field that makes no sense."""
    take = ProtoMembers(body)
    model = take.need_text("model")
    system = _system(take)
    turns = _Contents().read(take.need_array("contents"))
    tools = _tools(take.array("tools") or [])
    config = take.inside("generationConfig") or ProtoMembers({}, "generationConfig")
    choice, rest = _choice(take.inside("toolConfig"))
    if rest:
        take.rest["toolConfig"] = rest
    sampling = _sampling(config)
    output, wish = _output(config), _reasoning(config.inside("thinkingConfig"))
    asked, top = config.flag("responseLogprobs"), config.integer("logprobs", 0, 20)
    modalities = _modalities(config)
    candidates = config.integer("candidateCount", 1) or 1
    if config.rest:
        take.rest["generationConfig"] = config.rest
    return Request(
        model=model.removeprefix("models/"),
        turns=(*system, *turns),
        origin=NAME,
        tools=tuple(tools),
        tool_choice=choice,
        sampling=sampling,
        reasoning=wish,
        output=output,
        stream=take.flag("stream") or False,
        candidates=candidates,
        logprobs=(top or 0) if asked else None,
        modalities=modalities,
        service_tier=take.text("serviceTier"),
        store=take.flag("store"),
        extras=take.extras(NAME),
    )


def read_count(body: dict[str, Any]) -> Request:
    """A countTokens body: contents, or a whole request inside `generateContentRequest`."""
    take = ProtoMembers(body)
    inner = take.object("generateContentRequest")
    if inner is not None:
        return read_request({"model": body.get("model"), **inner})
    return read_request(body)


def _system(take: ProtoMembers) -> list[Turn]:
    value = take.take("systemInstruction")
    if value is None:
        return []
    if type(value) is str:
        return [Turn(role="system", parts=(Text(value),))]
    inner = ProtoMembers(value, "systemInstruction")
    parts = inner.array("parts") or []
    found = [read_part(one, f"systemInstruction.parts[{at}]") for at, one in enumerate(parts)]
    inner.take("role")
    return [Turn(role="system", parts=tuple(found), extras=inner.extras(NAME))] if found else []


class _Contents:
    """Reads contents in order. Calls without an id get one from their place; results find theirs by name and order."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[ToolCall] = []

    def read(self, contents: list[Any]) -> list[Turn]:
        if not contents:
            raise refuse("contents", "must not be empty")
        return [self._content(one, f"contents[{at}]") for at, one in enumerate(contents)]

    def _content(self, source: object, path: str) -> Turn:
        if type(source) is str:
            return Turn(role="user", parts=(Text(source),))
        take = ProtoMembers(source, path)
        role = take.text("role") or "user"
        if role not in ("user", "model", "function", "tool"):
            raise refuse(take.where("role"), "must be user or model")
        listed = take.array("parts") or []
        parts = [self._named(read_part(one, f"{path}.parts[{at}]")) for at, one in enumerate(listed)]
        word = role if role in ("function", "tool") else ""
        speaker: Literal["assistant", "user"] = "assistant" if role == "model" else "user"
        return Turn(role=speaker, word=word, parts=tuple(parts), extras=take.extras(NAME))

    def _named(self, part: Part) -> Part:
        if isinstance(part, ToolCall):
            self._count += 1
            if not part.id:
                part = replace(part, id=f"call_{self._count}_{part.name}"[:64], extras=_without_id(part))
            self._waiting.append(part)
        elif isinstance(part, ToolResult):
            return self._answered(part)
        return part

    def _answered(self, part: ToolResult) -> ToolResult:
        for at, call in enumerate(self._waiting):
            if call.id == part.call_id or (not part.call_id and call.name == part.name):
                del self._waiting[at]
                extras = part.extras if part.call_id else _without_id(part)
                return replace(part, call_id=call.id, extras=extras)
        return part


def _without_id(part: Part) -> dict[str, dict[str, Any]]:
    """Extras that remember that the client gave no id, so that none is sent home."""
    return {NAME: {**part.extras.get(NAME, {}), "declared": "no id"}}


def _sampling(config: ProtoMembers) -> Sampling:
    return Sampling(
        temperature=config.number("temperature", 0, 2),
        top_p=config.number("topP", 0, 1),
        top_k=config.integer("topK", 0),
        seed=config.integer("seed"),
        presence_penalty=config.number("presencePenalty"),
        frequency_penalty=config.number("frequencyPenalty"),
        stop=config.strings("stopSequences") or (),
        max_output_tokens=config.integer("maxOutputTokens", 1),
    )


def _modalities(config: ProtoMembers) -> tuple[str, ...]:
    found = [worded(one, MODALITIES) for one in config.array("responseModalities") or []]
    if any(type(one) is not str for one in found):
        raise refuse(config.where("responseModalities"), "must be an array of strings")
    return tuple(one.lower() for one in found)


def _output(config: ProtoMembers) -> OutputFormat | None:
    kind = config.text("responseMimeType")
    plain = config.take("responseJsonSchema")
    subset = config.take("responseSchema")
    if plain is not None:
        return OutputFormat(kind="json_schema", schema=obj(plain, "generationConfig.responseJsonSchema"))
    if subset is not None:
        schema = from_gemini(obj(subset, "generationConfig.responseSchema"))
        own = {"declared": subset, **({"responseMimeType": kind} if kind == "text/x.enum" else {})}
        return OutputFormat(kind="json_schema", schema=schema, extras={NAME: own})
    if kind is None or kind == "text/plain":
        return None
    if kind != "application/json":
        return OutputFormat(kind="text", extras={NAME: {"responseMimeType": kind}})
    return OutputFormat(kind="json")


def _reasoning(config: ProtoMembers | None) -> ReasoningWish | None:
    if config is None:
        return None
    level, budget = config.text("thinkingLevel"), config.integer("thinkingBudget", -1)
    include = config.flag("includeThoughts")
    effort = level.lower() if level is not None and level != "THINKING_LEVEL_UNSPECIFIED" else None
    show: Literal["summary", "none"] | None = None if include is None else ("summary" if include else "none")
    if budget == 0:
        effort = "none"
    return ReasoningWish(effort=effort, budget_tokens=budget, show=show, extras=config.extras(NAME))


def _tools(listed: list[Any]) -> list[Tool]:
    tools: list[Tool] = []
    for at, one in enumerate(listed):
        take = ProtoMembers(one, f"tools[{at}]")
        declared = take.array("functionDeclarations") or []
        tools += [
            _function(ProtoMembers(function, f"{take.path}.functionDeclarations[{nth}]"))
            for nth, function in enumerate(declared)
        ]
        tools += [
            Tool(name=name, kind="hosted", origin=NAME, payload={name: value})
            for name, value in take.rest.items()
        ]
    return tools


def _function(take: ProtoMembers) -> Tool:
    name = take.need_text("name")
    description = take.text("description") or ""
    plain, subset = take.object("parametersJsonSchema"), take.object("parameters")
    schema = plain
    if plain is None and subset is not None:
        schema = from_gemini(subset)
        take.rest["declared"] = subset
    return Tool(name=name, description=description, schema=schema, extras=take.extras(NAME))


def _choice(take: ProtoMembers | None) -> tuple[ToolChoice | None, dict[str, Any]]:
    if take is None:
        return None, {}
    config = take.inside("functionCallingConfig")
    if config is None:
        return None, take.rest
    word = config.word("mode", MODES) or "AUTO"
    mode = _MODES.get(word)
    if mode is None:
        raise refuse("toolConfig.functionCallingConfig.mode", "must be one of AUTO, ANY, NONE, VALIDATED")
    names = config.strings("allowedFunctionNames") or ()
    extras = dict(config.rest)
    if word == "VALIDATED":
        extras["mode"] = word
    return ToolChoice(mode=mode, names=names, extras={NAME: extras} if extras else {}), take.rest
