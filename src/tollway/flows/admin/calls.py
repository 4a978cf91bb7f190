"""Calls as a list, newest first: who made them, how they ended and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, get_args

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.billing.ledger import Outcome
from tollway.flows.admin import amounts
from tollway.flows.admin.context import Admin
from tollway.flows.admin.keys import find as find_key
from tollway.flows.admin.people import find_account
from tollway.flows.admin.refusals import invalid, nearest
from tollway.store import calls, keys
from tollway.store.base import CallRecord

PAGE_MAX: Final = 1000
OUTCOMES: Final = get_args(Outcome)


class ListCalls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls: of an account, a key, a model, with an outcome; None: of all. `before`: the page before this id."""

    account: str | None = None
    key: str | None = None
    model: str | None = None
    outcome: str | None = None
    before: str | None = None
    limit: int = 20


class CallView(Struct, frozen=True, kw_only=True):
    """A call. `total_ms`: from its arrival to its end; `charged` in credits."""

    id: str
    at: int
    key: str
    model: str
    dialect: str
    stream: bool
    status: int
    outcome: str
    error: str | None
    charged: Decimal
    total_ms: int


class CallsView(Struct, frozen=True, kw_only=True):
    """A page of calls. `next`: pass it as `before` for the next page; None at the end."""

    calls: tuple[CallView, ...]
    has_more: bool
    next: str | None


async def listed(admin: Admin, request: ListCalls) -> CallsView:
    """Calls that have ended, newest first."""
    if not 1 <= request.limit <= PAGE_MAX:
        invalid(f"A page of {request.limit} calls is not possible", f"It has 1 to {PAGE_MAX}.")
    if request.outcome is not None and request.outcome not in OUTCOMES:
        near = nearest(request.outcome, OUTCOMES)
        hint = f"Did you mean {near[0]!r}?" if near else f"It is one of {', '.join(OUTCOMES)}."
        invalid(f"There is no outcome {request.outcome[:40]!r}", hint)
    return await admin.read(lambda conn: _page(conn, request))


def _page(conn: Connection, request: ListCalls) -> CallsView:
    account = None if request.account is None else find_account(conn, request.account).id
    key = None if request.key is None else find_key(conn, request.key, request.account).key
    found = calls.page(
        conn,
        account_id=account if key is None else key.account_id,
        key_id=None if key is None else key.id,
        model=request.model,
        outcome=request.outcome,
        before=request.before,
        limit=request.limit + 1,
    )
    names = {one.key.id: one.key.name for one in keys.listed(conn)}
    page = found[: request.limit]
    more = len(found) > request.limit
    return CallsView(
        calls=tuple(_view(one, names.get(one.key_id, one.key_id)) for one in page),
        has_more=more,
        next=page[-1].id if more else None,
    )


def _view(call: CallRecord, key: str) -> CallView:
    return CallView(
        id=call.id,
        at=call.created_at,
        key=key,
        model=call.model,
        dialect=call.dialect,
        stream=call.stream,
        status=call.status,
        outcome=call.outcome,
        error=call.error_code,
        charged=amounts.shown(call.charged),
        total_ms=call.finished_at - call.created_at,
    )
