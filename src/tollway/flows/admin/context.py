"""What every administrative operation is given, and how it changes the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tollway.config import Settings
from tollway.flows import clock
from tollway.flows.admin.probes import Listing, Probe
from tollway.flows.admin.refusals import Refused
from tollway.store import audit
from tollway.store.base import IllegalOperation, Store
from tollway.upstream.secrets import Vault

T = TypeVar("T")


class Change(Struct, frozen=True):
    """A transaction in which an operation changes something. `now`: Unix milliseconds."""

    conn: Connection
    now: int
    actor: str
    source: str

    def new_id(self, kind: str) -> str:
        """A fresh id such as `key_…`; ids sort by the time they were made."""
        return clock.new_id(kind, self.now)

    def note(
        self,
        action: str,
        target: str,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        """Write the audit row of what this transaction does. Neither state may hold a secret."""
        audit.record(
            self.conn,
            audit.AuditRow(
                at=self.now,
                actor=self.actor,
                source=self.source,
                action=action,
                target=target,
                before=before,
                after=after,
            ),
        )


class Admin(Struct, frozen=True, kw_only=True):
    """An open store, the vault of its instance, a clock, and who is asking through which door.

    `clock` gives Unix milliseconds. `probe` sends a tiny call through a channel, `lister` asks its
    upstream for its models; None where nothing can be sent.
    """

    store: Store
    vault: Vault
    settings: Settings
    clock: Callable[[], int]
    actor: str
    source: str
    probe: Probe | None = None
    lister: Listing | None = None

    def acting_for(self, actor: str, source: str) -> Admin:
        """The same context for somebody else."""
        return msgspec.structs.replace(self, actor=actor, source=source)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query."""
        return await self.store.read(query)

    async def change(self, work: Callable[[Change], T]) -> T:
        """Run a change in one transaction with its audit rows. What it raises undoes it whole.

        Changes are serializable on both databases, so what `work` has looked up (that a name is
        free, say) still holds when it commits; it may be run again to that end.
        """

        def run(conn: Connection) -> T:
            return work(Change(conn, self.clock(), self.actor, self.source))

        try:
            return await self.store.write(run)
        except (IntegrityError, IllegalOperation) as error:
            raise Refused(
                "conflict",
                "The database refused the change",
                "Somebody else changed the same thing at the same time, or the name is taken by now.",
                "Look at the current state and run the command again",
            ) from error
