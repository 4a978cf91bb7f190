"""`tollway serve` and `tollway sandbox`: the two commands that run until they are stopped."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tollway.cli import serving
from tollway.cli.common import DEFAULT, Common, settings
from tollway.cli.faults import CommandFailed, of_refusal, sentence
from tollway.cli.output import say

if TYPE_CHECKING:
    from tollway.config import Settings


def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, Parameter(help="Port to listen on (default: 8800).")] = None,
    tls_cert: Annotated[str | None, Parameter(metavar="FILE", help="Certificate chain: serve HTTPS.")] = None,
    tls_key: Annotated[
        str | None, Parameter(metavar="FILE", help="Its key, where that is not in it.")
    ] = None,
    workers: Annotated[int | None, Parameter(help="Processes that serve; needs PostgreSQL.")] = None,
    common: Common = DEFAULT,
) -> int:
    """Start the gateway. On an empty data folder it makes an account, a key and a sandbox to try it with."""
    found = settings(common, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, workers=workers)
    if not 0 <= found.port <= 65_535:
        raise CommandFailed(
            f"{found.port} is no port", "A port is 0 to 65535; 0 takes any free one.", "--port 8800", code=2
        )
    return _served(found)


def _served(found: Settings) -> int:
    from tollway.flows.admin.refusals import Refused
    from tollway.store.base import DatabaseInUse, StoreError

    try:
        return serving.serve(found)
    except Refused as refused:
        raise of_refusal(refused) from None
    except DatabaseInUse as error:
        raise CommandFailed(
            "A gateway runs on this data folder already",
            sentence(error),
            "tollway status, or tollway serve --data ANOTHER",
        ) from None
    except StoreError as error:
        raise CommandFailed("The database cannot be opened", sentence(error), "tollway doctor") from None
    except OSError as error:
        raise _unservable(found, error) from None


def _unservable(found: Settings, error: OSError) -> CommandFailed:
    if error.filename:
        return CommandFailed(f"Cannot use {error.filename}", f"{error.strerror}.", "tollway doctor")
    return CommandFailed(
        f"Cannot listen on {found.host}:{found.port}",
        sentence(error.strerror or error),
        f"tollway serve --port {found.port + 1 if 0 < found.port < 65_535 else 8801}",
    )


def sandbox(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8899,
    common: Common = DEFAULT,
) -> int:
    """Run the sandbox provider alone, as an upstream for tests and benchmarks."""
    from tollway.upstream.sandbox.server import SandboxServer

    async def run() -> None:
        server = SandboxServer()
        await server.start(host, port)
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"http://{shown}:{server.port}/v1\n")
        sys.stdout.flush()
        say(common, "The sandbox is ready. Ctrl+C stops it.")
        try:
            await _stopped()
        finally:
            await server.close()

    try:
        asyncio.run(run())
    except OSError as error:
        raise CommandFailed(
            f"Cannot listen on {host}:{port}", sentence(error.strerror or error), "tollway sandbox --port 0"
        ) from None
    return 0


async def _stopped() -> None:
    """Returns when the process is told to stop."""
    import signal

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()
