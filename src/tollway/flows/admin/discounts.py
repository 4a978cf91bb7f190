"""Discounts: what an account or a group of keys pays less than the price."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct

from tollway.flows.admin import names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import Nothing, find_account
from tollway.flows.admin.refusals import invalid
from tollway.store import accounts, discounts
from tollway.store.discounts import Discount

PER_PERCENT: Final = 100


class SetDiscount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A discount for an account (id or name) or a group, one of the two. `percent` 0 takes it away."""

    percent: Decimal
    account: str | None = None
    group: str | None = None


class DiscountView(Struct, frozen=True, kw_only=True):
    """Who pays how much less. `scope`: "account" or "group"; `name`: the account's name or the group."""

    scope: str
    name: str
    percent: Decimal


class Discounted(Struct, frozen=True, kw_only=True):
    """A change of a discount, in percent."""

    scope: str
    name: str
    old: Decimal
    new: Decimal


async def put(admin: Admin, request: SetDiscount) -> Discounted:
    """Set a discount. Calls already held keep what they began with; an account's own replaces its group's."""
    hundredths = _hundredths(request.percent)
    if (request.account is None) == (request.group is None):
        invalid("Whose discount is it?", "Name an account or a group.", "--group gold")
    if request.group is not None:
        names.group(request.group)

    def work(change: Change) -> Discounted:
        scope, owner, name = _whose(change, request)
        old = discounts.by_owner(change.conn).get((scope, owner), 0)
        if old != hundredths:
            discounts.put(
                change.conn,
                Discount(scope=scope, owner=owner, hundredths=hundredths, created_at=change.now),
            )
            before, after = {"percent": str(_percent(old))}, {"percent": str(_percent(hundredths))}
            change.note(f"discount.{scope}", owner, before, after)
        return Discounted(scope=scope, name=name, old=_percent(old), new=_percent(hundredths))

    return await admin.change(work)


async def listed(admin: Admin, _: Nothing) -> list[DiscountView]:
    """Every discount, accounts first."""
    found = await admin.read(discounts.listed)
    known = {account.id: account.name for account in await admin.read(accounts.accounts)}
    return [
        DiscountView(scope=one.scope, name=known.get(one.owner, one.owner), percent=_percent(one.hundredths))
        for one in found
    ]


def _hundredths(percent: Decimal) -> int:
    if not percent.is_finite() or not 0 <= percent <= 100 or percent * PER_PERCENT % 1:
        invalid(
            f"A discount of {percent} percent is not possible",
            "It is 0 to 100 percent, with at most two decimal places.",
            "12.5",
        )
    return int(percent * PER_PERCENT)


def _percent(hundredths: int) -> Decimal:
    return Decimal(f"{(Decimal(hundredths) / PER_PERCENT).normalize():f}")


def _whose(change: Change, request: SetDiscount) -> tuple[str, str, str]:
    if request.group is not None:
        return "group", request.group, request.group
    account = find_account(change.conn, request.account or "")
    return "account", account.id, account.name
