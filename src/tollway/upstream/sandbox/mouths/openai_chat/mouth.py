"""The Chat Completions mouth: reader, writer and quirks behind the Mouth protocol."""

from __future__ import annotations

from collections.abc import Iterator

from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.mouths.base import Frame, Saying
from tollway.upstream.sandbox.mouths.openai_chat import quirks, read, write


class OpenAIChat:
    """Stateless; one serves all requests."""

    def read(self, body: bytes) -> Ask:
        return read.read(body)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        frames = write.stream(saying)
        odd = quirks.QUIRKS.get(quirk)
        return odd(saying, frames) if odd else frames

    def whole(self, saying: Saying, quirk: str) -> Frame:
        frame = write.whole(saying)
        odd = quirks.QUIRKS.get(quirk)
        return next(odd(saying, iter((frame,)))) if odd else frame

    def in_band_error(self, error: Refused) -> Frame:
        return write.in_band_error(error)

    def encode(self, frame: Frame) -> bytes:
        return write.encode_frame(frame)

    def refuse(self, error: Refused) -> bytes:
        return write.refuse(error)
