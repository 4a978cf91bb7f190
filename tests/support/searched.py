"""Answers of upstreams whose own tools searched and ran code, on a tier, in every dialect: whole and as streams."""

from __future__ import annotations

from typing import Any

from tollway.core.dialects.base import DONE

TOOLS: dict[str, dict[str, int]] = {
    "openai_chat": {"web_search": 2},
    "openai_responses": {"web_search": 2, "code_session": 1, "file_search": 1, "image:1024x1024:high": 1},
    "anthropic": {"web_search": 2},
    "gemini": {"web_search": 2, "map_search": 1},
}
"""What the tools of each answer did, by meter."""
TIERS = {
    "openai_chat": "priority",
    "openai_responses": "priority",
    "anthropic": "fast-us",
    "gemini": "priority",
}
INPUT, OUTPUT = 30, 8

_ITEMS: list[dict[str, Any]] = [
    {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"id": "ws_2", "type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}},
    {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["b"], "results": None},
    {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "container_id": "c", "code": "1"},
    {"id": "ws_3", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "c"}},
    {
        "id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "iVBORw0KGgo=",
        "size": "1024x1024", "quality": "high",
    },
    {
        "id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": "Found it.", "annotations": []}],
    },
]  # fmt: skip
_RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "tools": [{"type": "web_search"}],
}  # fmt: skip
_RESPONSE_END: dict[str, Any] = {
    **_RESPONSE, "status": "completed", "service_tier": "priority", "output": _ITEMS,
    "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT},
}  # fmt: skip
_BLOCKS: list[dict[str, Any]] = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {
        "type": "server_tool_use",
        "id": "srvtoolu_2",
        "name": "bash_code_execution",
        "input": {"command": "ls"},
    },
    {"type": "server_tool_use", "id": "srvtoolu_3", "name": "text_editor_code_execution", "input": {}},
    {"type": "server_tool_use", "id": "srvtoolu_4", "name": "web_search", "input": {"query": "b"}},
    {"type": "text", "text": "Found it."},
]
_ANTHROPIC_USAGE: dict[str, Any] = {
    "input_tokens": INPUT, "output_tokens": OUTPUT, "service_tier": "standard", "speed": "fast",
    "inference_geo": "us", "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
}  # fmt: skip
_GROUNDING = [
    {"webSearchQueries": ["a"]},
    {"webSearchQueries": ["a", "b"], "groundingChunks": [{"maps": {"uri": "u", "title": "t"}}]},
]
_GEMINI_USAGE: dict[str, Any] = {
    "promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT,
    "serviceTier": "priority",
}  # fmt: skip
_CHAT_USAGE: dict[str, Any] = {
    "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT, "num_sources_used": 2,
}  # fmt: skip
_CHAT: dict[str, Any] = {"id": "c1", "created": 1, "model": "up", "service_tier": "priority"}


def whole(dialect: str) -> dict[str, Any]:
    """The whole answer."""
    match dialect:
        case "openai_chat":
            message = {"role": "assistant", "content": "Found it."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return {**_CHAT, "object": "chat.completion", "choices": [choice], "usage": _CHAT_USAGE}
        case "openai_responses":
            return _RESPONSE_END
        case "anthropic":
            return {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": _BLOCKS,
                "stop_reason": "end_turn", "stop_sequence": None, "usage": _ANTHROPIC_USAGE,
            }  # fmt: skip
    content = {"role": "model", "parts": [{"text": "Found it."}]}
    candidate = {"content": content, "finishReason": "STOP", "groundingMetadata": _GROUNDING[1]}
    return {
        "candidates": [candidate],
        "modelVersion": "up",
        "responseId": "r",
        "usageMetadata": _GEMINI_USAGE,
    }


def stream(dialect: str) -> list[Any]:
    """The same as a stream's objects; see `cut` for where it may break off."""
    return {
        "openai_chat": _chat_stream,
        "openai_responses": _responses_stream,
        "anthropic": _anthropic_stream,
        "gemini": _gemini_stream,
    }[dialect]()


def _chat_stream() -> list[Any]:
    head = {**_CHAT, "object": "chat.completion.chunk"}
    said = {"index": 0, "delta": {"role": "assistant", "content": "Found it."}, "finish_reason": None}
    stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [
        {**head, "choices": [said]},
        {**head, "choices": [stop]},
        {**head, "choices": [], "usage": _CHAT_USAGE},
        DONE,
    ]


def _responses_stream() -> list[Any]:
    events: list[dict[str, Any]] = [
        {
            "type": "response.created",
            "response": {**_RESPONSE, "status": "in_progress", "service_tier": "auto", "output": []},
        }
    ]
    for at, item in enumerate(_ITEMS):
        begun = {**item, "status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
        events.append({"type": "response.output_item.added", "output_index": at, "item": begun})
        if item["type"] == "code_interpreter_call":
            place = {"output_index": at, "item_id": item["id"]}
            events.append({"type": "response.code_interpreter_call_code.delta", "delta": "1", **place})
        if item["type"] == "message":
            place = {"output_index": at, "content_index": 0, "item_id": item["id"]}
            events.append({"type": "response.output_text.delta", "delta": "Found it.", **place})
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    events.append({"type": "response.completed", "response": _RESPONSE_END})
    return [{**one, "sequence_number": number} for number, one in enumerate(events)]


def _anthropic_stream() -> list[Any]:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": INPUT, "output_tokens": 1, "service_tier": "standard"},
    }  # fmt: skip
    events: list[Any] = [{"type": "message_start", "message": message}]
    for at, block in enumerate(_BLOCKS):
        begun = {**block, **({"text": ""} if block["type"] == "text" else {})}
        events.append({"type": "content_block_start", "index": at, "content_block": begun})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
        events.append({"type": "content_block_stop", "index": at})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": _ANTHROPIC_USAGE})
    return [*events, {"type": "message_stop"}]


def _gemini_stream() -> list[Any]:
    top = {"modelVersion": "up", "responseId": "r"}
    said = {
        "content": {"role": "model", "parts": [{"text": "Found it."}]},
        "groundingMetadata": _GROUNDING[0],
    }
    last = {"finishReason": "STOP", "groundingMetadata": _GROUNDING[1]}
    # The totals may come before the last that grounding tells.
    return [
        {"candidates": [said], "usageMetadata": _GEMINI_USAGE, **top},
        {"candidates": [last], "usageMetadata": _GEMINI_USAGE, **top},
    ]
