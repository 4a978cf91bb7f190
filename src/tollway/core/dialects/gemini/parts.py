"""Gemini's content parts read into canonical ones, for requests and answers alike."""

from __future__ import annotations

from typing import Any, Final

from tollway.core import seals
from tollway.core.dialects.gemini.proto import NAME, ProtoMembers
from tollway.core.dialects.members import missing
from tollway.core.exchange import (
    Media,
    Opaque,
    Part,
    Reasoning,
    Seal,
    Text,
    ToolCall,
    ToolResult,
)
from tollway.core.json import encode

SENTINEL: Final = "skip_thought_signature_validator"
"""Accepted by Gemini in place of the signature of a call it did not make."""
_FILES: Final = ("gs://", "files/", "https://generativelanguage.googleapis.com/")
_LOADED: Final = (*_FILES, "https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")


def loads(url: str, fetches: bool | None) -> bool:
    """Whether Gemini loads a URL itself: what Google keeps and YouTube always, others by https where it `fetches`."""
    return fetches is not False and url.startswith((*_LOADED, "https://") if fetches else _LOADED)


def read_part(source: object, path: str) -> Part:
    """One part of a request's content; calls and results without an id have an empty one."""
    if type(source) is dict and len(source) == 1 and type(source.get("text")) is str:
        return Text(source["text"])  # Most parts are no more than this.
    take = ProtoMembers(source, path)
    seal = _seal(take.text("thoughtSignature"))
    thought = take.flag("thought") or False
    text = take.text("text")
    if text is not None:
        return _words(text, thought, seal, take)
    found = _call_or_result(take, seal) or _data(take, seal)
    return found or Opaque(NAME, dict(source) if type(source) is dict else {})


def _call_or_result(take: ProtoMembers, seal: Seal | None) -> Part | None:
    if (inner := take.inside("functionCall")) is not None:
        call_id, name = inner.text("id") or "", inner.need_text("name")
        arguments = encode(inner.object("args") or {}).decode()
        return ToolCall(call_id, name, arguments, seal=seal, extras=_both(inner, take, "functionCall"))
    if (inner := take.inside("functionResponse")) is not None:
        return _result(inner, take)
    return None


def _data(take: ProtoMembers, seal: Seal | None) -> Part | None:
    if (inner := take.inside("inlineData")) is not None:
        kind, data = inner.text("mimeType") or "application/octet-stream", inner.need_text("data")
        name = inner.text("displayName") or ""
        extras = take.extras_with(NAME, "inlineData", inner)
        return Media(kind, "base64", data, name=name, seal=seal, extras=extras)
    if (inner := take.inside("fileData")) is not None:
        return _file(inner, take, seal)
    return None


def _both(inner: ProtoMembers, outer: ProtoMembers, name: str) -> dict[str, dict[str, Any]]:
    return outer.extras_with(NAME, name, inner)


def _seal(signature: str | None) -> Seal | None:
    if not signature or signature == SENTINEL:
        return None
    return seals.unwrap_base64(signature, NAME)


def _words(text: str, thought: bool, seal: Seal | None, take: ProtoMembers) -> Part:
    extras = take.extras(NAME)
    if thought:
        return Reasoning(text, "full" if text else "withheld", seal=seal, extras=extras)
    if not text and seal is not None:
        return Reasoning(form="withheld", seal=seal, extras=extras)
    return Text(text, seal=seal, extras=extras)


def _file(inner: ProtoMembers, take: ProtoMembers, seal: Seal | None) -> Media:
    uri, kind = inner.need_text("fileUri"), inner.text("mimeType") or "application/*"
    name = inner.text("displayName") or ""
    extras = take.extras_with(NAME, "fileData", inner)
    if uri.startswith(_FILES):
        return Media(kind, "file", uri, name=name, seal=seal, extras=extras)
    return Media(kind, "url", uri, name=name, seal=seal, extras=extras)


def _result(inner: ProtoMembers, take: ProtoMembers) -> ToolResult:
    call_id, name = inner.text("id") or "", inner.need_text("name")
    response = inner.object("response")
    if response is None:
        raise missing(inner.where("response"))
    content: list[Part] = [Text(_said(response))]
    for at, one in enumerate(inner.array("parts") or []):
        content.append(read_part(one, f"{inner.where('parts')}[{at}]"))
    rest: dict[str, Any] = {**take.rest, "response": response}
    if inner.rest:
        rest["functionResponse"] = inner.rest
    failed = response.keys() == {"error"}
    return ToolResult(call_id, tuple(content), name, failed, extras={NAME: rest})


def _said(response: dict[str, Any]) -> str:
    """A result as text: what is wrapped in the one usual member is unwrapped."""
    if len(response) == 1:
        ((name, value),) = response.items()
        if name in ("result", "output", "error", "content"):
            return value if type(value) is str else encode(value).decode()
    return encode(response).decode()
