"""What a mouth is: a dialect's reader and writer, as the rest of the sandbox sees it.

A mouth turns a body into an Ask and what was thought into frames. A frame is one event of a stream,
or a whole answer; it says what part of the answer it is, so that faults can be placed without
knowing the dialect ("after three tokens", "before the end").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from msgspec import Struct

from tollway.upstream.sandbox.ask import Ask, Refused, Spoken

Part = Literal["start", "token", "finish", "usage", "done", "error", "whole"]


class Frame(Struct, frozen=True):
    """`payload`: its JSON, or None for a marker such as [DONE]. `tokens`: how many it carries."""

    part: Part
    payload: dict[str, Any] | None
    tokens: int = 0


class Stamp(Struct, frozen=True):
    """What names one answer: `id` is 24 hexadecimal digits, `created` Unix seconds."""

    id: str
    created: int


class Saying(Struct, frozen=True, kw_only=True):
    """Everything a mouth needs to answer. `model`: the name it signs with; `cached`: prompt tokens seen before."""

    ask: Ask
    choices: tuple[Spoken, ...]
    stamp: Stamp
    model: str
    cached: int | None = None

    @property
    def tokens(self) -> int:
        """Everything generated, over all choices."""
        return sum(spoken.tokens() for spoken in self.choices)


class Mouth(Protocol):
    """A dialect. `quirk` is the name of a model that misuses the dialect on purpose, or of any other."""

    def read(self, body: bytes) -> Ask:
        """The request in our words. Raises Refused."""
        ...

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        """The events of a streamed answer, in order."""
        ...

    def whole(self, saying: Saying, quirk: str) -> Frame:
        """The answer in one piece."""
        ...

    def in_band_error(self, error: Refused) -> Frame:
        """An error inside an answer that began with status 200."""
        ...

    def encode(self, frame: Frame) -> bytes:
        """The bytes of a frame on the wire."""
        ...

    def refuse(self, error: Refused) -> bytes:
        """The body of an error response."""
        ...
