"""Models that misuse Gemini: what they do to the chunks, or to the whole answer, of a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.frames import ABSURD, BAD, changed, without

Quirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]

_COUNTS: Final = ("promptTokenCount", "candidatesTokenCount", "totalTokenCount")


def no_usage(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    yield from (without(frame, "usageMetadata") if frame.payload is not None else frame for frame in frames)


def _counted(counts: tuple[Any, ...]) -> Quirk:
    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            ending = frame.part in ("finish", "whole")
            yield changed(frame, usageMetadata=dict(zip(_COUNTS, counts, strict=True))) if ending else frame

    return quirk


def wrong_model(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        other = {"modelVersion": "some-other-model", "responseId": f"other-{number}"}
        yield frame if frame.payload is None else changed(frame, **other)


def after_finish(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.part == "finish":
            content = {"role": "model", "parts": [{"text": " And one more thing."}]}
            more = {"candidates": [{"content": content, "index": 0}], "modelVersion": saying.model}
            yield Frame("token", more)


def no_index(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Candidates without their index, as where there is only one."""
    for frame in frames:
        for candidate in (frame.payload or {}).get("candidates", ()):
            candidate.pop("index", None)
        yield frame


def malformed_call(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """No content, and a reason to finish that means the model called a function wrongly."""
    for frame in frames:
        candidates = (frame.payload or {}).get("candidates")
        if frame.part == "token" or not candidates:
            continue
        ended = {
            "finishReason": "MALFORMED_FUNCTION_CALL",
            "finishMessage": "Malformed function call: print(",
            "index": 0,
        }
        yield changed(frame, candidates=[ended])


QUIRKS: Final[dict[str, Quirk]] = {
    "sandbox-no-usage": no_usage,
    "sandbox-bad-usage": _counted(BAD),
    "sandbox-bad-usage-absurd": _counted(ABSURD),
    "sandbox-wrong-model": wrong_model,
    "sandbox-after-finish": after_finish,
    "sandbox-tool-index": no_index,
    "sandbox-malformed-call": malformed_call,
}
