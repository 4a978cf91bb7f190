"""The Chat Completions mouth: reader, writer and quirks behind the Mouth protocol."""

from __future__ import annotations

from collections.abc import Iterator

from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.mouths import openai
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.openai_chat import quirks, read, write
from tollway.upstream.sandbox.request import Request


class OpenAIChat:
    """Stateless; one serves all requests."""

    work: Work = "chat"
    id_header = "x-request-id"
    events = True

    def read(self, request: Request) -> Ask:
        return read.read(request.body)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        frames = write.stream(saying)
        odd = quirks.QUIRKS.get(quirk)
        return odd(saying, frames) if odd else frames

    def whole(self, saying: Saying, quirk: str) -> Frame:
        frame = write.whole(saying)
        odd = quirks.QUIRKS.get(quirk)
        return next(odd(saying, iter((frame,)))) if odd else frame

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        yield Frame("error", openai.envelope(error))

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("error", openai.envelope(error))

    def encode(self, frame: Frame) -> bytes:
        return write.encode_frame(frame)

    def refuse(self, error: Refused) -> Refusal:
        return openai.refuse(error)
