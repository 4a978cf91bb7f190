"""What one server allows a client to send, how long it waits, and how many it serves at once."""

from __future__ import annotations

from msgspec import Struct

from tollway.config import Settings
from tollway.web.memory import SOFT, limit_of


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes are bytes, durations seconds. The defaults are the published ones."""

    head_max: int = 32 * 1024
    """Request line and headers together."""
    headers_max: int = 100
    target_max: int = 8 * 1024
    body_max: int = 32 * 1024 * 1024
    bodies_max: int = 1024 * 1024 * 1024
    """Of all large bodies together, until their calls are over."""
    connections_max: int = 20_000
    calls_max: int = 4_000
    memory_soft: int = 0
    """Bytes this process may have in memory before calls are shed; 0 is no limit."""
    pipeline_max: int = 128
    """Requests one connection may have waiting behind the one being answered."""

    header_timeout: float = 10.0
    """From connecting, or from the first byte of a later request, to the end of its head."""
    body_timeout: float = 30.0
    """For a body, beside the one second that every KiB received adds."""
    keep_alive_timeout: float = 75.0
    write_timeout: float = 60.0
    """How long a client may take less than 1 KiB a second of what waits for it."""
    linger_timeout: float = 5.0
    """How long a refused upload is read and thrown away, so that its sender can read the refusal."""

    accept_grace: float = 5.0
    """From SIGTERM to the end of accepting: load balancers need to see readiness fail first."""
    drain_timeout: float = 120.0
    hurry_timeout: float = 5.0
    """What is left of the drain after a second signal."""
    settle_timeout: float = 10.0
    """How long calls that the drain cancelled may take to settle, and the app to shut down."""

    @property
    def tick(self) -> float:
        """How often deadlines are looked at, in seconds; a deadline is met at most this much late."""
        shortest = min(
            self.header_timeout,
            self.body_timeout,
            self.keep_alive_timeout,
            self.write_timeout,
            self.linger_timeout,
        )
        return max(0.01, min(1.0, shortest / 4))


def from_settings(settings: Settings) -> Limits:
    """The limits an operator can set; the others keep their defaults."""
    return Limits(
        accept_grace=settings.accept_grace,
        memory_soft=int(SOFT * (settings.memory_max or limit_of() // settings.workers)),
        body_max=settings.body_max,
        connections_max=settings.connections_max,
        calls_max=settings.calls_max,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        keep_alive_timeout=settings.keep_alive_timeout,
        write_timeout=settings.write_timeout,
        drain_timeout=settings.drain_timeout,
    )
