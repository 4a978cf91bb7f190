"""Gemini requests read into an Ask, refusing what Google would refuse. Names may be in camel or snake case."""

from __future__ import annotations

from typing import Any, Final, Literal

from tollway.core.json import decode, encode
from tollway.upstream.sandbox import attachments
from tollway.upstream.sandbox.ask import Ask, Attachment, Choice, JsonFormat, Refused, Role, Tool, Turn
from tollway.upstream.sandbox.mouths import reading
from tollway.upstream.sandbox.mouths.gemini import rules
from tollway.upstream.sandbox.mouths.gemini.rules import bad, get, listed, object_of, text_of
from tollway.upstream.sandbox.mouths.reading import Invalid, string
from tollway.upstream.sandbox.signing import Signer

_STOPS_MAX: Final = 5
_CANDIDATES_MAX: Final = 8
_LOGPROBS_MAX: Final = 20
_BUDGET_LOW: Final = 4096
_MODES: Final[dict[str, Literal["none", "auto", "required"]]] = {
    "": "auto",
    "AUTO": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
    "MODE_UNSPECIFIED": "auto",
}


class GeminiAsk(Ask, frozen=True, kw_only=True):
    """An Ask with what only this dialect can say. `top_logprobs` is None where logprobs are not wanted."""

    thoughts: bool = False
    top_logprobs: int | None = None


def body_of(body: bytes) -> dict[str, Any]:
    """The body as an object. Raises Refused."""
    found = reading.read_body(body, decode, _explain)
    if type(found) is not dict:
        raise bad("Invalid JSON payload received. The root must be an object.")
    return found


def _explain(invalid: Invalid) -> Refused:
    return bad(f"Invalid JSON payload received. {invalid.text}")


def read(body: dict[str, Any], model: str, signer: Signer, *, streamed: bool) -> GeminiAsk:
    """The request. Raises Refused."""
    rules.check_fields(body)
    contents = listed(body, "contents")
    rules.check_contents(contents, model, signer)
    if get(body, "cachedContent") is not None:
        raise Refused(403, "CachedContent not found (or permission denied)")
    config = object_of(body, "generationConfig")
    thinking = object_of(config, "thinkingConfig")
    declared = [one for tool in listed(body, "tools") for one in listed(tool, "functionDeclarations")]
    choice, allowed = _choice(body)
    return GeminiAsk(
        model=model,
        turns=(*_system(body), *(turn for content in contents for turn in _turns(content))),
        streamed=streamed,
        tools=tuple(tool for tool in _tools(declared) if not allowed or tool.name in allowed),
        tools_weight=reading.weight_of(
            declared, get(config, "responseSchema"), get(config, "responseJsonSchema")
        ),
        choice=choice,
        format=_format(config),
        output_max=_count(config, "maxOutputTokens"),
        stops=_stops(config),
        n=_candidates(config),
        seed=_integer(config, "seed") or 0,
        effort=_effort(thinking),
        thoughts=get(thinking, "includeThoughts") is True,
        top_logprobs=_logprobs(config),
    )


def _system(body: dict[str, Any]) -> list[Turn]:
    given = get(body, "systemInstruction")
    if given is None:
        return []
    return [reading.turn("system", [string(part, "text") for part in listed(given, "parts")])]


def _turns(content: dict[str, Any]) -> list[Turn]:
    """A turn for each function response, and one for the rest."""
    found: list[Turn] = []
    texts: list[str] = []
    attached: list[Attachment] = []
    extra = 0
    for part in listed(content, "parts"):
        answer, call = get(part, "functionResponse"), get(part, "functionCall")
        if answer is not None:
            found.append(_response(answer))
        elif call is not None:
            extra += reading.weight_of(string(call, "name"), call.get("args"))
        elif get(part, "inlineData") is not None or get(part, "fileData") is not None:
            attached.append(_attachment(part))
        elif part.get("thought") is not True:
            texts.append(string(part, "text"))
    role: Role = "assistant" if string(content, "role") == "model" else "user"
    if found and not (texts or attached):
        return found
    return [*found, reading.turn(role, texts, tuple(attached), extra=extra)]


def _response(answer: dict[str, Any]) -> Turn:
    """What a function answered: the text it stands for where it holds just one, else its JSON."""
    given = get(answer, "response")
    alone = next(iter(given.values())) if len(given) == 1 else None
    text = alone if type(alone) is str else encode(given).decode()
    attached = tuple(_attachment(part) for part in listed(answer, "parts"))
    return reading.turn("tool", (text,), attached, source=string(answer, "name"))


def _attachment(part: dict[str, Any]) -> Attachment:
    blob = object_of(part, "inlineData") or object_of(part, "fileData")
    kind, data = text_of(blob, "mimeType"), text_of(blob, "data")
    where = text_of(blob, "fileUri")
    if kind.startswith("image/"):
        return attachments.image(where or f"data:{kind};base64,{data.replace('-', '+').replace('_', '/')}")
    if kind.startswith("audio/"):
        return attachments.audio(data, kind.partition("/")[2])
    return attachments.file(text_of(blob, "displayName") or where or kind, data)


def _tools(declared: list[Any]) -> list[Tool]:
    found = []
    for at, one in enumerate(declared):
        rules.check_declaration(one, f"tools[0].function_declarations[{at}]")
        schema = get(one, "parametersJsonSchema")
        own = get(one, "parameters")
        found.append(Tool(one["name"], plain(own) if schema is None and own is not None else schema))
    if len({tool.name for tool in found}) != len(found):
        raise bad("Duplicate function declaration found.")
    return found


def plain(schema: Any) -> Any:
    """A schema of Gemini's as JSON schema: types in lower case, counts as numbers."""
    if type(schema) is not dict:
        return schema
    found: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "type" and type(value) in (str, int):
            found[name] = str(rules.worded(value, rules.TYPES)).lower()
        elif name == "properties" and type(value) is dict:
            found[name] = {key: plain(inner) for key, inner in value.items()}
        elif name in ("anyOf", "any_of") and type(value) is list:
            found["anyOf"] = [plain(inner) for inner in value]
        elif name == "items":
            found[name] = plain(value)
        else:
            found[name] = (
                int(value) if type(value) is str and value.isdigit() and name.startswith("m") else value
            )
    return found


def _choice(body: dict[str, Any]) -> tuple[Choice, frozenset[str]]:
    config = get(get(body, "toolConfig"), "functionCallingConfig")
    mode = rules.worded(get(config, "mode"), rules.MODES) or ""
    if type(mode) is not str or mode not in _MODES:
        raise bad(f"Invalid value at 'tool_config.function_calling_config.mode': \"{mode}\"")
    names = [name for name in listed(config, "allowedFunctionNames") if type(name) is str]
    if names and _MODES[mode] != "required" and mode != "VALIDATED":
        raise bad("allowed_function_names should only be set when the function calling mode is ANY.")
    return Choice(_MODES[mode], names[0] if len(names) == 1 and mode == "ANY" else ""), frozenset(names)


def _format(config: dict[str, Any]) -> JsonFormat | None:
    own, schema = get(config, "responseSchema"), get(config, "responseJsonSchema")
    if own is not None and schema is not None:
        raise bad("responseSchema and responseJsonSchema are mutually exclusive.")
    kind = get(config, "responseMimeType")
    bare = kind == "text/x.enum"
    if kind != "application/json" and not bare:
        if own is not None or schema is not None:
            raise bad(
                "Function calling or a response schema with an unsupported response mime type: 'text/plain'"
            )
        return None
    if own is not None:
        rules.check_schema(own, "generation_config.response_schema")
        return JsonFormat(plain(own), bare)
    return JsonFormat(schema, bare)


def _stops(config: dict[str, Any]) -> tuple[str, ...]:
    stops = listed(config, "stopSequences")
    if len(stops) > _STOPS_MAX or not all(type(stop) is str and stop for stop in stops):
        raise bad(
            f"* GenerateContentRequest.generation_config.stop_sequences: at most {_STOPS_MAX} texts, none empty"
        )
    return tuple(stops)


def _candidates(config: dict[str, Any]) -> int:
    found = _integer(config, "candidateCount")
    if found is not None and not 1 <= found <= _CANDIDATES_MAX:
        raise bad("* GenerateContentRequest.generation_config.candidate_count: must be in the range [1, 8].")
    return found or 1


def _logprobs(config: dict[str, Any]) -> int | None:
    """How many alternatives to tell for each token; None where logprobs are not wanted."""
    found = _integer(config, "logprobs") or 0
    if not 0 <= found <= _LOGPROBS_MAX:
        raise bad(
            f"* GenerateContentRequest.generation_config.logprobs: must be in the range [0, {_LOGPROBS_MAX}]."
        )
    return found if get(config, "responseLogprobs") is True else None


def _integer(config: dict[str, Any], name: str) -> int | None:
    found = get(config, name)
    if type(found) is str and found.lstrip("-").isdigit():
        return int(found)
    if found is not None and type(found) is not int:
        raise bad(f"Invalid value at 'generation_config.{name}' (TYPE_INT32)")
    return found


def _count(config: dict[str, Any], name: str) -> int | None:
    found = _integer(config, name)
    if found is not None and found < 1:
        raise bad(f"* GenerateContentRequest.generation_config.{name}: must be positive")
    return found


def _effort(thinking: dict[str, Any]) -> str:
    """How much to think: by level, or by a budget that is a ceiling (-1: as the model likes, 0: not at all)."""
    level, budget = get(thinking, "thinkingLevel"), _integer(thinking, "thinkingBudget")
    if level is not None and budget is not None:
        raise bad("You can only set only one of thinking budget and thinking level.")
    if level is not None:
        return str(level).lower()
    if budget is None or budget < 0:
        return "medium"
    return "none" if budget == 0 else "low" if budget < _BUDGET_LOW else "medium"
