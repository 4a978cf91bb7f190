"""Messages answers: a whole message, or the named events of a stream by Anthropic's grammar.

Blocks come strictly one after another: start, deltas, stop. A thinking block ends with its signature,
a citation precedes the text that rests on it, and the last counts are cumulative and final.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.json import decode
from tollway.upstream.sandbox.ask import Citation, Piece, Spoken
from tollway.upstream.sandbox.mouths.anthropic.read import MessagesAsk
from tollway.upstream.sandbox.mouths.anthropic.rules import NEWEST, REDACTED, SEARCHED, THINKING
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.signing import Signer

_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class Block(Struct, frozen=True):
    """A content block as it stands at the end, and the events between its start and its stop."""

    start: dict[str, Any]
    deltas: tuple[tuple[dict[str, Any], int], ...]
    final: dict[str, Any]
    opening_tokens: int = 0


def asked(saying: Saying) -> MessagesAsk:
    assert isinstance(saying.ask, MessagesAsk)
    return saying.ask


def usage(saying: Saying) -> dict[str, Any]:
    """Exact counts. `input_tokens` excludes what was read from the cache and written to it."""
    cached = saying.cached
    written = cached.written_5m + cached.written_1h
    found: dict[str, Any] = {
        "input_tokens": saying.ask.prompt_tokens - cached.read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
        "output_tokens": saying.tokens,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    if saying.reasoning_tokens:
        found["output_tokens_details"] = {"thinking_tokens": saying.reasoning_tokens}
    if _searched(saying):
        found["server_tool_use"] = {"web_search_requests": 1, "web_fetch_requests": 0}
    return found


def whole(saying: Saying, signer: Signer) -> Frame:
    """The answer as one message."""
    payload = message(saying, [block.final for block in blocks(saying, signer)])
    return Frame("whole", {**payload, **ending(saying), "usage": usage(saying)}, saying.tokens)


def message(saying: Saying, content: list[dict[str, Any]]) -> dict[str, Any]:
    """A message without its end."""
    return {
        "id": f"msg_{saying.stamp.id}",
        "type": "message",
        "role": "assistant",
        "model": saying.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {},
    }


def ending(saying: Saying) -> dict[str, Any]:
    """Why the answer ends."""
    spoken = saying.choices[0]
    refused = spoken.tokens("refusal") > 0 or spoken.finish == "content_filter"
    reason = "refusal" if refused else "stop_sequence" if spoken.stop else _REASONS[spoken.finish]
    details = {"type": "refusal", "category": None, "explanation": spoken.said("refusal") or None}
    return {
        "stop_reason": reason,
        "stop_sequence": spoken.stop or None,
        "stop_details": details if refused else None,
    }


def stream(saying: Saying, signer: Signer) -> Iterator[Frame]:
    """The events, in order."""
    counts = usage(saying)
    first = {**message(saying, []), "usage": {**counts, "output_tokens": 1}}
    first["usage"].pop("output_tokens_details", None)
    first["usage"].pop("server_tool_use", None)
    yield Frame("start", {"type": "message_start", "message": first})
    found = blocks(saying, signer)
    for index, block in enumerate(found):
        opening = {"type": "content_block_start", "index": index, "content_block": block.start}
        yield Frame("token" if block.opening_tokens else "start", opening, block.opening_tokens)
        if index == 0:
            yield Frame("start", {"type": "ping"})
        for delta, count in block.deltas:
            payload = {"type": "content_block_delta", "index": index, "delta": delta}
            yield Frame("token" if count else "start", payload, count)
        yield Frame("start", {"type": "content_block_stop", "index": index})
    # Withheld text was generated all the same, and nothing else says so on the way.
    hidden = saying.tokens - sum(block.opening_tokens + sum(n for _, n in block.deltas) for block in found)
    final = {name: value for name, value in counts.items() if name in _CUMULATIVE}
    yield Frame("finish", {"type": "message_delta", "delta": ending(saying), "usage": final}, hidden)
    yield Frame("done", {"type": "message_stop"})


_CUMULATIVE: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)


def blocks(saying: Saying, signer: Signer) -> list[Block]:
    """The content, in order. A refusal has none."""
    spoken = saying.choices[0]
    found: list[Block] = []
    for segment in spoken.segments():
        kind = segment[0].kind
        if kind == "reasoning":
            found.append(_thinking(saying, segment, spoken, signer))
        elif kind == "text":
            if _searched(saying):
                found += _search(saying, spoken.citations[0], signer)
            found += _texts(saying, segment, spoken, signer)
        elif kind == "call":
            found.append(_tool_use(saying, segment, spoken))
    return found


def _thinking(saying: Saying, segment: list[Piece], spoken: Spoken, signer: Signer) -> Block:
    text = "".join(piece.text for piece in segment)
    if spoken.redacted:
        block = {"type": "redacted_thinking", "data": signer.sign(REDACTED, text)}
        return Block(block, (), block)
    signature = signer.sign(THINKING, text)
    hidden = asked(saying).hidden
    deltas = [
        ({"type": "thinking_delta", "thinking": piece.text}, 1) for piece in ([] if hidden else segment)
    ]
    deltas.append(({"type": "signature_delta", "signature": signature}, 0))
    final = {"type": "thinking", "thinking": "" if hidden else text, "signature": signature}
    return Block({"type": "thinking", "thinking": "", "signature": ""}, tuple(deltas), final)


def _texts(saying: Saying, segment: list[Piece], spoken: Spoken, signer: Signer) -> Iterator[Block]:
    """The text in one block, or what a citation supports in a block of its own."""
    at = 0
    cited: list[Piece] = []
    rest: list[Piece] = []
    end = spoken.citations[0].end if spoken.citations else 0
    for piece in segment:
        (cited if at < end else rest).append(piece)
        at += len(piece.text)
    if cited:
        yield _text(cited, _citation(saying, spoken.citations[0], signer))
    if rest:
        yield _text(rest, None)


def _text(pieces: list[Piece], citation: dict[str, Any] | None) -> Block:
    deltas: list[tuple[dict[str, Any], int]] = []
    final: dict[str, Any] = {"type": "text", "text": "".join(piece.text for piece in pieces)}
    start: dict[str, Any] = {"type": "text", "text": ""}
    if citation is not None:
        final["citations"], start["citations"] = [citation], []
        deltas.append(({"type": "citations_delta", "citation": citation}, 0))
    deltas += [({"type": "text_delta", "text": piece.text}, 1) for piece in pieces]
    return Block(start, tuple(deltas), final)


def _citation(saying: Saying, citation: Citation, signer: Signer) -> dict[str, Any]:
    documents = asked(saying).documents
    index = next((at for at, document in enumerate(documents) if document is not None), None)
    if index is None:
        return {
            "type": "web_search_result_location",
            "cited_text": citation.quote,
            "url": citation.url,
            "title": citation.title,
            "encrypted_index": signer.sign(SEARCHED, citation.quote),
        }
    document = documents[index]
    assert document is not None
    place = {
        "cited_text": citation.quote,
        "document_index": index,
        "document_title": document.title,
        "file_id": None,
    }
    if document.paged:
        return {"type": "page_location", **place, "start_page_number": 1, "end_page_number": 2}
    return {"type": "char_location", **place, "start_char_index": 0, "end_char_index": len(citation.quote)}


def _searched(saying: Saying) -> bool:
    return asked(saying).searches and bool(saying.choices[0].citations)


def _search(saying: Saying, citation: Citation, signer: Signer) -> list[Block]:
    """A web search that Anthropic carried out: its use and its result, complete from the start."""
    name = f"srvtoolu_{saying.stamp.id}"
    start = {"type": "server_tool_use", "id": name, "name": "web_search", "input": {}}
    query = ({"type": "input_json_delta", "partial_json": '{"query":"sandbox"}'}, 0)
    use = Block(start, (query,), {**start, "input": {"query": "sandbox"}})
    found = {
        "type": "web_search_result",
        "url": citation.url,
        "title": citation.title,
        "encrypted_content": signer.sign(SEARCHED, citation.url),
        "page_age": None,
    }
    result = {"type": "web_search_tool_result", "tool_use_id": name, "content": [found]}
    return [use, Block(result, (), result)]


def _tool_use(saying: Saying, segment: list[Piece], spoken: Spoken) -> Block:
    call = spoken.calls[segment[0].call]
    start: dict[str, Any] = {
        "type": "tool_use",
        "id": call.id.replace("call_", "toolu_", 1),
        "name": call.name,
        "input": {},
    }
    if asked(saying).version == NEWEST:
        start["caller"] = {"type": "direct"}
    # An empty fragment comes first; for a call without arguments it is all there is.
    empty = call.input == "{}"
    deltas: list[tuple[dict[str, Any], int]] = [({"type": "input_json_delta", "partial_json": ""}, 0)]
    deltas += [
        ({"type": "input_json_delta", "partial_json": "" if empty else piece.text}, 1)
        for piece in segment[1:]
    ]
    given = _object("".join(piece.text for piece in segment[1:]))
    return Block(start, tuple(deltas), {**start, "input": given}, opening_tokens=1)


def _object(text: str) -> dict[str, Any]:
    """Arguments as an object; an empty one where they were cut off."""
    try:
        found = decode(text)
    except msgspec.DecodeError:
        return {}
    return found if type(found) is dict else {}
