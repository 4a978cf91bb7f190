"""Finds out that the network to the database is gone while a query waits for its answer.

A query may rightly take minutes, so it has no limit of its own. Without probes a host that vanished
while it answered would be waited for as long as TCP allows, which is for ever where nothing is sent.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final

IDLE_SECONDS: Final = 10
"""Silence after which the other host is asked whether it is there."""
BETWEEN_SECONDS: Final = 5
PROBES: Final = 3
"""How many such questions may go unanswered."""
UNANSWERED_MS: Final = 1000 * (IDLE_SECONDS + BETWEEN_SECONDS * PROBES)
"""How long what was sent may go without the other host's confirmation."""

_OPTIONS: Final = (
    ("TCP_KEEPIDLE", IDLE_SECONDS),
    ("TCP_KEEPINTVL", BETWEEN_SECONDS),
    ("TCP_KEEPCNT", PROBES),
    ("TCP_USER_TIMEOUT", UNANSWERED_MS),
)


def attach(connection: Any) -> None:
    """Probe the network under a connection of asyncpg, as far as this system can."""
    transport = getattr(connection, "_transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
