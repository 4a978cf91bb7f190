"""The network as a guarded fetch sees it: names vetted when they are dialled, and bytes counted.

A `Backend` is handed to the HTTP library, which knows no other way out. It resolves, has every
address vetted, and connects to one of exactly these; TLS still asks for the certificate of the name.
Its base class refuses Unix sockets.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, Final

import httpcore
from httpcore import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_rules import Rules, unknown, vet

HEAD_MAX: Final = 32 * 1024
"""Bytes a host may send before the head of its response is complete."""
_TRIED_MAX: Final = 4
"""Addresses of one name that are tried."""

Resolve = Callable[[str], Awaitable[list[str]]]
"""Name -> addresses. A closing dot: the name is whole, no search domain completes it. Raises OSError."""
Dial = Callable[[str, int, float], Awaitable[AsyncNetworkStream]]
"""Address, port, seconds -> a connection. Raises httpcore.ConnectError or ConnectTimeout."""


async def dial(address: str, port: int, seconds: float) -> AsyncNetworkStream:
    """Connect to an address, without asking anybody what it means."""
    return await AnyIOBackend().connect_tcp(address, port, timeout=seconds)


class Line(AsyncNetworkStream):
    """A connection that may bring `left` more bytes, counted as HTTP and not as TLS. Whoever dialled closes it."""

    def __init__(self, stream: AsyncNetworkStream, host: str, left: int = HEAD_MAX) -> None:
        self._stream = stream
        self._host = host
        self.left = left

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        if self.left <= 0:
            raise FetchFault("protocol", f"{self._host} sent more around its answer than is sane")
        data = await self._stream.read(min(max_bytes, self.left), timeout)
        self.left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncNetworkStream:
        try:
            self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, ValueError) as error:
            raise FetchFault("tls", f"no secure connection to {self._host}: {_tls_reason(error)}") from error
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Backend(AsyncNetworkBackend):
    """The way out for one connection. `public` and `line` are known once it has dialled."""

    def __init__(self, rules: Rules, resolve: Resolve, dial: Dial) -> None:
        self._rules = rules
        self._resolve = resolve
        self._dial = dial
        self.public = True
        self.line: Line | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - httpcore's own; the rules have their time
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> AsyncNetworkStream:
        """Resolve, vet, and connect to one of the addresses vetted. Raises FetchFault."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._rules.connect_timeout
        vetted = vet(self._rules, host, await self._addresses(host, until), is_ours)
        self.public = vetted.public
        tried = vetted.addresses[:_TRIED_MAX]
        for at, address in enumerate(tried):
            share = (until - loop.time()) / (len(tried) - at)
            try:
                stream = await self._dial(address, port, max(share, 0.0))
            except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError):
                continue
            self.line = Line(stream, host)
            return self.line
        raise FetchFault("unreachable", f"{host} could not be reached")

    async def _addresses(self, host: str, until: float) -> list[str]:
        if ":" in host or host.rpartition(".")[2].isdigit():
            return [host]
        # Without the dot, the machine's own search domains might complete the name to one inside.
        name = host if host in self._rules.hosts else f"{host}."
        try:
            async with asyncio.timeout_at(until):
                return await self._resolve(name)
        except OSError:  # TimeoutError is one
            raise unknown(host) from None


def is_ours(address: str) -> bool:
    """Whether an address is this machine's own: it can be bound to. Nothing is sent."""
    return _can_bind(address) and not _can_bind_anything()


@cache
def _can_bind_anything() -> bool:
    """Whether the system lets foreign addresses be bound to (ip_nonlocal_bind), so that binding proves nothing."""
    return _can_bind("192.0.2.1")


def _can_bind(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def _tls_reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({cause.verify_message})"
    return "the handshake failed"
