"""Money as the holder of a key sees it: the balance, the ledger, the key itself, and redeeming codes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access.keys import Key
from tollway.core.billing.money import CREDITS_PER_USD
from tollway.core.billing.periods import period_end, period_of, period_start
from tollway.core.errors import GatewayError
from tollway.flows.receipts import credits_of
from tollway.store import alerts, codes, grants, key_use, ledger_pages, wallets
from tollway.store.base import Balance, Books, Store
from tollway.store.codes import CodeRefused
from tollway.store.ledger_pages import Asked

log: Final = logging.getLogger("tollway.credits")

EXPIRE_BATCH: Final = 100
ALERTS_SHOWN: Final = 20
KINDS: Final = ("grant", "topup", "settle", "overage", "refund", "adjust", "expire")


class ExpiringView(Struct, frozen=True, kw_only=True):
    """Credits that will expire unless they are spent before."""

    credits: Decimal
    expires_at: int


class AlertView(Struct, frozen=True, kw_only=True):
    """An event about a balance. `kind`: "balance.low" or "balance.restored"; credits as they were then."""

    id: str
    kind: str
    at: int
    available: Decimal
    below: Decimal


class CreditsView(Struct, frozen=True, kw_only=True):
    """An account's wallet. `available` = balance + overdraft - held; `balance` = credited - debited.

    `low`: whether less than `low_below` is available, `low_since`: when that was first noticed (Unix ms).
    `alerts`: what was noticed and nobody has acknowledged, newest first. `data`: the names OpenRouter's clients read.
    """

    object: str = "credits"
    currency: str = "credits"
    credits_per_usd: int = CREDITS_PER_USD
    account_id: str
    balance: Decimal
    held: Decimal
    available: Decimal
    overdraft: Decimal
    credited: Decimal
    debited: Decimal
    low: bool
    low_below: Decimal | None
    low_since: int | None
    alerts: tuple[AlertView, ...]
    expiring: tuple[ExpiringView, ...]
    data: dict[str, Decimal]


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """An entry as its wallet sees it: `credits` are negative where they left it; `call` is the call it is about."""

    object: str = "credits.entry"
    seq: int
    id: str
    kind: str
    credits: Decimal
    balance_after: Decimal | None
    call: str | None
    note: str | None
    at: int


class LedgerView(Struct, frozen=True, kw_only=True):
    """A page of entries, newest first. `next`: give it as `before` for the next page."""

    object: str = "list"
    data: tuple[LedgerEntry, ...]
    has_more: bool
    next: str | None


class BudgetView(Struct, frozen=True, kw_only=True):
    """A budget in its current period; `resets_at` is None for one that never resets."""

    limit: Decimal
    period: str
    used: Decimal
    held: Decimal
    remaining: Decimal
    resets_at: int | None


class UseView(Struct, frozen=True, kw_only=True):
    """What a key did: over its lifetime, and since the beginning of this day, week and month in UTC."""

    calls: int
    spent: Decimal
    spent_today: Decimal
    spent_this_week: Decimal
    spent_this_month: Decimal
    last_used_at: int | None


class KeyView(Struct, frozen=True, kw_only=True):
    """A key as its holder sees it. `models` and `networks` empty: all.

    `caps`: credits one call may cost, by model, as the operator set them; `own_caps`: as the holder did.
    """

    object: str = "key"
    id: str
    name: str
    display: str
    project: str
    account_id: str
    status: str
    group: str
    models: tuple[str, ...]
    networks: tuple[str, ...]
    limits: dict[str, int | None]
    budget: BudgetView | None
    project_budget: BudgetView | None
    caps: dict[str, Decimal]
    own_caps: dict[str, Decimal]
    usage: UseView
    expires_at: int | None
    created_at: int
    data: dict[str, Any]


class RedeemedView(Struct, frozen=True, kw_only=True):
    """A code turned into credits, and the wallet after it."""

    object: str = "credits.redemption"
    entry: str
    credits: Decimal
    expires_at: int | None
    available: Decimal


async def overview(store: Store, key: Key) -> CreditsView:
    """What the account of a key has."""
    return await store.read(lambda conn: _overview(conn, key))


def _overview(conn: Connection, key: Key) -> CreditsView:
    found = wallets.balance(conn, key.wallet) or Balance(0, 0, 0)
    watch = alerts.watched(conn, key.wallet)
    lots = grants.of_wallet(conn, key.wallet)
    noted = alerts.events(conn, account_id=key.account_id, seen=False, limit=ALERTS_SHOWN)
    return CreditsView(
        account_id=key.account_id,
        balance=credits_of(found.credited - found.debited),
        held=credits_of(found.held),
        available=credits_of(found.available),
        overdraft=credits_of(found.overdraft),
        credited=credits_of(found.credited),
        debited=credits_of(found.debited),
        low=watch is not None and found.available < watch.below,
        low_below=None if watch is None else credits_of(watch.below),
        low_since=None if watch is None else watch.since,
        alerts=tuple(alert_view(one) for one in noted),
        expiring=tuple(ExpiringView(credits=credits_of(lot.left), expires_at=lot.expires_at) for lot in lots),
        data={"total_credits": credits_of(found.credited), "total_usage": credits_of(found.debited)},
    )


def alert_view(event: alerts.Event) -> AlertView:
    """An event as people read it."""
    return AlertView(
        id=event.id,
        kind=event.kind,
        at=event.at,
        available=credits_of(event.details["available"]),
        below=credits_of(event.details["below"]),
    )


async def ledger(store: Store, key: Key, asked: Asked) -> LedgerView:
    """A page of the entries of a key's account."""
    found = await store.read(partial(ledger_pages.page, wallet=key.wallet, asked=asked))
    shown = []
    balance = found.balance
    for entry in found.entries:
        shown.append(
            LedgerEntry(
                seq=entry.seq,
                id=entry.id,
                kind=entry.kind,
                credits=credits_of(entry.amount),
                balance_after=None if balance is None else credits_of(balance),
                call=entry.hold_id,
                note=entry.note,
                at=entry.at,
            )
        )
        balance = None if balance is None else balance - entry.amount
    last = str(found.entries[-1].seq) if found.more else None
    if last is not None and balance is not None:
        last = f"{last}.{balance}"
    return LedgerView(data=tuple(shown), has_more=found.more, next=last)


async def about_key(store: Store, key: Key, now: int) -> KeyView:
    """A key with its limits, its budget in this period and what it has used."""
    return await store.read(lambda conn: _about_key(conn, key, now))


def _about_key(conn: Connection, key: Key, now: int) -> KeyView:
    budget = budget_of(conn, key.id, key.budget, key.budget_period, now)
    together = budget_of(conn, key.project_id, key.project_budget, key.project_period, now)
    use = use_of(conn, key, now)
    return KeyView(
        id=key.id,
        name=key.name,
        display=key.display,
        project=key.project_name,
        account_id=key.account_id,
        status=key.status,
        group=key.group,
        models=key.models,
        networks=key.networks,
        limits={
            "requests_per_minute": key.rpm,
            "tokens_per_minute": key.tpm,
            "concurrent_requests": key.concurrency,
        },
        budget=budget,
        project_budget=together,
        caps={model: credits_of(amount) for model, amount in key.caps},
        own_caps={model: credits_of(amount) for model, amount in key.own_caps},
        usage=use,
        expires_at=key.expires_at,
        created_at=key.created_at,
        data={
            "label": key.name,
            "limit": budget.limit if budget else None,
            "limit_remaining": budget.remaining if budget else None,
            "limit_reset": None if budget is None or budget.period == "total" else budget.period,
            "usage": use.spent,
            "usage_daily": use.spent_today,
            "usage_weekly": use.spent_this_week,
            "usage_monthly": use.spent_this_month,
            "is_free_tier": False,
            "rate_limit": {"requests": key.rpm, "interval": "60s"},
        },
    )


def budget_of(conn: Connection, owner: str, limit: int | None, kind: str, now: int) -> BudgetView | None:
    """The budget of a key or a project as it stands, None if it has none."""
    if limit is None:
        return None
    # The account of a period is made by the first call in it.
    found = dict(wallets.budget_spent(conn, owner)).get(period_of(kind, now), Balance(0, 0, 0, limit))
    return BudgetView(
        limit=credits_of(limit),
        period=kind,
        used=credits_of(found.debited),
        held=credits_of(found.held),
        remaining=credits_of(max(0, limit + found.credited - found.debited - found.held)),
        resets_at=period_end(kind, now),
    )


def use_of(conn: Connection, key: Key, now: int) -> UseView:
    """What a key did, to the last call."""

    def spent(period: str) -> Decimal:
        return credits_of(key_use.since(conn, key.id, period_start(period, now), now).charged)

    lifetime = key_use.since(conn, key.id, 0, now)
    return UseView(
        calls=lifetime.calls,
        spent=credits_of(lifetime.charged),
        spent_today=spent("daily"),
        spent_this_week=spent("weekly"),
        spent_this_month=spent("monthly"),
        last_used_at=key_use.last_used(conn, key.account_id, key.id),
    )


def digest_of(code: str) -> str:
    """What a redemption code is stored as, however it was typed."""
    plain = "".join(mark for mark in code.upper() if mark.isalnum())
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()


async def redeem(store: Store, key: Key, code: str, now: int) -> RedeemedView:
    """Turn a code into credits of the key's account. Raises GatewayError (not_found, code_redeemed)."""

    def work(conn: Connection) -> RedeemedView:
        found = codes.redeem(conn, digest_of(code), account_id=key.account_id, wallet=key.wallet, now=now)
        balance = wallets.balance(conn, key.wallet) or Balance(0, 0, 0)
        return RedeemedView(
            entry=found.entry_id,
            credits=credits_of(found.amount),
            expires_at=found.expires_at,
            available=credits_of(balance.available),
        )

    try:
        return await store.write(work)
    except CodeRefused as refused:
        if refused.why == "mine":
            raise GatewayError(
                "code_redeemed", "This account has redeemed this code already.", param="code", scope="account"
            ) from None
        raise GatewayError(
            "not_found",
            "This code cannot be redeemed: it is mistyped, used, or its time is over.",
            param="code",
        ) from None


async def expire(books: Books, now: int) -> int:
    """Take back what is left of grants whose time is over, one grant a transaction; returns how many."""
    due = await books.read(partial(grants.due, now=now, limit=EXPIRE_BATCH))
    taken = 0
    for entry_id in due:
        taken += await books.write(_expiring(entry_id, now)) > 0
    return taken


def _expiring(entry_id: str, now: int) -> Callable[[Connection], int]:
    return lambda conn: grants.expire(conn, entry_id, now)


async def watch_balances(books: Books, now: int) -> int:
    """Note which watched balances have become low, and say so; returns how many events that made."""
    made = await books.write(partial(alerts.look, now=now))
    for event in made:
        log.warning("%s: account %s has %s", event.kind, event.account_id, event.details)
    return len(made)
