"""What every store offers: the Store protocol, the values that cross it and the errors it raises.

Two ways in. `ledger` is the hot one: holds and settlements, committed in groups and re-runnable
by id. `read` and `write` are the cold one: a plain synchronous function over a SQLAlchemy Core
connection, run in one transaction, so that a query is written once for both databases.

All times are Unix milliseconds, all amounts micro-credits. Ids are text except ledger accounts'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

T = TypeVar("T")

LEASE_PREFIX: Final = "lease_"
"""What the ids of leases begin with."""


class Balance(Struct, frozen=True):
    """A ledger account at one instant. `available` = credited + overdraft - debited - held."""

    credited: int
    debited: int
    held: int
    overdraft: int = 0

    @property
    def available(self) -> int:
        return self.credited + self.overdraft - self.debited - self.held


class Claim(Struct, frozen=True, kw_only=True):
    """An idempotency key that a call wants for itself: the API key, the route and the name the client chose.

    `fingerprint` tells the request from others under the same name.
    """

    key_id: str
    route: str
    name: str
    fingerprint: str
    expires_at: int


class HoldRequest(Struct, frozen=True):
    """Put `amount` aside in a wallet and, if given, in a key's and its project's budgets. `id` is the call's id.

    `claim`: taken in the same transaction, or the hold is refused (ClaimTaken). Every call makes one of these
    and of the three below, by position, which costs a fifth of naming the fields.
    """

    id: str
    wallet: int
    budget: int | None
    amount: int
    price_version: int
    created_at: int
    expires_at: int
    extends: str | None = None
    claim: Claim | None = None
    project_budget: int | None = None


class CallRecord(Struct, frozen=True):
    """One client request as it will be remembered; written in the transaction that closes its hold.

    `status` is the HTTP status the client got (499: it left). `outcome`: "ok", "partial",
    "cancelled" or "failed". `flags` say how the bill came about: "estimated", "partial",
    "client_cancelled", "usage_anomaly", "bad_upstream", "late". `usage` maps meters to counts.
    `charged` and `absorbed` are what the ledger did; `cost` is what upstreams charge us, None if
    unknown. `discount`: hundredths of a percent off the price version.
    """

    id: str
    account_id: str
    project_id: str
    key_id: str
    model: str
    channel_id: str | None
    upstream_model: str | None
    dialect: str
    route: str
    stream: bool
    status: int
    outcome: str
    error_code: str | None
    flags: tuple[str, ...]
    usage: dict[str, int]
    price_version: int
    held: int
    charged: int
    absorbed: int
    cost: int | None
    created_at: int
    first_token_at: int | None
    finished_at: int
    ip: str
    user_agent: str
    discount: int = 0


class AttemptRecord(Struct, frozen=True):
    """One send to one channel. `n` counts from 1 within a call; `status` is the upstream's, 0 if none came.

    `dropped`: what a translated request could not say in the upstream's dialect, as paths and reasons.
    """

    call_id: str
    n: int
    channel_id: str
    upstream_model: str
    status: int
    error: str | None
    latency_ms: int
    first_byte_ms: int | None
    cost: int | None
    created_at: int
    dropped: tuple[str, ...] = ()


class Settlement(Struct, frozen=True):
    """Close a hold. `amount` None releases it whole; otherwise up to the hold is charged.

    What exceeds the hold becomes an `overage` entry if the wallet affords it, else it is absorbed.
    The call and its attempts are written in the same transaction.
    """

    hold_id: str
    amount: int | None
    reason: str
    call: CallRecord
    attempts: tuple[AttemptRecord, ...]


class Draw(Struct, frozen=True):
    """Credits set aside for one call within a lease: the hold as it would have been, and the lease's id."""

    hold: HoldRequest
    lease: str


class Settled(Struct, frozen=True):
    """How a hold ended. `first` is False when an earlier settlement or sweep had closed it already."""

    first: bool
    charged: int
    absorbed: int
    balance: Balance


class Transfer(Struct, frozen=True, kw_only=True):
    """An entry that is not the closing of a hold: a grant, an adjustment, a refund, an expiry.

    `id` makes it re-runnable: the same id is applied once. Amounts are positive; `kind` decides
    the direction: "grant" (from promo), "topup" (from world) and "refund" (from revenue, for the
    settled hold `hold_id`) into the wallet, "expire" (to promo) and "adjust" (to world) out of it.
    `inward`: an adjustment the other way.
    """

    id: str
    kind: str
    wallet: int
    amount: int
    at: int
    hold_id: str | None = None
    note: str | None = None
    inward: bool = False


class StoreError(Exception):
    """The database refused or failed."""


class InsufficientFunds(StoreError):
    """A hold or transfer would overdraw an account. `kind`: "wallet", "budget" or "project"; `balance` as it stood."""

    def __init__(self, kind: str, account: int, balance: Balance) -> None:
        super().__init__(f"{kind} {account} has {balance.available} micro-credits available")
        self.kind = kind
        self.account = account
        self.balance = balance


class ClaimTaken(StoreError):
    """Another call has the idempotency key; what became of it is in the table."""


class IllegalOperation(StoreError):
    """The database refused an operation as illegal (re-settling, editing an entry, ...)."""


class LedgerUnavailable(StoreError):
    """The database cannot commit now (down, locked, disk full). Nothing was promised to anyone."""


class UnknownSchema(StoreError):
    """The database is not one this version can serve: foreign, newer, older or half migrated."""


class DatabaseInUse(StoreError):
    """Another process has the data folder. `pid` names it, 0 if unknown."""

    def __init__(self, folder: str, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{folder} is in use by {holder}; stop it, or talk to it instead of its database")
        self.pid = pid


class DamagedDatabase(StoreError):
    """The database file is corrupt; it is not served, because its books cannot be trusted."""


class Ledger(Protocol):
    """The hot path: every method returns only after its effect is durable.

    Operations carry their own ids and may be re-run: the second run changes nothing and reports
    what the first one did.
    """

    async def hold(self, request: HoldRequest) -> Balance:
        """Reserve. Returns the wallet's balance after it, or as last known where it was reserved in a lease. Raises InsufficientFunds, ClaimTaken, LedgerUnavailable."""
        ...

    async def settle(self, settlement: Settlement, draw: Draw | None = None) -> Settled:
        """Close a hold and write its call and attempts, in one transaction.

        With `draw` there is no hold yet: it is written closed. Raises InsufficientFunds if the lease
        is open no more and the wallet does not afford the hold; nothing is settled then.
        """
        ...

    async def lease(self, request: HoldRequest) -> Balance:
        """Hold credits for many calls at once. Raises InsufficientFunds, LedgerUnavailable."""
        ...

    async def lapse(self, leases: Sequence[str], drawn: Sequence[HoldRequest], at: int) -> None:
        """Release leases and, in the same transaction, hold what was drawn from them and is not settled yet."""
        ...

    async def free(self, wallet: int) -> bool:
        """Let go of what is held of a wallet for calls that have not come yet; False if nothing was."""
        ...

    @property
    def prompt(self) -> bool:
        """Whether operations are being committed as they come, as far as is known."""
        ...

    async def transfer(self, transfer: Transfer) -> Balance:
        """Write one entry. Returns the wallet's balance after it. Raises InsufficientFunds, IllegalOperation."""
        ...

    async def budget(self, owner: str, period: str, limit: int, now: int) -> int:
        """The ledger account of a key's or project's budget in a period ("" for a total one), made on first use.

        If the account exists with another limit it is adjusted to `limit`, never below what is
        spent and held.
        """
        ...


class Books(Protocol):
    """A database to ask and to change, without its ledger: a store, or a job's own fenced way to one."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read-only transaction."""
        ...

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run a change in a transaction of its own. Raises StoreError."""
        ...


class Store(Protocol):
    """A database with its ledger. One instance per process; `owner` names the process in holds."""

    ledger: Ledger
    engine: str
    """"sqlite" or "postgresql"."""

    async def open(self) -> None:
        """Connect, refuse an unknown schema (UnknownSchema), register as a live owner of holds."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of every connection and thread."""
        ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read-only transaction."""
        ...

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run a change in a transaction of its own, then tell watchers. Raises StoreError."""
        ...

    def watch(self, changed: Callable[[frozenset[str]], Any]) -> None:
        """Call back on the event loop after a change of keys or catalogue by any process.

        The argument names what changed: "keys", "catalogue" or both. At most 1 s late.
        """
        ...

    async def recover(self, now: int) -> int:
        """Release, uncharged, open holds whose owner is dead; returns how many. Safe to run anywhere, any time."""
        ...

    async def heartbeat(self, now: int) -> None:
        """Renew this process's claim on its open holds."""
        ...
