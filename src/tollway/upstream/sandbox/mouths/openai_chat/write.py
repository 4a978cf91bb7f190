"""Chat Completions answers: a whole completion, or the chunks of a stream by OpenAI's grammar.

A stream is one chunk with the role per choice, one chunk per token, one with the finish reason per
choice, the usage if it was asked for, and [DONE]. Choices are interleaved token by token.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Piece, Spoken
from tollway.upstream.sandbox.mouths import openai
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.openai_chat.read import ChatAsk

FINGERPRINT: Final = "fp_sandbox"
DONE: Final = Frame("done", None)


def usage(saying: Saying) -> dict[str, Any]:
    """Exact counts. `prompt_tokens` includes cached tokens, `completion_tokens` reasoning tokens."""
    prompt = saying.ask.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": saying.tokens,
        "total_tokens": prompt + saying.tokens,
        "prompt_tokens_details": {"cached_tokens": saying.cached.read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": saying.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def whole(saying: Saying) -> Frame:
    """The answer as one completion."""
    payload = {
        "id": f"chatcmpl-{saying.stamp.id}",
        "object": "chat.completion",
        "created": saying.stamp.created,
        "model": saying.model,
        "choices": [_choice(saying, index, spoken) for index, spoken in enumerate(saying.choices)],
        "usage": usage(saying),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    return Frame("whole", payload, saying.tokens)


def _choice(saying: Saying, index: int, spoken: Spoken) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": spoken.said("text") if _has_text(spoken) else None,
        "refusal": spoken.said("refusal") or None,
        "annotations": _annotations(spoken),
    }
    if spoken.tokens("reasoning") and not spoken.redacted:
        message["reasoning_content"] = spoken.said("reasoning")
    opened = spoken.opened()
    if opened:
        message["tool_calls"] = [_whole_call(spoken, number) for number in opened]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(saying, spoken.pieces),
        "finish_reason": spoken.finish,
    }


def _annotations(spoken: Spoken) -> list[dict[str, Any]]:
    """What the text rests on. Places count characters."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": cited.start,
                "end_index": cited.end,
                "title": cited.title,
                "url": cited.url,
            },
        }
        for cited in spoken.citations
    ]


def _has_text(spoken: Spoken) -> bool:
    return spoken.tokens("text") > 0 or not (spoken.calls or spoken.tokens("refusal"))


def _whole_call(spoken: Spoken, number: int) -> dict[str, Any]:
    call = spoken.calls[number]
    given = spoken.said("input", number)
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": given}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": given}}


def stream(saying: Saying) -> Iterator[Frame]:
    """The chunks, in order."""
    for index, spoken in enumerate(saying.choices):
        yield Frame("start", chunk(saying, index, _opening(spoken)))
    for row in zip_longest(*(spoken.pieces for spoken in saying.choices)):
        for index, piece in enumerate(row):
            if piece is not None:
                yield Frame("token", _piece_chunk(saying, index, piece), 1)
    for index, spoken in enumerate(saying.choices):
        if spoken.citations:
            yield Frame("start", chunk(saying, index, {"annotations": _annotations(spoken)}))
        yield Frame("finish", chunk(saying, index, {}, finish=spoken.finish))
    if _asked(saying).include_usage:
        yield usage_frame(saying)
    yield DONE


def usage_frame(saying: Saying) -> Frame:
    """The chunk without choices that carries the usage."""
    payload = chunk(saying, 0, {})
    payload["choices"] = []
    payload["usage"] = usage(saying)
    return Frame("usage", payload)


def _opening(spoken: Spoken) -> dict[str, Any]:
    content = "" if _has_text(spoken) or spoken.tokens("reasoning") else None
    return {"role": "assistant", "content": content, "refusal": None}


def chunk(saying: Saying, index: int, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
    """One chunk with one choice. Where usage was asked for, all chunks but the last say that it is null."""
    payload: dict[str, Any] = {
        "id": f"chatcmpl-{saying.stamp.id}",
        "object": "chat.completion.chunk",
        "created": saying.stamp.created,
        "model": saying.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
        "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    if _asked(saying).include_usage:
        payload["usage"] = None
    return payload


def _piece_chunk(saying: Saying, index: int, piece: Piece) -> dict[str, Any]:
    payload = chunk(saying, index, _delta(saying.choices[index], piece))
    payload["choices"][0]["logprobs"] = _logprobs(saying, (piece,))
    return payload


def _delta(spoken: Spoken, piece: Piece) -> dict[str, Any]:
    if piece.kind == "text":
        return {"content": piece.text}
    if piece.kind == "reasoning":
        return {} if spoken.redacted else {"reasoning_content": piece.text}
    if piece.kind == "refusal":
        return {"refusal": piece.text}
    call = spoken.calls[piece.call]
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    if piece.kind == "call":
        opened = {"index": piece.call, "id": call.id, "type": kind, kind: {"name": call.name, field: ""}}
        return {"tool_calls": [opened]}
    return {"tool_calls": [{"index": piece.call, kind: {field: piece.text}}]}


def _asked(saying: Saying) -> ChatAsk:
    assert isinstance(saying.ask, ChatAsk)
    return saying.ask


def _logprobs(saying: Saying, pieces: tuple[Piece, ...]) -> dict[str, Any] | None:
    """Plausible probabilities of the text's tokens: invented, but always the same for a token."""
    top = _asked(saying).top_logprobs
    if top is None:
        return None
    content = [openai.logprob(piece.text, top) for piece in pieces if piece.kind == "text"]
    refusal = [openai.logprob(piece.text, top) for piece in pieces if piece.kind == "refusal"]
    return {"content": content or None, "refusal": refusal or None}


def encode_frame(frame: Frame) -> bytes:
    """An event of a stream."""
    body = b"[DONE]" if frame.payload is None else encode(frame.payload)
    return b"data: " + body + b"\n\n"
