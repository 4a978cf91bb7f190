"""Requests written in a row: what may wait for the end of the event loop's turn goes to the kernel together.

A write to a socket may have to wake whoever reads it, on another core, which costs as much again as
the write. Written one by one between the work for other calls, each request wakes its upstream; in a
row, the first one does and the others find it awake.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

TOGETHER_MAX: Final = 16
"""How many wait at most: the first of many is not to wait for all the others."""

log: Final = logging.getLogger("tollway.upstream")


class Outbox:
    """What is to be written. A transport that closes before that is passed over."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: list[tuple[asyncio.WriteTransport, bytes]] = []

    def write(self, transport: asyncio.WriteTransport, data: bytes, *, wait: bool) -> None:
        """Write at once, or at the end of this turn; until then nothing else may be written to the transport."""
        if not wait:
            transport.write(data)
            return
        due = self._due
        due.append((transport, data))
        if len(due) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        elif len(due) == TOGETHER_MAX:
            self._flush()

    def _flush(self) -> None:
        due, self._due = self._due, []
        for transport, data in due:
            if transport.is_closing():
                continue
            try:
                transport.write(data)
            except Exception:
                # Its own call hears of it by the end of the connection; the others have nothing to do with it.
                log.exception("a request could not be written")
                transport.abort()
