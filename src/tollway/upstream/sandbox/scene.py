"""One answer about to be given, and the good way to give it: what every fault is a variation of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.memory import Memory
from tollway.upstream.sandbox.mouths.base import Frame, Mouth, Saying
from tollway.upstream.sandbox.steps import JSON, Data, Head, Headers, Steps, whole

OPENING_TOKENS: Final = 3
"""How many tokens a stream delivers before it breaks."""
SSE: Final[Headers] = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
_JSON_STREAM: Final[Headers] = (("content-type", "application/json; charset=UTF-8"),)


class Scene(Struct, frozen=True, kw_only=True):
    """`behaviour`: the model's name, or its family's; `numbers`: those in the name. `clock`: Unix seconds.

    `credential`: what the caller sent to be let in, with its scheme.
    """

    mouth: Mouth
    saying: Saying
    behaviour: str
    numbers: tuple[int, ...]
    credential: str
    memory: Memory
    clock: Callable[[], float]

    @property
    def streamed(self) -> bool:
        return self.saying.ask.streamed

    def frames(self) -> Iterator[Frame]:
        """The events of the good answer."""
        return self.mouth.stream(self.saying, self.behaviour)

    def opening(self) -> Iterator[Frame]:
        """The first events: three tokens, or all of them if there are fewer; never the finish."""
        tokens = 0
        for frame in self.frames():
            if frame.part not in ("start", "token") or tokens >= OPENING_TOKENS:
                return
            tokens += frame.tokens
            yield frame

    def data(self, frame: Frame) -> Data:
        """An event as body bytes."""
        return Data(self.mouth.encode(frame), frame.tokens)

    def body(self) -> bytes:
        """The whole answer as JSON."""
        return encode(self.mouth.whole(self.saying, self.behaviour).payload)

    def headers(self, base: Headers) -> Headers:
        """Response headers of a good answer."""
        name = self.mouth.id_header
        return (*base, (name, f"req_{self.saying.stamp.id}")) if name else base

    def stream_headers(self) -> Headers:
        return self.headers(SSE if self.mouth.events else _JSON_STREAM)

    def stream_head(self) -> Head:
        return Head(200, self.stream_headers())

    def refuse(self, error: Refused) -> Steps:
        """An error response."""
        refusal = self.mouth.refuse(error)
        return whole(refusal.status, self.headers(refusal.headers), refusal.body)


def behave(scene: Scene) -> Steps:
    """The good answer, streamed or whole as it was asked for."""
    return streamed(scene, scene.frames()) if scene.streamed else in_one_piece(scene)


def streamed(scene: Scene, frames: Iterator[Frame]) -> Steps:
    """The given events as a stream."""
    yield scene.stream_head()
    for frame in frames:
        yield scene.data(frame)


def in_one_piece(scene: Scene) -> Steps:
    """The whole answer, whatever was asked for."""
    frame = scene.mouth.whole(scene.saying, scene.behaviour)
    return whole(200, scene.headers(JSON), encode(frame.payload), frame.tokens)
