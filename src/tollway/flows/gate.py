"""The gate: everything a call needs, held together for the life of a process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tollway.config import Settings
from tollway.core.routing.health import Health
from tollway.core.routing.models import Catalogue, Channel
from tollway.core.routing.retries import Retries
from tollway.flows.budgets import Budgets
from tollway.flows.clock import now_ms
from tollway.flows.keyring import Keyring
from tollway.flows.makers import Makers
from tollway.flows.shelf import Shelf
from tollway.store import models as stored_models
from tollway.store.base import Store
from tollway.store.limiter import Limiter, MemoryLimiter, Taken
from tollway.upstream.channels import SCOPE, Endpoint, scope_text
from tollway.upstream.platforms.access import AccessTokens
from tollway.upstream.secrets import SealBroken, Vault
from tollway.upstream.transport import Origin, Transport

if TYPE_CHECKING:
    from tollway.upstream.guard import Guard

log: Final = logging.getLogger("tollway.gate")

T = TypeVar("T")


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
        # A limiter of this process's own answers at once, without a coroutine.
        self.own_limiter = limiter if isinstance(limiter, MemoryLimiter) else None
        self.strangers = MemoryLimiter()
        self.keyring = Keyring(store, vault.pepper)
        self.budgets = Budgets(store.ledger)
        self.shelf = Shelf(store)
        self.health = Health()
        self.retries = Retries()
        self.makers = Makers()
        self.catalogue = Catalogue(version=-1, models={}, aliases={}, channels={})
        self.endpoints: dict[str, Endpoint] = {}
        self.draining = False
        self._vault = vault
        self._tokens = AccessTokens(transport, now_ms)
        self._sandbox = sandbox
        self._guard: Guard | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._detached: set[asyncio.Task[Any]] = set()
        self._reloading = asyncio.Lock()
        self._announced = self._loaded = 0

    async def open(self) -> None:
        """Load the catalogue and follow its changes."""
        await self.reload()
        self.store.watch(self._changed)

    async def close(self) -> None:
        """Stop calls that go on without their clients, and wait for settlements that outlived theirs."""
        for task in tuple(self._detached):
            task.cancel("draining")
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
        kept = channel.options.get(SCOPE)
        scope = kept if isinstance(kept, str) else self._vault.scope(scope_text(channel, secret))
        return Endpoint(channel, secret, self.settings, self._sandbox, scope, tokens=self._tokens)

    @property
    def guard(self) -> Guard:
        """The client for URLs that users give; made when the first is met, because it costs a start 0.1 s."""
        if self._guard is None:
            from tollway.upstream.guard import Guard  # noqa: PLC0415 - see above

            self._guard = Guard.of(self.settings)
        return self._guard

    def finish_later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work that must outlive the client who caused it, such as its settlement."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def detach(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a call that goes on when its client leaves; it is cancelled when the process stops."""
        task = self.finish_later(work)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    @property
    def crowded(self) -> bool:
        """Whether more calls may outlive their clients than could be served to clients at once."""
        return len(self._detached) > self.settings.calls_max

    def give_back(self, taken: Taken, used: int | None) -> None:
        """A call is over: its place and its unused tokens are free again."""
        now = now_ms()
        if self.own_limiter is not None:
            self.own_limiter.give_back_now(taken, used, now)
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
