"""From a channel row to what a request needs: origin, path, headers, deadlines.

The only code that opens a channel's sealed credential. Endpoints are built once per catalogue
and hold the credential in the headers they send; their repr shows none of it.
"""

from __future__ import annotations

from typing import Final, Literal, cast
from urllib.parse import urlsplit

from tollway import __version__
from tollway.config import Settings
from tollway.core.routing.models import Channel
from tollway.upstream.transport import Deadlines, Origin, UpstreamRequest
from tollway.upstream.wire import Form

SANDBOX_URL: Final = "sandbox:"
"""The base URL of a channel that is served by this process's own sandbox provider."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REQUEST_ID: Final = b"x-request-id"
_AGENT: Final = f"tollway/{__version__}".encode()


class Endpoint:
    """A channel made ready to send to. Immutable by habit; one per channel and catalogue.

    Raises ValueError for an address or a credential that cannot be written into a request.
    """

    __slots__ = (
        "_path",
        "_scrub",
        "_streamed",
        "_whole",
        "channel",
        "deadlines",
        "origin",
        "stream_deadlines",
    )

    def __init__(
        self, channel: Channel, secret: str | None, settings: Settings, sandbox: Origin | None
    ) -> None:
        self.channel = channel
        self.origin, self._path = _locate(channel, sandbox)
        self.deadlines = _deadlines(channel, settings, settings.total_timeout)
        self.stream_deadlines = _deadlines(channel, settings, settings.stream_timeout)
        common, target = _headers(secret), self._path + "/chat/completions"
        self._whole = Form(
            self.origin, target, (*common, (b"accept", b"application/json")), _REQUEST_ID, self.deadlines
        )
        self._streamed = Form(
            self.origin,
            target,
            (*common, (b"accept", b"text/event-stream")),
            _REQUEST_ID,
            self.stream_deadlines,
        )
        self._scrub = secret if secret and len(secret) >= 4 else None

    def chat(self, body: bytes, request_id: str, *, stream: bool) -> UpstreamRequest:
        """A Chat Completions request. Raises ValueError for a `request_id` that is not printable ASCII."""
        return (self._streamed if stream else self._whole).request(request_id, body)

    def scrub(self, text: str) -> str:
        """An upstream's words without this channel's credential."""
        return text.replace(self._scrub, "[redacted]") if self._scrub else text

    def __repr__(self) -> str:
        return f"Endpoint({self.channel.name!r}, {self.origin.scheme}://{self.origin.host}:{self.origin.port}{self._path})"


def _locate(channel: Channel, sandbox: Origin | None) -> tuple[Origin, str]:
    if channel.base_url.startswith(SANDBOX_URL):
        if sandbox is None:
            raise ValueError(f"channel {channel.name!r} needs the sandbox provider, which is not running")
        return sandbox, "/v1"
    parts = urlsplit(channel.base_url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(
            f"channel {channel.name!r} has the base URL {channel.base_url!r}, which is no http(s) URL"
        )
    scheme = cast("Literal['http', 'https']", parts.scheme)
    return Origin(scheme, parts.hostname, parts.port or _DEFAULT_PORTS[scheme]), parts.path.rstrip("/")


def _headers(secret: str | None) -> tuple[tuple[bytes, bytes], ...]:
    found = [(b"content-type", b"application/json"), (b"user-agent", _AGENT)]
    if secret:
        found.append((b"authorization", b"Bearer " + secret.encode()))
    return tuple(found)


def _deadlines(channel: Channel, settings: Settings, total: float) -> Deadlines:
    def seconds(name: str, default: float) -> float:
        value = channel.options.get(name)
        return float(value) if isinstance(value, int | float) else default

    return Deadlines(
        connect=seconds("connect_timeout", settings.connect_timeout),
        first_byte=seconds("first_byte_timeout", settings.first_byte_timeout),
        idle=seconds("idle_timeout", settings.idle_timeout),
        total=seconds("total_timeout", total),
    )
