"""Keys in memory: looked up once in the database, forgotten as soon as any key changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Final

from tollway.core.access import keys
from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.store import keys as stored_keys
from tollway.store.base import LedgerUnavailable, Store

KNOWN_MAX: Final = 20_000
UNKNOWN_MAX: Final = 4_096
PATIENCE_S: Final = 0.9
"""How long a caller waits for a database that hangs to find its key."""

_UNKNOWN = (
    "The API key is not known here. Check that it was copied whole, and that it belongs to this gateway."
)


class Keyring:
    """Finds the key behind a secret. Only keyed digests are kept, never the secrets."""

    def __init__(self, store: Store, pepper: bytes) -> None:
        self._store = store
        self._pepper = pepper
        self._known: Final[dict[bytes, Key]] = {}
        self.cached: Final = self._known.get
        """The key of a digest, if it is in memory: the way of nearly every call, hence no call of ours."""
        self._unknown: set[bytes] = set()
        self._looks: dict[bytes, _Look] = {}
        self._generation = 0

    def forget(self) -> None:
        """Something about keys, projects or accounts changed: read each anew when it is next used."""
        self._known.clear()
        self._unknown.clear()
        # Whoever asks from now on must see the change; a look under way may not.
        self._looks.clear()
        self._generation += 1

    def digest(self, secret: str) -> bytes:
        """What a secret is known by."""
        return keys.digest(secret, self._pepper)

    async def find(self, secret: str) -> Key:
        """The key behind a secret, whatever its status. Raises GatewayError (invalid_api_key), StoreError."""
        if not keys.well_formed(secret):
            raise GatewayError("invalid_api_key", _UNKNOWN, scope="key")
        digest = keys.digest(secret, self._pepper)
        key = self._known.get(digest)
        if key is not None:
            return key
        if digest in self._unknown:
            raise GatewayError("invalid_api_key", _UNKNOWN, scope="key")
        # A change that arrives while the row is on its way must not be overwritten by the older row.
        generation = self._generation
        key = await self._look_up(digest)
        if generation == self._generation:
            self._keep(digest, key)
        if key is None:
            raise GatewayError("invalid_api_key", _UNKNOWN, scope="key")
        return key

    async def _look_up(self, digest: bytes) -> Key | None:
        """What the database says, asked once for all who want to know meanwhile. Raises StoreError."""
        look = self._looks.get(digest)
        if look is None:
            found = self._store.read(partial(stored_keys.by_digest, digest=digest))
            look = self._looks[digest] = _Look(found)
        look.waiting += 1
        try:
            # Not `timeout`: a connection to a database that hangs takes seconds to be given up.
            await asyncio.wait((look.task,), timeout=PATIENCE_S)
            if not look.task.done():
                raise LedgerUnavailable("the database takes too long to find a key")
            return look.task.result()
        finally:
            look.waiting -= 1
            # One that hangs must not keep the next caller from trying anew.
            if self._looks.get(digest) is look:
                del self._looks[digest]
            if not look.waiting:
                look.task.cancel()

    def _keep(self, digest: bytes, key: Key | None) -> None:
        if key is None:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown.add(digest)
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[digest] = key


class _Look:
    """A look into the database under way. `waiting`: how many wait for it; with the last it ends."""

    __slots__ = ("task", "waiting")

    def __init__(self, found: Awaitable[Key | None]) -> None:
        self.task = asyncio.ensure_future(found)
        self.task.add_done_callback(_seen)
        self.waiting = 0


def _seen(looking: asyncio.Future[Key | None]) -> None:
    # Marks an exception as seen, so that one nobody waits for is not reported as forgotten.
    if not looking.cancelled():
        looking.exception()
