"""Gemini answers: a whole response, or the chunks of a stream, each a response of its own.

Every chunk carries the counts so far; the prompt's is only right in the last one. A function call comes
whole; the reason to finish comes after it, with an empty text. What thoughts a model had is signed: on
the first call, or on the last text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.json import decode, encode
from tollway.upstream.sandbox import models, tokens
from tollway.upstream.sandbox.ask import Call, Citation, Piece, Spoken
from tollway.upstream.sandbox.mouths import openai
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.gemini.read import GeminiAsk
from tollway.upstream.sandbox.mouths.gemini.rules import THOUGHT
from tollway.upstream.sandbox.signing import Signer

_REASONS: Final = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_SAFE: Final = [
    {"category": f"HARM_CATEGORY_{name}", "probability": "NEGLIGIBLE"}
    for name in ("HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT")
]


class Unit(Struct, frozen=True):
    """What one chunk adds: a part, or nothing to be seen. `pieces` are the tokens it took."""

    part: dict[str, Any] | None
    pieces: tuple[Piece, ...]


def asked(saying: Saying) -> GeminiAsk:
    assert isinstance(saying.ask, GeminiAsk)
    return saying.ask


def usage(saying: Saying, thoughts: int, said: int) -> dict[str, Any]:
    """Final counts. `promptTokenCount` includes cached tokens, `candidatesTokenCount` no thoughts; no zeros."""
    return _counts(saying.ask.prompt_tokens, saying.cached.read, thoughts, said)


def _counts(prompt: int, cached: int, thoughts: int, said: int) -> dict[str, Any]:
    counts = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": said,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + said + thoughts,
    }
    found: dict[str, Any] = {name: value for name, value in counts.items() if value}
    found["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    return found


def _prompt_at_first(saying: Saying) -> int:
    """Tools and attachments are not counted yet."""
    ask = saying.ask
    attached = sum(len(turn.attachments) for turn in ask.turns) * tokens.ATTACHMENT_TOKENS
    return max(1, ask.prompt_tokens - ask.tools_weight - attached)


def response(saying: Saying, candidates: list[dict[str, Any]], counts: dict[str, Any]) -> dict[str, Any]:
    """A response, or a chunk of one."""
    found: dict[str, Any] = {"candidates": candidates} if candidates else {}
    return {**found, "usageMetadata": counts, "modelVersion": saying.model, "responseId": saying.stamp.id}


def whole(saying: Saying, signer: Signer) -> Frame:
    """The answer as one response."""
    if blocked(saying):
        return Frame("whole", _blocked(saying))
    candidates = [_candidate(saying, index, signer) for index in range(len(saying.choices))]
    counts = usage(saying, saying.reasoning_tokens, saying.tokens - saying.reasoning_tokens)
    return Frame("whole", response(saying, candidates, counts), saying.tokens)


def blocked(saying: Saying) -> bool:
    """Whether the prompt itself is refused: there is no candidate then."""
    return any(spoken.tokens("refusal") for spoken in saying.choices)


def _blocked(saying: Saying) -> dict[str, Any]:
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": _SAFE}
    return {"promptFeedback": feedback, **response(saying, [], usage(saying, 0, 0))}


def _candidate(saying: Saying, index: int, signer: Signer) -> dict[str, Any]:
    spoken = saying.choices[index]
    parts: list[dict[str, Any]] = []
    for unit in units(saying, spoken, signer):
        before = parts[-1] if parts else {}
        if unit.part is None:
            continue
        if "text" in unit.part and "text" in before and before.get("thought") == unit.part.get("thought"):
            before["text"] += unit.part["text"]
        else:
            parts.append(dict(unit.part))
    signature = _last_signature(saying, spoken, signer)
    if signature and parts:
        parts[-1]["thoughtSignature"] = signature
    # Google leaves the content out, or its parts, where there is nothing to say.
    content = {"role": "model", **({"parts": parts} if parts else {})}
    return {"content": content, **_ending(saying, index), "index": index}


def _ending(saying: Saying, index: int) -> dict[str, Any]:
    """Why a candidate ends, and what is only known then."""
    spoken = saying.choices[index]
    found: dict[str, Any] = {"finishReason": _REASONS[spoken.finish]}
    if spoken.finish == "content_filter":
        found["safetyRatings"] = [{**_SAFE[1], "probability": "HIGH", "blocked": True}]
    if spoken.citations:
        found["groundingMetadata"] = _grounding(spoken.citations, spoken.said("text"))
    top = asked(saying).top_logprobs
    if top is not None:
        found |= _logprobs([piece for piece in spoken.pieces if piece.kind == "text"], top)
    return found


def _grounding(citations: tuple[Citation, ...], text: str) -> dict[str, Any]:
    """What the text rests on. Segments count bytes of UTF-8."""
    return {
        "webSearchQueries": ["sandbox"],
        "groundingChunks": [{"web": {"uri": cited.url, "title": cited.title}} for cited in citations],
        "groundingSupports": [
            {
                "segment": {
                    "startIndex": len(text[: cited.start].encode()),
                    "endIndex": len(text[: cited.end].encode()),
                    "text": text[cited.start : cited.end],
                },
                "groundingChunkIndices": [number],
            }
            for number, cited in enumerate(citations)
        ],
    }


def _logprobs(pieces: list[Piece], top: int) -> dict[str, Any]:
    scored = [openai.logprob(piece.text, top) for piece in pieces]
    chosen = [{"token": one["token"], "logProbability": one["logprob"]} for one in scored]
    others = [
        {
            "candidates": [
                {"token": two["token"], "logProbability": two["logprob"]} for two in one["top_logprobs"]
            ]
        }
        for one in scored
    ]
    average = sum(one["logprob"] for one in scored) / max(1, len(scored))
    return {"avgLogprobs": average, "logprobsResult": {"chosenCandidates": chosen, "topCandidates": others}}


def units(saying: Saying, spoken: Spoken, signer: Signer) -> Iterator[Unit]:
    """What is said, chunk by chunk."""
    first = True
    for segment in spoken.segments():
        kind = segment[0].kind
        if kind == "reasoning":
            shown = asked(saying).thoughts and not spoken.redacted
            for piece in segment:
                yield Unit({"text": piece.text, "thought": True} if shown else None, (piece,))
        elif kind == "text":
            for piece in segment:
                yield Unit({"text": piece.text}, (piece,))
        elif kind == "call":
            call = spoken.calls[segment[0].call]
            part = _call(saying, call, "".join(piece.text for piece in segment[1:]))
            if part is not None and first and _thinks(saying):
                part["thoughtSignature"] = signer.sign(THOUGHT, call.id)
            first = False
            yield Unit(part, tuple(segment))


def _call(saying: Saying, call: Call, given: str) -> dict[str, Any] | None:
    """A call in one piece; None where its arguments were cut off. Models that reason name their calls."""
    try:
        args = decode(given)
    except msgspec.DecodeError:
        return None
    found: dict[str, Any] = {"name": call.name}
    if args:
        found["args"] = args
    if _thinks(saying):
        found["id"] = call.id.removeprefix("call_")
    return {"functionCall": found}


def _thinks(saying: Saying) -> bool:
    found = models.find(saying.model)
    return found is not None and "reasoning" in found.model.capabilities


def _last_signature(saying: Saying, spoken: Spoken, signer: Signer) -> str:
    """What signs an answer that made no calls."""
    if spoken.calls or not _thinks(saying) or not spoken.tokens("text"):
        return ""
    return signer.sign(THOUGHT, spoken.said("text"))


def stream(saying: Saying, signer: Signer) -> Iterator[Frame]:
    """The chunks, in order; candidates are interleaved."""
    if blocked(saying):
        yield Frame("finish", _blocked(saying))
        return
    thoughts = said = 0
    prompt = _prompt_at_first(saying)
    rows = zip_longest(*(units(saying, spoken, signer) for spoken in saying.choices))
    for row in rows:
        for index, unit in enumerate(row):
            if unit is None:
                continue
            reasoned = sum(piece.kind == "reasoning" for piece in unit.pieces)
            thoughts, said = thoughts + reasoned, said + len(unit.pieces) - reasoned
            parts = (
                []
                if unit.part is None
                else [{"content": {"role": "model", "parts": [unit.part]}, "index": index}]
            )
            payload = response(saying, parts, _counts(prompt, 0, thoughts, said))
            yield Frame("token", payload, len(unit.pieces))
    for index, spoken in enumerate(saying.choices):
        part: dict[str, Any] = {"text": ""}
        signature = _last_signature(saying, spoken, signer)
        if signature:
            part["thoughtSignature"] = signature
        ending = {"content": {"role": "model", "parts": [part]}, **_ending(saying, index), "index": index}
        yield Frame("finish", response(saying, [ending], usage(saying, thoughts, said)))


def encode_event(payload: dict[str, Any]) -> bytes:
    """A chunk as a server-sent event; Google ends its lines with CRLF."""
    return b"data: " + encode(payload) + b"\r\n\r\n"
