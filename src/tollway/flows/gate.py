"""The gate: everything a call needs, held together for the life of a process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final

from tollway.config import Settings
from tollway.core.routing.health import Health
from tollway.core.routing.models import Catalogue, Channel
from tollway.core.routing.retries import Retries
from tollway.flows.budgets import Budgets
from tollway.flows.clock import now_ms
from tollway.flows.keyring import Keyring
from tollway.store import models as stored_models
from tollway.store.base import Store
from tollway.store.limiter import Limiter, MemoryLimiter, Taken
from tollway.upstream.channels import Endpoint
from tollway.upstream.secrets import SealBroken, Vault
from tollway.upstream.transport import Origin, Transport

log: Final = logging.getLogger("tollway.gate")


class Gate:
    """One per process. Reads are from memory; what changes in the database arrives by `store.watch`."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        transport: Transport,
        limiter: Limiter,
        vault: Vault,
        sandbox: Origin | None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.transport = transport
        self.limiter = limiter
        self.keyring = Keyring(store, vault.pepper)
        self.budgets = Budgets(store.ledger)
        self.health = Health()
        self.retries = Retries()
        self.catalogue = Catalogue(version=-1, models={}, aliases={}, channels={})
        self.endpoints: dict[str, Endpoint] = {}
        self.draining = False
        self._vault = vault
        self._sandbox = sandbox
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reloading = asyncio.Lock()
        self._announced = self._loaded = 0

    async def open(self) -> None:
        """Load the catalogue and follow its changes."""
        await self.reload()
        self.store.watch(self._changed)

    async def close(self) -> None:
        """Wait for settlements that outlived their clients."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def reload(self) -> None:
        """Take the catalogue as it stands in the database; calls under way keep the one they began with."""
        catalogue = await self.store.read(stored_models.catalogue)
        endpoints = {}
        for channel in catalogue.channels.values():
            try:
                endpoints[channel.id] = self.endpoint_for(channel)
            except ValueError as error:
                log.error("channel %s cannot be used: %s", channel.name, error)
        self.catalogue, self.endpoints = catalogue, endpoints

    def endpoint_for(self, channel: Channel) -> Endpoint:
        """A channel made ready to send to. Raises ValueError where its address or credential is unusable."""
        secret = None
        if channel.secret is not None:
            try:
                secret = self._vault.open(channel.secret, "channel", channel.id, "secret").reveal()
            except SealBroken as error:
                raise ValueError(str(error)) from None
        return Endpoint(channel, secret, self.settings, self._sandbox)

    def finish_later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work that must outlive the client who caused it, such as its settlement."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def give_back(self, taken: Taken, used: int | None) -> None:
        """A call is over: its place and its unused tokens are free again."""
        now = now_ms()
        if isinstance(self.limiter, MemoryLimiter):
            self.limiter.give_back_now(taken, used, now)
        else:
            self.finish_later(self.limiter.give_back(taken, used, now))

    def fault(self, model_id: str, channel_id: str) -> None:
        """A channel broke off an answer: that counts against its health."""
        self.health.fault(channel_id, model_id, now_ms(), dice=random.random())

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work behind a call failed", exc_info=error)

    def _changed(self, topics: frozenset[str]) -> None:
        if "keys" in topics:
            self.keyring.forget()
        if "catalogue" in topics:
            self._announced += 1
            self.finish_later(self.caught_up())

    async def caught_up(self) -> None:
        """Wait until every change that was announced so far is in force."""
        async with self._reloading:
            while self._loaded < self._announced:
                announced = self._announced
                await self.reload()
                self._loaded = announced

    async def look_again(self) -> bool:
        """Whether the database has a newer catalogue than we knew; if so it is in force now.

        Another process's change is announced within a second. Whoever is about to be refused for
        its lack is worth a look of our own.
        """
        newest = await self.store.read(stored_models.revision)
        if newest <= self.catalogue.version:
            return False
        self._announced += 1
        await self.caught_up()
        return True
