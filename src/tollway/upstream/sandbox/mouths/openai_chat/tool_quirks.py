"""Tool calls as compatible providers stream them: without an index, without an id, in odd pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.core.json import decode
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.frames import changed
from tollway.upstream.sandbox.mouths.openai_chat.write import chunk

ToolQuirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]


def _calls(frame: Frame) -> list[dict[str, Any]]:
    """All tool calls of a chunk or of a whole answer, to be changed where they are."""
    return [
        call
        for choice in (frame.payload or {}).get("choices", ())
        for name in ("delta", "message")
        for call in choice.get(name, {}).get("tool_calls", ())
    ]


def _on_call(change: Callable[[dict[str, Any]], object]) -> ToolQuirk:
    """Change every tool call, or every delta of one, in place."""

    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            for call in _calls(frame):
                change(call)
            yield frame

    return quirk


def _counted_from_one(call: dict[str, Any]) -> None:
    if "index" in call:
        call["index"] += 1


def _nameless(call: dict[str, Any]) -> None:
    if "id" in call:
        call["id"] = ""


def repeat(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Id and name in each delta."""
    for frame in frames:
        for call in _calls(frame):
            made = saying.choices[0].calls[call["index"]] if "index" in call else None
            if made is not None and not made.custom:
                call |= {"id": made.id, "type": "function"}
                call["function"] = {"name": made.name, **call["function"]}
        yield frame


def split_name(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The second half of a name comes in a delta of its own."""
    for frame in frames:
        opened = [
            call for call in _calls(frame) if frame.part == "token" and "id" in call and "function" in call
        ]
        if not opened:
            yield frame
            continue
        name = opened[0]["function"]["name"]
        opened[0]["function"]["name"] = name[: len(name) // 2]
        yield frame
        rest = {"index": opened[0]["index"], "function": {"name": name[len(name) // 2 :]}}
        yield Frame("token", chunk(saying, 0, {"tool_calls": [rest]}))


def whole_calls(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Each call in one delta, arguments and all."""
    for frame in frames:
        calls = _calls(frame)
        if frame.part != "token" or not calls or "function" not in calls[0]:
            yield frame
        elif "id" in calls[0]:
            number = calls[0]["index"]
            calls[0]["function"]["arguments"] = saying.choices[0].said("input", number)
            yield Frame("token", frame.payload, 1 + _size(saying, number))


def _size(saying: Saying, number: int) -> int:
    return sum(piece.kind == "input" and piece.call == number for piece in saying.choices[0].pieces)


def object_arguments(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Arguments as an object, whole."""
    for frame in whole_calls(saying, frames):
        for call in _calls(frame):
            if call.get("function", {}).get("arguments"):
                call["function"]["arguments"] = decode(call["function"]["arguments"])
        yield frame


def no_arguments(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in whole_calls(saying, frames):
        for call in _calls(frame):
            if "function" in call:
                call["function"]["arguments"] = ""
        yield frame


def finish_stop(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.payload is not None:
            choices = [
                {
                    **choice,
                    "finish_reason": "stop"
                    if choice["finish_reason"] == "tool_calls"
                    else choice["finish_reason"],
                }
                for choice in frame.payload["choices"]
            ]
            frame = changed(frame, choices=choices)
        yield frame


def interleaved(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """All calls are opened, then their fragments take turns with each other and with the text."""
    tracks: dict[object, list[Frame]] = {}
    for frame in frames:
        if frame.part == "token":
            calls = _calls(frame)
            tracks.setdefault(calls[0]["index"] if calls else "text", []).append(frame)
            continue
        if frame.part == "finish":
            yield from _turn_about(list(tracks.values()))
            tracks = {}
        yield frame


def _turn_about(tracks: list[list[Frame]]) -> Iterator[Frame]:
    longest = max((len(track) for track in tracks), default=0)
    for at in range(longest):
        yield from (track[at] for track in tracks if at < len(track))


TOOL_QUIRKS: Final[dict[str, ToolQuirk]] = {
    "sandbox-tool-index": _on_call(lambda call: call.pop("index", None)),
    "sandbox-tool-index-one": _on_call(_counted_from_one),
    "sandbox-tool-no-id": _on_call(_nameless),
    "sandbox-tool-repeat": repeat,
    "sandbox-tool-split-name": split_name,
    "sandbox-tool-whole": whole_calls,
    "sandbox-tool-object": object_arguments,
    "sandbox-tool-no-arguments": no_arguments,
    "sandbox-tool-stop": finish_stop,
    "sandbox-interleaved": interleaved,
}
