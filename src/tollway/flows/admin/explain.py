"""Explaining a call to the operator: its receipt, with the channels, what they cost us and what is left."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from sqlalchemy import Connection

from tollway.flows import receipts
from tollway.flows.admin.context import Admin
from tollway.flows.admin.refusals import Refused
from tollway.flows.receipts import AttemptView, HoldView, ReceiptView
from tollway.store import receipts as stored
from tollway.store.base import CallRecord
from tollway.store.receipts import Evidence


class ExplainCall(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call, by the id its client got as x-request-id."""

    call: str


class Explanation(Struct, frozen=True, kw_only=True):
    """A call explained. `receipt` is None for a call without a record: one that runs, or whose process died.

    `provider_cost` is what upstreams charge us for all attempts, None unless all of them are known;
    `margin` is what was charged, less refunds, less that. `story` says in words what became of the money.
    """

    id: str
    account: str | None
    project: str | None
    key: str | None
    receipt: ReceiptView | None
    holds: tuple[HoldView, ...]
    attempts: tuple[AttemptView, ...]
    provider_cost: Decimal | None
    margin: Decimal | None
    story: str


async def explain(admin: Admin, request: ExplainCall) -> Explanation:
    """All that is on record about a call, with channel names and costs."""
    return await admin.read(lambda conn: _explain(conn, request.call))


def _explain(conn: Connection, call_id: str) -> Explanation:
    found = stored.evidence(conn, call_id)
    if found is None:
        raise Refused(
            "not_found",
            f"No call {call_id[:80]!r}",
            "Neither a record nor a hold has this id. A call refused before credits were held leaves none, "
            "and detail is deleted after its retention.",
            "tollway logs",
        )
    if found.call is None:
        return _without_record(call_id, found)
    call = found.call
    names = stored.names(conn, call, {one.channel_id for one in found.attempts})
    costs = [one.cost for one in found.attempts if one.status == 200]
    known = [one for one in costs if one is not None]
    total = sum(known) if len(known) == len(costs) and found.attempts else None
    refunded = sum(hold.refunded for hold in found.holds)
    return Explanation(
        id=call.id,
        account=names.account,
        project=names.project,
        key=names.key,
        receipt=receipts.view(found, call, names.channels),
        holds=receipts.holds_of(found),
        attempts=receipts.attempts_of(found, names.channels),
        provider_cost=None if total is None else receipts.credits_of(total),
        margin=None if total is None else receipts.credits_of(call.charged - refunded - total),
        story=_story(call),
    )


def _without_record(call_id: str, found: Evidence) -> Explanation:
    hold = found.holds[0]
    story = {
        "held": "It has not ended: its credits are held.",
        "released": f"It left no record; its hold was released uncharged ({hold.reason}).",
    }.get(hold.state, "Its record has been deleted after its retention; its entries stay.")
    return Explanation(
        id=call_id,
        account=None,
        project=None,
        key=None,
        receipt=None,
        holds=receipts.holds_of(found),
        attempts=receipts.attempts_of(found, {}),
        provider_cost=None,
        margin=None,
        story=story,
    )


def _story(call: CallRecord) -> str:
    """Who paid, in one sentence; docs/billing.md has the table behind it."""
    if "late" in call.flags:
        return "Its hold had been released before it was settled, so the operator absorbed what it cost."
    if call.charged == 0 and call.absorbed == 0:
        return "Nothing was charged: " + _free(call)
    paid = {
        "ok": "It ended well and is charged for what it used.",
        "partial": "The upstream broke it off; what had arrived is charged.",
        "cancelled": "The client left; what was generated until then is charged.",
    }.get(call.outcome, "It is charged for what it used.")
    estimated = " The upstream did not count, so the gateway did." if "estimated" in call.flags else ""
    absorbed = " What exceeded the hold and the balance was absorbed." if call.absorbed else ""
    return paid + estimated + absorbed


def _free(call: CallRecord) -> str:
    if call.outcome == "cancelled":
        return "the client left before an upstream had accepted it."
    if "bad_upstream" in call.flags:
        return "the upstream's answer was none."
    if call.outcome in ("failed", "partial"):
        return f"no upstream delivered ({call.error_code or 'it failed'})."
    return "its price is nothing, or it used nothing."
