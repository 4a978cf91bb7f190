"""Events about accounts' money: listing them, and saying that one knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.flows import credits as money
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import find_account
from tollway.flows.admin.refusals import invalid, unknown
from tollway.store import accounts, alerts

PAGE_MAX: Final = 1000
ALL: Final = "all"
"""Stands for every event that nobody has seen."""


class ListAlerts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events: of one account or (None) of all; `seen`: also those that somebody has acknowledged."""

    account: str | None = None
    seen: bool = False
    limit: int = 50


class SeeAlert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event by its id, or "all" of one account or (None) of every one."""

    alert: str
    account: str | None = None


class AlertView(Struct, frozen=True, kw_only=True):
    """An event. `kind`: "balance.low" or "balance.restored"; credits as they were then; times are Unix ms."""

    id: str
    kind: str
    account: str
    available: Decimal
    below: Decimal
    at: int
    seen_at: int | None
    seen_by: str | None


class Seen(Struct, frozen=True, kw_only=True):
    """How many events were acknowledged that nobody had seen."""

    acknowledged: int


async def listed(admin: Admin, request: ListAlerts) -> list[AlertView]:
    """Events, newest first."""
    if not 1 <= request.limit <= PAGE_MAX:
        invalid(f"A page of {request.limit} alerts is not possible", f"It has 1 to {PAGE_MAX}.")

    def query(conn: Connection) -> list[AlertView]:
        account = None if request.account is None else find_account(conn, request.account).id
        names = {one.id: one.name for one in accounts.accounts(conn)}
        found = alerts.events(conn, account_id=account, seen=request.seen, limit=request.limit)
        return [_view(one, names.get(one.account_id, one.account_id)) for one in found]

    return await admin.read(query)


async def acknowledge(admin: Admin, request: SeeAlert) -> Seen:
    """Say that an event, or all of them, is known."""

    def work(change: Change) -> Seen:
        conn = change.conn
        account = None if request.account is None else find_account(conn, request.account).id
        open_ones = alerts.events(conn, account_id=account, seen=False, limit=PAGE_MAX)
        if request.alert == ALL:
            wanted = [one.id for one in open_ones]
        elif alerts.event(conn, request.alert) is None:
            unknown("alert", request.alert, [one.id for one in open_ones])
        else:
            wanted = [request.alert]
        done = alerts.see(conn, wanted, change.actor, change.now)
        if done:
            change.note("alert.ack", request.alert, after={"acknowledged": done})
        return Seen(acknowledged=done)

    return await admin.change(work)


def _view(event: alerts.Event, account: str) -> AlertView:
    shown = money.alert_view(event)
    return AlertView(
        id=event.id,
        kind=event.kind,
        account=account,
        available=shown.available,
        below=shown.below,
        at=event.at,
        seen_at=event.seen_at,
        seen_by=event.seen_by,
    )
