"""The messages of a Chat Completions request: their roles and content parts, checked and weighed."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from msgspec import Struct

from tollway.core.errors import GatewayError

ROLES: Final = ("user", "assistant", "tool", "system", "developer", "function")
"""Begins with those that most messages have. What is looked for here need be no string."""
IMAGE_TOKENS_MAX: Final = 16_000
"""What one image may count as, in tokens, when its upstream's rule is unknown."""
DATA_URL_MAX: Final = 28 * 1024 * 1024
"""20 MB of bytes in base64."""


class Media(Struct, frozen=True):
    """`encoded`: bytes of base64 that are no text; `tokens`: the upper bound of what they count as instead."""

    encoded: int
    tokens: int


NO_MEDIA: Final = Media(0, 0)


def check_messages(messages: Any) -> Media:
    """Refuse malformed messages with a GatewayError; return the weight of their media parts."""
    if messages is None:
        raise GatewayError(
            "missing_field", "The field 'messages' is missing: the conversation so far.", param="messages"
        )
    if type(messages) is not list or not messages:
        _refuse("messages", "a non-empty array of messages")
    encoded = tokens = 0
    for index, message in enumerate(messages):
        if type(message) is not dict:
            _refuse(f"messages[{index}]", "an object with 'role' and 'content'")
        role = message.get("role")
        if role not in ROLES:
            _refuse(f"messages[{index}].role", "one of " + ", ".join(sorted(ROLES)))
        content = message.get("content")
        if type(content) is str:
            continue
        if type(content) is list:
            media = _check_parts(f"messages[{index}].content", content)
            encoded += media.encoded
            tokens += media.tokens
        elif content is not None:
            _refuse(f"messages[{index}].content", "a string or an array of content parts")
        elif role != "assistant":
            _refuse(f"messages[{index}].content", f"given in a message of role {role!r}")
        _check_calls(index, message)
    return Media(encoded, tokens) if tokens else NO_MEDIA


def _refuse(where: str, wanted: str) -> NoReturn:
    raise GatewayError("invalid_value", f"{where!r} must be {wanted}.", param=where)


def _check_calls(index: int, message: dict[str, Any]) -> None:
    calls = message.get("tool_calls")
    if calls is not None and (type(calls) is not list or not all(type(call) is dict for call in calls)):
        _refuse(f"messages[{index}].tool_calls", "an array of objects")


def _check_parts(where: str, content: list[Any]) -> Media:
    encoded = tokens = 0
    for index, part in enumerate(content):
        if type(part) is not dict or type(part.get("type")) is not str:
            _refuse(f"{where}[{index}]", "an object with a 'type'")
        kind = part["type"]
        if kind == "text":
            if type(part.get("text")) is not str:
                _refuse(f"{where}[{index}].text", "a string")
        elif kind in _WEIGHTS:
            media = _WEIGHTS[kind](f"{where}[{index}].{kind}", part.get(kind))
            encoded += media.encoded
            tokens += media.tokens
    return Media(encoded, tokens)


def _image(where: str, value: Any) -> Media:
    url = value.get("url") if type(value) is dict else None
    if type(url) is not str:
        _refuse(where, "an object with a 'url'")
    if url.startswith("data:"):
        if len(url) > DATA_URL_MAX:
            raise GatewayError("body_too_large", f"{where!r} holds more than 20 MB of image.", param=where)
        return Media(len(url), IMAGE_TOKENS_MAX)
    if not url.startswith(("https://", "http://")):
        _refuse(f"{where}.url", "an https:, http: or data: URL")
    return Media(0, IMAGE_TOKENS_MAX)


def _audio(where: str, value: Any) -> Media:
    data = value.get("data") if type(value) is dict else None
    if type(data) is not str:
        _refuse(where, "an object with base64 'data' and a 'format'")
    # Speech codecs spend more than 250 base64 characters on a token's tenth of a second.
    return Media(len(data), len(data) // 256 + 100)


def _file(where: str, value: Any) -> Media:
    if type(value) is not dict:
        _refuse(where, "an object with 'file_id' or 'file_data'")
    data = value.get("file_data")
    if data is None:
        return Media(0, IMAGE_TOKENS_MAX)
    if type(data) is not str:
        _refuse(f"{where}.file_data", "a string")
    # A page of PDF is read as text and as an image; pages below 16 bytes a token are rare.
    return Media(len(data), len(data) // 16 + IMAGE_TOKENS_MAX)


_WEIGHTS: Final = {"image_url": _image, "input_audio": _audio, "file": _file}
