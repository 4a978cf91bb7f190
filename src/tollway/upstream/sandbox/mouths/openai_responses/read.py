"""Responses requests read into an Ask, refusing what OpenAI would refuse.

The sandbox is an organisation without data retention: nothing is stored, so items are never found by
their id, and reasoning has to come back with its encrypted content.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from tollway.core.json import decode
from tollway.upstream.sandbox.ask import Ask, Choice, JsonFormat, Refused, Tool
from tollway.upstream.sandbox.mouths import openai, reading
from tollway.upstream.sandbox.mouths.openai_responses import items
from tollway.upstream.sandbox.mouths.reading import string, words
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer

ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: Any = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(Struct):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class Body(Struct):
    """A request body, as far as the sandbox looks at it."""

    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    store: bool | None = None


class ResponsesAsk(Ask, frozen=True, kw_only=True):
    """An Ask with what only this dialect can say. `echo`: fields the response repeats."""

    echo: dict[str, Any]
    encrypted: bool = False
    summarised: bool = False
    top_logprobs: int | None = None


# Fields of Chat Completions and other dialects; whoever sends them has not translated.
_FOREIGN: Final = words(
    "messages max_tokens max_completion_tokens n stop seed response_format reasoning_effort functions function_call "
    "logprobs logit_bias presence_penalty frequency_penalty modalities audio prediction verbosity stop_sequences system "
    "thinking output_config contents generationConfig"
)


def read(request: Request, signer: Signer, owner: str) -> ResponsesAsk:
    """The request. Raises Refused. `owner`: who alone may send back encrypted reasoning."""
    raw = reading.read_body(request.body, decode, openai.explain)
    if type(raw) is not dict:
        raise openai.bad_value("The body must be a JSON object.", None)
    for name in raw:
        if name in _FOREIGN:
            raise Refused(400, f"Unsupported parameter: '{name}'.", param=name, code="unsupported_parameter")
    body = reading.converted(raw, Body, "", openai.explain)
    _check(body)
    openai.check_picky(body, "temperature", "top_p")
    return _ask(body, signer, owner)


def _check(body: Body) -> None:
    if body.input is None:
        raise openai.missing("input")
    if body.previous_response_id is not None:
        text = f"Previous response with id '{body.previous_response_id[:128]}' not found."
        raise Refused(400, text, param="previous_response_id", code="previous_response_not_found")
    if body.conversation is not None:
        raise Refused(404, "Conversation not found.", param="conversation")
    if body.background:
        raise openai.bad_value("Background mode needs stored responses, which are off.", "background")
    if body.max_output_tokens is not None and body.max_output_tokens < 16:
        text = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16."
        raise Refused(400, text, param="max_output_tokens", code="integer_below_min_value")


def _ask(body: Body, signer: Signer, owner: str) -> ResponsesAsk:
    offered = [tool for at, given in enumerate(body.tools or ()) for tool in _tools(given, f"tools[{at}]")]
    choice, allowed = _choice(body.tool_choice)
    turns = [reading.turn("system", (body.instructions,))] if body.instructions else []
    turns += items.turns(body.input if body.input is not None else "", signer, owner)
    reasoning, text, include = body.reasoning or _Reasoning(), body.text or _Text(), body.include or []
    return ResponsesAsk(
        model=body.model,
        turns=tuple(turns),
        streamed=bool(body.stream),
        tools=tuple(tool for tool in offered if allowed is None or tool.name in allowed),
        tools_weight=reading.weight_of(body.tools, text.format and text.format.schema),
        choice=choice,
        parallel=body.parallel_tool_calls is not False,
        format=_format(text.format),
        output_max=body.max_output_tokens,
        effort=reasoning.effort or "medium",
        echo=_echo(body, offered),
        encrypted=ENCRYPTED in include,
        summarised=reasoning.summary is not None,
        top_logprobs=(body.top_logprobs or 0) if LOGPROBS in include else None,
    )


def _tools(given: dict[str, Any], where: str, space: str = "") -> list[Tool]:
    """The tools a definition offers: one, those of a namespace, or none where OpenAI would carry it out."""
    kind, name = string(given, "type"), string(given, "name")
    if not kind:
        raise openai.missing(f"{where}.type")
    if kind not in ("function", "custom", "namespace"):
        return []
    if not name:
        raise openai.missing(f"{where}.name")
    if kind == "namespace":
        inner = given.get("tools")
        listed = inner if type(inner) is list else []
        return [tool for at, one in enumerate(listed) for tool in _tools(one, f"{where}.tools[{at}]", name)]
    if kind == "custom":
        return [Tool(name, None, custom=True, space=space)]
    if given.get("strict") is True:
        openai.check_strict(name, given.get("parameters"), f"{where}.parameters")
    return [Tool(name, given.get("parameters"), space=space)]


def _choice(given: str | dict[str, Any] | None) -> tuple[Choice, frozenset[str] | None]:
    """The tool choice, and the names it is restricted to if it is."""
    if given is None or given == "auto":
        return Choice(), None
    if isinstance(given, str):
        return Choice("required" if given == "required" else "none"), None
    kind = string(given, "type")
    if kind in ("function", "custom"):
        if not string(given, "name"):
            raise openai.missing("tool_choice.name")
        return Choice("required", string(given, "name")), None
    if kind == "allowed_tools":
        listed = given.get("tools")
        names = frozenset(string(one, "name") for one in (listed if type(listed) is list else ()))
        return Choice("required" if given.get("mode") == "required" else "auto"), names
    if not kind:
        raise openai.missing("tool_choice.type")
    return Choice(), None


def _format(given: _Format | None) -> JsonFormat | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return JsonFormat()
    for field in ("name", "schema"):
        if not getattr(given, field):
            raise openai.missing(f"text.format.{field}")
    return JsonFormat(given.schema)


def _echo(body: Body, offered: list[Tool]) -> dict[str, Any]:
    """What the response repeats of the request, with OpenAI's defaults filled in."""
    form: dict[str, Any] = {"type": "text"}
    if body.text is not None and body.text.format is not None and body.text.format.type != "text":
        form = {"type": body.text.format.type}
        if form["type"] == "json_schema":
            form = {**form, "name": body.text.format.name, "schema": body.text.format.schema, "strict": True}
    reasoning = body.reasoning or _Reasoning()
    tools = [
        {"strict": False, "parameters": None, **tool} if tool["type"] == "function" else tool
        for tool in body.tools or ()
    ]
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": form, "verbosity": (body.text and body.text.verbosity) or "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": tools if offered or body.tools else [],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
    }
