"""Messages requests read into an Ask, refusing what Anthropic would refuse."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from tollway.core.json import decode
from tollway.upstream.sandbox import attachments, models, tokens
from tollway.upstream.sandbox.ask import Ask, Attachment, Choice, JsonFormat, Mark, Refused, Tool, Turn
from tollway.upstream.sandbox.mouths import reading
from tollway.upstream.sandbox.mouths.anthropic import rules
from tollway.upstream.sandbox.mouths.anthropic.rules import bad
from tollway.upstream.sandbox.mouths.reading import Invalid, string, words
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer

Count = Annotated[int, Meta(ge=1)]

_OUTPUT_MOST: Final = 256_000
"""Clients that do not know a model ask for 128,000 tokens, and for more beside them where it is to think."""


class _CacheControl(Struct, forbid_unknown_fields=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _SystemText(Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: Annotated[str, Meta(min_length=1)]
    cache_control: _CacheControl | None = None
    citations: list[Any] | None = None


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class _Thinking(Struct):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] = "summarized"


class _Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class Body(Struct):
    """A request body, as far as the sandbox looks at it."""

    model: str
    messages: list[_Message]
    max_tokens: Count | None = None
    system: str | list[_SystemText] | None = None
    stream: bool = False
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    cache_control: _CacheControl | None = None


class Document(Struct, frozen=True):
    """A document whose caller wants it cited. `paged`: by page, not by character."""

    title: str | None
    paged: bool


class MessagesAsk(Ask, frozen=True, kw_only=True):
    """An Ask with what only this dialect can say.

    `hidden`: thinking is signed but its text withheld; `documents`: what may be cited, None where
    citations are off; `searches`: a web search tool is on offer.
    """

    version: str = rules.NEWEST
    hidden: bool = False
    documents: tuple[Document | None, ...] = ()
    searches: bool = False


_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_DATED: Final = re.compile(r"([a-z_]+)_20\d{6}")
_TOOL_FIELDS: Final = words(
    "type name description input_schema strict defer_loading input_examples eager_input_streaming allowed_callers "
    "cache_control"
)
# What the client carries out although Anthropic wrote the definition, and what it is given.
_CLIENT_TOOLS: Final = {
    "bash": ("command",),
    "text_editor": ("command", "path"),
    "memory": ("command", "path"),
}
_CHOICES: Final[dict[str, Literal["none", "auto", "required"]]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}


def read(request: Request, signer: Signer, *, counting: bool = False) -> MessagesAsk:
    """The request. Raises Refused. `counting`: only its tokens are wanted, so no limit need be given."""
    version = request.headers.get("anthropic-version", "")
    if version not in rules.VERSIONS:
        what = f"'{version[:32]}' is not a valid version" if version else "header is required"
        raise bad(f"anthropic-version: {what}")
    raw = reading.read_body(request.body, decode, explain)
    if type(raw) is not dict:
        raise bad("Input should be a valid dictionary")
    body = reading.converted(raw, Body, "", explain)
    if body.max_tokens is None and not counting:
        raise bad("max_tokens: Field required")
    rules.check_fields(raw, version, request.headers.get("anthropic-beta", ""))
    rules.check_messages(raw["messages"], version, signer)
    rules.check_marks(_marks(raw))
    _check_model(body, raw)
    return _ask(body, raw, version)


def explain(invalid: Invalid) -> Refused:
    """Why a body does not fit, in the words of Anthropic's validator."""
    where = re.sub(r"\[(\d+)\]", r".\1", invalid.where).strip(".")
    if invalid.missing:
        return bad(
            f"{where}.{invalid.missing}: Field required" if where else f"{invalid.missing}: Field required"
        )
    if "contains unknown field" in invalid.text:
        return rules.unexpected(f"{where}.{invalid.text.rpartition(' ')[2].strip('`')}")
    return bad(f"{where}: {invalid.text}" if where else invalid.text)


def _check_model(body: Body, raw: dict[str, Any]) -> None:
    """What depends on the model, or on thinking."""
    found = models.find(body.model)
    most = max(found.model.output_max, _OUTPUT_MOST) if found else None
    if most is not None and body.max_tokens is not None and body.max_tokens > most:
        raise bad(
            f"max_tokens: {body.max_tokens} > {most}, which is the maximum allowed number of output tokens for {body.model}"
        )
    reasons = found is not None and "reasoning" in found.model.capabilities
    if reasons and body.messages[-1].role == "assistant":
        raise bad(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    thinking = body.thinking
    if thinking is None or thinking.type != "enabled":
        return
    if thinking.budget_tokens is None:
        raise bad("thinking.enabled.budget_tokens: Field required")
    if thinking.budget_tokens < 1024:
        raise bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if body.max_tokens is not None and body.max_tokens <= thinking.budget_tokens:
        raise bad("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise bad("Thinking may not be enabled when tool_choice forces tool use.")
    if body.temperature not in (None, 1):
        raise bad("`temperature` may only be set to 1 when thinking is enabled.")
    if reasons:
        rules.check_thinking_first(raw["messages"])


def _marks(raw: dict[str, Any]) -> list[str]:
    """The times of all cache marks, in the order of the prompt: tools, system, messages."""
    found: list[str] = []
    _collect(raw.get("tools"), found)
    _collect(raw.get("system"), found)
    for message in raw["messages"]:
        _collect(message["content"], found)
    if raw.get("cache_control"):
        found.append(string(raw["cache_control"], "ttl") or "5m")
    return found


def _collect(blocks: Any, found: list[str]) -> None:
    for block in blocks if type(blocks) is list else ():
        control = block.get("cache_control") if type(block) is dict else None
        if control:
            found.append(string(control, "ttl") or "5m")


def _ask(body: Body, raw: dict[str, Any], version: str) -> MessagesAsk:
    config = body.output_config or _OutputConfig()
    choice = body.tool_choice or _ToolChoice("auto")
    stops = tuple(body.stop_sequences or ())
    if any(not stop.strip() for stop in stops):
        raise bad("stop_sequences: each stop sequence must contain non-whitespace")
    tools = [_tool(tool, at) for at, tool in enumerate(body.tools or ())]
    if len({string(tool, "name") for tool in body.tools or ()}) != len(tools):
        raise bad("tools: Tool names must be unique.")
    turns = _turns(body, raw)
    if body.cache_control is not None:
        turns[-1] = msgspec.structs.replace(turns[-1], mark=body.cache_control.ttl)
    return MessagesAsk(
        model=body.model,
        turns=tuple(turns),
        streamed=body.stream,
        tools=tuple(tool for tool in tools if tool is not None),
        tools_weight=reading.weight_of(body.tools, config.format and config.format.schema),
        choice=Choice(_CHOICES[choice.type], choice.name),
        parallel=not choice.disable_parallel_tool_use,
        format=JsonFormat(config.format.schema) if config.format else None,
        output_max=body.max_tokens,
        stops=stops,
        effort=_effort(body.thinking, config),
        marked=True,
        version=version,
        hidden=body.thinking is not None and body.thinking.display == "omitted",
        documents=tuple(_documents(raw["messages"])),
        searches=any(string(tool, "type").startswith("web_search_") for tool in body.tools or ()),
    )


def _effort(thinking: _Thinking | None, config: _OutputConfig) -> str:
    """How much to think. A budget is a ceiling: small ones mean little thought."""
    if thinking is None or thinking.type == "disabled":
        return "none"
    if thinking.type == "enabled" and thinking.budget_tokens is not None and config.effort is None:
        return "low" if thinking.budget_tokens < 4096 else "medium"
    return config.effort or "high"


def _turns(body: Body, raw: dict[str, Any]) -> list[Turn]:
    found = []
    if isinstance(body.system, str):
        found.append(reading.turn("system", (body.system,)))
    else:
        found.extend(_system(block) for block in body.system or ())
    names: dict[str, str] = {}
    for message in raw["messages"]:
        found.extend(_message(message, names))
    return found


def _system(block: _SystemText) -> Turn:
    return reading.turn("system", (block.text,), mark=block.cache_control.ttl if block.cache_control else "")


def _message(message: dict[str, Any], names: dict[str, str]) -> list[Turn]:
    """A turn for each tool result, and one for the rest."""
    results: list[Turn] = []
    texts: list[str] = []
    attached: list[Attachment] = []
    extra = 0
    mark: Mark = ""
    for block in rules.blocks_of(message):
        kind = block["type"]
        if kind == "tool_result":
            results.append(_result(block, names))
            continue
        mark = _mark(block) or mark
        if kind == "text":
            texts.append(block["text"])
        elif kind in ("image", "document", "search_result"):
            attached.append(_attachment(block))
        elif kind in ("tool_use", "server_tool_use"):
            names[string(block, "id")] = string(block, "name")
            extra += tokens.count(string(block, "name")) + reading.weight_of(block.get("input"))
        elif kind in ("thinking", "redacted_thinking"):
            extra += tokens.count(string(block, "thinking"))
        else:
            extra += reading.weight_of(block.get("content"))
    if results and not (texts or attached):
        return results
    return [*results, reading.turn(message["role"], texts, tuple(attached), extra=extra, mark=mark)]


def _mark(block: dict[str, Any]) -> Mark:
    control = block.get("cache_control")
    if not control:
        return ""
    return reading.converted(control, _CacheControl, "cache_control", explain).ttl


def _result(block: dict[str, Any], names: dict[str, str]) -> Turn:
    content = block.get("content", "")
    inner = content if type(content) is list else []
    texts = (
        [content] if type(content) is str else [string(one, "text") for one in inner if one["type"] == "text"]
    )
    attached = tuple(
        _attachment(one) for one in inner if one["type"] in ("image", "document", "search_result")
    )
    source = names.get(block["tool_use_id"], "")
    return reading.turn("tool", texts, attached, source=source, mark=_mark(block))


def _attachment(block: dict[str, Any]) -> Attachment:
    if block["type"] == "search_result":
        return attachments.file(string(block, "title"), "")
    source = block.get("source")
    where = string(source, "url") or string(source, "file_id")
    if block["type"] == "image":
        return attachments.image(where or f"data:;base64,{string(source, 'data')}")
    name = string(block, "title") or where or string(source, "media_type")
    return attachments.file(name, string(source, "data"))


def _documents(messages: list[dict[str, Any]]) -> list[Document | None]:
    found: list[Document | None] = []
    for message in messages:
        for block in rules.blocks_of(message):
            if block["type"] == "document":
                citations = block.get("citations")
                wanted = type(citations) is dict and citations.get("enabled") is True
                paged = string(block.get("source"), "media_type") == "application/pdf"
                found.append(Document(string(block, "title") or None, paged) if wanted else None)
    return found


def _tool(given: dict[str, Any], at: int) -> Tool | None:
    """A tool the client carries out; None for one that Anthropic would."""
    kind, name = string(given, "type") or "custom", string(given, "name")
    dated = _DATED.fullmatch(kind)
    if dated:
        properties = _CLIENT_TOOLS.get(dated[1])
        schema = {"type": "object", "properties": {one: {"type": "string"} for one in properties or ()}}
        return Tool(name or dated[1], schema) if properties else None
    if kind != "custom":
        raise bad(f"tools.{at}: Input tag '{kind}' found using 'type' is not expected")
    if not _TOOL_NAME.fullmatch(name):
        raise bad(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema_given = given.get("input_schema")
    if type(schema_given) is not dict:
        raise bad(f"tools.{at}.custom.input_schema: Field required")
    if schema_given.get("type") != "object":
        raise bad(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
    for field in given:
        if field not in _TOOL_FIELDS:
            raise rules.unexpected(f"tools.{at}.custom.{field}")
    return Tool(name, schema_given)
