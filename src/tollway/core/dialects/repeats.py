"""Events that come again and again with another text: what stays of them is compared, only the text is read.

A stream is mostly made of such events. Once a relay has read one in full, it knows its bytes before and
after the text, as they come and as they go out. An event that begins and ends with the same bytes, and has
one JSON string between them, can mean nothing else: the string is read by the same parser, and the event
needs no decoding and no renaming. Anything else is `None` here, and read in full.

Some upstreams end each event with a string of random letters, so that its length does not tell that of the
text. Such noise is a second hole: it must be one JSON string too, and goes on as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tollway.core import chunked
from tollway.core.exchange import Grew
from tollway.core.json import encode
from tollway.core.relay import Count, Fed

WASTED_MAX: Final = 4
"""How many frames that served no event a stream may make before it makes no more."""

PROBE_TEXT: Final = "tollway/probe"
"""Stands for a text, to see what is read as the text. `probed` spells it as no encoder does, and so tells
whether JSON was encoded anew."""

_PROBE: Final = rb"tollway\/probe"
_NOISE: Final = rb"tollway\/noise"
_COLONS: Final = (b":", b": ")
_END: Final = b"\n\n"
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
_text: Final = msgspec.json.Decoder(str).decode

Parts = tuple[bytes, bytes, bytes]
"""A payload's bytes before its text, between text and noise, and after them; b"" between where there is no noise.
The quotes belong to them."""


def part(payload: bytes, member: bytes, text: str, noise: bytes = b"") -> Parts | None:
    """A payload without the text of a member, and without the string of a member `noise` behind it.

    None if that text is not found as we would spell it. That it is the right one is for a probe to show.
    """
    if payload.find(_PROBE) >= 0 or payload.find(_NOISE) >= 0:
        return None
    spelled = encode(text)
    for colon in _COLONS:
        head = b'"%b"%b' % (member, colon)
        at = payload.find(head + spelled)
        if at >= 0:
            start = at + len(head) + 1
            between, after = _without_noise(payload[start + len(spelled) - 2 :], noise)
            return payload[:start], between, after
    return None


def _without_noise(rest: bytes, noise: bytes) -> tuple[bytes, bytes]:
    """What follows a text, before and after the noise; letters that are escaped are none."""
    for colon in _COLONS if noise else ():
        head = b'"%b"%b"' % (noise, colon)
        start = rest.rfind(head) + len(head)
        stop = rest.find(b'"', start)
        if start >= len(head) and stop >= 0 and rest.find(b"\\", start, stop) < 0:
            return rest[:start], rest[stop:]
    return b"", rest


def probed(parts: Parts) -> bytes:
    """The payload with something else in each hole."""
    before, between, after = parts
    return before + _PROBE + between + (_NOISE if between else b"") + after


def parted(sent: bytes, theirs: Parts) -> Parts | None:
    """The parts of what goes out for `probed(theirs)`; None if it was spelled anew."""
    match sent.replace(_NOISE, _PROBE).split(_PROBE):
        case [before, after] if not theirs[1]:
            return before, b"", after
        case [before, between, after] if theirs[1]:
            return before, between, after
        case _:
            return None


class Frame:
    """The bytes of a payload around its text: `theirs` as they come, `ours` as they go out.

    `lead`: what begins the block of each payload.
    """

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_closes",
        "_ends",
        "_ends_size",
        "_first",
        "_in_block",
        "_in_chunk",
        "_in_payload",
        "_joint",
        "_last",
        "_least",
        "_long",
        "_noise_at",
        "_opens",
        "_our_between",
        "_our_ends",
        "_our_first",
        "_our_head",
        "_our_joint",
        "_our_last",
        "_our_middle",
        "_our_size",
        "_our_tail",
        "used",
    )

    def __init__(self, lead: bytes, theirs: Parts, ours: Parts) -> None:
        self._before, self._between, self._after = before, between, after = theirs
        self._least = len(before) + len(between) + len(after)
        self._first, self._last = lead + before, after + _END
        self._joint = self._last + self._first
        self._long = len(self._joint)
        self._in_payload = slice(len(before), -len(after))
        self._in_block = slice(len(self._first), -len(after))
        # With the quotes: where what comes before and after overlap, that is no string.
        self._in_chunk = slice(len(self._first) - 1, 1 - len(self._last))
        self._noise_at = len(between) - 2
        self._our_first, self._our_between, self._our_last = lead + ours[0], ours[1], ours[2] + _END
        self._our_middle = ours[1][1:-1]
        self._our_joint = self._our_last + self._our_first
        self._our_head, self._our_tail = self._our_first[:-1], self._our_last[1:]
        # The same, of a chunk with its framing.
        self._ends = self._last + chunked.END
        self._ends_size = len(self._ends)
        self._opens, self._closes = len(self._first) - 1, 1 - len(self._ends)
        self._our_size = len(self._our_head) + len(self._our_tail)
        self._our_ends = self._our_tail + chunked.END
        self.used = False

    def carry(self, segment: bytes, count: Count) -> bytes:
        """See Carrier."""
        if not segment.endswith(self._ends):
            return b""
        line = chunked.SIZE_LINES.get(len(segment))
        if line is None or not segment.startswith(line):
            return self._carry_several(segment, count)
        skip = len(line)
        if not segment.startswith(self._first, skip):
            return b""
        spelled = segment[skip + self._opens : self._closes]
        try:
            if self._between:
                spelled, text = self._with_noise(spelled)
            else:
                text = _text(spelled)
        except _UNREADABLE:
            return b""
        self.used = True
        if text:
            count.chunks += 1
            count.size += len(text) if text.isascii() else len(text.encode())
        return b"%x\r\n%b%b%b" % (len(spelled) + self._our_size, self._our_head, spelled, self._our_ends)

    def _carry_several(self, segment: bytes, count: Count) -> bytes:
        """Several chunks that came together, as one."""
        insides = []
        for piece in segment.split(self._ends)[:-1]:
            line = chunked.SIZE_LINES.get(len(piece) + self._ends_size)
            if line is None or not (piece.startswith(line) and piece.startswith(self._first, len(line))):
                return b""
            insides.append(piece[len(line) + len(self._first) :])
        read = self._read_insides(insides)
        if read is None:
            return b""
        out, size, times = read
        count.chunks += times
        count.size += size
        return b"%x\r\n%b\r\n" % (len(out), out)

    def _with_noise(self, spelled: bytes) -> tuple[bytes, str]:
        """Text and noise as they go out, and the text. Raises one of _UNREADABLE."""
        # Two strings with their quotes, which belong to what is between; without it the first has none.
        at = spelled.find(self._between) + 1
        noise = spelled[at + self._noise_at :]
        spelled = spelled[:at]
        text = _text(spelled)
        _text(noise)
        return spelled + self._our_middle + noise, text

    def feed(self, chunk: bytes) -> Fed | None:
        """What `chunk` becomes, which is one whole event or several; None unless each is of this frame."""
        if not (chunk.startswith(self._first) and chunk.endswith(self._last)):
            return None
        spelled = chunk[self._in_chunk]
        if len(spelled) > self._long and spelled.find(_END) >= 0:
            return self._feed_several(chunk)
        try:
            if self._between:
                spelled, text = self._with_noise(spelled)
            else:
                text = _text(spelled)
        except _UNREADABLE:
            return None
        self.used = True
        grown = len(text) if text.isascii() else len(text.encode())
        return Fed(self._our_head + spelled + self._our_tail, [Grew(grown)] if grown else [])

    def _feed_several(self, chunk: bytes) -> Fed | None:
        blocks = chunk.split(_END)
        del blocks[-1]
        within = self._in_block
        insides = [block[within] for block in blocks]
        if self._first + self._joint.join(insides) + self._last != chunk:
            return None
        return self._feed_insides(insides)

    def stop(self, payloads: list[bytes], at: int) -> int:
        """Where the run of payloads that may be of this frame stops that begins at `at`."""
        before, after, least = self._before, self._after, self._least
        for stop in range(at, len(payloads)):
            payload = payloads[stop]
            if not (payload.startswith(before) and payload.endswith(after) and len(payload) >= least):
                return stop
        return len(payloads)

    def feed_split(self, payloads: list[bytes]) -> Fed | None:
        """What payloads become that were split off, as `feed` has it; they are such as `stop` told."""
        within = self._in_payload
        return self._feed_insides([payload[within] for payload in payloads])

    def feed_payload(self, payload: bytes) -> Fed | None:
        """What one payload becomes that was split off; None unless it is of this frame."""
        return self.feed_split([payload]) if self.stop([payload], 0) else None

    def _feed_insides(self, insides: list[bytes]) -> Fed | None:
        read = self._read_insides(insides)
        if read is None:
            return None
        out, size, times = read
        return Fed(out, [Grew(size, times)] if size else [])

    def _read_insides(self, insides: list[bytes]) -> tuple[bytes, int, int] | None:
        """What events become with this between their outermost quotes, the bytes of their texts, and how many have any."""
        texts: Sequence[bytes] = insides
        ours: Iterable[bytes] = insides
        try:
            if self._between:
                parted = [inside.partition(self._between) for inside in insides]
                texts, found, noises = zip(*parted, strict=True)
                if not all(found):
                    return None
                _together(noises)
                ours = map(self._our_between.join, zip(texts, noises, strict=True))
            text = _together(texts)
        except _UNREADABLE:
            return None
        self.used = True
        # The texts were read with a space between two.
        size = (len(text) if text.isascii() else len(text.encode())) - len(texts) + 1
        out = self._our_first + self._our_joint.join(ours) + self._our_last
        return out, size, len(texts) - texts.count(b"")


class Frames:
    """The frame of a stream's usual event, as long as making frames pays."""

    __slots__ = ("_wasted", "last")

    def __init__(self) -> None:
        self.last: Frame | None = None
        self._wasted = 0

    def spent(self) -> bool:
        """Whether no frame is to be made of an event that had to be read in full; drops one that came to nothing."""
        last = self.last
        if last is not None and last.used:
            self._wasted = 0
        elif self._wasted == WASTED_MAX:
            self.last = None
            return True
        return False

    def keep(self, frame: Frame) -> None:
        """Go by this frame from now on."""
        self._wasted += 1
        self.last = frame


def _together(spelled: Sequence[bytes]) -> str:
    """Read several strings, without their quotes, as one: a quote ends it, and no escape or character goes beyond a space."""
    return _text(b'"%b"' % b" ".join(spelled))
