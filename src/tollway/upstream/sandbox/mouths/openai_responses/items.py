"""Input items of the Responses dialect: turned into turns, and held against OpenAI's rules on their order."""

from __future__ import annotations

from typing import Any, Final

from tollway.upstream.sandbox import attachments, tokens
from tollway.upstream.sandbox.ask import Attachment, Refused, Role, Turn
from tollway.upstream.sandbox.mouths import openai, reading
from tollway.upstream.sandbox.mouths.reading import string
from tollway.upstream.sandbox.signing import Signer

REASONING: Final = "openai encrypted reasoning"
REASONED: Final = "_reasoned"
"""How the id of an item ends that was made together with reasoning and cannot come back without it."""

Item = dict[str, Any]

_CALL_ID_MAX: Final = 64
_PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS: Final = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
_MADE: Final = frozenset({"function_call", "custom_tool_call", "reasoning"})
_ROLES: Final[dict[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


def turns(given: str | list[Item], signer: Signer, owner: str) -> list[Turn]:
    """The conversation. Raises Refused."""
    if isinstance(given, str):
        return [reading.turn("user", (given,))]
    if not given:
        raise openai.bad_value("Invalid 'input': the list is empty.", "input")
    for at, item in enumerate(given):
        _check_item(item, f"input[{at}]")
    _check_pairs(given)
    _check_reasoning(given, signer, owner)
    names = {string(item, "call_id"): string(item, "name") for item in given if _kind(item) in _CALLS}
    return [_turn(item, names, f"input[{at}]") for at, item in enumerate(given)]


def _kind(item: Item) -> str:
    return string(item, "type") or ("message" if "role" in item else "")


def _check_item(item: Item, where: str) -> None:
    kind = _kind(item)
    if not kind:
        raise openai.missing(f"{where}.type")
    if kind == "item_reference":
        raise _not_found(string(item, "id"))
    name = string(item, "id")
    prefix = _PREFIXES.get(kind)
    if name and prefix and not name.startswith(f"{prefix}_"):
        text = f"Invalid '{where}.id': '{name[:64]}'. Expected an ID that begins with '{prefix}'."
        raise openai.bad_value(text, f"{where}.id")
    if kind in _CALLS or kind in _OUTPUTS:
        _check_call(item, kind, where)


def _check_call(item: Item, kind: str, where: str) -> None:
    call_id = string(item, "call_id")
    if not call_id:
        raise openai.missing(f"{where}.call_id")
    if len(call_id) > _CALL_ID_MAX:
        text = f"Invalid '{where}.call_id': string too long. Expected a string with maximum length {_CALL_ID_MAX}."
        raise Refused(400, text, param=f"{where}.call_id", code="string_above_max_length")
    for field in ("name", _CALLS[kind]) if kind in _CALLS else ("output",):
        if field not in item:
            raise openai.missing(f"{where}.{field}")


def _check_pairs(given: list[Item]) -> None:
    """Every call has its output after it, and every output its call before it."""
    called: dict[str, str] = {}
    answered: set[str] = set()
    for item in given:
        kind, call_id = _kind(item), string(item, "call_id")
        if kind in _CALLS:
            called[call_id] = kind
        elif kind in _OUTPUTS:
            if called.get(call_id) != _OUTPUTS[kind]:
                what = _OUTPUTS[kind].replace("_", " ")
                text = f"No tool call found for {what} output with call_id {call_id}."
                raise openai.bad_value(text, "input")
            answered.add(call_id)
    unanswered = [call_id for call_id in called if call_id not in answered]
    if unanswered:
        raise openai.bad_value(f"No tool output found for function call {unanswered[0]}.", "input")


def _check_reasoning(given: list[Item], signer: Signer, owner: str) -> None:
    """Reasoning comes back sealed and followed by what it led to; what it led to does not come without it."""
    reasoned = {string(item, "id").removeprefix("rs_")[:24] for item in given if _kind(item) == "reasoning"}
    for at, item in enumerate(given):
        kind, name = _kind(item), string(item, "id")
        if kind == "reasoning":
            _check_seal(item, name, signer, owner)
            after = given[at + 1] if at + 1 < len(given) else {}
            if _kind(after) not in _MADE and string(after, "role") != "assistant":
                text = f"Item '{name}' of type 'reasoning' was provided without its required following item."
                raise openai.bad_value(text, "input")
        elif name.endswith(REASONED) and name.partition("_")[2][:24] not in reasoned:
            partner = f"rs_{name.partition('_')[2][:24]}"
            text = f"Item '{name}' of type '{kind}' was provided without its required 'reasoning' item: '{partner}'."
            raise openai.bad_value(text, "input")


def _check_seal(item: Item, name: str, signer: Signer, owner: str) -> None:
    sealed = item.get("encrypted_content")
    if not sealed:
        raise _not_found(name)
    if type(sealed) is not str or not signer.accepts(REASONING, sealed, owner=owner):
        text = (
            f"The encrypted content for item {name} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed."
        )
        raise Refused(400, text, param="input", code="invalid_encrypted_content")


def _not_found(name: str) -> Refused:
    return Refused(
        404,
        f"Item with id '{name[:128]}' not found. Items are not persisted when `store` is set to false.",
        param="input",
    )


def _turn(item: Item, names: dict[str, str], where: str) -> Turn:
    kind = _kind(item)
    if kind == "message":
        role = _ROLES.get(string(item, "role"))
        if role is None:
            text = f"Invalid value: '{string(item, 'role')}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
            raise openai.bad_value(text, f"{where}.role")
        texts, attached = _content(item.get("content"), f"{where}.content")
        return reading.turn(role, texts, attached)
    if kind in _OUTPUTS:
        texts, attached = _content(item["output"], f"{where}.output")
        return reading.turn("tool", texts, attached, source=names[item["call_id"]])
    if kind in _CALLS:
        extra = tokens.count(string(item, "name")) + tokens.count(string(item, _CALLS[kind]))
        return reading.turn("assistant", (), extra=extra)
    if kind == "reasoning":
        return reading.turn(
            "assistant", (), extra=reading.weight_of(item.get("summary"), item.get("content"))
        )
    return reading.turn("assistant", (), extra=reading.weight_of(item))


def _content(content: Any, where: str) -> tuple[list[str], tuple[Attachment, ...]]:
    if type(content) is str:
        return [content], ()
    if type(content) is not list:
        raise openai.missing(where)
    texts: list[str] = []
    attached: list[Attachment] = []
    for at, part in enumerate(content):
        kind = string(part, "type")
        if kind in ("input_text", "output_text", "refusal"):
            texts.append(string(part, "refusal" if kind == "refusal" else "text"))
        elif kind in ("input_image", "input_file", "input_audio"):
            attached.append(_attachment(kind, part))
        else:
            text = f"Invalid value: '{kind}'. Supported values are: 'input_text', 'input_image', 'input_file', 'output_text' and 'refusal'."
            raise openai.bad_value(text, f"{where}[{at}].type")
    return texts, tuple(attached)


def _attachment(kind: str, part: Item) -> Attachment:
    if kind == "input_image":
        return attachments.image(string(part, "image_url") or string(part, "file_id"))
    if kind == "input_audio":
        inner = part.get("input_audio", part)
        return attachments.audio(string(inner, "data"), string(inner, "format"))
    name = string(part, "filename") or string(part, "file_url") or string(part, "file_id")
    return attachments.file(name, string(part, "file_data"))
