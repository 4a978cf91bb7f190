"""Canonical requests written as Messages, for upstreams that speak it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.anthropic import blocks
from tollway.core.dialects.anthropic.wishes import thinking
from tollway.core.dialects.base import Target, Undo, Written
from tollway.core.dialects.conversation import (
    JSON_ONLY,
    OPENING,
    foreign,
    hoisted,
    joined,
    rejoined,
    shaped,
)
from tollway.core.dialects.naming import (
    Namer,
    legal_id,
    object_of,
    wrapped_arguments,
    wrapped_description,
    wrapped_schema,
)
from tollway.core.exchange import (
    Loss,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from tollway.core.seals import usable

NAME: Final = "anthropic"
ANSWER_TOOL: Final = "give_answer"
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMAGES: Final = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_TIERS: Final = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard": "standard_only"}


def write_request(request: Request, target: Target) -> Written:
    """The request as a Messages body, with what it could not say."""
    return _Writing(request, target).written()


def write_count(request: Request, target: Target) -> Written:
    """The request as a count_tokens body."""
    written = write_request(request, target)
    unwanted = (
        "max_tokens",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "service_tier",
    )
    body = {name: value for name, value in written.body.items() if name not in unwanted}
    return Written(body, written.losses, written.undo)


class _Writing:
    """One request on its way into Messages."""

    def __init__(self, request: Request, target: Target) -> None:
        self._request = request
        self._target = target
        self._home = request.origin == NAME
        self._losses: list[Loss] = foreign(request, NAME, cache_marks=True)
        self._namer = Namer(_TOOL_NAME, 128)
        self._answer_tool = ""

    def written(self) -> Written:
        request = self._request
        tools = self._tools()
        body: dict[str, Any] = {"model": request.model, "max_tokens": self._max_tokens()}
        system, messages = self._conversation()
        if system:
            body["system"] = system
        body["messages"] = messages
        if tools:
            body["tools"] = tools
            choice = self._tool_choice()
            if choice is not None:
                body["tool_choice"] = choice
        body.update(self._options())
        body.update(thinking(request, self._target, body, self._losses))
        body.update(self._sampling("thinking" in body and body["thinking"].get("type") == "enabled"))
        for name, value in request.extras.get(NAME, {}).items():
            merged = (
                {**value, **body[name]} if type(value) is dict and type(body.get(name)) is dict else value
            )
            body[name] = merged
        self._refuse_capabilities()
        if not self._home:
            self._limit_marks(body)
        undo = Undo(tools=self._namer.undo, answer_tool=self._answer_tool)
        return Written(body, tuple(dict.fromkeys(self._losses)), undo)

    def _lose(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why))

    def _cannot(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why, "capability"))

    def _refuse_capabilities(self) -> None:
        request = self._request
        if request.candidates > 1:
            self._cannot("n", "Messages answers once")
        if request.logprobs is not None:
            self._cannot("logprobs", "Messages tells no token probabilities")
        if request.previous is not None:
            self._cannot("previous_response_id", "Messages keeps no conversations")
        if set(request.modalities) - {"text"}:
            self._cannot("modalities", "Messages answers in text only")

    def _max_tokens(self) -> int:
        wanted = self._request.sampling.max_output_tokens
        limit = self._target.max_output_tokens
        if wanted is None:
            return min(self._target.default_output_tokens, limit or self._target.default_output_tokens)
        if limit is not None and wanted > limit and not self._home:
            self._lose("max_tokens", f"the model writes at most {limit} tokens")
            return limit
        return wanted

    def _sampling(self, thinks: bool) -> dict[str, Any]:
        wanted = self._request.sampling
        given = {"temperature": wanted.temperature, "top_p": wanted.top_p, "top_k": wanted.top_k}
        found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not self._home:
            found = self._fitting(found, thinks)
        if wanted.stop:
            found["stop_sequences"] = [one for one in wanted.stop if self._home or one.strip()]
        return found

    def _fitting(self, given: dict[str, Any], thinks: bool) -> dict[str, Any]:
        """Those of the given sampling parameters the model takes, on its scale."""
        for name in ("seed", "presence_penalty", "frequency_penalty"):
            if getattr(self._request.sampling, name):
                self._lose(name, "Messages has no such field")
        if given and (thinks or not self._target.sampling):
            self._lose("temperature", "the model takes no sampling parameters here")
            return {}
        if given.get("temperature", 0) > 1:
            given["temperature"] = 1
            self._lose("temperature", "the scale ends at 1")
        if "temperature" in given and given.pop("top_p", 1) < 1:
            self._lose("top_p", "the model takes temperature or top_p, not both")
        return given

    def _options(self) -> dict[str, Any]:
        request = self._request
        found: dict[str, Any] = {}
        if request.stream:
            found["stream"] = True
        if request.user is not None:
            found["metadata"] = {"user_id": request.user}
        if request.service_tier is not None:
            tier = request.service_tier if self._home else _TIERS.get(request.service_tier)
            if tier is None:
                self._lose("service_tier", f"Messages has no tier {request.service_tier!r}")
            else:
                found["service_tier"] = tier
        config: dict[str, Any] = {}
        output = request.output
        if output is not None and output.kind == "json_schema" and not self._answer_tool:
            schema = output.schema or {"type": "object"}
            config["format"] = {"type": "json_schema", "schema": schema, **output.extras.get(NAME, {})}
        if config:
            found["output_config"] = config
        for name, value in (("verbosity", request.verbosity), ("prompt_cache_key", request.cache_key)):
            if value is not None:
                self._lose(name, "Messages has no such field")
        return found

    def _tools(self) -> list[dict[str, Any]]:
        request, choice = self._request, self._request.tool_choice
        kept: Iterable[Tool] = request.tools
        if choice is not None and len(choice.names) > 1:
            # A choice among some tools can only be said by offering no others.
            kept = [tool for tool in request.tools if tool.name in choice.names or tool.kind == "hosted"]
        found = [shown for tool in kept if (shown := self._tool(tool)) is not None]
        output = request.output
        if (
            output is not None
            and output.kind == "json_schema"
            and not self._target.json_schema
            and not self._home
        ):
            self._answer_tool = ANSWER_TOOL
            schema = output.schema or {"type": "object"}
            described = output.description or "Gives the answer. Call it exactly once."
            found.append({"name": ANSWER_TOOL, "description": described, "input_schema": schema})
        return found

    def _tool(self, tool: Tool) -> dict[str, Any] | None:
        if tool.kind == "hosted":
            if tool.origin == NAME:
                return tool.payload
            self._lose(f"tools.{tool.name}", "a tool of another provider that runs upstream")
            return None
        own = tool.extras.get(NAME, {})
        found: dict[str, Any] = {"name": tool.name if self._home else self._namer.declare(tool)}
        description = wrapped_description(tool)
        if description:
            found["description"] = description
        schema = wrapped_schema(tool)
        found["input_schema"] = schema if self._home else {"type": "object", **schema}
        if tool.strict is not None and self._home:
            found["strict"] = tool.strict
        if tool.cache_ttl is not None:
            found["cache_control"] = _mark(tool.cache_ttl)
        return {**found, **own}

    def _tool_choice(self) -> dict[str, Any] | None:
        request, choice = self._request, self._request.tool_choice
        found: dict[str, Any]
        if self._answer_tool and not request.tools:
            return {"type": "tool", "name": ANSWER_TOOL}
        if choice is None:
            found = {"type": "any" if self._answer_tool else "auto"}
            if request.parallel_tools is None and not self._answer_tool:
                return None
        elif choice.mode == "required" and len(choice.names) == 1:
            found = {"type": "tool", "name": self._sent_name(choice.names[0])}
        else:
            found = {"type": {"auto": "auto", "none": "none", "required": "any"}[choice.mode]}
            if choice.extras and NAME not in choice.extras:
                self._lose("tool_choice", "a choice that only its own dialect knows")
        if request.parallel_tools is not None and found["type"] != "none":
            found["disable_parallel_tool_use"] = not request.parallel_tools
        return {**found, **(choice.extras.get(NAME, {}) if choice is not None else {})}

    def _sent_name(self, name: str) -> str:
        tool = next((one for one in self._request.tools if one.name == name), None)
        return name if self._home or tool is None else self._namer.name(tool.namespace, name)

    def _conversation(self) -> tuple[Any, list[dict[str, Any]]]:
        if self._home:
            leading = [turn for turn in self._request.turns if turn.role == "system" and not turn.word]
            rest = [turn for turn in self._request.turns if turn not in leading]
            return self._system(leading), [self._message(turn) for turn in rest]
        leading, rest = hoisted(self._request.turns)
        turns, losses = shaped(self._mid_system(rest))
        self._losses.extend(losses)
        written = [
            {"role": turn.role, "content": self._ordered(turn)} for turn in joined(turns, "user", "assistant")
        ]
        return self._system(leading), rejoined(written, "content", {"type": "text", "text": OPENING})

    def _mid_system(self, turns: list[Turn]) -> list[Turn]:
        """System turns inside the conversation, as such where the model takes them, else as tagged user text."""
        if self._target.mid_system:
            return turns
        found: list[Turn] = []
        for turn in turns:
            if turn.role == "system":
                text = "\n".join(part.text for part in turn.parts if isinstance(part, Text))
                turn = Turn(role="user", parts=(Text(f"<system>\n{text}\n</system>"),))
            found.append(turn)
        return found

    def _system(self, turns: list[Turn]) -> Any:
        parts = [part for turn in turns for part in turn.parts]
        if self._home and len(parts) == 1 and type(parts[0]) is Text and not _plain_marks(parts[0]):
            return parts[0].text
        found = self._blocks(parts)
        output = self._request.output
        if output is not None and output.kind == "json" and not self._home:
            found.append({"type": "text", "text": JSON_ONLY})
        if len(found) == 1 and found[0].keys() == {"type", "text"}:
            return found[0]["text"]
        return found

    def _message(self, turn: Turn) -> dict[str, Any]:
        parts = turn.parts
        if len(parts) == 1 and type(parts[0]) is Text and not _plain_marks(parts[0]):
            return {"role": turn.role, "content": parts[0].text, **turn.extras.get(NAME, {})}
        return {"role": turn.role, "content": self._blocks(parts), **turn.extras.get(NAME, {})}

    def _ordered(self, turn: Turn) -> list[dict[str, Any]]:
        """Results come first in a user turn, calls last in an assistant's."""
        kind = ToolResult if turn.role == "user" else ToolCall
        first = [part for part in turn.parts if isinstance(part, kind) == (turn.role == "user")]
        last = [part for part in turn.parts if isinstance(part, kind) != (turn.role == "user")]
        return self._blocks([*first, *last])

    def _blocks(self, parts: Iterable[Part]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for part in parts:
            block = self._block(part)
            if block is None:
                continue
            if part.cache_ttl is not None:
                block["cache_control"] = _mark(part.cache_ttl)
            found.append(block)
        return found

    def _block(self, part: Part) -> dict[str, Any] | None:
        own = part.extras.get(NAME, {})
        found: dict[str, Any] | None = None
        match part:
            case Text():
                found = self._text(part, own)
            case Refusal():
                found = {"type": "text", "text": part.text} if part.text else None
            case Reasoning():
                found = self._thought(part)
            case ToolCall():
                found = self._call(part)
            case ToolResult():
                found = self._result(part, own)
            case Media():
                found = self._media(part, own)
            case Opaque() if part.origin == NAME:
                found = dict(part.payload)
            case Opaque():
                self._lose(f"messages[].content.{part.payload.get('type', 'block')}", "no such block here")
            case _:
                pass
        return found

    def _text(self, part: Text, own: dict[str, Any]) -> dict[str, Any] | None:
        if not part.text and not self._home:
            return None
        found = {"type": "text", "text": part.text, **own}
        cited = [one.extras[NAME] for one in part.citations if NAME in one.extras]
        if cited:
            found["citations"] = cited
        return found

    def _thought(self, part: Reasoning) -> dict[str, Any] | None:
        if part.seal is None or not usable(part.seal, NAME, self._target.scope):
            if self._home and part.seal is None:
                return blocks.write_thought(part)
            self._lose("thinking", "thoughts that this upstream did not sign were left out")
            return None
        return blocks.write_thought(part)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if self._home:
            return blocks.write_call(call)
        if call.seal is not None:
            self._lose("seal", "a signature made by another upstream was left out")
        arguments = wrapped_arguments(call)
        if object_of(arguments) is None:
            self._lose("tool_calls[].function.arguments", "not a JSON object; sent as text inside one")
        name = self._namer.name(call.namespace, call.name)
        call_id = legal_id(call.id, _CALL_ID)
        return blocks.write_call(replace(call, id=call_id, name=name, arguments=arguments, kind="function"))

    def _result(self, part: ToolResult, own: dict[str, Any]) -> dict[str, Any]:
        call_id = part.call_id if self._home else legal_id(part.call_id, _CALL_ID)
        found: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id}
        content = part.content
        if len(content) == 1 and type(content[0]) is Text and not _plain_marks(content[0]):
            found["content"] = content[0].text
        elif content:
            found["content"] = self._blocks(content)
        if part.is_error:
            found["is_error"] = True
        return {**found, **own}

    def _media(self, part: Media, own: dict[str, Any]) -> dict[str, Any] | None:
        source = self._source(part)
        if source is None:
            return None
        kind = "image" if part.family == "image" else "document"
        found: dict[str, Any] = {"type": kind, "source": source}
        if kind == "document" and part.name:
            found["title"] = part.name
        if "source" in own:
            own = {**own, "source": {**source, **own["source"]}}
        return {**found, **own}

    def _source(self, part: Media) -> dict[str, Any] | None:
        """Where the media is, as the block says it; None (and a lost capability) if it cannot be said."""
        found: dict[str, Any] | None = None
        if part.source == "file" and self._home:
            found = {"type": "file", "file_id": part.value}
        elif part.source == "url" and (self._target.fetches_urls is not False or self._home):
            found = {"type": "url", "url": part.value} if part.family in ("image", "document") else None
        elif part.source == "text":
            found = {"type": "text", "media_type": "text/plain", "data": part.value}
        elif part.source == "base64" and (self._home or part.media_type in _IMAGES | {"application/pdf"}):
            found = {"type": "base64", "media_type": part.media_type, "data": part.value}
        elif part.source == "base64" and part.media_type.startswith("text/"):
            text = _decoded(part.value)
            found = None if text is None else {"type": "text", "media_type": "text/plain", "data": text}
        if found is None:
            self._cannot(part.family, f"Messages takes no {part.media_type} by {part.source}")
        return found

    def _limit_marks(self, body: dict[str, Any]) -> None:
        """Anthropic refuses more than a few cache marks: the earliest give way."""
        system = body.get("system")
        places = [*body.get("tools", ()), *(system if type(system) is list else ())]
        for message in body["messages"]:
            places.extend(message["content"])
        marked = [one for one in places if "cache_control" in one]
        for one in marked[: -self._target.cache_marks_max]:
            del one["cache_control"]
            self._lose("cache_control", f"at most {self._target.cache_marks_max} cache marks are sent")


def _plain_marks(part: Text) -> bool:
    """Whether a text carries anything that a plain string cannot."""
    return bool(part.extras.get(NAME) or part.citations or part.cache_ttl is not None or not part.text)


def _mark(ttl: str) -> dict[str, Any]:
    return {"type": "ephemeral", "ttl": ttl} if ttl in ("5m", "1h") else {"type": "ephemeral"}


def _decoded(data: str) -> str | None:
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
