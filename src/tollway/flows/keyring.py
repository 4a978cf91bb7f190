"""Keys in memory: looked up once in the database, forgotten as soon as any key changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from tollway.core.access import keys
from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.flows.lookups import Lookups
from tollway.store import keys as stored_keys
from tollway.store.base import Store

KNOWN_MAX: Final = 20_000
UNKNOWN_MAX: Final = 4_096

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
        self._lookups = Lookups(self._ask)
        self._generation = 0

    def forget(self) -> None:
        """Something about keys, projects or accounts changed: read each anew when it is next used."""
        self._known.clear()
        self._unknown.clear()
        self._lookups.forget()
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
        key = await self._lookups.find(digest)
        if generation == self._generation:
            self._keep(digest, key)
        if key is None:
            raise GatewayError("invalid_api_key", _UNKNOWN, scope="key")
        return key

    async def _ask(self, digests: Sequence[bytes]) -> dict[bytes, Key]:
        return await self._store.read(partial(stored_keys.by_digests, digests=digests))

    def _keep(self, digest: bytes, key: Key | None) -> None:
        if key is None:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown.add(digest)
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[digest] = key
