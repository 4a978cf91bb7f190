"""What Gemini refuses with a 400: fields it does not know, turns out of order, thoughts not its own."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from tollway.upstream.sandbox import models
from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.mouths.reading import string, words
from tollway.upstream.sandbox.signing import Signer

THOUGHT: Final = "gemini thought"
SKIP: Final = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})
"""What stands for the signature of a call that another model made."""
DATA: Final = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)

# Fields of other dialects; whoever sends them has not translated.
_FOREIGN: Final = words(
    "messages max_tokens max_completion_tokens max_output_tokens n stop temperature top_p top_k seed stream stream_options "
    "tool_choice response_format reasoning_effort reasoning system input instructions thinking stop_sequences metadata user "
    "output_config parallel_tool_calls"
)
_FOREIGN_PART: Final = words(
    "type cache_control signature thinking image_url input_audio source tool_use_id tool_call_id id name input content"
)
_NOT_SCHEMA: Final = words(
    "$schema $id $ref $defs definitions additionalProperties additional_properties const exclusiveMinimum exclusiveMaximum "
    "propertyNames patternProperties examples oneOf allOf not if then else dependentRequired contains multipleOf strict "
    "uniqueItems"
)
_READABLE: Final = (
    "https://generativelanguage.googleapis.com/",
    "gs://",
    "https://youtu",
    "https://www.youtube.com/",
)
TYPES: Final = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
"""Words by the numbers that may stand for them."""
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


def bad(message: str) -> Refused:
    """A 400."""
    return Refused(400, message)


def unknown(name: str, where: str) -> Refused:
    """A field that is not known."""
    place = f" at '{where}'" if where else ""
    return bad(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')


def get(source: Any, name: str) -> Any:
    """A field by its name in camel case, however it was spelt."""
    if type(source) is not dict:
        return None
    found = source.get(name)
    return source.get(_snake(name)) if found is None else found


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda match: f"_{match[1].lower()}", name)


def listed(source: Any, name: str) -> list[Any]:
    """A repeated field; an object alone counts as one."""
    found = get(source, name)
    if found is None:
        return []
    return found if type(found) is list else [found]


def object_of(source: Any, name: str) -> dict[str, Any]:
    """A field that is a message, empty where it is absent. Raises Refused for anything else."""
    found = get(source, name)
    if found is None:
        return {}
    if type(found) is not dict:
        raise bad(f"Invalid value at '{name}': an object is needed.")
    return found


def text_of(source: Any, name: str) -> str:
    """A field that is text, empty where it is absent. Raises Refused for anything else."""
    found = get(source, name)
    if found is None:
        return ""
    if type(found) is not str:
        raise bad(f"Invalid value at '{name}' (TYPE_STRING)")
    return found


def check_fields(body: dict[str, Any]) -> None:
    """The outermost fields: those of other dialects are refused."""
    for name in body:
        if name in _FOREIGN:
            raise unknown(name, "")


def check_contents(contents: list[Any], model: str, signer: Signer) -> None:
    """Everything about the conversation."""
    if not contents:
        raise bad("* GenerateContentRequest.contents: contents is not specified")
    for at, content in enumerate(contents):
        role = string(content, "role") or "user"
        if type(content) is not dict or role not in ("user", "model", "function"):
            raise bad("Please use a valid role: user, model.")
        parts = listed(content, "parts")
        if not parts:
            raise bad(f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.")
        for number, part in enumerate(parts):
            _check_part(part, f"contents[{at}].parts[{number}]", signer)
    if string(contents[0], "role") == "model":
        raise bad("Please ensure that the conversation begins with a user turn.")
    turns = merged(contents)
    _check_order(turns)
    found = models.find(model)
    if found is not None and "reasoning" in found.model.capabilities:
        _check_signed(turns)


def _check_part(part: Any, where: str, signer: Signer) -> None:
    if type(part) is not dict:
        raise bad(
            f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Part)"
        )
    for name in part:
        if name in _FOREIGN_PART:
            raise unknown(name, where)
    given = [name for name in DATA if get(part, name) is not None]
    if len(given) != 1:
        raise bad(
            f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one initialized field"
        )
    signature = get(part, "thoughtSignature")
    if signature is not None and not accepted(signature, signer):
        raise bad("Thought signature is not valid.")
    if given[0] == "functionResponse":
        _check_response(part, where)
    if given[0] == "functionCall":
        _check_call(get(part, "functionCall"), where)
    if given[0] == "fileData":
        _check_file(get(part, "fileData"))


def _check_call(call: Any, where: str) -> None:
    if not _NAME.fullmatch(string(call, "name")) or type(call.get("args", {})) is not dict:
        raise bad(f"Invalid value at '{where}.function_call': a name and an object of args are needed.")


def _check_file(given: Any) -> None:
    uri = get(given, "fileUri")
    if type(uri) is not str or not uri.startswith(_READABLE):
        raise bad("Unsupported file URI: only uploaded files and Cloud Storage objects can be read.")


def accepted(signature: Any, signer: Signer) -> bool:
    """Whether a thought signature was made here, or stands for one that was not; in either base64 alphabet."""
    if type(signature) is not str:
        return False
    plain = signature.replace("-", "+").replace("_", "/")
    return signature in SKIP or signer.accepts(THOUGHT, plain)


def _check_response(part: dict[str, Any], where: str) -> None:
    answer = get(part, "functionResponse")
    if not string(answer, "name"):
        raise bad(f"* GenerateContentRequest.{where}.function_response.name: Name cannot be empty.")
    if type(get(answer, "response")) is not dict:
        raise bad(
            f"Invalid value at '{where}.function_response.response' (type.googleapis.com/google.protobuf.Struct)"
        )


def _names(content: dict[str, Any], kind: str) -> list[str]:
    return [
        string(get(part, kind), "name") for part in listed(content, "parts") if get(part, kind) is not None
    ]


def merged(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of one role as one turn: a client may keep every chunk of a stream as a content of its own."""
    found: list[dict[str, Any]] = []
    for content in contents:
        role = "model" if string(content, "role") == "model" else "user"
        if found and found[-1]["role"] == role:
            found[-1]["parts"].extend(listed(content, "parts"))
        else:
            found.append({"role": role, "parts": list(listed(content, "parts"))})
    return found


def _check_order(turns: list[dict[str, Any]]) -> None:
    """A turn of calls is the model's, and is followed by as many responses, by name."""
    asked: list[str] = []
    for turn in turns:
        calls, answers = _names(turn, "functionCall"), _names(turn, "functionResponse")
        if calls and turn["role"] != "model":
            raise bad(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
            )
        if len(asked) != len(answers):
            raise bad(
                "Please ensure that the number of function response parts is equal to the number of function call parts "
                "of the function call turn."
            )
        if sorted(asked) != sorted(answers):
            raise bad(
                "Please ensure that function response parts name the functions of the function call turn."
            )
        asked = calls
    if asked:
        raise bad("Please ensure that a function call turn is followed by its function responses.")


def _check_signed(turns: list[dict[str, Any]]) -> None:
    """In the current turn the first call of every step carries its thought signature."""
    start = 0
    for at, turn in enumerate(turns):
        if turn["role"] == "user" and not _names(turn, "functionResponse"):
            start = at
    for at, turn in enumerate(turns[start:], start):
        calls = [part for part in turn["parts"] if get(part, "functionCall") is not None]
        if calls and get(calls[0], "thoughtSignature") is None:
            name = _names(turn, "functionCall")[0]
            raise bad(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
                f"correctly. Additional data, function call `default_api:{name}` , position {at + 1}."
            )


def check_declaration(given: Any, where: str) -> None:
    """A function declaration: its name, and the parts of JSON schema that `parameters` may use."""
    if not _NAME.fullmatch(string(given, "name")):
        raise bad(
            f"Invalid function name at '{where}.name'. Must start with a letter or an underscore. Must be alphanumeric "
            "(a-z, A-Z, 0-9), underscores (_), dots (.), colons (:) or dashes (-), with a maximum length of 64."
        )
    parameters = get(given, "parameters")
    if parameters is None:
        return
    if get(given, "parametersJsonSchema") is not None:
        raise bad(f"'{where}': parameters and parametersJsonSchema are mutually exclusive.")
    check_schema(parameters, f"{where}.parameters")


def worded(value: Any, words: tuple[str, ...]) -> Any:
    """The word that a number stands for; anything else as it is."""
    return words[value] if type(value) is int and 0 <= value < len(words) else value


def check_schema(schema: Any, where: str) -> None:
    """Gemini's own schema type: a part of OpenAPI's."""
    if type(schema) is not dict:
        raise bad(
            f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Schema)"
        )
    for name in schema:
        if name in _NOT_SCHEMA:
            raise unknown(name, where)
    kind = worded(schema.get("type"), TYPES)
    if kind is not None and type(kind) is not str:
        raise bad(f"Proto field is not repeating, cannot start list at '{where}.type'.")
    properties = schema.get("properties")
    if (kind or "").upper() == "OBJECT" and not properties:
        raise bad(f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type")
    for name, inner in properties.items() if type(properties) is dict else ():
        check_schema(inner, f"{where}.properties[{name}]")
    if schema.get("items") is not None:
        check_schema(schema["items"], f"{where}.items")
    for inner in listed(schema, "anyOf"):
        check_schema(inner, f"{where}.any_of")
