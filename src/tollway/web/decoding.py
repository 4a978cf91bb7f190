"""Request bodies that were compressed: unpacked in steps, bounded in size and in ratio, off the loop when large.

gzip and deflate come with Python, zstd with a backport of what Python 3.14 has. Everything else is
refused with the names of what is understood.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol

from tollway.core.errors import GatewayError
from tollway.web.body import body_too_large
from tollway.web.writer import ResponseWriter

RATIO: Final = 100
"""How many times larger than what was sent a body may become; text is packed about five to one."""
SMALL: Final = 1 << 20
"""Bytes up to which nobody asks for the ratio."""
STEP: Final = 256 * 1024
"""Bytes unpacked at a time: the first step on the loop, all others on a thread."""
WINDOW_LOG: Final = 23
"""zstd may look back 8 MiB, as RFC 9659 says; a frame that asks for more asks for that much memory."""


class Unpacker(Protocol):
    """One stream being unpacked, as zlib and zstd both have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Coding:
    """A content coding we understand. `opened` makes an unpacker for a body, of which it is shown the beginning."""

    __slots__ = ("_faults", "_opened", "name")

    def __init__(
        self, name: str, opened: Callable[[bytes], Unpacker], faults: tuple[type[Exception], ...]
    ) -> None:
        self.name = name
        self._opened = opened
        self._faults = faults

    def unpacking(self, data: bytes) -> Unpacking:
        """`data` about to be unpacked."""
        return Unpacking(self, self._opened(data[:2]), data, self._faults)


class Unpacking:
    """A body being unpacked. `done` once its end was seen."""

    __slots__ = ("_coding", "_faults", "_left", "_unpacker", "done")

    def __init__(
        self, coding: Coding, unpacker: Unpacker, data: bytes, faults: tuple[type[Exception], ...]
    ) -> None:
        self._coding = coding
        self._unpacker = unpacker
        self._left = data
        self._faults = faults
        self.done = False

    def step(self) -> bytes:
        """The next bytes, at most STEP. Raises GatewayError (bad_request) for what is broken, cut off or followed by more."""
        unpacker = self._unpacker
        try:
            found = unpacker.decompress(self._left, STEP)
        except self._faults as error:
            raise self._broken(str(error)) from None
        # zlib hands back what it has not looked at; zstd keeps it to itself.
        self._left = getattr(unpacker, "unconsumed_tail", b"")
        if unpacker.eof:
            if unpacker.unused_data:
                raise self._broken("something follows its end")
            self.done = True
        elif not found and not self._left:
            raise self._broken("its end is missing")
        return found

    def _broken(self, why: str) -> GatewayError:
        return GatewayError(
            "bad_request", f"The body is not what Content-Encoding {self._coding.name} says: {why}."
        )


def _gzip(_: bytes) -> Unpacker:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _deflate(beginning: bytes) -> Unpacker:
    """The format of zlib, as HTTP has it, or the bare one that many send instead."""
    wrapped = len(beginning) > 1 and beginning[0] & 0x0F == zlib.DEFLATED
    wrapped = wrapped and int.from_bytes(beginning, "big") % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


@cache
def _zstd() -> Coding:
    """The coding of RFC 8878. Its module is loaded when the first body needs it: that would cost every start 20 ms."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - see above
    else:
        from backports import zstd  # noqa: PLC0415

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    return Coding("zstd", lambda _: zstd.ZstdDecompressor(options=options), (zstd.ZstdError,))


_GZIP: Final = Coding("gzip", _gzip, (zlib.error,))
_DEFLATE: Final = Coding("deflate", _deflate, (zlib.error,))
_CODINGS: Final[dict[bytes, Callable[[], Coding]]] = {
    b"gzip": lambda: _GZIP,
    b"x-gzip": lambda: _GZIP,
    b"deflate": lambda: _DEFLATE,
    b"zstd": _zstd,
}
UNDERSTOOD: Final = "gzip, deflate, zstd"


def coding(header: bytes) -> Coding | None:
    """What a Content-Encoding asks for, None if it asks for nothing. Raises GatewayError (unsupported_media_type)."""
    name = header.strip().lower()
    if name in (b"", b"identity"):
        return None
    found = _CODINGS.get(name)
    if found is None:
        raise GatewayError(
            "unsupported_media_type",
            f"The body is sent with Content-Encoding {header[:40].decode('latin-1')!r}; "
            f"send it uncompressed, or with one of {UNDERSTOOD}.",
        )
    return found()


async def unpacked(writer: ResponseWriter, how: Coding, limit: int) -> bytes:
    """The whole request body as it was before it was packed; at most `limit` bytes, packed and unpacked.

    Raises GatewayError as `ResponseWriter.read_body` does, and bad_request for a body that cannot be unpacked.
    """
    data = await writer.read_body(limit)
    if not data:
        return data
    most = min(limit, max(SMALL, RATIO * len(data)))
    work = how.unpacking(data)
    pieces = [work.step()]
    size = len(pieces[0])
    while not work.done and size <= most:
        writer.weigh(len(data) + size)
        pieces.append(await asyncio.to_thread(work.step))
        size += len(pieces[-1])
    if size > limit:
        raise body_too_large(size, limit)
    if size > most:
        raise GatewayError(
            "body_too_large",
            f"The body becomes more than {RATIO} times larger when it is unpacked; send it uncompressed.",
            scope="gateway",
        )
    writer.weigh(size)
    return b"".join(pieces)
