"""Asking a running gateway through its control socket; light, because every command begins with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from tollway.flows.admin import wire
from tollway.flows.admin.refusals import Refusal, Refused

SOCKET_NAME: Final = "control.sock"
POINTER_NAME: Final = "control.json"
ADDRESS_MAX: Final = 107
LINE_MAX: Final = 8 * 1024 * 1024
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 300.0


class ControlUnavailable(Exception):
    """No gateway answers on the control socket of this data folder."""


class ControlClient:
    """Asks the gateway that runs on a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def perform(self, name: str, arguments: dict[str, Any]) -> Any:
        """Have an operation performed; returns its result as plain JSON values.

        Raises ControlUnavailable if nobody listens, Refused as the operation does.
        """
        reader, writer = await self._connect()
        try:
            writer.write(wire.encode({"op": name, "args": arguments}) + b"\n")
            await writer.drain()
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await reader.readline()
        except TimeoutError:
            raise Refused(
                "timeout",
                "The gateway did not answer in time",
                f"{name} took longer than {ANSWER_SECONDS:.0f} s; it may still be done.",
            ) from None
        except (ConnectionError, ValueError):
            line = b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return _result(line)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        path = socket_path(self._folder)
        if path is None:
            raise ControlUnavailable
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_unix_connection(path, limit=LINE_MAX)
        except (OSError, TimeoutError):
            raise ControlUnavailable from None


def socket_path(folder: Path) -> Path | None:
    """Where the control socket of a data folder is, or None if there is none."""
    path = (folder / SOCKET_NAME).absolute()
    if len(os.fsencode(path)) > ADDRESS_MAX:
        try:
            path = Path(wire.decode((folder / POINTER_NAME).read_bytes())["socket"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return path if path.is_socket() else None


def _result(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        raise Refused(
            "failed",
            "The gateway went away before it answered",
            "It may have stopped or crashed; whether the change was made is unknown.",
            "Start it again and look at the current state",
        )
    answer = wire.decode(line)
    if answer["ok"]:
        return answer["result"]
    refusal = msgspec.convert(answer["refusal"], Refusal)
    raise Refused(refusal.kind, refusal.what, refusal.why, refusal.fix)
