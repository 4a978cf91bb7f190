"""Canonical requests written as generateContent requests, for upstreams that speak it.

The body holds neither the model nor whether to stream: both belong to the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import Target, Undo, Written
from tollway.core.dialects.conversation import OPENING, call_names, foreign, hoisted, joined, rejoined, shaped
from tollway.core.dialects.gemini.configuration import generation_config
from tollway.core.dialects.gemini.parts import SENTINEL, loads
from tollway.core.dialects.gemini.proto import NAME
from tollway.core.dialects.gemini.schema import is_empty, to_gemini
from tollway.core.dialects.naming import (
    Namer,
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
    ToolChoice,
    ToolResult,
    Turn,
)
from tollway.core.seals import usable

_TOOL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_TIERS: Final = {
    "default": "standard",
    "standard": "standard",
    "standard_only": "standard",
    "flex": "flex",
    "priority": "priority",
}


def write_request(request: Request, target: Target) -> Written:
    """The request as a generateContent body, with what it could not say."""
    return _Writing(request, target).written()


def write_count(request: Request, target: Target) -> Written:
    """The request as a countTokens body."""
    written = write_request(request, target)
    wanted = ("contents", "systemInstruction", "tools")
    whole = {name: written.body[name] for name in wanted if name in written.body}
    inner = {"model": f"models/{request.model}", **whole}
    return Written({"generateContentRequest": inner}, written.losses, written.undo)


class _Writing:
    """One request on its way into generateContent."""

    def __init__(self, request: Request, target: Target) -> None:
        self._request = request
        self._target = target
        self._home = request.origin == NAME
        self._losses: list[Loss] = foreign(request, NAME)
        self._namer = Namer(_TOOL_NAME, 64)
        self._names = call_names(request.turns)
        self._namespaces = _namespaces(request)

    def written(self) -> Written:
        request = self._request
        tools = self._tools()
        body = self._conversation()
        if tools:
            body["tools"] = tools
        if request.tool_choice is not None and (tools or self._home):
            body["toolConfig"] = {"functionCallingConfig": self._tool_choice(request.tool_choice)}
        config = generation_config(request, self._target, self._losses)
        if config:
            body["generationConfig"] = config
        self._options(body)
        for name, value in request.extras.get(NAME, {}).items():
            mine = body.get(name)
            body[name] = {**value, **mine} if type(value) is dict and type(mine) is dict else value
        return Written(body, tuple(dict.fromkeys(self._losses)), Undo(tools=self._namer.undo))

    def _lose(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why))

    def _cannot(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, why, "capability"))

    def _options(self, body: dict[str, Any]) -> None:
        request = self._request
        if request.service_tier is not None:
            word = request.service_tier if self._home else _TIERS.get(request.service_tier)
            if word is not None:
                body["serviceTier"] = word
            elif request.service_tier != "auto":
                self._lose("service_tier", f"Gemini has no tier {request.service_tier!r}")
        if not self._home:
            self._refuse()
        elif request.store is not None:
            body["store"] = request.store

    def _refuse(self) -> None:
        """What another dialect asked for and Gemini has no word for."""
        request = self._request
        if request.candidates > 1:
            self._cannot("n", "several candidates cannot be translated")
        if request.previous is not None:
            self._cannot("previous_response_id", "Gemini keeps no conversations")
        if request.parallel_tools is False:
            self._lose("parallel_tool_calls", "Gemini cannot be kept from calling several tools")
        for name in ("verbosity", "user", "metadata", "cache_key"):
            if getattr(request, name) is not None:
                self._lose(name, "Gemini has no such field")

    def _tools(self) -> list[dict[str, Any]]:
        declared = [self._function(tool) for tool in self._request.tools if tool.kind != "hosted"]
        found: list[dict[str, Any]] = [{"functionDeclarations": declared}] if declared else []
        for tool in self._request.tools:
            if tool.kind != "hosted":
                continue
            if tool.origin == NAME:
                found.append(tool.payload)
            else:
                self._lose(f"tools.{tool.name}", "a tool of another provider that runs upstream")
        return found

    def _function(self, tool: Tool) -> dict[str, Any]:
        own = dict(tool.extras.get(NAME, {}))
        declared = own.pop("declared", None)
        found: dict[str, Any] = {"name": tool.name if self._home else self._namer.declare(tool)}
        description = wrapped_description(tool)
        if description:
            found["description"] = description
        schema = wrapped_schema(tool)
        if declared is not None:
            found["parameters"] = declared
        elif self._home and tool.schema is not None:
            found["parametersJsonSchema"] = tool.schema
        elif not is_empty(schema):
            if self._target.json_schema:
                found["parametersJsonSchema"] = schema
            else:
                found["parameters"] = to_gemini(schema)
        return {**found, **own}

    def _tool_choice(self, choice: ToolChoice) -> dict[str, Any]:
        if choice.extras and NAME not in choice.extras:
            self._lose("tool_choice", "a choice that only its own dialect knows")
        found: dict[str, Any] = {"mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]}
        if choice.names:
            found["allowedFunctionNames"] = [self._sent_name(name) for name in choice.names]
            if choice.mode == "auto" and not self._home:
                found["mode"] = "VALIDATED"
        return {**found, **choice.extras.get(NAME, {})}

    def _sent_name(self, name: str) -> str:
        tool = next((one for one in self._request.tools if one.name == name), None)
        return name if self._home or tool is None else self._namer.name(tool.namespace, name)

    def _conversation(self) -> dict[str, Any]:
        turns: Iterable[Turn] = self._request.turns
        leading, rest = hoisted(turns)
        found: dict[str, Any] = {}
        parts = [part for turn in leading for part in turn.parts]
        written = self._parts(parts)
        if written:
            extras = leading[0].extras.get(NAME, {}) if self._home else {}
            found["systemInstruction"] = {"parts": written, **extras}
        if self._home:
            found["contents"] = [self._content(turn) for turn in rest]
            return found
        ordered, losses = shaped(_as_user(turn) for turn in rest)
        self._losses.extend(losses)
        written_turns = [self._content(turn) for turn in joined(ordered, "user", "assistant")]
        found["contents"] = rejoined(written_turns, "parts", {"text": OPENING})
        return found

    def _content(self, turn: Turn) -> dict[str, Any]:
        role = turn.word or ("model" if turn.role == "assistant" else "user")
        if not self._home:
            role = "model" if turn.role == "assistant" else "user"
        written = self._parts(turn.parts)
        if turn.role == "assistant" and (not self._home or self._unsigned(turn)):
            _vouch(written)
        return {"role": role, "parts": written, **(turn.extras.get(NAME, {}) if self._home else {})}

    def _unsigned(self, turn: Turn) -> bool:
        """Whether a turn comes from a model whose signatures are of no use here."""
        return any(part.seal and not usable(part.seal, NAME, self._target.scope) for part in turn.parts)

    def _parts(self, parts: Iterable[Part]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        later: list[dict[str, Any]] = []
        for part in parts:
            written = self._part(part, later)
            if written is None:
                continue
            found.append(written)
        return [*found, *later]

    def _part(self, part: Part, later: list[dict[str, Any]]) -> dict[str, Any] | None:
        own = part.extras.get(NAME, {})
        found: dict[str, Any] | None = None
        match part:
            case Text():
                found = {"text": part.text, **own} if part.text or self._home else None
            case Refusal():
                found = {"text": part.text} if part.text else None
            case Reasoning():
                return self._thought(part, own)
            case ToolCall():
                found = self._call(part, own)
            case ToolResult():
                found = self._result(part, own, later)
            case Media():
                found = self._media(part, own)
            case Opaque() if part.origin == NAME:
                found = part.payload
            case Opaque():
                self._lose(f"messages[].content.{part.payload.get('type', 'block')}", "no such part here")
            case _:
                pass
        if found is not None and part.seal is not None:
            found = self._signed(found, part)
        return found

    def _signed(self, found: dict[str, Any], part: Part) -> dict[str, Any]:
        if part.seal is not None and usable(part.seal, NAME, self._target.scope):
            return {**found, "thoughtSignature": part.seal.value}
        self._lose("seal", "a signature made by another upstream was left out")
        return found

    def _thought(self, part: Reasoning, own: dict[str, Any]) -> dict[str, Any] | None:
        usual = self._home and (part.seal is None or part.text)
        if not usual and not usable(part.seal, NAME, self._target.scope):
            self._lose("reasoning", "thoughts that this upstream did not sign were left out")
            return None
        found: dict[str, Any] = {"text": part.text}
        if part.text:
            found["thought"] = True
        return {**(self._signed(found, part) if part.seal is not None else found), **own}

    def _call(self, call: ToolCall, own: dict[str, Any]) -> dict[str, Any]:
        arguments = object_of(wrapped_arguments(call))
        if arguments is None:
            self._lose("tool_calls[].function.arguments", "not a JSON object; sent as text inside one")
            arguments = {"invalid_json": call.arguments}
        if not self._home:
            return {"functionCall": {"name": self._namer.name(call.namespace, call.name), "args": arguments}}
        rest = dict(own)
        inner = {"name": call.name, "args": arguments, **rest.pop("functionCall", {})}
        if rest.pop("declared", None) is None:
            inner["id"] = call.id
        return {"functionCall": inner, **rest}

    def _result(self, part: ToolResult, own: dict[str, Any], later: list[dict[str, Any]]) -> dict[str, Any]:
        rest = dict(own)
        response = rest.pop("response", None)
        inner = dict(rest.pop("functionResponse", {}))
        unnamed = rest.pop("declared", None) is not None
        texts = [one.text for one in part.content if isinstance(one, Text)]
        others = [one for one in part.content if not isinstance(one, Text)]
        if response is None:
            response = _response("\n".join(texts), part.is_error)
        shown = [found for one in others if (found := self._part(one, later)) is not None]
        if shown and self._home:
            inner["parts"] = shown
        elif shown:
            later.append({"text": f"[What tool call {part.call_id} returned beside text:]"})
            later.extend(shown)
        name = part.name or self._names.get(part.call_id, "unknown")
        if self._home and not unnamed:
            inner["id"] = part.call_id
        sent = name if self._home else self._namer.name(self._namespaces.get(part.call_id, ""), name)
        return {"functionResponse": {"name": sent, "response": response, **inner}, **rest}

    def _media(self, part: Media, own: dict[str, Any]) -> dict[str, Any] | None:
        if part.source == "base64":
            inner: dict[str, Any] = {"mimeType": part.media_type, "data": part.value}
            if part.name and self._home:
                inner["displayName"] = part.name
            return {**own, "inlineData": {**inner, **own.get("inlineData", {})}}
        if part.source == "text":
            return {"text": f"{part.name}\n{part.value}".strip(), **own}
        if self._home or (part.source == "url" and loads(part.value, self._target.fetches_urls)):
            inner = {"fileUri": part.value}
            if not part.media_type.endswith("/*"):
                inner["mimeType"] = part.media_type
            return {**own, "fileData": {**inner, **own.get("fileData", {})}}
        self._cannot(part.family, f"Gemini takes no {part.family} by {part.source}")
        return None


def _namespaces(request: Request) -> dict[str, str]:
    """Call id -> the namespace of the tool it calls, where there are any."""
    if not request.namespaces:
        return {}
    calls = (part for turn in request.turns for part in turn.parts if isinstance(part, ToolCall))
    return {call.id: call.namespace for call in calls}


def _as_user(turn: Turn) -> Turn:
    """A system turn inside the conversation as tagged user text: Gemini has one instruction, at the start."""
    if turn.role != "system":
        return turn
    text = "\n".join(part.text for part in turn.parts if isinstance(part, Text))
    return replace(turn, role="user", parts=(Text(f"<system>\n{text}\n</system>"),))


def _response(text: str, failed: bool) -> dict[str, Any]:
    """A result as the object Gemini demands."""
    if failed:
        return {"error": text}
    if text.startswith("{"):
        value = object_of(text)
        if value is not None:
            return value
    return {"result": text}


def _vouch(parts: list[dict[str, Any]]) -> None:
    """A turn whose first call has no signature was not made by this model: Gemini is told not to look for one."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None and "thoughtSignature" not in first:
        first["thoughtSignature"] = SENTINEL
