"""Opening the sockets a server listens on, and saying in one line why it cannot."""

from __future__ import annotations

import errno
import socket
from typing import Final

BACKLOG: Final = 2048
_UNSENT_MAX: Final = 128 * 1024


class CannotListen(OSError):
    """The address cannot be listened on; the message is one line that says why and what to do."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of a host, all on one port; port 0 takes a free one.

    Raises CannotListen.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {host}: the name does not resolve ({error})") from None
    opened: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found):
            sock = _open(family, address, port)
            opened.append(sock)
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in opened:
            sock.close()
        raise CannotListen(_why(host, port, error)) from None
    return opened


def _open(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" alone means every address of both families.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Connections inherit it: the kernel takes little more from us than it can send, so that
            # a client that does not read costs little, and is soon known not to.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_MAX)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _why(host: str, port: int, error: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is in use; stop the other process or choose another with --port"
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: ports below 1024 need a privilege; choose another with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: this machine has no such address; choose another with --host"
    return f"cannot listen on {where}: {error.strerror or error}"
