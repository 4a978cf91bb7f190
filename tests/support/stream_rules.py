"""The rules a stream must obey in each dialect, written apart from the code that writes streams."""

from __future__ import annotations

from typing import Any


def check(dialect: str, objects: list[Any], *, complete: bool = True) -> None:
    """Assert that a sequence of stream objects is legal. `complete`: it must also have ended well."""
    {"openai_chat": chat, "openai_responses": responses, "anthropic": anthropic, "gemini": gemini}[dialect](
        objects, complete
    )


def chat(objects: list[Any], complete: bool) -> None:
    calls: dict[int, str] = {}
    finished = done = failed = False
    usage = 0
    head: tuple[Any, ...] | None = None
    for at, one in enumerate(objects):
        assert not done and not failed, "nothing follows the end"
        if one == "[DONE]":
            assert finished, "[DONE] without a finish reason"
            done = True
            continue
        if "error" in one:
            assert {"message", "type", "param", "code"} <= one["error"].keys()
            failed = True
            continue
        assert one["object"] == "chat.completion.chunk"
        mine = (one["id"], one["created"], one["model"])
        assert head in (None, mine), "id, created and model are the same in every chunk"
        head = mine
        if not one["choices"]:
            assert finished and one["usage"] is not None
            usage += 1
            continue
        assert one.get("usage") is None and not usage
        (choice,) = one["choices"]
        assert choice["index"] == 0
        if at == 0:
            assert choice["delta"]["role"] == "assistant"
        assert not finished, "content after the finish reason"
        for call in choice["delta"].get("tool_calls", ()):
            _chat_call(call, calls)
        if choice["finish_reason"] is not None:
            finished = True
    assert list(calls) == list(range(len(calls))), "call indices are contiguous"
    assert usage <= 1
    if complete:
        assert done


def _chat_call(call: dict[str, Any], calls: dict[int, str]) -> None:
    if "id" in call:
        assert call["index"] not in calls, "id and name come once"
        assert call["id"]
        assert call[call["type"]]["name"]
        calls[call["index"]] = call["type"]
    else:
        assert call["index"] in calls, "arguments of a call that was not named"


def responses(objects: list[Any], complete: bool) -> None:
    items: dict[int, dict[str, Any]] = {}
    parts: dict[tuple[int, int], str] = {}
    done: list[int] = []
    ended = False
    for at, one in enumerate(objects):
        kind = one["type"]
        assert one["sequence_number"] == at, "sequence numbers count from 0"
        assert not ended, "nothing follows the terminal event"
        if at == 0:
            assert kind == "response.created"
        index = one.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(items), "items are added in order"
            items[index] = {"id": one["item"]["id"], "type": one["item"]["type"], "text": ""}
        elif index is not None:
            assert index in items and index not in done, f"{kind} for an item that is not open"
            if "item_id" in one:
                assert one["item_id"] == items[index]["id"]
            _responses_item(one, kind, index, items, parts)
            if kind == "response.output_item.done":
                assert one["item"]["id"] == items[index]["id"]
                assert not [key for key in parts if key[0] == index], "a part is still open"
                done.append(index)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            ended = True
            _responses_end(one, kind, items, done)
        elif kind in ("response.created", "response.queued", "response.in_progress"):
            assert at < 2, f"{kind} would start a client's copy of the answer anew"
    if complete:
        assert ended


def _responses_item(
    one: dict[str, Any], kind: str, index: int, items: dict[int, Any], parts: dict[tuple[int, int], str]
) -> None:
    key = (index, one.get("content_index", -1))
    if kind == "response.content_part.added":
        assert key not in parts
        parts[key] = ""
    elif kind in ("response.output_text.delta", "response.refusal.delta"):
        parts[key] += one["delta"]
    elif kind == "response.output_text.done":
        assert one["text"] == parts[key]
    elif kind == "response.content_part.done":
        part = one["part"]
        assert part.get("text", part.get("refusal")) == parts.pop(key)
    elif kind.endswith(("arguments.delta", "input.delta")):
        items[index]["text"] += one["delta"]
    elif kind.endswith("arguments.done"):
        assert one["arguments"] == items[index]["text"] != ""
        assert one["name"]
    elif kind.endswith("input.done"):
        assert one["input"] == items[index]["text"]


def _responses_end(one: dict[str, Any], kind: str, items: dict[int, Any], done: list[int]) -> None:
    assert one["response"]["status"] == kind.removeprefix("response.")
    if kind == "response.failed":
        assert one["response"]["error"]["message"]
        return
    assert len(done) == len(items), "an item is still open"
    assert [item["id"] for item in one["response"]["output"]] == [item["id"] for item in items.values()]
    assert one["response"]["usage"]["input_tokens_details"].keys() >= {"cached_tokens", "cache_write_tokens"}


_DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


def anthropic(objects: list[Any], complete: bool) -> None:
    opened: str | None = None
    count = 0
    stage = "new"
    for one in objects:
        kind = one["type"]
        assert stage != "end", "nothing follows the end"
        if kind == "ping":
            continue
        if kind == "error":
            assert one["error"]["type"] and one["error"]["message"]
            stage = "end"
        elif kind == "message_start":
            assert stage == "new"
            assert one["message"]["content"] == [] and one["message"]["usage"]
            stage = "open"
        elif kind == "content_block_start":
            assert stage == "open" and opened is None and one["index"] == count
            opened = one["content_block"]["type"]
        elif kind == "content_block_delta":
            assert one["index"] == count and opened is not None
            assert one["delta"]["type"] in _DELTAS.get(opened, set()), (opened, one)
        elif kind == "content_block_stop":
            assert one["index"] == count and opened is not None
            opened = None
            count += 1
        elif kind == "message_delta":
            assert stage == "open" and opened is None
            assert one["delta"]["stop_reason"] and one["usage"]["output_tokens"] >= 0
            stage = "told"
        else:
            assert kind == "message_stop" and stage == "told"
            stage = "end"
    if complete:
        assert stage == "end"


def gemini(objects: list[Any], complete: bool) -> None:
    ended = False
    for one in objects:
        assert not ended, "nothing follows the end"
        if "error" in one:
            assert next(iter(one)) == "error", "SDKs look at how the chunk begins"
            assert type(one["error"]["code"]) is int
            ended = True
            continue
        for candidate in one.get("candidates", ()):
            assert candidate["index"] == 0
            for part in candidate["content"]["parts"]:
                if "functionCall" in part:
                    assert type(part["functionCall"]["args"]) is dict and part["functionCall"]["name"]
            ended = ended or "finishReason" in candidate
        ended = ended or "blockReason" in one.get("promptFeedback", {})
        if ended:
            assert one["usageMetadata"]["totalTokenCount"] >= 0
    if complete:
        assert ended
