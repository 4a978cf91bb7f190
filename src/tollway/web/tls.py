"""HTTPS: a certificate that may be renewed while it is served, and the door that tells TLS from plain HTTP.

Connections are accepted here rather than by the event loop's own server, for two reasons: each
takes the certificate that is current when it comes, and one that speaks plain HTTP is told so in
plain HTTP, instead of being cut without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tollway.core.errors import GatewayError, gateway_envelope
from tollway.web.limits import Limits
from tollway.web.refusals import new_request_id, whole_refusal

LOOK_EVERY: Final = 10.0
"""Seconds between two looks at whether the certificate was renewed."""
WAITING_MAX: Final = 1024
"""Connections that have not finished their handshake; more are closed."""
ACCEPT_MAX: Final = 64
"""Connections accepted in a row before the loop gets on with others."""
REST_S: Final = 1.0
"""Seconds without accepting after the system had no room for another connection."""
_HANDSHAKE: Final = 0x16
_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PLAIN: Final = "this port speaks HTTPS, and the request came in plain HTTP; begin the URL with https://"
_LOCKED: Final = "the key is encrypted; serve one that is not, readable by this process alone"

log: Final = logging.getLogger("tollway.web")

Stamp = tuple[int, ...]


class BadCertificate(OSError):
    """The certificate cannot be served; `filename` is the file at fault, `strerror` one line that says why."""


class Certificate:
    """A certificate chain and its key, from files. `key` "" is a key in the certificate's file. Raises BadCertificate."""

    def __init__(self, cert: str, key: str = "") -> None:
        self._cert = cert
        self._key = key
        self._stamp = self._stamped()
        self.context = self._read()

    def renew(self, *, changed_only: bool = True) -> bool:
        """Read the files again if they changed; connections that are open keep what they have.

        What cannot be read leaves the old certificate in force and is said in the log. Returns
        whether there is a new one.
        """
        stamp = self._stamped()
        if changed_only and stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.context = self._read()
        except BadCertificate as error:
            log.error("the old certificate is served on: %s: %s", error.filename, error.strerror)
            return False
        log.info("the certificate was read again")
        return True

    def _stamped(self) -> Stamp:
        found: list[int] = []
        for name in filter(None, (self._cert, self._key)):
            with contextlib.suppress(OSError):
                seen = os.stat(name)  # noqa: PTH116 - links are followed: renewals swap them
                found += (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        return tuple(found)

    def _read(self) -> ssl.SSLContext:
        for name in filter(None, (self._cert, self._key)):
            try:
                Path(name).read_bytes()
            except OSError as error:
                raise BadCertificate(error.errno, error.strerror, name) from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Asking for new keys again and again costs the client little and us much.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        locked = []

        def password() -> bytes:
            # Without one, OpenSSL would ask for it at the terminal.
            locked.append(True)
            return b""

        try:
            context.load_cert_chain(self._cert, self._key or None, password=password)
        except (ssl.SSLError, ValueError) as error:
            why = _LOCKED if locked else self._why(str(error))
            raise BadCertificate(errno.EINVAL, why, self._key or self._cert) from None
        return context

    def _why(self, said: str) -> str:
        if "KEY_VALUES_MISMATCH" in said:
            return f"the key is not that of the certificate in {self._cert}"
        if "PEM lib" in said or "NO_START_LINE" in said:
            return "it holds no certificate and key in PEM; set tls_cert to the chain and tls_key to its key"
        return said


class Door:
    """Accepts the connections of one listening socket and brings them, encrypted, to protocols made by `make`."""

    def __init__(
        self,
        sock: socket.socket,
        certificate: Certificate,
        make: Callable[[], asyncio.Protocol],
        limits: Limits,
    ) -> None:
        self._sock = sock
        self._certificate = certificate
        self._make = make
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._listen()

    def is_serving(self) -> bool:
        return not self._closed

    def close(self) -> None:
        """Accept nothing more; handshakes under way are given up."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock)
            self._sock.close()
            for task in self._tasks:
                task.cancel()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPT_MAX):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    log.error("no connection can be accepted: %s", error.strerror)
                    self._loop.remove_reader(self._sock)
                    self._loop.call_later(REST_S, self._listen)
                    return
                continue  # it left before it was accepted
            self._receive(sock)

    def _receive(self, sock: socket.socket) -> None:
        if len(self._tasks) >= WAITING_MAX:
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._let_in(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_in(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(self._limits.header_timeout):
                first = await self._first_byte(sock)
            if first == _HANDSHAKE:
                await self._loop.connect_accepted_socket(
                    self._make,
                    sock,
                    ssl=self._certificate.context,
                    ssl_handshake_timeout=self._limits.header_timeout,
                    ssl_shutdown_timeout=self._limits.linger_timeout,
                )
                return
            if first is not None and chr(first).isalpha():
                async with asyncio.timeout(self._limits.linger_timeout):
                    await self._tell(sock)
        except (OSError, TimeoutError) as error:
            log.debug("a connection was not let in: %r", error)
        except BaseException:
            sock.close()
            raise
        sock.close()

    async def _first_byte(self, sock: socket.socket) -> int | None:
        """What a connection begins with, left where it is; None if it ends instead."""
        readable = self._loop.create_future()
        self._loop.add_reader(sock, _settle, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(sock)
        first = sock.recv(1, socket.MSG_PEEK)
        return first[0] if first else None

    async def _tell(self, sock: socket.socket) -> None:
        """Say in plain HTTP what is wrong, then read on for a while: closing on unread data destroys the answer."""
        refusal = GatewayError("bad_request", _PLAIN)
        await self._loop.sock_sendall(sock, whole_refusal(refusal, new_request_id(), gateway_envelope, b""))
        sock.shutdown(socket.SHUT_WR)
        while await self._loop.sock_recv(sock, 65536):
            pass


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
