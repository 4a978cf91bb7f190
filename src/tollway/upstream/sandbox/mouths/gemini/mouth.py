"""The Gemini mouths: answers, token counts and embeddings, behind the Mouth protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tollway.core.json import encode
from tollway.upstream.sandbox import vectors
from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.mouths import reading
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.frames import nothing
from tollway.upstream.sandbox.mouths.gemini import errors, quirks, read, write
from tollway.upstream.sandbox.mouths.gemini.rules import bad, get, listed
from tollway.upstream.sandbox.mouths.reading import string
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer
from tollway.upstream.sandbox.steps import JSON


class _Gemini:
    """What all of Gemini's mouths have in common: errors, and chunks as events or as one JSON array."""

    id_header = ""
    events = True

    def __init__(self, model: str, signer: Signer, *, events: bool = True) -> None:
        self.model = model.removeprefix("models/")
        self.signer = signer
        self.events = events
        self._begun = False

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        yield Frame("error", errors.envelope(error))
        if not self.events:
            yield Frame("done", None)

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("error", errors.envelope(error))

    def encode(self, frame: Frame) -> bytes:
        """A chunk as an event, or as the next element of an array."""
        if self.events:
            return write.encode_event(frame.payload or {})
        if frame.payload is None:
            return b"\n]" if self._begun else b"[]"
        opening = b",\r\n" if self._begun else b"["
        self._begun = True
        return opening + encode(frame.payload)

    def refuse(self, error: Refused) -> Refusal:
        body = encode(errors.envelope(error))
        headers = [header for header in error.headers if header[0] != "retry-after"]
        return Refusal(errors.status_of(error), (*JSON, *headers), body)


class Gemini(_Gemini):
    """Answers one request. Without `alt=sse` a stream is one JSON array."""

    work: Work = "chat"

    def __init__(self, model: str, request: Request, signer: Signer, *, streamed: bool) -> None:
        super().__init__(model, signer, events=request.query("alt") == "sse")
        self._streamed = streamed

    def read(self, request: Request) -> Ask:
        return read.read(read.body_of(request.body), self.model, self.signer, streamed=self._streamed)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        frames = write.stream(saying, self.signer)
        odd = quirks.QUIRKS.get(quirk)
        yield from odd(saying, frames) if odd else frames
        if not self.events:
            yield Frame("done", None)

    def whole(self, saying: Saying, quirk: str) -> Frame:
        frame = write.whole(saying, self.signer)
        odd = quirks.QUIRKS.get(quirk)
        return next(odd(saying, iter((frame,)))) if odd else frame


class GeminiCount(_Gemini):
    """Counts the tokens of one request."""

    work: Work = "count"

    def read(self, request: Request) -> Ask:
        body = read.body_of(request.body)
        inner = get(body, "generateContentRequest")
        given = (
            {name: value for name, value in inner.items() if name != "model"} if type(inner) is dict else body
        )
        return read.read(given, self.model, self.signer, streamed=False)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        return nothing()

    def whole(self, saying: Saying, quirk: str) -> Frame:  # noqa: ARG002 - the protocol's
        total = saying.ask.prompt_tokens
        details = [{"modality": "TEXT", "tokenCount": total}]
        return Frame("whole", {"totalTokens": total, "promptTokensDetails": details})


class EmbeddingAsk(Ask, frozen=True, kw_only=True):
    """Texts to be embedded, one turn each, and how long each vector is to be."""

    sizes: tuple[int, ...]


class GeminiEmbeddings(_Gemini):
    """Embeds one content, or a batch of requests."""

    work: Work = "embedding"

    def __init__(self, model: str, signer: Signer, *, batch: bool) -> None:
        super().__init__(model, signer)
        self._batch = batch

    def read(self, request: Request) -> Ask:
        body = read.body_of(request.body)
        given = listed(body, "requests") if self._batch else [body]
        if not given:
            raise bad("* BatchEmbedContentsRequest.requests: must not be empty")
        sizes = tuple(map(_size, given))
        if sum(sizes) > vectors.NUMBERS_MAX:
            raise bad("* BatchEmbedContentsRequest.requests: too many numbers are wanted at once")
        turns = tuple(reading.turn("user", (self._text(one),)) for one in given)
        return EmbeddingAsk(model=self.model, turns=turns, streamed=False, sizes=sizes)

    def _text(self, given: Any) -> str:
        named = string(given, "model").removeprefix("models/")
        if named != self.model and (named or self._batch):
            raise bad("* BatchEmbedContentsRequest.requests: all must name the model of the URL")
        parts = listed(get(given, "content"), "parts")
        if not parts:
            raise bad("* EmbedContentRequest.content: contents is not specified")
        return "\n".join(string(part, "text") for part in parts)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        return nothing()

    def whole(self, saying: Saying, quirk: str) -> Frame:  # noqa: ARG002 - the protocol's
        ask = saying.ask
        assert isinstance(ask, EmbeddingAsk)
        found = [
            {"values": vectors.unit(turn.text, size)} for turn, size in zip(ask.turns, ask.sizes, strict=True)
        ]
        payload: dict[str, Any] = {"embeddings": found} if self._batch else {"embedding": found[0]}
        return Frame("whole", payload)


def _size(given: Any) -> int:
    wanted = get(given, "outputDimensionality")
    if wanted is None:
        return vectors.DIMENSIONS
    if type(wanted) is not int or not 1 <= wanted <= vectors.DIMENSIONS_MAX:
        raise bad(f"outputDimensionality must be between 1 and {vectors.DIMENSIONS_MAX}.")
    return wanted
