"""What a mind composes: one choice of the answer, before it is cut into tokens."""

from __future__ import annotations

from msgspec import Struct

from tollway.upstream.sandbox.ask import Call, Citation, Finish


class Thought(Struct, frozen=True):
    """One choice before it is cut into tokens."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    redacted: bool = False
    citations: tuple[Citation, ...] = ()
