"""Whole Chat Completions answers, read from an upstream and written for a client."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import AnswerFailed, Bill, Reading, Reply
from tollway.core.dialects.calls import client_call
from tollway.core.dialects.faults import failure
from tollway.core.dialects.openai_chat import reasoning
from tollway.core.dialects.openai_chat.counts import read_counts, write_counts
from tollway.core.dialects.openai_chat.errors import read_error
from tollway.core.exchange import (
    Citation,
    Finished,
    FinishReason,
    Logprob,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
    ToolKind,
    ToolResult,
)
from tollway.core.json import encode
from tollway.core.relay import BadAnswer
from tollway.core.seals import spread

NAME: Final = "openai_chat"
REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_WORDS: Final[dict[FinishReason, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "pause": "stop",
    "error": "stop",
    "other": "stop",
}
DECLINED: Final = "The model declined to answer."
_TOP: Final = frozenset(("id", "object", "model", "choices", "usage", "created"))
_CHOICE: Final = frozenset(("index", "message", "finish_reason", "logprobs"))
_MESSAGE: Final = frozenset(
    ("role", "content", "refusal", "tool_calls", "annotations", "audio", "images", "reasoning_details")
)


def read_response(body: dict[str, Any], reading: Reading) -> Response:
    """A whole answer's first choice as a Response. Raises BadAnswer if there is none."""
    choices = body.get("choices")
    if type(choices) is not list or not choices:
        if body.get("error") is not None:
            raise AnswerFailed(failure(read_error(0, body)))
        raise BadAnswer("the answer has no choices")
    choice = choices[0]
    message = choice.get("message") if type(choice) is dict else None
    if type(message) is not dict:
        raise BadAnswer("a choice has no message")
    parts = _read_message(message, choice, reading)
    raw = choice.get("finish_reason")
    usage = body.get("usage")
    return Response(
        id=str(body.get("id") or ""),
        model=str(body.get("model") or ""),
        parts=tuple(parts),
        finish=read_finish(raw, parts, _finish_extras(choice, message, choices)),
        usage=read_counts(usage, body.get("service_tier")) if type(usage) is dict else None,
        extras=start_extras(body),
    )


def start_extras(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the top of an answer (or of a chunk) says beyond what we know."""
    rest = {name: value for name, value in body.items() if name not in _TOP}
    created = body.get("created")
    if type(created) is int:
        rest["created"] = created
    return {NAME: rest} if rest else {}


def _finish_extras(choice: dict[str, Any], message: dict[str, Any], choices: list[Any]) -> dict[str, Any]:
    rest: dict[str, Any] = {name: value for name, value in choice.items() if name not in _CHOICE}
    known = ("reasoning_content", "reasoning", "function_call")
    inner = {name: value for name, value in message.items() if name not in _MESSAGE and name not in known}
    if inner:
        rest["message"] = inner
    if len(choices) > 1:
        rest["choices"] = choices[1:]
    return rest


def read_finish(raw: object, parts: list[Part] | bool, extras: dict[str, Any]) -> Finished:
    """Why the answer ended; tool calls decide over what the upstream says, because some always say stop."""
    calls = parts if type(parts) is bool else any(type(part) is ToolCall for part in parts)
    word = raw if type(raw) is str else ""
    reason: FinishReason = REASONS.get(word, "other" if word else "stop")
    if reason == "stop" and calls:
        reason = "tool_calls"
    elif reason == "tool_calls" and not calls:
        reason = "stop"
    return Finished(reason, word, extras={NAME: extras} if extras else {})


def _read_message(message: dict[str, Any], choice: dict[str, Any], reading: Reading) -> list[Part]:
    parts: list[Part] = []
    details = message.get("reasoning_details")
    text, extras = reasoning.plain_thought(message)
    told = reasoning.read_details(details, reading.scope) if type(details) is list else []
    parts.extend(reasoning.all_thoughts(text, extras, told))
    parts.extend(_read_content(message, choice))
    refusal = message.get("refusal")
    if type(refusal) is str and refusal:
        parts.append(Refusal(refusal))
    parts.extend(read_images(message.get("images")))
    audio = message.get("audio")
    if type(audio) is dict and type(audio.get("data")) is str:
        parts.append(read_audio(audio))
    parts.extend(_read_calls(message, reading))
    return parts


def read_audio(audio: dict[str, Any]) -> Media:
    """Spoken output; what else is said of it (id, transcript) goes home with it."""
    rest = {name: value for name, value in audio.items() if name != "data"}
    return Media("audio/wav", "base64", str(audio.get("data") or ""), extras={NAME: rest} if rest else {})


def read_images(images: object) -> list[Media]:
    """Images some providers answer with, as data URLs."""
    found: list[Media] = []
    for image in images if type(images) is list else []:
        inner = image.get("image_url") if type(image) is dict else None
        url = inner.get("url") if type(inner) is dict else None
        if type(url) is str:
            head, _, data = url.partition(";base64,")
            inline = url.startswith("data:") and data
            found.append(Media(head[5:], "base64", data) if inline else Media("image/*", "url", url))
    return found


def _read_content(message: dict[str, Any], choice: dict[str, Any]) -> list[Part]:
    content = message.get("content")
    if type(content) is list:
        pieces = [one.get("text") for one in content if type(one) is dict]
        content = "".join(piece for piece in pieces if type(piece) is str)
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if type(logprobs) is dict else None
    if type(content) is not str or not content:
        return []
    citations, others = read_annotations(message.get("annotations"))
    return [
        Text(
            content,
            citations,
            read_logprobs(tokens),
            extras={NAME: {"annotations": others}} if others else {},
        )
    ]


def read_annotations(value: object) -> tuple[tuple[Citation, ...], list[Any]]:
    """URL citations, and the annotations that are something else."""
    citations: list[Citation] = []
    others: list[Any] = []
    for one in value if type(value) is list else []:
        inner = one.get("url_citation") if type(one) is dict else None
        if type(inner) is not dict:
            others.append(one)
            continue
        known = ("url", "title", "start_index", "end_index")
        rest = {name: found for name, found in inner.items() if name not in known}
        start, end = inner.get("start_index"), inner.get("end_index")
        citations.append(
            Citation(
                kind="url",
                url=str(inner.get("url") or ""),
                title=str(inner.get("title") or ""),
                start=start if type(start) is int else None,
                end=end if type(end) is int else None,
                extras={NAME: rest} if rest else {},
            )
        )
    return tuple(citations), others


def read_logprobs(tokens: object) -> tuple[Logprob, ...]:
    """Token probabilities; what is not one is passed over."""
    found: list[Logprob] = []
    for one in tokens if type(tokens) is list else []:
        if type(one) is not dict or type(one.get("token")) is not str:
            continue
        value, data = one.get("logprob"), one.get("bytes")
        own = (
            tuple(data)
            if type(data) is list and data != list(one["token"].encode("utf-8", "surrogatepass"))
            else None
        )
        found.append(
            Logprob(
                one["token"],
                value if type(value) is float else float(value or 0),
                read_logprobs(one.get("top_logprobs")),
                own,
            )
        )
    return tuple(found)


def _read_calls(message: dict[str, Any], reading: Reading) -> list[Part]:
    found: list[Part] = []
    calls = message.get("tool_calls")
    legacy = message.get("function_call")
    listed = list(calls) if type(calls) is list else []
    if type(legacy) is dict:
        listed.append({"function": legacy})
    for call in listed:
        if type(call) is dict:
            found.append(client_call(_read_call(call, len(found), reading), reading.undo))
    return found


def _read_call(call: dict[str, Any], at: int, reading: Reading) -> ToolCall:
    kind: ToolKind = "custom" if call.get("type") == "custom" else "function"
    inner = call.get("custom" if kind == "custom" else "function")
    if type(inner) is not dict:
        raise BadAnswer("a tool call names no function")
    text = inner.get("input" if kind == "custom" else "arguments")
    arguments = text if type(text) is str else encode_arguments(text)
    known = ("id", "type", "index", "function", "custom", "extra_content")
    rest = {name: value for name, value in call.items() if name not in known}
    more = {name: value for name, value in inner.items() if name not in ("name", "arguments", "input")}
    if more:
        rest[kind] = more
    return ToolCall(
        call_id(call.get("id"), at, reading),
        str(inner.get("name") or ""),
        arguments if arguments.strip() or kind == "custom" else "{}",
        kind,
        extras={NAME: rest} if rest else {},
        seal=reasoning.upstream_call_seal(call.get("extra_content"), reading.scope),
    )


def encode_arguments(value: object) -> str:
    """Arguments as text; some upstreams send the object itself."""
    return encode(value).decode() if type(value) is dict else ""


def call_id(given: object, at: int, reading: Reading) -> str:
    """The call's id; one of our own making where the upstream gives none."""
    return given if type(given) is str and given else f"call_{reading.token}{at}"


def write_response(response: Response, reply: Reply, bill: Bill | None) -> dict[str, Any]:
    """A whole answer as one chat completion."""
    own = response.finish.extras.get(NAME, {})
    top = response.extras.get(NAME, {})
    message = {**_write_message(response.parts), **own.get("message", {})}
    if response.finish.reason == "content_filter" and not response.parts and NAME not in response.extras:
        message["refusal"] = DECLINED
    rest = {name: value for name, value in own.items() if name not in ("message", "choices")}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": write_logprobs(response.parts),
        "finish_reason": write_reason(response.finish),
        **rest,
    }
    return {
        # Strict clients demand it, and it may be null.
        "system_fingerprint": None,
        **top,
        "id": f"chatcmpl-{reply.token}" if reply.token else response.id,
        "object": "chat.completion",
        "created": reply.created or top.get("created", 0),
        "model": reply.model or response.model,
        "choices": [choice, *own.get("choices", [])],
        "usage": write_counts(response.usage, bill),
    }


def write_reason(finish: Finished) -> str:
    """Chat's word for why the answer ended; the upstream's own if it is one of Chat's."""
    return finish.raw if REASONS.get(finish.raw) == finish.reason else _WORDS[finish.reason]


def _write_message(parts: tuple[Part, ...]) -> dict[str, Any]:
    texts: list[str] = []
    refusals: list[str] = []
    annotations: list[Any] = []
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    offset = 0
    for part in _sealed(parts):
        match part:
            case Text():
                texts.append(part.text)
                annotations.extend(write_citations(part, offset))
                offset += len(part.text)
            case Refusal():
                refusals.append(part.text)
            case Reasoning():
                _add_thought(message, part)
            case ToolCall():
                message.setdefault("tool_calls", []).append(write_call(part, verbatim=False))
            case Media():
                _add_media(message, part)
            case Opaque() | ToolResult() | _:
                pass
    message["content"] = "".join(texts) if texts else None
    message["refusal"] = "".join(refusals) if refusals else None
    message["annotations"] = annotations
    return message


def _sealed(parts: tuple[Part, ...]) -> list[Part]:
    """Parts with the seals of texts and media on carriers; a call has a field for its own."""
    found: list[Part] = []
    for part in parts:
        found.extend([part] if isinstance(part, ToolCall) else spread((part,)))
    return found


def _add_thought(message: dict[str, Any], part: Reasoning) -> None:
    if part.text:
        field = part.extras.get(NAME, {}).get("field", "reasoning_content")
        message[field] = message.get(field, "") + part.text
    if part.seal is not None:
        entries = message.setdefault("reasoning_details", [])
        entries.append(reasoning.write_entry(part, len(entries), part.seal))


def _add_media(message: dict[str, Any], part: Media) -> None:
    if part.family == "audio" and part.source == "base64":
        message["audio"] = {
            "id": "audio",
            "expires_at": 0,
            "transcript": "",
            **part.extras.get(NAME, {}),
            "data": part.value,
        }
        return
    message.setdefault("images", []).append(write_image(part))


def write_image(part: Media) -> dict[str, Any]:
    """An image in an answer, as the providers that answer with images write it."""
    url = part.value if part.source == "url" else f"data:{part.media_type};base64,{part.value}"
    return {"type": "image_url", "image_url": {"url": url}}


def write_citations(part: Text, offset: int) -> list[Any]:
    """A text's sources as annotations; offsets count from the start of the whole message."""
    found: list[Any] = []
    for one in part.citations:
        if one.kind != "url":
            continue
        start = 0 if one.start is None else one.start
        end = len(part.text) if one.end is None else one.end
        inner = {"start_index": offset + start, "end_index": offset + end, "title": one.title, "url": one.url}
        found.append({"type": "url_citation", "url_citation": {**inner, **one.extras.get(NAME, {})}})
    found.extend(part.extras.get(NAME, {}).get("annotations", []))
    return found


def write_call(call: ToolCall, *, verbatim: bool) -> dict[str, Any]:
    """A call; arguments are never the empty string. `verbatim`: its seal goes to the upstream that made it."""
    extras = {**call.extras.get(NAME, {}), **reasoning.write_call_seal(call, verbatim=verbatim)}
    if call.kind == "custom":
        return {"id": call.id, **nested("custom", {"name": call.name, "input": call.arguments}, extras)}
    arguments = call.arguments if call.arguments.strip() else "{}"
    return {"id": call.id, **nested("function", {"name": call.name, "arguments": arguments}, extras)}


def nested(kind: str, inner: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """An object of a kind with a member of that name; extras of the member are found under its name."""
    if kind not in own:
        return {"type": kind, kind: inner, **own}
    rest = {name: value for name, value in own.items() if name != kind}
    return {"type": kind, kind: {**inner, **own[kind]}, **rest}


def write_logprobs(parts: tuple[Part, ...]) -> dict[str, Any] | None:
    """The probabilities of all the answer's tokens; None if there are none."""
    tokens = [write_logprob(one) for part in parts if isinstance(part, Text) for one in part.logprobs]
    return {"content": tokens, "refusal": None} if tokens else None


def write_logprob(one: Logprob) -> dict[str, Any]:
    """One token's probability and those of its alternatives."""
    return {**_write_token(one), "top_logprobs": [_write_token(other) for other in one.top]}


def _write_token(one: Logprob) -> dict[str, Any]:
    data = one.token.encode("utf-8", "surrogatepass") if one.data is None else one.data
    return {"token": one.token, "logprob": one.logprob, "bytes": list(data)}
