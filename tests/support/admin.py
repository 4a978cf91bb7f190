"""A set-up instance to administer, on a real SQLite database: migrated once, copied for each test."""

import asyncio
import atexit
import contextlib
import functools
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from tollway.config import Settings
from tollway.flows.admin import operations, wire
from tollway.flows.admin.access import open_admin
from tollway.flows.admin.bootstrap import bootstrap
from tollway.flows.admin.refusals import Refused
from tollway.store.factory import open_store


class Clock:
    """Unix milliseconds that stand still until a test moves them."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@functools.cache
def template(*, set_up: bool) -> Path:
    """A data folder with a migrated database, empty or set up; made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="tollway-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    async def make() -> None:
        async with instance(folder, set_up=set_up):
            pass

    # The caller may already be inside an event loop.
    thread = threading.Thread(target=lambda: asyncio.run(make()))
    thread.start()
    thread.join()
    return folder


def fresh(folder: Path) -> Path:
    """A data folder whose database is migrated but empty."""
    return shutil.copytree(template(set_up=False), folder, dirs_exist_ok=True)


def ready(folder: Path) -> Path:
    """A data folder whose database is set up, without a key."""
    return shutil.copytree(template(set_up=True), folder, dirs_exist_ok=True)


@contextlib.asynccontextmanager
async def instance(folder: Path, *, set_up: bool = True, clock: Clock | None = None, **settings: object):
    """An open Admin on a folder."""
    found = Settings(data=str(folder), **settings)
    store = open_store(found)
    await store.open()
    try:
        admin = await open_admin(store, found, clock or Clock(), actor="alice", source="cli")
        if set_up:
            await bootstrap(admin, with_key=False)
        yield admin
    finally:
        await store.close()


async def do(admin, operation: str, /, **arguments):
    """Perform an operation and see its result as a client of the control socket would."""
    return wire.decode(wire.encode(await operations.perform(admin, operation, arguments)))


async def refused(admin, operation: str, /, **arguments):
    """Perform an operation that must be refused; returns the Refusal."""
    with pytest.raises(Refused) as error:
        await do(admin, operation, **arguments)
    return error.value.refusal
