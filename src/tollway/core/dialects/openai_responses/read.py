"""Responses requests read into the canonical exchange."""

from __future__ import annotations

from typing import Any, Final, Literal

from tollway.core.dialects.members import Members, missing, obj, refuse
from tollway.core.dialects.naming import SEARCH
from tollway.core.dialects.openai_responses.items import read_input
from tollway.core.exchange import (
    Namespace,
    OutputFormat,
    ReasoningWish,
    Request,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    Turn,
)

NAME: Final = "openai_responses"
INSTRUCTIONS: Final = "instructions"
"""The word of the system turn that is not part of the stored conversation."""
LOGPROBS: Final = "message.output_text.logprobs"
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def read_request(body: dict[str, Any]) -> Request:
    """A request body as a Request. Raises GatewayError naming the field that makes no sense."""
    take = Members(body)
    model = take.need_text("model")
    turns = _turns(take)
    tools, namespaces = _tools(take.array("tools") or [], "tools")
    found, grouped = _found_tools(turns)
    output, verbosity = _text(take)
    include = take.rest.get("include")
    asked = LOGPROBS in include if type(include) is list else False
    top = take.integer("top_logprobs", 0, 20)
    return Request(
        model=model,
        turns=tuple(turns),
        origin=NAME,
        tools=(*tools, *found),
        namespaces=(*namespaces, *grouped),
        tool_choice=_tool_choice(take.take("tool_choice")),
        parallel_tools=take.flag("parallel_tool_calls"),
        sampling=Sampling(
            temperature=take.number("temperature", 0, 2),
            top_p=take.number("top_p", 0, 1),
            max_output_tokens=take.integer("max_output_tokens", 1),
        ),
        reasoning=_reasoning(take),
        output=output,
        verbosity=verbosity,
        stream=take.flag("stream") or False,
        logprobs=(top or 0) if asked or top else None,
        user=take.text("user"),
        metadata=take.object("metadata"),
        cache_key=take.text("prompt_cache_key"),
        service_tier=take.text("service_tier"),
        store=take.flag("store"),
        previous=take.text("previous_response_id"),
        extras=take.extras(NAME),
    )


def _turns(take: Members) -> list[Turn]:
    instructions = take.text("instructions")
    turns: list[Turn] = []
    if instructions:
        turns.append(Turn(role="system", word=INSTRUCTIONS, parts=(Text(instructions),)))
    given = take.take("input")
    if given is None:
        if not {"prompt", "conversation", "previous_response_id"} & take.rest.keys():
            raise missing("input")
        return turns
    return [*turns, *read_input(given, "input")]


def _found_tools(turns: list[Turn]) -> tuple[list[Tool], list[Namespace]]:
    """The tools that earlier searches turned up: the model may call them from now on."""
    found: list[Any] = []
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, ToolResult) and part.kind == "search":
                tools = part.extras.get(NAME, {}).get("tools")
                found.extend(tools if type(tools) is list else [])
    tools, namespaces = _tools(found, "input[].tools")
    # They are declared by the item they stand in; at home they must not be declared twice.
    return [_found(tool) for tool in tools], namespaces


def _found(tool: Tool) -> Tool:
    return Tool(
        name=tool.name,
        kind=tool.kind,
        namespace=tool.namespace,
        description=tool.description,
        schema=tool.schema,
        strict=tool.strict,
        grammar=tool.grammar,
        origin=tool.origin,
        payload=tool.payload,
        extras={NAME: {"item": "tool_search_output"}},
    )


def _tools(listed: list[Any], path: str) -> tuple[list[Tool], list[Namespace]]:
    tools: list[Tool] = []
    namespaces: list[Namespace] = []
    for at, one in enumerate(listed):
        take = Members(one, f"{path}[{at}]")
        if take.rest.get("type") == "namespace":
            take.text("type")
            name = take.need_text("name")
            inner = take.need_array("tools")
            tools += [_tool(tool, f"{take.where('tools')}[{nth}]", name) for nth, tool in enumerate(inner)]
            description = take.text("description") or ""
            namespaces.append(Namespace(name=name, description=description, extras=take.extras(NAME)))
        else:
            tools.append(_tool(one, take.path, ""))
    return tools, namespaces


def _tool(source: object, path: str, namespace: str) -> Tool:
    take = Members(source, path)
    kind = take.text("type")
    if kind is None:
        raise missing(f"{path}.type")
    search = kind == "tool_search" and take.rest.get("execution") == "client"
    if kind not in ("function", "custom") and not search:
        payload = obj(source, path)
        return Tool(
            name=str(payload.get("name") or kind),
            kind="hosted",
            namespace=namespace,
            origin=NAME,
            payload=payload,
        )
    own: Literal["function", "custom", "search"] = (
        "search" if search else ("custom" if kind == "custom" else "function")
    )
    inner = take.inside("function") if kind == "function" and "name" not in take.rest else None
    if inner is not None:
        # Some clients nest the declaration as Chat Completions does.
        take = inner
    return Tool(
        name=SEARCH if search else take.need_text("name"),
        kind=own,
        namespace=namespace,
        description=take.text("description") or "",
        schema=take.object("parameters"),
        strict=take.flag("strict"),
        grammar=take.object("format") if own == "custom" else None,
        extras=take.extras(NAME),
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
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolChoice(mode="required", names=(name,))
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(tools)}:
            names = [one["name"] for one in tools if type(one) is dict and type(one.get("name")) is str]
            if len(names) == len(tools):
                return ToolChoice(mode=mode, names=tuple(names))
            return ToolChoice(mode=mode, extras={NAME: source})
        case {"type": "function" | "custom"}:
            raise missing("tool_choice.name")
        case _:
            return ToolChoice(mode="auto", extras={NAME: source})


def _text(take: Members) -> tuple[OutputFormat | None, str | None]:
    text = take.inside("text")
    if text is None:
        return None, None
    verbosity = text.text("verbosity")
    wanted = text.inside("format")
    if text.rest:
        take.rest["text"] = text.rest
    if wanted is None:
        return None, verbosity
    kind = wanted.choice("type", ("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return OutputFormat(
            kind="json" if kind == "json_object" else "text", extras=wanted.extras(NAME)
        ), verbosity
    schema = wanted.object("schema")
    if schema is None:
        raise missing("text.format.schema")
    output = OutputFormat(
        kind="json_schema",
        name=wanted.text("name") or "",
        schema=schema,
        strict=wanted.flag("strict"),
        description=wanted.text("description") or "",
        extras=wanted.extras(NAME),
    )
    return output, verbosity


def _reasoning(take: Members) -> ReasoningWish | None:
    wish = take.inside("reasoning")
    if wish is None:
        return None
    effort = wish.choice("effort", _EFFORTS)
    summary = wish.text("summary")
    extras = dict(wish.rest)
    if summary is not None:
        extras["summary"] = summary
    show: Literal["summary"] | None = "summary" if summary not in (None, "none") else None
    return ReasoningWish(effort=effort, show=show, extras={NAME: extras} if extras else {})
