"""Having an operation performed: by the running gateway if there is one, else on the database itself."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tollway.cli.common import Common, given, settings
from tollway.cli.faults import CommandFailed, denied, of_refusal, sentence

if TYPE_CHECKING:
    from tollway.config import Settings
    from tollway.flows.admin.context import Admin

PATIENCE: Final = 30.0
"""Seconds to wait for another short command that has the database to itself."""


def perform(common: Common, operation: str, /, **arguments: Any) -> Any:
    """Perform an operation with those arguments that were given; returns plain JSON values.

    Raises CommandFailed.
    """
    return ask(common, operation, given(**arguments))


def ask(common: Common, operation: str, arguments: dict[str, Any]) -> Any:
    """Perform an operation with exactly these arguments. Raises CommandFailed."""
    return asyncio.run(_performed(settings(common), operation, arguments))


async def _performed(found: Settings, name: str, arguments: dict[str, Any]) -> Any:
    from tollway.flows.admin.refusals import Refused

    try:
        return await perform_with(found, name, arguments)
    except Refused as refused:
        raise of_refusal(refused) from None


async def perform_with(found: Settings, name: str, arguments: dict[str, Any]) -> Any:
    """Perform an operation under settings. Raises Refused and CommandFailed.

    SQLite belongs to one process at a time: if a gateway runs, it is asked through its control
    socket. Another command that has the database for a moment is waited for.
    """
    from tollway.flows.admin.control_client import ControlClient, ControlUnavailable

    if found.database_url:
        return await _directly(found, name, arguments)
    client = ControlClient(Path(found.data))
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        with contextlib.suppress(ControlUnavailable):
            return await client.perform(name, arguments)
        try:
            return await _directly(found, name, arguments)
        except _InUse as busy:
            if asyncio.get_running_loop().time() > deadline:
                raise CommandFailed(
                    "The database is in use by another process",
                    f"{sentence(busy)} It does not answer on the control socket.",
                    "Wait until it has finished, or stop it",
                ) from None
            await asyncio.sleep(0.05)


def _sends(name: str, arguments: dict[str, Any]) -> bool:
    """Whether an operation sends something to an upstream."""
    listing = name in ("channel.add", "channel.serve") and "auto" in (arguments.get("models") or ())
    return listing or name in ("channel.test", "channel.discover", "job.run")


class _InUse(Exception):
    """Another process has the database."""


async def _directly(found: Settings, name: str, arguments: dict[str, Any]) -> Any:
    from tollway.flows.admin import operations, wire

    async with opened(found, probing=_sends(name, arguments)) as admin:
        result = await operations.perform(admin, name, arguments)
        # The same bytes the control socket would carry, so that both ways give the same values.
        return wire.decode(wire.encode(result))


@contextlib.asynccontextmanager
async def opened(found: Settings, *, probing: bool = False) -> AsyncIterator[Admin]:
    """An open, set-up instance to administer. Raises CommandFailed if its database cannot be opened."""
    from tollway.flows.admin.access import open_admin
    from tollway.flows.admin.bootstrap import bootstrap
    from tollway.flows.clock import now_ms
    from tollway.store.base import DatabaseInUse, StoreError, UnknownSchema
    from tollway.store.factory import open_store

    _make_folder(found)
    try:
        store = open_store(found)
        await store.open()
    except DatabaseInUse as error:
        raise _InUse(str(error)) from None
    except PermissionError:
        raise denied(found.data) from None
    except UnknownSchema as error:
        why, _, fix = str(error).rpartition("; ")
        fix = f"{fix[:1].upper()}{fix[1:]}"
        raise CommandFailed("The database cannot be opened", sentence(why), fix) from None
    except (StoreError, OSError) as error:
        raise CommandFailed("The database cannot be opened", sentence(error), "tollway doctor") from None
    try:
        admin = await open_admin(store, found, now_ms, actor=_actor(), source="cli")
        await bootstrap(admin, with_key=False)
        if not probing:
            yield admin
            return
        async with _able_to_probe(admin) as able:
            yield able
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _able_to_probe(admin: Admin) -> AsyncIterator[Admin]:
    """The same context, able to test channels: with a client of its own, and a sandbox for its channel."""
    import msgspec

    from tollway.flows.gate import Gate
    from tollway.flows.probe import lister, prober
    from tollway.store.limiter import MemoryLimiter
    from tollway.upstream.client import Client
    from tollway.upstream.sandbox.server import SandboxServer
    from tollway.upstream.transport import Origin

    sandbox, client = SandboxServer(), Client()
    await sandbox.start()
    try:
        gate = Gate(
            settings=admin.settings,
            store=admin.store,
            transport=client,
            limiter=MemoryLimiter(),
            vault=admin.vault,
            sandbox=Origin("http", "127.0.0.1", sandbox.port),
        )
        yield msgspec.structs.replace(admin, probe=prober(gate), lister=lister(gate))
    finally:
        await client.close()
        await sandbox.close()


def _make_folder(found: Settings) -> None:
    try:
        Path(found.data).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(
            f"The data folder {found.data!r} cannot be made",
            f"{error.strerror}.",
            "--data DIR, or set TOLLWAY_DATA",
        ) from None


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
