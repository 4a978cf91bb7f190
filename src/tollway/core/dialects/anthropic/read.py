"""Messages requests read into the canonical exchange."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.anthropic.blocks import NAME, read_blocks, read_cache
from tollway.core.dialects.members import Members, missing, obj, refuse
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    OutputFormat,
    ReasoningWish,
    Request,
    Sampling,
    Tool,
    ToolChoice,
    Turn,
)
from tollway.core.seals import gather

MID: Final = "mid"
"""The word of a system turn that stands among the messages."""


def read_request(body: dict[str, Any]) -> Request:
    """A request body as a Request. Raises GatewayError naming the field that makes no sense."""
    if body.get("max_tokens") is None:
        raise missing("max_tokens")
    return read_count(body)


def read_count(body: dict[str, Any]) -> Request:
    """A count_tokens body: a request without a limit on its answer."""
    take = Members(body)
    model = take.need_text("model")
    _thread(take.inside("thread"))
    turns = [*_system(take), *_messages(take)]
    tools = tuple(_tool(one, f"tools[{at}]") for at, one in enumerate(take.array("tools") or []))
    choice, parallel = _tool_choice(take.inside("tool_choice"))
    output, effort = _output(take)
    wish = _reasoning(take.object("thinking"), effort)
    metadata = take.inside("metadata")
    user = metadata.text("user_id") if metadata is not None else None
    if metadata is not None and metadata.rest:
        take.rest["metadata"] = metadata.rest
    return Request(
        model=model,
        turns=tuple(turns),
        origin=NAME,
        tools=tools,
        tool_choice=choice,
        parallel_tools=parallel,
        sampling=_sampling(take),
        reasoning=wish,
        output=output,
        stream=take.flag("stream") or False,
        user=user,
        service_tier=take.text("service_tier"),
        extras=take.extras(NAME),
    )


def _thread(take: Members | None) -> None:
    """Threads are best effort: whoever begins one keeps the conversation, and sends all of it when it is not found.

    None is kept here: upstreams get the whole conversation, so that any of them can answer and the call's bound is true.
    """
    if take is not None and take.choice("type", ("create", "continue")) == "continue":
        raise GatewayError(
            "thread_not_found",
            "This thread is not kept here; send the whole conversation.",
            param="thread.previous_message_id",
        )


def _sampling(take: Members) -> Sampling:
    return Sampling(
        temperature=take.number("temperature", 0, 1),
        top_p=take.number("top_p", 0, 1),
        top_k=take.integer("top_k", 0),
        stop=take.strings("stop_sequences") or (),
        max_output_tokens=take.integer("max_tokens", 1),
    )


def _system(take: Members) -> list[Turn]:
    value = take.take("system")
    if value is None:
        return []
    parts = read_blocks(value, "system")
    return [Turn(role="system", parts=tuple(parts))] if parts else []


def _messages(take: Members) -> list[Turn]:
    messages = take.need_array("messages")
    if not messages:
        raise refuse("messages", "must not be empty")
    return [_message(Members(one, f"messages[{at}]")) for at, one in enumerate(messages)]


def _message(take: Members) -> Turn:
    role = take.need_text("role")
    content = take.take("content")
    if content is None:
        raise missing(take.where("content"))
    parts = read_blocks(content, take.where("content"))
    match role:
        case "user":
            return Turn(role="user", parts=tuple(parts), extras=take.extras(NAME))
        case "assistant":
            return Turn(role="assistant", parts=tuple(gather(parts)), extras=take.extras(NAME))
        case "system":
            return Turn(role="system", word=MID, parts=tuple(parts), extras=take.extras(NAME))
        case _:
            raise refuse(take.where("role"), "must be one of user, assistant, system")


def _tool(source: object, path: str) -> Tool:
    payload = obj(source, path)
    kind = payload.get("type")
    if kind is not None and kind != "custom":
        if type(kind) is not str:
            raise refuse(f"{path}.type", "must be a string")
        if kind == "function":
            raise refuse(f"{path}.type", "is a tool of another dialect; a client's own tool has no type")
        return Tool(name=str(payload.get("name") or kind), kind="hosted", origin=NAME, payload=payload)
    take = Members(payload, path)
    name = take.need_text("name")
    schema = take.object("input_schema")
    if schema is None:
        raise missing(f"{path}.input_schema")
    return Tool(
        name=name,
        description=take.text("description") or "",
        schema=schema,
        strict=take.flag("strict"),
        cache_ttl=read_cache(take.rest),
        extras=take.extras(NAME),
    )


def _tool_choice(take: Members | None) -> tuple[ToolChoice | None, bool | None]:
    if take is None:
        return None, None
    kind = take.choice("type", ("auto", "any", "tool", "none"))
    off = take.flag("disable_parallel_tool_use")
    parallel = None if off is None else not off
    name = take.text("name")
    extras = take.extras(NAME)
    if kind == "tool":
        if name is None:
            raise missing("tool_choice.name")
        return ToolChoice(mode="required", names=(name,), extras=extras), parallel
    if kind == "any":
        return ToolChoice(mode="required", extras=extras), parallel
    return ToolChoice(mode="none" if kind == "none" else "auto", extras=extras), parallel


def _output(take: Members) -> tuple[OutputFormat | None, str | None]:
    config = take.inside("output_config")
    if config is None:
        return None, None
    effort = config.text("effort")
    wanted = config.inside("format")
    if config.rest:
        take.rest["output_config"] = config.rest
    if wanted is None:
        return None, effort
    wanted.choice("type", ("json_schema",))
    schema = wanted.object("schema")
    if schema is None:
        raise missing("output_config.format.schema")
    return OutputFormat(kind="json_schema", schema=schema, extras=wanted.extras(NAME)), effort


def _reasoning(thinking: dict[str, Any] | None, effort: str | None) -> ReasoningWish | None:
    if thinking is None:
        return ReasoningWish(effort=effort) if effort is not None else None
    take = Members(thinking, "thinking")
    kind = take.need_text("type")
    budget = take.integer("budget_tokens", 1)
    display = take.text("display")
    kept = {NAME: {"thinking": thinking, **({"effort": effort} if effort is not None else {})}}
    if kind == "disabled":
        return ReasoningWish(effort="none", extras=kept)
    if kind == "enabled" and budget is None:
        raise missing("thinking.budget_tokens")
    return ReasoningWish(
        effort=effort,
        budget_tokens=budget if kind == "enabled" else -1,
        show="none" if display == "omitted" else "summary",
        extras=kept,
    )
