"""Rules of a wallet: how far it may be overdrawn, and below what its owner is told."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from sqlalchemy import update

from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import find_account
from tollway.flows.admin.refusals import Refused, invalid
from tollway.store import alerts, careful, schema, wallets


class SetOverdraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many credits an account may owe; 0 for none."""

    amount: Decimal
    account: str = names.ACCOUNT


class WatchBalance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Below how many available credits an account's balance is low; None stops watching it."""

    below: Decimal | None = None
    account: str = names.ACCOUNT


class WalletRules(Struct, frozen=True, kw_only=True):
    """The rules of a wallet, in credits."""

    account: str
    overdraft: Decimal
    low_below: Decimal | None
    available: Decimal


async def overdraft(admin: Admin, request: SetOverdraft) -> WalletRules:
    """Let an account owe so much. Refused below what it owes or holds already."""
    amount = amounts.micro(request.amount, "an overdraft")
    if amount < 0:
        invalid(f"An overdraft of {request.amount} is not possible", "It is not negative.")

    def work(change: Change) -> WalletRules:
        account = find_account(change.conn, request.account)
        before = careful.balance(change.conn, account.wallet)
        needed = before.debited + before.held - before.credited
        if amount < needed:
            raise Refused(
                "refused",
                f"An overdraft of {request.amount} credits is not possible",
                f"The account {account.name!r} owes or holds {amounts.shown(needed)} credits of it already.",
            )
        table = schema.ledger_account
        change.conn.execute(update(table).where(table.c.id == account.wallet).values(overdraft=amount))
        change.note("credits.overdraft", account.id, {"overdraft": before.overdraft}, {"overdraft": amount})
        return _rules(change, account.name, account.wallet)

    return await admin.change(work)


async def watch(admin: Admin, request: WatchBalance) -> WalletRules:
    """Say when an account's available credits fall below a limit."""
    below = None if request.below is None else amounts.micro(request.below, "a limit")
    if below is not None and below < 0:
        invalid(f"A limit of {request.below} is not possible", "It is not negative.")

    def work(change: Change) -> WalletRules:
        account = find_account(change.conn, request.account)
        alerts.watch(change.conn, account.wallet, below)
        change.note("credits.alert", account.id, after={"below": below})
        return _rules(change, account.name, account.wallet)

    return await admin.change(work)


def _rules(change: Change, name: str, wallet: int) -> WalletRules:
    balance = wallets.balance(change.conn, wallet)
    assert balance is not None, "every account has a wallet"
    watched = alerts.watched(change.conn, wallet)
    return WalletRules(
        account=name,
        overdraft=amounts.shown(balance.overdraft),
        low_below=None if watched is None else amounts.shown(watched.below),
        available=amounts.shown(balance.available),
    )
