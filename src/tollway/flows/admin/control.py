"""The control socket: how the command line reaches a running gateway that has the database to itself.

A Unix socket in the data folder, for its owner only. One request or answer is one line of JSON:
`{"op": name, "args": {...}}`, then `{"ok": true, "result": ...}` or `{"ok": false, "refusal":
{kind, what, why, fix}}`. A connection may carry any number of them, in turn. Where the folder's
path is too long for a socket address (108 bytes), the socket lies in a private temporary folder
and `control.json` in the data folder says where.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tollway.flows.admin import operations, wire
from tollway.flows.admin.context import Admin
from tollway.flows.admin.control_client import ADDRESS_MAX, LINE_MAX, POINTER_NAME, SOCKET_NAME
from tollway.flows.admin.refusals import Refusal, Refused

log: Final = logging.getLogger("tollway.control")


class ControlServer:
    """Performs operations for whoever may open the socket: the gateway's own user and root."""

    def __init__(self, admin: Admin, caught_up: Callable[[], Awaitable[None]] | None = None) -> None:
        self._admin = admin
        # An answer means that the change is in force: it waits until the gateway has caught up.
        self._caught_up = caught_up
        self._folder = Path(admin.settings.data)
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._private: Path | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. The caller holds the folder's lock, so a socket that exists is a dead gateway's."""
        path = self._choose_path()
        path.unlink(missing_ok=True)
        # The umask makes the socket private from its first instant; a chmod would come too late.
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=LINE_MAX)
        finally:
            os.umask(old)
        self._path = path

    async def close(self) -> None:
        """Stop listening, let go of clients and remove the socket. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for client in tuple(self._clients):
            client.close()
        await server.wait_closed()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._private is not None:
            (self._folder / POINTER_NAME).unlink(missing_ok=True)
            shutil.rmtree(self._private, ignore_errors=True)

    def _choose_path(self) -> Path:
        path = (self._folder / SOCKET_NAME).absolute()
        if len(os.fsencode(path)) <= ADDRESS_MAX:
            (self._folder / POINTER_NAME).unlink(missing_ok=True)
            return path
        self._private = Path(tempfile.mkdtemp(prefix="tollway-"))
        path = self._private / SOCKET_NAME
        pointer = self._folder / POINTER_NAME
        draft = pointer.with_suffix(".new")
        draft.write_bytes(wire.encode({"socket": str(path)}))
        draft.replace(pointer)
        return path

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            actor = _peer(writer)
            if actor is None:
                return
            admin = self._admin.acting_for(actor, "cli")
            while line := await reader.readline():
                answer = await _answer(admin, line)
                if self._caught_up is not None:
                    await self._caught_up()
                writer.write(answer + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()


def actor_name(uid: int) -> str:
    """Who a user id is, for the audit log."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


async def _answer(admin: Admin, line: bytes) -> bytes:
    try:
        request = wire.decode(line)
        name, arguments = request["op"], request["args"]
        if type(name) is not str or type(arguments) is not dict:
            raise TypeError
    except (ValueError, KeyError, TypeError):
        return _refusal(Refusal(kind="invalid", what="The request is not one line of {op, args}"))
    try:
        return wire.encode({"ok": True, "result": await operations.perform(admin, name, arguments)})
    except Refused as refused:
        return _refusal(refused.refusal)
    except Exception:
        # Whatever an operation does wrong must not take the gateway's other callers with it.
        log.exception("the operation %s failed", name)
        return _refusal(
            Refusal(kind="failed", what=f"{name} failed inside the gateway", why="Its log has the details.")
        )


def _refusal(refusal: Refusal) -> bytes:
    return wire.encode({"ok": False, "refusal": refusal})


def _peer(writer: asyncio.StreamWriter) -> str | None:
    """Who connected, as the kernel says; None for a user who has no business here."""
    sock = writer.get_extra_info("socket")
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return actor_name(os.getuid())
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return actor_name(uid) if uid in (0, os.getuid()) else None
