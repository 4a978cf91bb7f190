"""Server-sent events as bytes: split a stream into payloads, whatever its line ends and chunk boundaries.

Only `data` matters to the text dialects: where an event has a name, its payload repeats it. A block
without data (a comment, a ping) yields b"", so that a relay knows the upstream is alive.
"""

from __future__ import annotations

from typing import Final

EVENT_MAX: Final = 16 * 1024 * 1024
"""The longest event accepted, in bytes; longer ones raise EventTooLong."""


class EventTooLong(ValueError):
    """One event exceeds EVENT_MAX bytes without an end in sight."""


class Splitter:
    """Feed it bytes as they arrive; it returns the payloads of the events that are complete."""

    __slots__ = ("_first", "tail")

    def __init__(self) -> None:
        self.tail = b""
        """What has come of an event that is not complete. A CR at its end may be half of a CRLF."""
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of all events completed by `chunk`, in order. Raises EventTooLong."""
        if self._first and chunk:
            chunk = self._drop_bom(chunk)
        text = self.tail + chunk if self.tail else chunk
        held = b""
        # `find` and not `in`: that takes what it looks for for a number first.
        if text.find(b"\r") >= 0:
            held = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif text[:6] == b"data: " and text.find(b"\n") == len(text) - 2 and text[-1:] == b"\n":
            # The usual chunk is one event of one line.
            self.tail = b""
            return [text[6:-2]]
        blocks = text.split(b"\n\n")
        tail = blocks.pop()
        self.tail = tail + held
        if len(tail) > EVENT_MAX:
            raise EventTooLong(f"an event is longer than {EVENT_MAX} bytes")
        # The usual block is one line; asking so here saves a call for each.
        return [
            block[6:] if block[:6] == b"data: " and b"\n" not in block else _payload(block)
            for block in blocks
        ]

    def end(self) -> list[bytes]:
        """The payload of a last event that lacks its blank line, if there is one."""
        block = self.tail.replace(b"\r", b"\n").rstrip(b"\n")
        self.tail = b""
        return [_payload(block)] if block else []

    def _drop_bom(self, chunk: bytes) -> bytes:
        self._first = False
        return chunk.removeprefix(b"\xef\xbb\xbf")


def _payload(block: bytes) -> bytes:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines)


def event(payload: bytes) -> bytes:
    """One unnamed event around a payload of one line."""
    return b"data: " + payload + b"\n\n"


COMMENT: Final = b": keep-alive\n\n"
"""What keeps a stream alive in dialects whose clients ignore comments."""
