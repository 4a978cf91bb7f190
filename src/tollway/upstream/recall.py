"""Recognising the head of a whole answer by earlier ones, so that it need not be parsed again.

The connections of an origin get the same head again and again, but for the length, the date and such
names as servers give to requests. What is the same is compared as bytes; what changes must be a value
that says nothing of the framing. Only answers are recognised that arrive in one segment, of known
length, with nothing before or after: then equal bytes are an equal answer. All else goes to the parser.
"""

from __future__ import annotations

import re
from typing import Final

Lines = list[tuple[bytes, bytes]]

_START: Final = b"HTTP/1.1 200"
_SIZE_MAX: Final = 4096
_VARYING_MAX: Final = 16
_PAUSE_MAX: Final = 1024
_LENGTH: Final = b"content-length"
_BLANKS: Final = b" \t"
_DIGITS: Final = b"([0-9]{1,9})"
_VALUE: Final = b"[\t -~\x80-\xff]{0,512}"
"""What the parser takes for a header's value, and no longer than may be added to a head of the usual size."""
_MEANING: Final = frozenset(
    (b"connection", b"proxy-connection", b"transfer-encoding", b"upgrade", b"content-encoding")
)
"""Headers that say how the body or the connection goes on: another value is another head."""


class Recall:
    """A head as a pattern: its bytes, but for the values of `varying`.

    `fixed`: the first value of each header that does not vary, by its lower-case name.
    """

    __slots__ = ("_match", "fixed", "names", "values", "varying")

    def __init__(self, raw: bytes, lines: Lines, varying: frozenset[bytes]) -> None:
        self.names = [name.lower() for name, _ in lines]
        self.values = [value for _, value in lines]
        self.varying = varying
        self.fixed: dict[bytes, bytes] = {}
        start, *written = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        pattern = [re.escape(start)]
        for name, value, line in zip(self.names, self.values, written, strict=True):
            if name in varying:
                any_value = _DIGITS if name == _LENGTH else _VALUE
                pattern.append(re.escape(line.removesuffix(value)) + any_value)
            else:
                self.fixed.setdefault(name, value.rstrip(_BLANKS))
                pattern.append(re.escape(line))
        self._match = re.compile(b"\r\n".join((*pattern, b"\r\n"))).match

    def body(self, data: bytes) -> bytes | None:
        """The body of the answer that `data` is, from its first byte to its last; None if it is not recognised."""
        found = self._match(data)
        if found is None:
            return None
        at = found.end()
        # The parser takes more forms of a length than the one that servers write.
        return data[at:] or None if found[1] == b"%d" % (len(data) - at) else None


def spelled(data: bytes) -> Lines:
    """The headers of a head that was recognised, as the parser would have told them."""
    _, *written = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
    parted = (line.partition(b":") for line in written)
    return [(name, value.lstrip(_BLANKS)) for name, _, value in parted]


class Heads:
    """What the connections of one origin have learnt. `known` is the head they expect."""

    __slots__ = ("_misses", "_pause", "known")

    def __init__(self) -> None:
        self.known: Recall | None = None
        self._misses = 0
        self._pause = 1

    def missed(self, data: bytes, lines: Lines) -> None:
        """Learn from an answer that the parser had to read; less and less often, because learning costs more.

        The caller sees to it that `data` was the beginning and the end of an answer, and that its
        connection lives on.
        """
        self._misses += 1
        if self._misses >= self._pause:
            self._misses = 0
            self._pause = min(2 * self._pause, _PAUSE_MAX)
            self._learn(data, lines)

    def _learn(self, data: bytes, lines: Lines) -> None:
        size = data.find(b"\r\n\r\n", 0, _SIZE_MAX) + 4
        # That its headers can be told from its bytes alone is tried here, once for all that are like it.
        if size < 4 or not data.startswith(_START) or spelled(data) != lines:
            return
        names = [name.lower() for name, _ in lines]
        varying = frozenset((_LENGTH, b"date"))
        known = self.known
        if known is not None and known.names == names:
            changed = zip(names, lines, known.values, strict=True)
            varying = known.varying | {name for name, (_, value), before in changed if value != before}
        if names.count(_LENGTH) != 1 or len(varying) > _VARYING_MAX or varying & _MEANING:
            return
        learnt = Recall(data[:size], lines, varying)
        # An answer without a body may tell what one with a body must not: learn only from what would be recognised.
        if learnt.body(data) is not None:
            self.known = learnt
