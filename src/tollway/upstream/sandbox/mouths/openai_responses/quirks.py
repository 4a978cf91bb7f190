"""Models that misuse Responses: what they do to the events, or to the whole answer, of a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.frames import ABSURD, BAD, changed

Quirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]

_COUNTS: Final = ("input_tokens", "output_tokens", "total_tokens")


def _in_response(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Quirk:
    """Change the response object wherever it is: in an event, or the whole answer."""

    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            payload = frame.payload or {}
            if frame.part == "whole":
                yield Frame("whole", change(payload), frame.tokens)
            else:
                yield changed(frame, response=change(payload["response"])) if "response" in payload else frame

    return quirk


def _counted(counts: tuple[Any, ...]) -> Quirk:
    def change(response: dict[str, Any]) -> dict[str, Any]:
        if response["usage"] is None:
            return response
        return {**response, "usage": dict(zip(_COUNTS, counts, strict=True))}

    return _in_response(change)


def rotating_ids(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Another item id in every event."""
    for number, frame in enumerate(frames):
        payload = dict(frame.payload or {})
        if "item_id" in payload:
            payload["item_id"] = f"{payload['item_id']}_{number}"
        if "item" in payload:
            payload["item"] = {**payload["item"], "id": f"{payload['item']['id']}_{number}"}
        yield Frame(frame.part, payload, frame.tokens)


def after_finish(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.part == "done":
            place = {"item_id": f"msg_{saying.stamp.id}00", "output_index": 0, "content_index": 0}
            more = {"delta": " And one more thing.", "logprobs": []}
            yield Frame("token", {"type": "response.output_text.delta", **place, **more})


def done_marker(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """[DONE] after the last event, as compatible providers send it."""
    for frame in frames:
        yield frame
        if frame.part == "done":
            yield Frame("done", None)


def raw_reasoning(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Reasoning as text of its own and not as a summary, as open models give it."""
    names = {"part.added": "", "part.done": "", "text.delta": "delta", "text.done": "done"}
    prefix = "response.reasoning_summary_"
    for frame in frames:
        payload = dict(frame.payload or {})
        kind = str(payload.get("type", ""))
        if kind.startswith(prefix):
            name = names[kind.removeprefix(prefix)]
            payload.pop("summary_index")
            if name:
                yield Frame(
                    frame.part,
                    {**payload, "type": f"response.reasoning_text.{name}", "content_index": 0},
                    frame.tokens,
                )
            continue
        yield Frame(frame.part, _raw(payload), frame.tokens)


def _raw(payload: dict[str, Any]) -> dict[str, Any]:
    if "item" in payload:
        return {**payload, "item": _raw_item(payload["item"])}
    if "response" in payload:
        response = payload["response"]
        return {
            **payload,
            "response": {**response, "output": [_raw_item(item) for item in response["output"]]},
        }
    if "output" in payload:
        return {**payload, "output": [_raw_item(item) for item in payload["output"]]}
    return payload


def _raw_item(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] != "reasoning":
        return item
    content = [{"type": "reasoning_text", "text": part["text"]} for part in item["summary"]]
    return {**item, "summary": [], "content": content}


QUIRKS: Final[dict[str, Quirk]] = {
    "sandbox-no-usage": _in_response(lambda response: {**response, "usage": None}),
    "sandbox-bad-usage": _counted(BAD),
    "sandbox-bad-usage-absurd": _counted(ABSURD),
    "sandbox-wrong-model": _in_response(
        lambda response: {**response, "model": "some-other-model", "id": "resp_other"}
    ),
    "sandbox-after-finish": after_finish,
    "sandbox-rotating-ids": rotating_ids,
    "sandbox-done-marker": done_marker,
    "sandbox-reasoning-field": raw_reasoning,
}
