"""Models that misuse Messages: what they do to the events, or to the whole answer, of a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.frames import ABSURD, BAD, changed

Quirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]

_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens")


def _on_usage(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Quirk:
    """Change every usage there is; None takes it away."""

    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            payload = frame.payload or {}
            if "message" in payload:
                yield changed(frame, message=_edited(payload["message"], change))
            elif "usage" in payload:
                yield Frame(frame.part, _edited(payload, change), frame.tokens)
            else:
                yield frame

    return quirk


def _edited(
    source: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> dict[str, Any]:
    usage = change(source["usage"])
    rest = {name: value for name, value in source.items() if name != "usage"}
    return rest if usage is None else {**rest, "usage": usage}


def late_usage(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Everything is uncached input at first; only the last counts are split."""
    prompt = saying.ask.prompt_tokens
    for frame in frames:
        if frame.payload is not None and "message" in frame.payload:
            usage = {"input_tokens": prompt, "output_tokens": 0}
            frame = changed(frame, message={**frame.payload["message"], "usage": usage})
        yield frame


def after_finish(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    blocks = 0
    for frame in frames:
        payload = frame.payload or {}
        blocks += payload.get("type") == "content_block_start"
        yield frame
        if frame.part == "finish":
            text = {"type": "text", "text": ""}
            yield Frame("start", {"type": "content_block_start", "index": blocks, "content_block": text})
            more = {"type": "text_delta", "text": " And one more thing."}
            yield Frame("token", {"type": "content_block_delta", "index": blocks, "delta": more})
            yield Frame("start", {"type": "content_block_stop", "index": blocks})


def wrong_model(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    other = {"model": "some-other-model", "id": "msg_other"}
    for frame in frames:
        payload = frame.payload or {}
        if "message" in payload:
            frame = changed(frame, message={**payload["message"], **other})
        elif frame.part == "whole":
            frame = changed(frame, **other)
        yield frame


def double_start(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The first event twice, as from a proxy that tried again."""
    for number, frame in enumerate(frames):
        yield frame
        if number == 0 and frame.part == "start":
            yield frame


def spliced(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Three tokens of one message, then another message from its beginning."""
    listed = list(frames)
    tokens = 0
    for frame in listed:
        if frame.part not in ("start", "token") or tokens == 3:
            break
        tokens += frame.tokens
        yield frame
    yield from (_renamed(frame) for frame in listed)


def _renamed(frame: Frame) -> Frame:
    payload = frame.payload or {}
    return (
        changed(frame, message={**payload["message"], "id": "msg_other"}) if "message" in payload else frame
    )


def double_usage(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The last counts twice."""
    for frame in frames:
        yield frame
        if frame.part == "finish":
            yield Frame("finish", frame.payload)


QUIRKS: Final[dict[str, Quirk]] = {
    "sandbox-no-usage": _on_usage(lambda _usage: None),
    "sandbox-bad-usage": _on_usage(lambda _usage: dict(zip(_COUNTS, BAD, strict=True))),
    "sandbox-bad-usage-absurd": _on_usage(lambda _usage: dict(zip(_COUNTS, ABSURD, strict=True))),
    "sandbox-double-usage": double_usage,
    "sandbox-late-usage": late_usage,
    "sandbox-after-finish": after_finish,
    "sandbox-wrong-model": wrong_model,
    "sandbox-double-start": double_start,
    "sandbox-spliced": spliced,
}
