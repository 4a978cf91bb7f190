"""Canonical requests written as Chat Completions, for upstreams that speak it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects import media
from tollway.core.dialects.base import Target, Undo, Written
from tollway.core.dialects.conversation import JSON_ONLY, OPENING, foreign, shaped, unasked_json
from tollway.core.dialects.naming import (
    Namer,
    legal_id,
    wrapped_arguments,
    wrapped_description,
    wrapped_schema,
)
from tollway.core.dialects.openai_chat import reasoning
from tollway.core.dialects.openai_chat.answer import nested, write_call
from tollway.core.dialects.openai_chat.read import OUTER
from tollway.core.exchange import (
    Loss,
    Media,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from tollway.core.seals import usable

NAME: Final = "openai_chat"
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CALL_ID: Final = re.compile(r".{1,40}", re.DOTALL)
_STOPS_MAX: Final = 4
_CACHE_TTLS: Final = ("30m", "12h")
_TIERS: Final = frozenset(("auto", "default", "flex", "scale", "priority", "fast"))
_TIER_WORDS: Final = {"standard": "default", "standard_only": "default"}
_AUDIO: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def write_request(request: Request, target: Target) -> Written:
    """The request as a Chat Completions body, with what it could not say."""
    return _Writing(request, target).written()


class _Writing:
    """One request on its way into Chat Completions."""

    def __init__(self, request: Request, target: Target) -> None:
        self._request = request
        self._target = target
        self._home = request.origin == NAME
        self._losses: list[Loss] = foreign(request, NAME, cache_marks=target.cache_marks)
        self._namer = Namer(_TOOL_NAME, 64)

    def written(self) -> Written:
        request = self._request
        tools = [found for tool in request.tools if (found := self._tool(tool)) is not None]
        body: dict[str, Any] = {"model": request.model, "messages": self._messages()}
        body.update(self._sampling())
        body.update(self._options())
        if tools:
            body["tools"] = tools
            if request.parallel_tools is not None:
                body["parallel_tool_calls"] = request.parallel_tools
        if request.tool_choice is not None and tools:
            body["tool_choice"] = self._tool_choice(request.tool_choice)
        body.update(request.extras.get(NAME, {}))
        if request.stream:
            # Usage is always asked for: without it nothing can be settled exactly.
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        self._refuse_state()
        losses = tuple(dict.fromkeys(self._losses))
        return Written(body, losses, Undo(tools=self._namer.undo))

    def _lose(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why))

    def _refuse_state(self) -> None:
        if self._request.previous is not None:
            self._losses.append(
                Loss("previous_response_id", "Chat Completions keeps no conversations", "capability")
            )

    def _sampling(self) -> dict[str, Any]:
        wanted = self._request.sampling
        found: dict[str, Any] = {}
        if wanted.max_output_tokens is not None:
            found[self._target.completion_tokens_field] = wanted.max_output_tokens
        if not self._target.sampling and not self._home:
            given = (wanted.temperature, wanted.top_p, wanted.presence_penalty, wanted.frequency_penalty)
            if any(value is not None for value in given):
                self._lose("temperature", "the model takes no sampling parameters")
            return found
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"):
            value = getattr(wanted, name)
            if value is not None:
                found[name] = value
        if wanted.top_k is not None:
            if self._home:
                found["top_k"] = wanted.top_k
            else:
                self._lose("top_k", "Chat Completions has no such field")
        if wanted.stop:
            found["stop"] = list(wanted.stop) if self._home else list(wanted.stop[:_STOPS_MAX])
            if len(found["stop"]) < len(wanted.stop):
                self._lose("stop", f"at most {_STOPS_MAX} stop sequences are sent")
        return found

    def _options(self) -> dict[str, Any]:
        request = self._request
        found: dict[str, Any] = {}
        if request.stream:
            found["stream"] = True
        if request.candidates > 1:
            found["n"] = request.candidates
            if not self._home:
                self._losses.append(Loss("n", "several candidates cannot be translated", "capability"))
        if request.logprobs is not None:
            found["logprobs"] = True
            if request.logprobs:
                found["top_logprobs"] = request.logprobs
        if request.output is not None:
            found["response_format"] = self._output(request.output)
        found.update(self._reasoning())
        found.update(self._identity())
        if request.modalities and (self._home or set(request.modalities) != {"text"}):
            found["modalities"] = list(request.modalities)
        return found

    def _identity(self) -> dict[str, Any]:
        request = self._request
        given = {
            "verbosity": request.verbosity,
            "user": request.user,
            "metadata": request.metadata,
            "prompt_cache_key": request.cache_key,
            "store": request.store if self._home else None,
        }
        found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        tier = request.service_tier
        if tier is not None:
            word = tier if self._home else _TIER_WORDS.get(tier, tier)
            if self._home or word in _TIERS:
                found["service_tier"] = word
            else:
                self._lose("service_tier", f"Chat Completions has no tier {tier!r}")
        return found

    def _reasoning(self) -> dict[str, Any]:
        wish = self._request.reasoning
        if wish is None or self._target.thinking == "none":
            if wish is not None and wish.effort != "none":
                self._lose("reasoning", "the model does not reason")
            return {}
        effort = wish.effort or self._effort_of(wish.budget_tokens)
        return {"reasoning_effort": effort} if effort is not None else {}

    def _effort_of(self, budget: int | None) -> str | None:
        if budget is None or budget < 0:
            return None
        if budget == 0:
            return "none"
        fitting = [name for name in ("low", "medium", "high") if budget <= self._target.budgets.get(name, 0)]
        return fitting[0] if fitting else "high"

    def _output(self, output: OutputFormat) -> dict[str, Any]:
        own = output.extras.get(NAME, {})
        if output.kind != "json_schema":
            return {"type": "json_object" if output.kind == "json" else "text", **own}
        if not self._target.json_schema and not self._home:
            self._losses.append(Loss("response_format", "the model takes no JSON schema", "capability"))
        inner: dict[str, Any] = {"name": output.name or "answer"}
        if output.description:
            inner["description"] = output.description
        if output.schema is not None:
            inner["schema"] = output.schema
        if output.strict is not None:
            inner["strict"] = output.strict
        return {"type": "json_schema", "json_schema": {**inner, **own}}

    def _custom(self, kind: str) -> bool:
        return kind == "custom" and (self._home or self._target.custom_tools)

    def _tool(self, tool: Tool) -> dict[str, Any] | None:
        if tool.kind == "hosted":
            if tool.origin == NAME:
                return tool.payload
            self._lose(
                f"tools.{tool.name}", "a tool that runs upstream cannot be offered in Chat Completions"
            )
            return None
        if self._custom(tool.kind):
            return _custom_tool(tool)
        inner: dict[str, Any] = {"name": tool.name if self._home else self._namer.declare(tool)}
        description = wrapped_description(tool)
        if description:
            inner["description"] = description
        if tool.schema is not None or tool.kind == "custom":
            inner["parameters"] = wrapped_schema(tool)
        if tool.strict is not None:
            inner["strict"] = tool.strict
        return _declared("function", inner, tool)

    def _tool_choice(self, choice: ToolChoice) -> Any:
        if NAME in choice.extras:
            return choice.extras[NAME]
        if choice.extras:
            self._lose("tool_choice", "Chat Completions cannot force this tool")
        if not choice.names:
            return choice.mode
        tools = [self._chosen(name) for name in choice.names]
        if len(tools) == 1 and choice.mode == "required":
            return tools[0]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}

    def _chosen(self, name: str) -> dict[str, Any]:
        tool = next((one for one in self._request.tools if one.name == name), None)
        kind = "custom" if tool is not None and self._custom(tool.kind) else "function"
        sent = name if self._home or tool is None else self._namer.name(tool.namespace, name)
        return {"type": kind, kind: {"name": sent}}

    def _messages(self) -> list[dict[str, Any]]:
        turns: Iterable[Turn] = self._request.turns
        if not self._home:
            turns, losses = shaped(turns)
            self._losses.extend(losses)
        messages: list[dict[str, Any]] = []
        if not self._home and unasked_json(self._request, self._request.turns):
            messages.append({"role": "system", "content": JSON_ONLY})
        for turn in turns:
            messages.extend(self._turn(turn))
        return messages or [{"role": "user", "content": OPENING}]

    def _turn(self, turn: Turn) -> Iterable[dict[str, Any]]:
        if turn.role == "assistant":
            yield from self._assistant(turn)
            return
        after: list[Part] = []
        for part in turn.parts:
            if isinstance(part, ToolResult):
                yield self._result(part, after)
        rest = [*after, *(part for part in turn.parts if not isinstance(part, ToolResult))]
        if not rest:
            return
        role = turn.word if self._home and turn.word == "developer" else turn.role
        content = self._content(rest, "user" if turn.role == "user" else "system")
        if content:
            yield {"role": role, "content": content, **turn.extras.get(NAME, {})}

    def _result(self, result: ToolResult, after: list[Part]) -> dict[str, Any]:
        """One tool message. What is no text follows in a user message, because a tool's may hold none."""
        texts = [part for part in result.content if isinstance(part, Text)]
        others = [part for part in result.content if not isinstance(part, Text)]
        if others and not self._home:
            after.append(Text(f"[What tool call {result.call_id} returned beside text:]"))
            after.extend(others)
            others = []
        content = self._content([*texts, *others], "user") or ("" if not after else "(See the next message.)")
        if result.is_error and not self._home:
            plain = "\n".join(part.text for part in texts)
            content = f"Error: {plain}" if plain else "Error"
        extras = result.extras.get(NAME, {})
        if result.call_id.startswith("call_legacy_") and self._home:
            return {"role": "function", "name": result.name, "content": content, **extras}
        return {"role": "tool", "tool_call_id": self._call_id(result.call_id), "content": content, **extras}

    def _call_id(self, given: str) -> str:
        return given if self._home else legal_id(given, _CALL_ID)

    def _assistant(self, turn: Turn) -> Iterable[dict[str, Any]]:
        message: dict[str, Any] = {"role": "assistant"}
        spoken: list[Part] = []
        calls: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, Reasoning):
                self._thought(message, part)
            elif isinstance(part, ToolCall):
                calls.append(self._call(part))
            else:
                spoken.append(part)
        content = self._content(spoken, "assistant")
        if not content and not calls and len(message) == 1 and not turn.extras.get(NAME):
            if self._home:
                yield {"role": "assistant", "content": ""}
            return
        message["content"] = content or (None if calls or turn.extras.get(NAME) else "")
        if calls:
            message["tool_calls"] = calls
        yield {**message, **turn.extras.get(NAME, {})}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if self._home:
            return write_call(call, verbatim=usable(call.seal, NAME, self._target.scope))
        seal = call.seal if usable(call.seal, NAME, self._target.scope) else None
        if seal is None and call.seal is not None:
            self._lose("seal", "a signature made by another upstream was left out")
        call = replace(call, id=self._call_id(call.id), seal=seal)
        if self._custom(call.kind):
            return write_call(call, verbatim=True)
        sent = replace(
            call,
            name=self._namer.name(call.namespace, call.name),
            arguments=wrapped_arguments(call),
            kind="function",
        )
        return write_call(sent, verbatim=True)

    def _thought(self, message: dict[str, Any], part: Reasoning) -> None:
        if part.seal is not None and usable(part.seal, NAME, self._target.scope):
            entries = message.setdefault("reasoning_details", [])
            entries.append(reasoning.write_entry(part, len(entries), part.seal))
        elif self._home or (self._target.keeps_reasoning and part.text):
            field = part.extras.get(NAME, {}).get("field", "reasoning_content")
            message[field] = message.get(field, "") + part.text
        else:
            self._lose("reasoning", "earlier thoughts are not sent to this upstream")

    def _content(self, parts: list[Part], speaker: str) -> str | list[dict[str, Any]]:
        plain = [part for part in parts if type(part) is Text and not self._marked(part)]
        if len(plain) == len(parts) and (len(plain) <= 1 or speaker == "assistant"):
            return "".join(part.text for part in plain)
        return [found for part in parts if (found := self._part(part, speaker)) is not None]

    def _marked(self, part: Part) -> bool:
        return bool(part.extras.get(NAME)) or (part.cache_ttl is not None and self._marks())

    def _marks(self) -> bool:
        return self._home or self._target.cache_marks

    def _part(self, part: Part, speaker: str) -> dict[str, Any] | None:
        found = self._shape(part, speaker)
        if found is None or part.cache_ttl is None:
            return found
        if not self._marks():
            return found
        found["prompt_cache_breakpoint"] = {"mode": "explicit"}
        if part.cache_ttl in _CACHE_TTLS:
            found["prompt_cache_breakpoint"]["ttl"] = part.cache_ttl
        return found

    def _shape(self, part: Part, speaker: str) -> dict[str, Any] | None:
        own = part.extras.get(NAME, {})
        found: dict[str, Any] | None = None
        match part:
            case Text():
                found = {"type": "text", "text": part.text, **own}
            case Refusal() if speaker == "assistant":
                found = {"type": "refusal", "refusal": part.text, **own}
            case Refusal():
                found = {"type": "text", "text": part.text}
            case Media() if speaker == "user":
                found = self._media(part, own)
            case Media():
                self._lose("messages[].content", f"{part.family} cannot stand in a turn of the {speaker}")
            case Opaque() if part.origin == NAME:
                found = part.payload
            case Opaque():
                self._lose(f"messages[].content.{part.payload.get('type', 'block')}", "no such block here")
            case _:
                pass
        return found

    def _media(self, part: Media, own: dict[str, Any]) -> dict[str, Any] | None:
        if part.source == "file":
            if self._home:
                inner = {"file_id": part.value, **({"filename": part.name} if part.name else {})}
                return nested("file", inner, own)
            self._losses.append(Loss("file_id", "files of another provider cannot be sent", "capability"))
            return None
        if part.source == "url" and self._target.fetches_urls is False and not self._home:
            self._losses.append(Loss("url", "the upstream loads nothing from URLs", "capability"))
        if part.source == "text":
            return {"type": "text", "text": f"{part.name}\n{part.value}".strip()}
        if part.family == "image":
            image: dict[str, Any] = {"url": media.data_url(part)}
            if part.detail:
                image["detail"] = part.detail
            return nested("image_url", image, own)
        return self._sound_or_file(part, own)

    def _sound_or_file(self, part: Media, own: dict[str, Any]) -> dict[str, Any] | None:
        if part.family == "audio" and part.source == "base64":
            kind = _AUDIO.get(part.media_type, part.media_type.partition("/")[2])
            return nested("input_audio", {"data": part.value, "format": kind}, own)
        if part.family != "document":
            self._losses.append(
                Loss(part.family, f"Chat Completions takes no {part.family} by {part.source}", "capability")
            )
            return None
        name = part.name or ("document.pdf" if part.media_type == "application/pdf" else "document")
        return nested("file", {"filename": name, "file_data": media.data_url(part)}, own)


def _custom_tool(tool: Tool) -> dict[str, Any]:
    inner: dict[str, Any] = {"name": tool.name}
    if tool.description:
        inner["description"] = tool.description
    if tool.grammar is not None:
        inner["format"] = tool.grammar
        if tool.grammar.get("type") == "grammar":
            grammar = {name: value for name, value in tool.grammar.items() if name != "type"}
            inner["format"] = {"type": "grammar", "grammar": grammar}
    return _declared("custom", inner, tool)


def _declared(kind: str, inner: dict[str, Any], tool: Tool) -> dict[str, Any]:
    """A declaration inside the object that names its kind, each with its own extras."""
    own = dict(tool.extras.get(NAME, {}))
    outer = own.pop(OUTER, {})
    return {"type": kind, kind: {**inner, **own}, **outer}
