"""Opening connections: names to addresses, addresses to sockets, sockets to TLS.

Every failure here happens before a byte of a request is written, so each is an UpstreamFault
with `sent` false. The caller bounds the whole by a deadline; within it each address gets an equal
share of the time that is left, so that one dead address does not spend it all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar

from tollway.upstream.transport import FaultKind, Origin, UpstreamFault

ADDRESSES_TTL: Final = 10.0
"""Seconds for which a resolved name is believed, so that a burst of connections is one look-up."""
_KEEPALIVE_AFTER: Final = 45
"""Seconds of silence before TCP probes the peer: middleboxes forget quiet connections after about a minute."""

_Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""Address family and socket address, as getaddrinfo gives them."""
_P = TypeVar("_P", bound=asyncio.Protocol)


def default_tls() -> ssl.SSLContext:
    """The system's trust, host names checked, TLS 1.2 or later, HTTP/1.1 by ALPN."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialler:
    """Opens connections to one origin. `tls` makes the context, and is asked only for https."""

    def __init__(self, origin: Origin, tls: Callable[[], ssl.SSLContext]) -> None:
        self._origin = origin
        self._tls = tls
        self._addresses: list[_Address] = []
        self._believed_until = 0.0

    async def connect(self, factory: Callable[[], _P], until: float) -> _P:
        """A connected protocol, by loop time `until`. Raises UpstreamFault, kind dns, connect, connect_timeout or tls."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until):
                addresses = await self._resolve(loop)
        except TimeoutError:
            raise self._fault("connect_timeout", "its name was not resolved in time") from None
        failure: UpstreamFault | None = None
        for tried, address in enumerate(addresses):
            now = loop.time()
            share = (until - now) / (len(addresses) - tried)
            try:
                async with asyncio.timeout_at(now + share):
                    return await self._open(loop, address, factory)
            except TimeoutError:
                failure = self._fault("connect_timeout", f"{address[1][0]!s} did not answer in {share:.1f} s")
            except UpstreamFault as fault:
                failure = fault
                if fault.kind == "tls":
                    break
        self._believed_until = 0.0
        raise failure or self._fault("dns", "its name has no address")

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[_Address]:
        if loop.time() < self._believed_until:
            return self._addresses
        origin = self._origin
        literal = _literal(origin)
        if literal:
            return [literal]
        try:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise self._fault("dns", f"its name does not resolve: {error}") from error
        self._addresses = _interleave([(family, address) for family, _, _, _, address in found])
        self._believed_until = loop.time() + ADDRESSES_TTL
        return self._addresses

    async def _open(
        self, loop: asyncio.AbstractEventLoop, address: _Address, factory: Callable[[], _P]
    ) -> _P:
        sock = await self._socket(loop, address)
        secure = self._origin.scheme == "https"
        tls = self._tls() if secure else None
        name = self._origin.host.partition("%")[0] if secure else None
        try:
            _, connected = await loop.create_connection(factory, sock=sock, ssl=tls, server_hostname=name)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            # A peer that hangs up during the handshake is reported by asyncio as a plain connection error.
            if secure:
                raise self._fault("tls", f"the TLS handshake failed: {error}") from error
            raise self._fault("connect", f"the connection broke at once: {error}") from error
        return connected

    async def _socket(self, loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
        try:
            sock = socket.socket(address[0], socket.SOCK_STREAM)
        except OSError as error:
            raise self._fault("connect", f"no socket could be made: {error}") from error
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_AFTER)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address[1])
        except OSError as error:
            sock.close()
            raise self._fault("connect", f"{address[1][0]!s} refused the connection: {error}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _fault(self, kind: FaultKind, reason: str) -> UpstreamFault:
        return UpstreamFault(kind, f"cannot reach {self._origin.host}: {reason}", sent=False)


def _literal(origin: Origin) -> _Address | None:
    """The address itself, when the host is one: no thread need be asked what it means."""
    try:
        version = ip_address(origin.host).version
    except ValueError:
        return None
    if version == 4:
        return socket.AF_INET, (origin.host, origin.port)
    if "%" in origin.host:
        return None
    return socket.AF_INET6, (origin.host, origin.port, 0, 0)


def _interleave(addresses: list[_Address]) -> list[_Address]:
    """Families in turn, the resolver's first choice first: a family without a route costs one try, not all."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    others = [one for one in addresses if one[0] != addresses[0][0]]
    found: list[_Address] = []
    while first or others:
        found += first[:1] + others[:1]
        del first[:1], others[:1]
    return found
