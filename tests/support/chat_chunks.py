"""Chat Completions chunks as upstreams stream them, orderly and not."""

from __future__ import annotations

from tollway.core.dialects.base import DONE
from tollway.core.exchange import ToolCall


def chat_chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }


def call_delta(index, arguments=None, call_id=None, name=None, **more):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {"index": index, "function": function, **more}
    if index is None:
        del call["index"]
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    return chat_chunk({"tool_calls": [call]})


END = [chat_chunk({}, "tool_calls"), chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 5}), DONE]
INTERLEAVED = [
    call_delta(0, "", "call_a", "first"),
    call_delta(1, "", "call_b", "second"),
    call_delta(0, '{"a"'),
    call_delta(1, '{"b":'),
    chat_chunk({"content": "meanwhile"}),
    call_delta(0, ":1}"),
    call_delta(1, "2}"),
    *END,
]


def calls_of(response):
    return [(part.id, part.name, part.arguments) for part in response.parts if isinstance(part, ToolCall)]
