"""A request as handlers see it, and the ways to answer it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from msgspec import Struct

from tollway.config import Settings
from tollway.core.access.limits import refusal_headers
from tollway.core.errors import GatewayError, headers
from tollway.core.json import encode
from tollway.flows.gate import Gate
from tollway.web.address import client_address
from tollway.web.decoding import Coding, coding, unpacked
from tollway.web.envelopes import RENDER, Envelope
from tollway.web.recall import MEMO
from tollway.web.writer import ResponseWriter

JSON_HEAD: Final = b"content-type: application/json\r\n"
_AGENT_MAX: Final = 200

T = TypeVar("T")


class Request(Struct, eq=False):
    """One HTTP request. `id` names the call everywhere: in the reply's headers, the ledger and the logs.

    `scope` must not be changed: all requests of a connection share it that repeat its head.
    """

    gate: Gate
    writer: ResponseWriter
    scope: Mapping[str, Any]
    params: dict[str, str]
    """What the placeholders of the route's path matched."""
    envelope: Envelope
    now: int
    id: str

    __repr__ = object.__repr__

    @property
    def path(self) -> str:
        found: str = self.scope["path"]
        return found

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name. Content-Length is not for handlers to ask."""
        return self.once(_firsts).get(name)

    def once(self, work: Callable[[Request], T]) -> T:
        """What `work` makes of the head: asked once for all requests of a connection that repeat it.

        It must depend on nothing else, and what it returns must not be changed.
        """
        found: T
        try:
            found = self.scope[MEMO][work]
        except KeyError:
            found = self.scope[MEMO][work] = work(self)
        return found

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers, as they came; names in lower case. Content-Length may be that of an equal head before."""
        found: list[tuple[bytes, bytes]] = self.scope["headers"]
        return found

    def query(self, name: str) -> str | None:
        """The first value of a query parameter."""
        text: str = self.scope["query_string"].decode("latin-1")
        if not text:
            return None
        return next(
            (value for given, value in parse_qsl(text, keep_blank_values=True) if given == name), None
        )

    @property
    def settings(self) -> Settings:
        return self.gate.settings

    @property
    def ip(self) -> str:
        """The address the caller speaks from, behind trusted proxies only."""
        peer = self.scope["client"]
        return client_address(peer[0] if peer else "", self.headers, self.gate.settings.trusted_proxies)

    @property
    def user_agent(self) -> str:
        return (self.header(b"user-agent") or b"")[:_AGENT_MAX].decode("latin-1")

    def body(self, most: int | None = None) -> Awaitable[bytes]:
        """The body of a JSON request, of `most` bytes where less is allowed than by the setting. Raises GatewayError (unsupported_media_type, body_too_large, request_timeout, bad_request where it cannot be unpacked)."""
        how = self.once(_packed_json)
        limit = self.gate.settings.body_max
        if most is not None and most < limit:
            limit = most
        return self.writer.read_body(limit) if how is None else unpacked(self.writer, how, limit)

    def json(self, value: Any, status: int = 200) -> None:
        """Answer with a JSON body."""
        self.writer.respond(status, self.head(), encode(value))

    def head(self) -> bytes:
        """The headers of every JSON answer."""
        return b"%bx-request-id: %b\r\ncache-control: private, no-store\r\n" % (JSON_HEAD, self.id.encode())

    def refuse(self, error: GatewayError, more: bytes = b"") -> None:
        """Answer with an error, in the envelope of the route."""
        status, body = RENDER[self.envelope](error, self.id)
        pairs = (*headers(error), *refusal_headers(error, self.now))
        lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        if self.envelope == "anthropic":
            # Anthropic's SDKs look for the id under this name.
            lines += b"request-id: %b\r\n" % self.id.encode()
        self.writer.respond(status, self.head() + lines + more, encode(body))


def _firsts(request: Request) -> dict[bytes, bytes]:
    return dict(reversed(request.headers))


def _packed_json(request: Request) -> Coding | None:
    """How a JSON body is packed. Raises GatewayError where it is none, or packed in a way unknown here."""
    _expect_json(request)
    packed = request.header(b"content-encoding")
    return None if packed is None else coding(packed)


def _expect_json(request: Request) -> None:
    content_type = request.header(b"content-type")
    if content_type == b"application/json":
        return
    kind, _, parameters = (content_type or b"").partition(b";")
    kind = kind.strip().lower()
    if kind != b"application/json":
        shown = f"is {kind[:60].decode('latin-1')!r}" if kind else "is missing"
        raise GatewayError("unsupported_media_type", f"The Content-Type {shown}; send application/json.")
    charset = parameters.strip().lower().replace(b'"', b"").replace(b" ", b"")
    if charset.startswith(b"charset=") and charset != b"charset=utf-8":
        raise GatewayError(
            "unsupported_media_type", "JSON is sent in UTF-8; remove the charset from Content-Type."
        )
