"""Models that misuse Chat Completions: what they do to the chunks, or to the whole answer, of a good one.

Each is what some compatible provider does. What is wrong with tool calls is in `tool_quirks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.frames import ABSURD, BAD, changed, without
from tollway.upstream.sandbox.mouths.openai_chat.tool_quirks import TOOL_QUIRKS
from tollway.upstream.sandbox.mouths.openai_chat.write import chunk, usage, usage_frame

Quirk = Callable[[Saying, Iterator[Frame]], Iterator[Frame]]
"""A quirk is given the frames of a good answer: those of a stream, or the single whole one."""

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_REASONING: Final = "reasoning_content"
_FILTERED: Final = {"hate": {"filtered": False, "severity": "safe"}}


def no_usage(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.part == "usage":
            continue
        yield frame if frame.payload is None else without(frame, "usage")


def _with_usage(counts: dict[str, Any]) -> Quirk:
    def quirk(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield changed(frame, usage=counts) if frame.part in ("usage", "whole") else frame

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
            frame = changed(frame, usage=running)
        elif frame.part == "finish":
            frame = changed(frame, usage=full)
        elif frame.part == "done":
            yield usage_frame(saying)
        yield frame


def usage_on_finish(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Asked for or not, with the finish reason."""
    for frame in frames:
        if frame.part != "usage":
            yield changed(frame, usage=usage(saying)) if frame.part == "finish" else frame


def usage_in_groq(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.part == "finish":
            frame = changed(without(frame, "usage"), x_groq={"id": "req_sandbox", "usage": usage(saying)})
        if frame.part != "usage":
            yield frame


def after_finish(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.part == "finish":
            yield Frame("token", chunk(saying, 0, {"content": " And one more thing."}))


def no_finish(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.part == "whole":
            choices = [{**choice, "finish_reason": None} for choice in (frame.payload or {})["choices"]]
            frame = changed(frame, choices=choices)
        if frame.part != "finish":
            yield frame


def wrong_model(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        if frame.payload is None:
            yield frame
        else:
            yield changed(frame, model="some-other-model", id=f"chatcmpl-other-{number}")


def nulls(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Say null in every field of a delta or message that is not used."""
    empty = dict.fromkeys(("content", _REASONING, "tool_calls", "function_call", "refusal", "audio"))
    for frame in frames:
        yield _each(frame, lambda said: {**empty, "role": "assistant", **said})


def _each(frame: Frame, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Frame:
    """The frame with every delta or message changed."""
    if frame.payload is None:
        return frame
    choices = [
        {**choice, name: change(choice[name])}
        for choice in frame.payload["choices"]
        for name in ("delta", "message")
        if name in choice
    ]
    return changed(frame, choices=choices)


def azure(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """A chunk about the prompt comes first, without choices, id or model; the others carry filter results."""
    prompt = [{"prompt_index": 0, "content_filter_results": _FILTERED}]
    for number, frame in enumerate(frames):
        if number == 0 and frame.part == "start":
            first = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
            yield Frame("start", {**first, "prompt_filter_results": prompt})
        if frame.payload is None:
            yield frame
            continue
        choices = [{**choice, "content_filter_results": _FILTERED} for choice in frame.payload["choices"]]
        frame = changed(frame, choices=choices)
        yield changed(frame, prompt_filter_results=prompt) if frame.part == "whole" else frame


def moderation(saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """One more chunk after the usage: whoever takes the last one's usage takes null."""
    verdict = {"input": {"flagged": False}, "output": {"flagged": False}}
    for frame in frames:
        if frame.part == "done":
            last = changed(Frame("usage", chunk(saying, 0, {})), choices=[], usage=None, moderation=verdict)
            yield last
        yield changed(frame, moderation=verdict) if frame.part == "whole" else frame


def reasoning_field(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """`reasoning` and `reasoning_details` in the place of `reasoning_content`."""

    def change(said: dict[str, Any]) -> dict[str, Any]:
        if _REASONING not in said:
            return said
        text = said[_REASONING]
        rest = {name: value for name, value in said.items() if name != _REASONING}
        details = [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]
        return {**rest, "content": rest.get("content", ""), "reasoning": text, "reasoning_details": details}

    return (_each(frame, change) for frame in frames)


def think_tags(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Reasoning at the beginning of the content, between tags."""
    thinking = False

    def change(said: dict[str, Any]) -> dict[str, Any]:
        nonlocal thinking
        rest = {name: value for name, value in said.items() if name != _REASONING}
        if _REASONING not in said:
            if thinking and said:
                thinking = False
                return {**rest, "content": f"</think>\n\n{rest.get('content') or ''}"}
            return rest
        if "role" in said:
            return {**rest, "content": f"<think>{said[_REASONING]}</think>\n\n{rest.get('content') or ''}"}
        opening = "" if thinking else "<think>"
        thinking = True
        return {**rest, "content": opening + said[_REASONING]}

    return (_each(frame, change) for frame in frames)


def double_start(_saying: Saying, frames: Iterator[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        yield frame
        if number == 0 and frame.part == "start":
            yield frame


QUIRKS: Final[dict[str, Quirk]] = {
    **TOOL_QUIRKS,
    "sandbox-no-usage": no_usage,
    "sandbox-bad-usage": _with_usage(dict(zip(_COUNTS, BAD, strict=True))),
    "sandbox-bad-usage-absurd": _with_usage(dict(zip(_COUNTS, ABSURD, strict=True))),
    "sandbox-double-usage": double_usage,
    "sandbox-usage-finish": usage_on_finish,
    "sandbox-usage-groq": usage_in_groq,
    "sandbox-usage-empty": _with_usage({}),
    "sandbox-after-finish": after_finish,
    "sandbox-no-finish": no_finish,
    "sandbox-wrong-model": wrong_model,
    "sandbox-null-content": nulls,
    "sandbox-azure": azure,
    "sandbox-moderation": moderation,
    "sandbox-reasoning-field": reasoning_field,
    "sandbox-think-tags": think_tags,
    "sandbox-double-start": double_start,
}
