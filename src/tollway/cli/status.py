"""`tollway status` and `tollway version`: is a gateway running, and which program is this."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, settings
from tollway.cli.faults import FAILURE, OK
from tollway.cli.output import one, say
from tollway.cli.tree import START

if TYPE_CHECKING:
    import ssl

    from tollway.config import Settings

SECONDS: Final = 2.0


def status(
    *,
    bare: Annotated[bool, Parameter(show=False)] = False,
    common: Common = DEFAULT,
) -> int:
    """Say whether a gateway runs on this data folder, and its state in numbers."""
    found = settings(common)
    state = asyncio.run(_state(found))
    if state is None:
        if bare:
            sys.stdout.write(START)
            return OK
        one(common, {"running": False}, (("gateway", "not running"),))
        say(common, "Start it: tollway serve")
        return FAILURE
    facts: list[tuple[str, object]] = [("gateway", "running")]
    facts += [(name.replace("_", " "), value) for name, value in state.items()]
    one(common, {"running": True, **state}, facts)
    return OK


def version(*, common: Common = DEFAULT) -> None:
    """Print the version."""
    import platform

    from tollway import __version__

    if common.format == "table":
        sys.stdout.write(f"tollway {__version__}\n")
    else:
        one(common, {"version": __version__, "python": platform.python_version()}, ())


async def _state(found: Settings) -> dict[str, Any] | None:
    """What the running gateway says of itself: all on the control socket, else whether it is alive."""
    from tollway.flows.admin.control_client import ControlClient, ControlUnavailable
    from tollway.flows.admin.refusals import Refused

    with contextlib.suppress(ControlUnavailable, Refused):
        state: dict[str, Any] = await ControlClient(Path(found.data)).perform("health.status", {})
        return state
    if found.database_url and await alive(found.host, found.port, tls=bool(found.tls_cert)):
        scheme = "https" if found.tls_cert else "http"
        return {"address": f"{scheme}://{found.host}:{found.port}", "engine": "postgresql"}
    return None


async def alive(host: str, port: int, *, tls: bool = False) -> bool:
    """Whether something at this address answers GET /livez with 200; with `tls` whatever its certificate says."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=_unverified() if tls else None)
            try:
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return line.split()[1:2] == [b"200"]


def _unverified() -> ssl.SSLContext:
    import ssl

    # Nothing secret is sent, and the certificate names the public host, not the address that is asked here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
