"""What a mouth is: a dialect's reader and writer, as the rest of the sandbox sees it.

A mouth turns a request into an Ask and what was thought into frames. A frame is one event of a stream,
or a whole answer; it says what part of the answer it is, so that faults can be placed without
knowing the dialect ("after three tokens", "before the end").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from msgspec import Struct

from tollway.upstream.sandbox.ask import Ask, Refused, Spoken
from tollway.upstream.sandbox.memory import Cached
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.steps import Headers

Part = Literal["start", "token", "finish", "usage", "done", "error", "whole"]
"""start: opens or closes a piece of the answer; done: the end marker, whatever else it carries."""
Work = Literal["chat", "count", "embedding"]


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
    """Everything a mouth needs to answer. `model`: the name it signs with."""

    ask: Ask
    choices: tuple[Spoken, ...]
    stamp: Stamp
    model: str
    cached: Cached = Cached()

    @property
    def tokens(self) -> int:
        """Everything generated, over all choices."""
        return sum(spoken.tokens() for spoken in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        """What of that was reasoning."""
        return sum(spoken.tokens("reasoning") for spoken in self.choices)


class Refusal(Struct, frozen=True):
    """An error response in a dialect's own words."""

    status: int
    headers: Headers
    body: bytes


class Mouth(Protocol):
    """A dialect. `quirk` is the name of a model that misuses the dialect on purpose, or of any other.

    A mouth may belong to one request and remember how far its stream has got: `encode` is called once
    for each frame, in order.
    """

    @property
    def work(self) -> Work:
        """What its requests are for."""
        ...

    @property
    def id_header(self) -> str:
        """The response header that names an answer; empty if the dialect has none."""
        ...

    @property
    def events(self) -> bool:
        """Whether its streams are server-sent events."""
        ...

    def read(self, request: Request) -> Ask:
        """The request in our words. Raises Refused."""
        ...

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        """The events of a streamed answer, in order."""
        ...

    def whole(self, saying: Saying, quirk: str) -> Frame:
        """The answer in one piece."""
        ...

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:
        """What ends a stream that began with status 200 and cannot go on."""
        ...

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:
        """An error as the body of a response with status 200."""
        ...

    def encode(self, frame: Frame) -> bytes:
        """The bytes of a frame on the wire."""
        ...

    def refuse(self, error: Refused) -> Refusal:
        """An error response."""
        ...
