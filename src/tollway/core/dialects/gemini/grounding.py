"""Sources and token probabilities as Gemini tells them, in both directions.

Gemini's offsets count bytes of UTF-8; ours, and everybody else's, count characters.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core.exchange import Citation, Logprob, Text

NAME: Final = "gemini"


def read_citations(candidate: dict[str, Any], text: str) -> list[Citation]:
    """The sources of a candidate whose text is `text`. The metadata itself is kept by the caller."""
    data = text.encode("utf-8", "surrogatepass")
    found: list[Citation] = []
    grounding = candidate.get("groundingMetadata")
    if type(grounding) is dict:
        found += _grounded(grounding, data)
    cited = candidate.get("citationMetadata")
    listed = cited.get("citations") if type(cited) is dict else None
    for one in listed if type(listed) is list else ():
        if type(one) is dict and type(one.get("uri")) is str:
            start, end = one.get("startIndex") or 0, one.get("endIndex")
            found.append(_citation(one["uri"], str(one.get("title") or ""), start, end, data))
    return found


def _grounded(grounding: dict[str, Any], data: bytes) -> list[Citation]:
    chunks = grounding.get("groundingChunks")
    supports = grounding.get("groundingSupports")
    found: list[Citation] = []
    for support in supports if type(supports) is list else ():
        segment = support.get("segment") if type(support) is dict else None
        if type(segment) is not dict:
            continue
        indices = support.get("groundingChunkIndices")
        for index in indices if type(indices) is list else ():
            known = type(chunks) is list and type(index) is int and 0 <= index < len(chunks)
            chunk = chunks[index] if known and type(chunks) is list else {}
            web = chunk.get("web") or chunk.get("retrievedContext") if type(chunk) is dict else None
            if type(web) is dict and type(web.get("uri")) is str:
                start, end = segment.get("startIndex") or 0, segment.get("endIndex")
                found.append(_citation(web["uri"], str(web.get("title") or ""), start, end, data))
    return found


def _citation(url: str, title: str, start: Any, end: Any, data: bytes) -> Citation:
    first = start if type(start) is int else 0
    last = end if type(end) is int else len(data)
    return Citation(
        kind="url",
        url=url,
        title=title,
        cited_text=data[first:last].decode("utf-8", "ignore"),
        start=len(data[:first].decode("utf-8", "ignore")),
        end=len(data[:last].decode("utf-8", "ignore")),
    )


def write_grounding(texts: list[Text]) -> dict[str, Any] | None:
    """GroundingMetadata for the answer's texts in order; None if they name no sources."""
    chunks: list[dict[str, Any]] = []
    supports: list[dict[str, Any]] = []
    offset = 0
    for text in texts:
        for one in text.citations:
            start, end = one.start or 0, len(text.text) if one.end is None else one.end
            segment = {
                "startIndex": offset + _bytes(text.text[:start]),
                "endIndex": offset + _bytes(text.text[:end]),
                "text": text.text[start:end],
            }
            if one.kind == "url":
                chunks.append({"web": {"uri": one.url, "title": one.title}})
            else:
                chunks.append({"retrievedContext": {"title": one.title, "text": one.cited_text}})
            supports.append({"segment": segment, "groundingChunkIndices": [len(chunks) - 1]})
        offset += _bytes(text.text)
    return {"groundingChunks": chunks, "groundingSupports": supports} if chunks else None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def read_logprobs(result: object) -> tuple[Logprob, ...]:
    """Token probabilities of a candidate."""
    if type(result) is not dict:
        return ()
    chosen, tops = result.get("chosenCandidates"), result.get("topCandidates")
    found: list[Logprob] = []
    for at, one in enumerate(chosen if type(chosen) is list else ()):
        if type(one) is not dict:
            continue
        top = tops[at] if type(tops) is list and at < len(tops) else None
        listed = top.get("candidates") if type(top) is dict else None
        others = [_token(other) for other in listed or () if type(other) is dict]
        found.append(Logprob(_token(one).token, _token(one).logprob, tuple(others)))
    return tuple(found)


def _token(one: dict[str, Any]) -> Logprob:
    value = one.get("logProbability")
    return Logprob(str(one.get("token") or ""), float(value) if isinstance(value, int | float) else 0.0)


def write_logprobs(tokens: list[Logprob]) -> dict[str, Any]:
    """Token probabilities for a candidate."""
    return {
        "chosenCandidates": [{"token": one.token, "logProbability": one.logprob} for one in tokens],
        "topCandidates": [
            {"candidates": [{"token": other.token, "logProbability": other.logprob} for other in one.top]}
            for one in tokens
        ],
    }
