"""Receipts: what a call used, what each unit cost, what was held, charged and given back, and why.

Everything is read from what was stored when the call was settled; the bill is computed again from
its counts and its price version, so that a receipt shows the proof and not only the claim.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access.keys import Key
from tollway.core.billing.meters import METERS
from tollway.core.billing.money import MICRO
from tollway.core.billing.rates import input_tokens
from tollway.core.billing.statement import Line, Statement, exact, explains, state
from tollway.core.errors import GatewayError
from tollway.store import receipts as stored
from tollway.store.base import CallRecord, Store
from tollway.store.receipts import Evidence

ID_MAX: Final = 64


class HoldView(Struct, frozen=True, kw_only=True):
    """A hold, in credits. `reason`: why it closed as it did."""

    id: str
    amount: Decimal
    state: str
    settled: Decimal | None
    released: Decimal | None
    refunded: Decimal
    reason: str | None
    created_at: int
    closed_at: int | None


class EntryView(Struct, frozen=True, kw_only=True):
    """An entry of the ledger about this call, in credits."""

    id: str
    kind: str
    credits: Decimal
    at: int
    note: str | None


class AttemptView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One send upstream. `channel` and `cost` (credits the upstream charges us) are for the operator only.

    `dropped`: what the upstream was not told, as paths and reasons.
    """

    n: int
    upstream_model: str
    status: int
    latency_ms: int
    first_byte_ms: int | None
    error: str | None
    dropped: tuple[str, ...]
    started_at: int
    channel: str | None = None
    cost: Decimal | None = None


class UsageView(Struct, frozen=True, kw_only=True):
    """What was counted: tokens in all, disjoint counts by meter, and what the answer's `usage.cost` said."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    meters: dict[str, int]
    cost: Decimal


class BillView(Struct, frozen=True, kw_only=True):
    """The bill at the price version the call was held at; see core.billing.statement."""

    price_version: int
    lines: tuple[Line, ...]
    sum: Decimal
    discount_percent: Decimal
    after_discount: Decimal
    rounding: Decimal
    due: Decimal
    proof: str
    proved: bool


class Timings(Struct, frozen=True, kw_only=True):
    """Times in Unix milliseconds, and the two spans people ask for."""

    created_at: int
    first_token_at: int | None
    finished_at: int
    first_token_ms: int | None
    total_ms: int


class ReceiptView(Struct, frozen=True, kw_only=True):
    """The receipt of a call. Amounts are exact decimal credits.

    `charged` is what its settlement took, `refunded` what came back later, `net` their difference;
    `absorbed` is what the operator paid instead of the customer. `bill` is None when nothing was
    counted or its price version cannot be read.
    """

    object: str = "generation"
    id: str
    model: str
    upstream_model: str | None
    dialect: str
    route: str
    stream: bool
    status: int
    outcome: str
    error: str | None
    flags: tuple[str, ...]
    usage: UsageView
    bill: BillView | None
    held: Decimal
    charged: Decimal
    absorbed: Decimal
    refunded: Decimal
    net: Decimal
    holds: tuple[HoldView, ...]
    entries: tuple[EntryView, ...]
    attempts: tuple[AttemptView, ...]
    timings: Timings


async def receipt(store: Store, key: Key, call_id: str) -> ReceiptView:
    """The receipt of a finished call of the key's own project. Raises GatewayError (not_found) for any other."""
    found = await store.read(lambda conn: _of_project(conn, key, call_id))
    if found is None or found.call is None:
        raise GatewayError(
            "not_found",
            f"There is no finished call {call_id[:ID_MAX]!r} in this project. A call has a receipt as soon as it "
            "has ended, under the id of its x-request-id header.",
            param="id",
        )
    return view(found, found.call)


def _of_project(conn: Connection, key: Key, call_id: str) -> Evidence | None:
    if len(call_id) > ID_MAX or not call_id.isascii() or not call_id.isprintable():
        return None
    found = stored.evidence(conn, call_id)
    if found is None or found.call is None:
        return None
    mine = (found.call.account_id, found.call.project_id) == (key.account_id, key.project_id)
    return found if mine else None


def view(found: Evidence, call: CallRecord, channels: dict[str, str] | None = None) -> ReceiptView:
    """The receipt of a call with a record. `channels`: names by id, for the operator's eyes only."""
    refunded = sum(hold.refunded for hold in found.holds)
    return ReceiptView(
        id=call.id,
        model=call.model,
        upstream_model=call.upstream_model,
        dialect=call.dialect,
        route=call.route,
        stream=call.stream,
        status=call.status,
        outcome=call.outcome,
        error=call.error_code,
        flags=call.flags,
        usage=_usage(call),
        bill=_bill(found, call),
        held=credits_of(call.held),
        charged=credits_of(call.charged),
        absorbed=credits_of(call.absorbed),
        refunded=credits_of(refunded),
        net=credits_of(call.charged - refunded),
        holds=holds_of(found),
        entries=tuple(
            EntryView(id=one.id, kind=one.kind, credits=credits_of(one.amount), at=one.at, note=one.note)
            for one in found.entries
        ),
        attempts=attempts_of(found, channels),
        timings=Timings(
            created_at=call.created_at,
            first_token_at=call.first_token_at,
            finished_at=call.finished_at,
            first_token_ms=None if call.first_token_at is None else call.first_token_at - call.created_at,
            total_ms=call.finished_at - call.created_at,
        ),
    )


def holds_of(found: Evidence) -> tuple[HoldView, ...]:
    """The holds of a call as shown."""
    return tuple(
        HoldView(
            id=hold.id,
            amount=credits_of(hold.amount),
            state=hold.state,
            settled=None if hold.settled is None else credits_of(hold.settled),
            released=None if hold.state == "held" else credits_of(hold.amount - (hold.settled or 0)),
            refunded=credits_of(hold.refunded),
            reason=hold.reason,
            created_at=hold.created_at,
            closed_at=hold.closed_at,
        )
        for hold in found.holds
    )


def attempts_of(found: Evidence, channels: dict[str, str] | None) -> tuple[AttemptView, ...]:
    """The attempts of a call as shown; with channels and costs if their names are given."""
    return tuple(
        AttemptView(
            n=one.n,
            upstream_model=one.upstream_model,
            status=one.status,
            latency_ms=one.latency_ms,
            first_byte_ms=one.first_byte_ms,
            error=one.error,
            dropped=one.dropped,
            started_at=one.created_at,
            channel=None if channels is None else channels.get(one.channel_id, one.channel_id),
            cost=None if channels is None or one.cost is None else credits_of(one.cost),
        )
        for one in found.attempts
    )


def credits_of(micro: int) -> Decimal:
    """Micro-credits as exact decimal credits."""
    return exact(micro, MICRO)


def openrouter(found: ReceiptView) -> dict[str, Any]:
    """The receipt under the names that clients of OpenRouter's `GET /generation` read."""
    usage, timings = found.usage, found.timings
    return {
        "data": {
            "id": found.id,
            "model": found.model,
            "streamed": found.stream,
            "cancelled": found.outcome == "cancelled",
            "created_at": timings.created_at,
            "latency": timings.first_token_ms,
            "generation_time": timings.total_ms,
            "tokens_prompt": usage.input_tokens,
            "tokens_completion": usage.output_tokens,
            "native_tokens_prompt": usage.input_tokens,
            "native_tokens_completion": usage.output_tokens,
            "native_tokens_cached": usage.meters.get("cache_read", 0),
            "native_tokens_reasoning": usage.meters.get("reasoning", 0),
            "total_cost": found.charged,
            "usage": found.charged,
            "receipt": msgspec.to_builtins(found, builtin_types=(Decimal,)),
        }
    }


def _usage(call: CallRecord) -> UsageView:
    meters = call.usage
    tokens_out = sum(count for name, count in meters.items() if _is_token(name, "out"))
    tokens_in = input_tokens(meters)
    return UsageView(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        meters=meters,
        cost=credits_of(call.charged),
    )


def _is_token(counted: str, direction: str) -> bool:
    meter = METERS.get(counted.partition(":")[0])
    return meter is not None and meter.direction == direction and meter.by_size


def _bill(found: Evidence, call: CallRecord) -> BillView | None:
    if not call.usage or found.price is None:
        return None
    bill = state(call.usage, found.price.rates, call.discount)
    held = sum(hold.amount for hold in found.holds)
    return BillView(
        price_version=call.price_version,
        lines=bill.lines,
        sum=bill.sum,
        discount_percent=bill.discount_percent,
        after_discount=bill.exact,
        rounding=bill.rounding,
        due=bill.due,
        proof=_proof(bill, call, held),
        proved=explains(bill.due_micro, held, call.charged, call.absorbed),
    )


def _proof(bill: Statement, call: CallRecord, held: int) -> str:
    """The whole calculation on one line."""
    products = " + ".join(f"{line.quantity} x {line.price:f} / {line.per}" for line in bill.lines)
    words = [f"{products} = {bill.sum:f}"]
    if bill.discount_percent:
        words.append(f"less {bill.discount_percent:f} % = {bill.exact:f}")
    words.append(f"rounded up = {bill.due:f}")
    if bill.due_micro > held and call.charged + call.absorbed == held:
        words.append(f"at most the hold = {credits_of(held):f}")
    if call.absorbed:
        words.append(f"less absorbed {credits_of(call.absorbed):f}")
    words.append(f"charged {credits_of(call.charged):f} credits")
    return "; ".join(words)
