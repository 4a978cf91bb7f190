"""Models that misuse Chat Completions: what they do to the chunks, or to the whole answer, of a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.openai_chat.write import chunk, usage, usage_frame

Quirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]
"""A quirk is given the frames of a good answer: those of a stream, or the single whole one."""

_BAD: Final = {"prompt_tokens": -7, "completion_tokens": "12", "total_tokens": 4.5}
_ABSURD: Final = {"prompt_tokens": 2**63, "completion_tokens": 2**64 - 1, "total_tokens": 1e30}


def _changed(frame: Frame, **fields: Any) -> Frame:
    return Frame(frame.part, {**(frame.payload or {}), **fields}, frame.tokens)


def no_usage(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.part == "usage":
            continue
        if frame.payload is not None and "usage" in frame.payload:
            kept = {name: value for name, value in frame.payload.items() if name != "usage"}
            frame = Frame(frame.part, kept, frame.tokens)
        yield frame


def _with_usage(counts: dict[str, Any]) -> Quirk:
    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield _changed(frame, usage=counts) if frame.part in ("usage", "whole") else frame

    return quirk


def double_usage(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Running totals on every token, asked for or not, and the final ones at the end, twice."""
    full = usage(saying)
    prompt = full["prompt_tokens"]
    generated = 0
    for frame in frames:
        generated += frame.tokens
        if frame.part == "token":
            running = {**full, "completion_tokens": generated, "total_tokens": prompt + generated}
            frame = _changed(frame, usage=running)
        elif frame.part == "finish":
            frame = _changed(frame, usage=full)
        elif frame.part == "done":
            yield usage_frame(saying)
        yield frame


def after_finish(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.part == "finish":
            yield Frame("token", chunk(saying, 0, {"content": " And one more thing."}))


def wrong_model(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        if frame.payload is None:
            yield frame
        else:
            yield _changed(frame, model="some-other-model", id=f"chatcmpl-other-{number}")


def tool_index(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Tool call deltas without their index; a whole answer has none to lose."""
    for frame in frames:
        for choice in (frame.payload or {}).get("choices", ()):
            for call in choice.get("delta", {}).get("tool_calls", ()):
                del call["index"]
        yield frame


QUIRKS: Final[dict[str, Quirk]] = {
    "sandbox-no-usage": no_usage,
    "sandbox-bad-usage": _with_usage(_BAD),
    "sandbox-bad-usage-absurd": _with_usage(_ABSURD),
    "sandbox-double-usage": double_usage,
    "sandbox-after-finish": after_finish,
    "sandbox-wrong-model": wrong_model,
    "sandbox-tool-index": tool_index,
}
