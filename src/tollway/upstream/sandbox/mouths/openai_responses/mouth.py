"""The Responses mouths: answers and token counts, behind the Mouth protocol."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.mouths import openai
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.frames import nothing
from tollway.upstream.sandbox.mouths.openai_responses import quirks, read, write
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer


class OpenAIResponses:
    """Answers one request and numbers its events. Every API key is an organisation with reasoning of its own."""

    work: Work = "chat"
    id_header = "x-request-id"
    events = True

    def __init__(self, request: Request, signer: Signer) -> None:
        self._signer = signer
        self._owner = request.headers.get("authorization", "")
        self._numbered = 0

    def read(self, request: Request) -> Ask:
        return read.read(request, self._signer, self._owner)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        frames = write.stream(saying, self._signer, self._owner)
        odd = quirks.QUIRKS.get(quirk)
        return odd(saying, frames) if odd else frames

    def whole(self, saying: Saying, quirk: str) -> Frame:
        frame = write.whole(saying, self._signer, self._owner)
        odd = quirks.QUIRKS.get(quirk)
        return next(odd(saying, iter((frame,)))) if odd else frame

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:
        yield Frame("error", {"type": "error", **openai.envelope(error)})
        yield Frame("error", {"type": "response.failed", "response": write.failed(saying, error)})

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:
        return Frame("error", write.failed(saying, error))

    def encode(self, frame: Frame) -> bytes:
        """An event with the next sequence number."""
        if frame.payload is None:
            return b"data: [DONE]\n\n"
        kind = str(frame.payload["type"])
        payload = {"type": kind, "sequence_number": self._numbered, **frame.payload}
        self._numbered += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(payload) + b"\n\n"

    def refuse(self, error: Refused) -> Refusal:
        """An error response; an unknown model is a bad request here."""
        if error.code == "model_not_found":
            error = Refused(400, error.message, code=error.code, param=error.param, headers=error.headers)
        return openai.refuse(error)


class ResponsesCount(OpenAIResponses):
    """Counts the tokens of one request."""

    work: Work = "count"

    def read(self, request: Request) -> Ask:
        return replace(read.read(request, self._signer, self._owner), streamed=False)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        return nothing()

    def whole(self, saying: Saying, quirk: str) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("whole", {"object": "response.input_tokens", "input_tokens": saying.ask.prompt_tokens})
