"""Events that come again and again with another text: what stays of them is compared, only the text is read.

A stream is mostly made of such events. Once a relay has read one in full, it knows its bytes before and
after the text, as they come and as they go out. An event that begins and ends with the same bytes, and has
one JSON string between them, can mean nothing else: the string is read by the same parser, and the event
needs no decoding and no renaming. Anything else is `None` here, and read in full.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tollway.core.exchange import Grew
from tollway.core.relay import Fed

WASTED_MAX: Final = 4
"""How many frames that served no event a stream may make before it makes no more."""

_END: Final = b"\n\n"
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
_text: Final = msgspec.json.Decoder(str).decode


class Frame:
    """The bytes of a payload around its text: `theirs` as they come, `ours` as they go out.

    The quotes of the text belong to them. `lead`: what begins the block of each payload.
    """

    __slots__ = (
        "_after",
        "_before",
        "_first",
        "_joint",
        "_last",
        "_lead",
        "_our_first",
        "_our_joint",
        "_our_last",
        "_within",
        "used",
    )

    def __init__(self, lead: bytes, theirs: tuple[bytes, bytes], ours: tuple[bytes, bytes]) -> None:
        self._lead = lead
        self._before, self._after = theirs
        self._first, self._last = lead + self._before, self._after + _END
        self._joint = self._last + self._first
        self._our_first, self._our_last = lead + ours[0], ours[1] + _END
        self._our_joint = self._our_last + self._our_first
        self._within = slice(len(self._first) - 1, 1 - len(self._last))
        self.used = False

    def feed(self, chunk: bytes) -> Fed | None:
        """What `chunk` becomes, which is one whole event or several; None unless each is of this frame."""
        if not (chunk.startswith(self._first) and chunk.endswith(self._last)):
            return None
        # With its quotes: where what comes before and after overlap, that is no string.
        spelled = chunk[self._within]
        try:
            text = _text(spelled)
        except _UNREADABLE:
            return self._feed_several(spelled[1:-1].split(self._joint)) if self._joint in spelled else None
        self.used = True
        grown = len(text) if text.isascii() else len(text.encode())
        return Fed(self._our_first + spelled[1:-1] + self._our_last, [Grew(grown)] if grown else [])

    def _feed_several(self, texts: list[bytes]) -> Fed | None:
        # Read as one string: a quote ends it, and no escape and no character goes beyond a space.
        together = b" ".join(texts)
        try:
            _text(b'"%b"' % together)
        except _UNREADABLE:
            return None
        self.used = True
        out = self._our_first + self._our_joint.join(texts) + self._our_last
        if together.find(b"\\") < 0:
            return Fed(out, [Grew(len(text)) for text in texts if text])
        return Fed(out, [Grew(len(_text(b'"%b"' % text).encode())) for text in texts if text])

    def stop(self, payloads: list[bytes], at: int) -> int:
        """Where the run of payloads that may be of this frame stops that begins at `at`."""
        before, after = self._before, self._after
        for stop in range(at, len(payloads)):
            payload = payloads[stop]
            if not (payload.startswith(before) and payload.endswith(after)):
                return stop
        return len(payloads)

    def feed_split(self, payloads: list[bytes]) -> Fed | None:
        """What payloads become that were split off, as `feed` has it."""
        chunk = self._lead + (_END + self._lead).join(payloads) + _END
        # Several lines of data are one payload, which would look like several events here.
        lines = (self._lead.count(b"\n") + len(_END)) * len(payloads)
        return self.feed(chunk) if chunk.count(b"\n") == lines else None
