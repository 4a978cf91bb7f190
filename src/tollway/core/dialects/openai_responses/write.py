"""Canonical requests written as Responses requests, for upstreams that speak it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects import media
from tollway.core.dialects.base import Target, Undo, Written
from tollway.core.dialects.conversation import JSON_ONLY, OPENING, foreign, hoisted, shaped, unasked_json
from tollway.core.dialects.naming import Namer, legal_id
from tollway.core.dialects.openai_responses import output
from tollway.core.dialects.openai_responses.items import STRING
from tollway.core.dialects.openai_responses.read import INSTRUCTIONS, LOGPROBS
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

NAME: Final = "openai_responses"
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CALL_ID: Final = re.compile(r".{1,64}", re.DOTALL)
_TOKENS_MIN: Final = 16
_TIERS: Final = frozenset(("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"))
_TIER_WORDS: Final = {"standard": "default", "standard_only": "default"}
_ENCRYPTED: Final = "reasoning.encrypted_content"


def write_request(request: Request, target: Target) -> Written:
    """The request as a Responses body, with what it could not say."""
    return _Writing(request, target).written()


def write_count(request: Request, target: Target) -> Written:
    """The request as an input_tokens body."""
    written = write_request(request, target)
    wanted = (
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
        "previous_response_id", "conversation", "truncation",
    )  # fmt: skip
    body = {name: value for name, value in written.body.items() if name in wanted}
    return Written(body, written.losses, written.undo)


_TIED: Final = frozenset(("message", "function_call", "custom_tool_call"))
"""Items that an upstream may look up by their id, to find the thought that led to them."""


class _Writing:
    """One request on its way into the Responses API."""

    def __init__(self, request: Request, target: Target) -> None:
        self._request = request
        self._target = target
        self._home = request.origin == NAME
        self._lost_thought = False
        self._losses: list[Loss] = foreign(request, NAME, cache_marks=target.cache_marks)
        self._namer = Namer(_TOOL_NAME, 64)

    def written(self) -> Written:
        request = self._request
        tools = self._tools()
        body: dict[str, Any] = {"model": request.model, **self._conversation()}
        if tools:
            body["tools"] = tools
            if request.tool_choice is not None:
                body["tool_choice"] = self._tool_choice(request.tool_choice)
            if request.parallel_tools is not None:
                body["parallel_tool_calls"] = request.parallel_tools
        body.update(self._sampling())
        body.update(self._options())
        for name, value in request.extras.get(NAME, {}).items():
            mine = body.get(name)
            body[name] = {**value, **mine} if type(value) is dict and type(mine) is dict else value
        if not self._home:
            self._stateless(body)
        return Written(body, tuple(dict.fromkeys(self._losses)), Undo(tools=self._namer.undo))

    def _lose(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why))

    def _cannot(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why, "capability"))

    def _stateless(self, body: dict[str, Any]) -> None:
        """The gateway's clients own their history: nothing is stored upstream, and thoughts come back sealed."""
        body["store"] = False
        if self._target.thinking != "none":
            body["include"] = [*body.get("include", []), _ENCRYPTED]
        if self._request.candidates > 1:
            self._cannot("n", "the Responses API answers once")
        if "audio" in self._request.modalities:
            self._cannot("modalities", "the Responses API does not speak")

    def _sampling(self) -> dict[str, Any]:
        wanted = self._request.sampling
        found: dict[str, Any] = {}
        if wanted.max_output_tokens is not None:
            found["max_output_tokens"] = wanted.max_output_tokens
            if wanted.max_output_tokens < _TOKENS_MIN and not self._home:
                found["max_output_tokens"] = _TOKENS_MIN
                self._lose("max_tokens", f"the least that can be asked for is {_TOKENS_MIN}")
        if self._target.sampling or self._home:
            given = {"temperature": wanted.temperature, "top_p": wanted.top_p}
            found.update((name, value) for name, value in given.items() if value is not None)
        elif wanted.temperature is not None or wanted.top_p is not None:
            self._lose("temperature", "the model takes no sampling parameters")
        for name in ("top_k", "seed", "presence_penalty", "frequency_penalty", "stop"):
            if getattr(wanted, name):
                self._lose(name, "the Responses API has no such field")
        return found

    def _options(self) -> dict[str, Any]:
        request = self._request
        given = {
            "stream": request.stream or None,
            "user": request.user,
            "metadata": request.metadata,
            "prompt_cache_key": request.cache_key,
            "store": request.store,
            "previous_response_id": request.previous,
            "service_tier": self._tier(request.service_tier),
        }
        found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if request.logprobs is not None and not (self._home and request.logprobs == 0):
            found["top_logprobs"] = request.logprobs
        if request.logprobs is not None and not self._home:
            found["include"] = [LOGPROBS]
        text: dict[str, Any] = {}
        if request.output is not None:
            text["format"] = self._output(request.output)
        if request.verbosity is not None:
            text["verbosity"] = request.verbosity
        if text:
            found["text"] = text
        wish = self._reasoning()
        if wish:
            found["reasoning"] = wish
        return found

    def _tier(self, tier: str | None) -> str | None:
        if tier is None or self._home:
            return tier
        word = _TIER_WORDS.get(tier, tier)
        if word in _TIERS:
            return word
        self._lose("service_tier", f"the Responses API has no tier {tier!r}")
        return None

    def _reasoning(self) -> dict[str, Any]:
        wish = self._request.reasoning
        if wish is None:
            return {}
        if self._target.thinking == "none" and not self._home:
            if wish.effort != "none":
                self._lose("reasoning", "the model does not reason")
            return {}
        found: dict[str, Any] = dict(wish.extras.get(NAME, {}))
        effort = wish.effort or self._effort_of(wish.budget_tokens)
        if effort is not None:
            found["effort"] = effort
        if wish.show in ("summary", "full") and not self._home:
            found["summary"] = "auto"
        return found

    def _effort_of(self, budget: int | None) -> str | None:
        if budget is None or budget < 0:
            return None
        if budget == 0:
            return "none"
        budgets = self._target.budgets
        return next((name for name in ("low", "medium", "high") if budget <= budgets.get(name, 0)), "high")

    def _output(self, wanted: OutputFormat) -> dict[str, Any]:
        own = wanted.extras.get(NAME, {})
        if wanted.kind != "json_schema":
            return {"type": "json_object" if wanted.kind == "json" else "text", **own}
        if not self._target.json_schema and not self._home:
            self._cannot("response_format", "the model takes no JSON schema")
        found: dict[str, Any] = {"type": "json_schema", "name": wanted.name or "answer"}
        if wanted.description:
            found["description"] = wanted.description
        found["schema"] = wanted.schema if wanted.schema is not None else {"type": "object"}
        strict = wanted.strict
        if strict is not None or not self._home:
            # What is not said is strict here, and strict schemas are a dialect of their own.
            found["strict"] = bool(strict)
        return {**found, **own}

    def _tools(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        groups: dict[str, dict[str, Any]] = {}
        for tool in self._request.tools:
            if tool.extras.get(NAME, {}).get("item") == "tool_search_output":
                continue
            shown = self._tool(tool)
            if shown is None:
                continue
            if not tool.namespace:
                found.append(shown)
            elif tool.namespace in groups:
                groups[tool.namespace]["tools"].append(shown)
            else:
                groups[tool.namespace] = self._namespace(tool.namespace, shown)
                found.append(groups[tool.namespace])
        return found

    def _namespace(self, name: str, first: dict[str, Any]) -> dict[str, Any]:
        own = next((one for one in self._request.namespaces if one.name == name), None)
        described = own.description if own is not None else ""
        extras = own.extras.get(NAME, {}) if own is not None else {}
        return {"type": "namespace", "name": name, "description": described, "tools": [first], **extras}

    def _tool(self, tool: Tool) -> dict[str, Any] | None:
        if tool.kind == "hosted":
            if tool.origin == NAME:
                return tool.payload
            self._lose(f"tools.{tool.name}", "a tool of another provider that runs upstream")
            return None
        own = tool.extras.get(NAME, {})
        found: dict[str, Any] = {"type": tool.kind}
        if tool.kind == "search":
            found = {"type": "tool_search"}
        else:
            found["name"] = tool.name if self._home else self._namer.declare(tool)
        if tool.description:
            found["description"] = tool.description
        if tool.kind == "custom":
            if tool.grammar is not None:
                found["format"] = tool.grammar
        else:
            if tool.schema is not None or not self._home:
                found["parameters"] = tool.schema or {"type": "object", "properties": {}}
            if tool.kind == "function" and (tool.strict is not None or not self._home):
                found["strict"] = bool(tool.strict)
        return {**found, **own}

    def _tool_choice(self, choice: ToolChoice) -> Any:
        if NAME in choice.extras:
            return choice.extras[NAME]
        if choice.extras:
            self._lose("tool_choice", "a choice that only its own dialect knows")
        if not choice.names:
            return choice.mode
        tools = [self._chosen(name) for name in choice.names]
        if len(tools) == 1 and choice.mode == "required":
            return tools[0]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": tools}

    def _chosen(self, name: str) -> dict[str, Any]:
        tool = next((one for one in self._request.tools if one.name == name), None)
        kind = "custom" if tool is not None and tool.kind == "custom" else "function"
        return {"type": kind, "name": name if self._home else self._namer.name("", name)}

    def _conversation(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        turns: list[Turn] = list(self._request.turns)
        if self._home:
            if turns and turns[0].word == INSTRUCTIONS:
                found["instructions"] = "".join(p.text for p in turns.pop(0).parts if isinstance(p, Text))
        else:
            leading, rest = hoisted(turns)
            texts = [part.text for turn in leading for part in turn.parts if isinstance(part, Text)]
            self._note_opaque(leading)
            if texts:
                found["instructions"] = "\n\n".join(texts)
            turns, losses = shaped(rest)
            self._losses.extend(losses)
        if self._home and len(turns) == 1 and turns[0].word == STRING:
            found["input"] = "".join(part.text for part in turns[0].parts if isinstance(part, Text))
            return found
        found["input"] = [item for turn in turns for item in self._turn(turn)]
        if not self._home and unasked_json(self._request, turns):
            # The word counts only here, not among the instructions.
            asked = {"type": "input_text", "text": JSON_ONLY}
            found["input"].insert(0, {"type": "message", "role": "developer", "content": [asked]})
        if self._lost_thought:
            found["input"] = [_nameless(item) for item in found["input"]]
        if not found["input"]:
            found["input"] = OPENING
            if self._home:
                del found["input"]
        return found

    def _note_opaque(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            for part in turn.parts:
                if isinstance(part, Opaque):
                    self._lose("system", "a block that is meant for its own provider")

    def _turn(self, turn: Turn) -> Iterable[dict[str, Any]]:
        """The items of a turn: its words as messages, all else as items of their own, in order."""
        words: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Text | Refusal | Media) or (
                isinstance(part, Opaque) and not self._whole(part)
            ):
                words.append(part)
                continue
            if words:
                yield from self._message(turn, words)
                words = []
            item = self._item(part)
            if item is not None:
                yield item
        if words or (self._home and not turn.parts):
            yield from self._message(turn, words)

    def _whole(self, part: Opaque) -> bool:
        """Whether an opaque block is an item, not a part of a message."""
        return part.origin == NAME and not str(part.payload.get("type", "")).startswith("input_")

    def _message(self, turn: Turn, parts: list[Part]) -> Iterable[dict[str, Any]]:
        role = turn.role
        word = turn.word if self._home and turn.word not in ("", STRING) else role
        content = [found for part in parts if (found := self._content(part, role)) is not None]
        if content or self._home:
            yield {"type": "message", "role": word, "content": content, **turn.extras.get(NAME, {})}

    def _item(self, part: Part) -> dict[str, Any] | None:
        found: dict[str, Any] | None = None
        match part:
            case Reasoning():
                found = self._thought(part)
            case ToolCall():
                found = self._call(part)
            case ToolResult():
                found = self._result(part)
            case Opaque() if part.origin == NAME:
                found = part.payload
            case Opaque():
                self._lose(f"messages[].content.{part.payload.get('type', 'block')}", "no such item here")
            case _:
                pass
        return found

    def _thought(self, part: Reasoning) -> dict[str, Any] | None:
        if not self._home and not usable(part.seal, NAME, self._target.scope):
            self._lose("reasoning", "thoughts that this upstream did not encrypt were left out")
            return None
        if self._home and not usable(part.seal, NAME, self._target.scope):
            # Without what it encrypted itself an upstream looks a thought up, and keeps none for us.
            self._lose("reasoning", "thoughts of another upstream were left out")
            self._lost_thought = True
            return None
        # The text may have travelled abroad, where nobody knows that it was a summary.
        sent = part if self._home or not part.text else replace(part, form="summary")
        found = output.write_reasoning(sent, "")
        if not found["id"]:
            del found["id"]
        if part.extras.get(NAME, {}).get("status") is None:
            del found["status"]
        return found

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if call.seal is not None and not self._home:
            self._lose("seal", "a signature made by another upstream was left out")
        own = call.extras.get(NAME, {})
        sent = call
        if not self._home:
            name = call.name if call.kind == "search" else self._namer.name(call.namespace, call.name)
            sent = replace(call, id=legal_id(call.id, _CALL_ID), name=name, namespace="")
        found = output.write_call(sent, "")
        return {
            name: value for name, value in found.items() if not (name in ("id", "status") and name not in own)
        }

    def _result(self, part: ToolResult) -> dict[str, Any]:
        own = part.extras.get(NAME, {})
        call_id = part.call_id if self._home else legal_id(part.call_id, _CALL_ID)
        if part.kind == "search":
            return {
                "type": "tool_search_output",
                "call_id": call_id,
                "execution": "client",
                "tools": [],
                **own,
            }
        kind = "custom_tool_call_output" if part.kind == "custom" else "function_call_output"
        shown: Any
        plain = all(type(one) is Text and not one.extras.get(NAME) for one in part.content)
        if part.content and plain and (len(part.content) == 1 or not self._home):
            shown = "\n".join(one.text for one in part.content if isinstance(one, Text))
        elif not part.content:
            shown = ""
        else:
            shown = [found for one in part.content if (found := self._content(one, "user")) is not None]
        if part.is_error and not self._home:
            shown = (
                f"Error: {shown}"
                if type(shown) is str
                else [{"type": "input_text", "text": "Error:"}, *shown]
            )
        return {"type": kind, "call_id": call_id, "output": shown, **own}

    def _content(self, part: Part, role: str) -> dict[str, Any] | None:
        own = part.extras.get(NAME, {})
        found: dict[str, Any] | None = None
        match part:
            case Text() if role == "assistant":
                found = output.write_text(part)
                if not found["logprobs"]:
                    del found["logprobs"]
            case Text():
                found = {"type": "input_text", "text": part.text, **own}
            case Refusal() if role == "assistant":
                found = output.write_refusal(part)
            case Refusal():
                found = {"type": "input_text", "text": part.text}
            case Media():
                found = self._media(part, role, own)
            case Opaque() if part.origin == NAME:
                found = part.payload
            case Opaque():
                self._lose(f"messages[].content.{part.payload.get('type', 'block')}", "no such part here")
            case _:
                pass
        if found is not None and part.cache_ttl is not None:
            found = self._marked(found, part.cache_ttl)
        return found

    def _marked(self, found: dict[str, Any], ttl: str) -> dict[str, Any]:
        if not (self._home or self._target.cache_marks):
            return found
        mark = {"mode": "explicit", **({"ttl": ttl} if ttl in ("30m", "12h") else {})}
        return {**found, "prompt_cache_breakpoint": mark}

    def _media(self, part: Media, role: str, own: dict[str, Any]) -> dict[str, Any] | None:
        if role == "assistant" and not self._home:
            self._lose("messages[].content", f"{part.family} cannot stand in a turn of the assistant")
            return None
        if part.source == "file" and not self._home:
            self._cannot("file_id", "files of another provider cannot be sent")
            return None
        if part.source == "url" and self._target.fetches_urls is False and not self._home:
            self._cannot("url", "the upstream loads nothing from URLs")
        if part.source == "text":
            return {"type": "input_text", "text": f"{part.name}\n{part.value}".strip(), **own}
        if part.family == "image":
            image = {"file_id": part.value} if part.source == "file" else {"image_url": media.data_url(part)}
            return {"type": "input_image", **image, "detail": part.detail or "auto", **own}
        return self._file(part, own)

    def _file(self, part: Media, own: dict[str, Any]) -> dict[str, Any] | None:
        if part.family == "audio" and part.source == "base64":
            kind = {"audio/mpeg": "mp3"}.get(part.media_type, part.media_type.partition("/")[2])
            return {"type": "input_audio", "input_audio": {"data": part.value, "format": kind}, **own}
        if part.family != "document":
            self._cannot(part.family, f"the Responses API takes no {part.family} by {part.source}")
            return None
        named = {"filename": part.name} if part.name else {}
        if part.source == "file":
            return {"type": "input_file", "file_id": part.value, **named, **own}
        if part.source == "url":
            return {"type": "input_file", "file_url": part.value, **named, **own}
        name = part.name or ("document.pdf" if part.media_type == "application/pdf" else "document")
        return {"type": "input_file", "filename": name, "file_data": media.data_url(part), **own}


def _nameless(item: dict[str, Any]) -> dict[str, Any]:
    """An item without the id that ties it to a thought which is no longer before it."""
    if item.get("type") not in _TIED:
        return item
    return {name: value for name, value in item.items() if name != "id"}
