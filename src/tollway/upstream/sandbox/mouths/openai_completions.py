"""OpenAI's legacy completions: a prompt in, plain text out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Ask, Refused, Spoken
from tollway.upstream.sandbox.mouths import openai, reading
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.frames import without
from tollway.upstream.sandbox.request import Request

_TOKENS_USUAL: Final = 16
"""What an answer is limited to where the caller sets no limit."""
_REASONS: Final = {"tool_calls": "stop"}


class _StreamOptions(Struct):
    include_usage: bool | None = None


class Body(Struct):
    """A request body. Fields that are not here are accepted and mean nothing to the sandbox."""

    model: str
    prompt: str | list[str]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    echo: bool | None = None


class CompletionsAsk(Ask, frozen=True, kw_only=True):
    """An Ask with what only this dialect can say. `echo`: the prompt is repeated before the answer."""

    include_usage: bool = False
    echo: bool = False


_decode: Final = msgspec.json.Decoder(Body).decode


class OpenAICompletions:
    """Stateless. One prompt a request."""

    work: Work = "chat"
    id_header = "x-request-id"
    events = True

    def read(self, request: Request) -> Ask:
        body = reading.read_body(request.body, _decode, openai.explain)
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if len(prompts) != 1:
            raise openai.bad_value("The sandbox takes one prompt at a time.", "prompt")
        return CompletionsAsk(
            model=body.model,
            turns=(reading.turn("user", prompts),),
            streamed=bool(body.stream),
            output_max=body.max_tokens or _TOKENS_USUAL,
            stops=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
            n=body.n or 1,
            seed=body.seed or 0,
            effort="none",
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
            echo=bool(body.echo),
        )

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        ask = _asked(saying)
        if ask.echo:
            yield from (Frame("start", _body(saying, [_choice(n, _prompt(ask))])) for n in range(ask.n))
        for row in zip_longest(*(spoken.pieces for spoken in saying.choices)):
            for index, piece in enumerate(row):
                if piece is not None:
                    yield Frame("token", _body(saying, [_choice(index, piece.text)]), 1)
        for index, spoken in enumerate(saying.choices):
            yield Frame("finish", _body(saying, [_choice(index, "", _reason(spoken))]))
        if ask.include_usage and quirk != "sandbox-no-usage":
            yield Frame("usage", {**_body(saying, []), "usage": _usage(saying)})
        yield Frame("done", None)

    def whole(self, saying: Saying, quirk: str) -> Frame:
        ask = _asked(saying)
        before = _prompt(ask) if ask.echo else ""
        choices = [
            _choice(index, before + "".join(piece.text for piece in spoken.pieces), _reason(spoken))
            for index, spoken in enumerate(saying.choices)
        ]
        frame = Frame("whole", {**_body(saying, choices), "usage": _usage(saying)}, saying.tokens)
        return without(frame, "usage") if quirk == "sandbox-no-usage" else frame

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        yield Frame("error", openai.envelope(error))

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("error", openai.envelope(error))

    def encode(self, frame: Frame) -> bytes:
        body = b"[DONE]" if frame.payload is None else encode(frame.payload)
        return b"data: " + body + b"\n\n"

    def refuse(self, error: Refused) -> Refusal:
        return openai.refuse(error)


def _asked(saying: Saying) -> CompletionsAsk:
    assert isinstance(saying.ask, CompletionsAsk)
    return saying.ask


def _prompt(ask: Ask) -> str:
    return ask.turns[0].text


def _reason(spoken: Spoken) -> str:
    return _REASONS.get(spoken.finish, spoken.finish)


def _body(saying: Saying, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"cmpl-{saying.stamp.id}",
        "object": "text_completion",
        "created": saying.stamp.created,
        "model": saying.model,
        "choices": choices,
    }


def _choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _usage(saying: Saying) -> dict[str, int]:
    prompt = saying.ask.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": saying.tokens,
        "total_tokens": prompt + saying.tokens,
    }
