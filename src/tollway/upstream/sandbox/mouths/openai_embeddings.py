"""OpenAI embeddings: texts or tokens in, vectors out, as numbers or as base64 of 32-bit floats."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from tollway.core.json import encode
from tollway.upstream.sandbox import vectors
from tollway.upstream.sandbox.ask import Ask, Refused, Turn
from tollway.upstream.sandbox.mouths import openai, reading
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.frames import ABSURD, BAD, nothing, without
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.tokens import count

_INPUTS_MAX: Final = 2048
_COUNTS: Final = {"sandbox-bad-usage": BAD[:2], "sandbox-bad-usage-absurd": ABSURD[:2]}


class Body(Struct):
    """A request body. Fields that are not here are accepted and mean nothing to the sandbox."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=vectors.DIMENSIONS_MAX)] | None = None


class EmbeddingAsk(Ask, frozen=True, kw_only=True):
    """Texts to be embedded, one turn each; a text given as tokens is their JSON."""

    size: int
    packed: bool


_decode: Final = msgspec.json.Decoder(Body).decode


class OpenAIEmbeddings:
    """Stateless; its answers are always whole."""

    work: Work = "embedding"
    id_header = "x-request-id"
    events = True

    def read(self, request: Request) -> Ask:
        body = reading.read_body(request.body, _decode, openai.explain)
        turns, size = tuple(_turns(body.input)), body.dimensions or vectors.DIMENSIONS
        if len(turns) * size > vectors.NUMBERS_MAX:
            raise openai.bad_value("Too many numbers: give fewer inputs or fewer dimensions.", "input")
        return EmbeddingAsk(
            model=body.model,
            turns=turns,
            streamed=False,
            size=size,
            packed=body.encoding_format == "base64",
        )

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        return nothing()

    def whole(self, saying: Saying, quirk: str) -> Frame:
        ask = saying.ask
        assert isinstance(ask, EmbeddingAsk)
        found = [vectors.unit(turn.text, ask.size) for turn in ask.turns]
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if ask.packed else vector}
            for index, vector in enumerate(found)
        ]
        prompt, total = _COUNTS.get(quirk, (ask.prompt_tokens, ask.prompt_tokens))
        usage = {"prompt_tokens": prompt, "total_tokens": total}
        frame = Frame("whole", {"object": "list", "data": data, "model": saying.model, "usage": usage})
        return without(frame, "usage") if quirk == "sandbox-no-usage" else frame

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        yield Frame("error", openai.envelope(error))

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("error", openai.envelope(error))

    def encode(self, frame: Frame) -> bytes:
        return encode(frame.payload)

    def refuse(self, error: Refused) -> Refusal:
        return openai.refuse(error)


def _turns(given: str | list[Any]) -> Iterator[Turn]:
    """Each input as a turn. A list of numbers is one input: its tokens."""
    if isinstance(given, list) and given and all(type(one) is int for one in given):
        inputs: list[Any] = [given]
    else:
        inputs = [given] if isinstance(given, str) else given
    if not inputs or len(inputs) > _INPUTS_MAX or any(one in ("", []) or type(one) is int for one in inputs):
        raise openai.bad_value("'$.input' is invalid. Please check the API reference.", "input")
    for one in inputs:
        if isinstance(one, str):
            yield Turn("user", one, count(one))
        else:
            yield Turn("user", encode(one).decode(), len(one))


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
