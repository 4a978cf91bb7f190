"""Closing a call's hold and writing its record: the only code that settles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.billing.ledger import Due, Facts, FailedBy, Outcome, bill, close, close_plain
from tollway.core.billing.pricing import estimate_tokens
from tollway.core.exchange import Usage
from tollway.flows.attempts import Attempt
from tollway.flows.call import Call
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.holds import Held
from tollway.store.base import AttemptRecord, CallRecord, Settled, Settlement


class Ending(Struct, frozen=True):
    """How a call ended. `status`: the HTTP status the client got, 499 if it had left."""

    failed_by: FailedBy
    status: int
    error_code: str | None = None


DELIVERED: Final = Ending("none", 200)
INTERRUPTED: Final = Ending("upstream", 502, "stream_interrupted")


class Closed(Struct, frozen=True):
    """How a call was settled: the ledger's word, and the usage it was billed by (None: nothing)."""

    settled: Settled
    usage: Usage | None
    flags: tuple[str, ...]


async def settle(gate: Gate, call: Call, held: Held, attempt: Attempt, ending: Ending) -> Closed:
    """Bill what the attempt delivered, by the table of who pays. Returns once that is durable."""
    price, estimate, usage = call.model.price, held.estimate, attempt.tally.usage
    assert price is not None, "no hold is made for a model without a price"
    complete = attempt.ended and ending.failed_by == "none"
    due = None
    if complete and usage is not None:
        due = close_plain(usage, price.rates, estimate.amount, bounded=estimate.bounded)
    if due is None:
        owed = bill(_facts(call, attempt, ending, complete=complete))
        due = close(owed, price.rates, estimate.amount, bounded=estimate.bounded)
    settlement = _settlement(call, held, ending, due, attempt)
    return Closed(await gate.store.ledger.settle(settlement), due.usage, due.flags)


async def release(gate: Gate, call: Call, held: Held | None, ending: Ending) -> Settled:
    """Give the whole hold back: no channel delivered anything."""
    outcome: Outcome = "cancelled" if ending.failed_by == "client" else "failed"
    due = Due(None, (), outcome, {}, None)
    return await gate.store.ledger.settle(_settlement(call, held, ending, due, None))


def _facts(call: Call, attempt: Attempt, ending: Ending, *, complete: bool) -> Facts:
    ours = estimate_tokens(0, call.request.input_bound)
    facts = attempt.tally.facts(ending.failed_by, input_tokens=ours, complete=complete)
    if attempt.drains and ending.failed_by == "client":
        return replace(facts, drained=True, usage_final=attempt.ended)
    return facts


def _cost(attempts: Sequence[AttemptRecord]) -> int | None:
    """What upstreams charge us: of all attempts that were accepted, None if one of them is not known."""
    total = 0
    for attempt in attempts:
        if attempt.status == 200:
            if attempt.cost is None:
                return None
            total += attempt.cost
    return total


def _settlement(
    call: Call, held: Held | None, ending: Ending, due: Due, attempt: Attempt | None
) -> Settlement:
    """What closes a call's hold, with its record. `attempt`: the one that answered, if one did."""
    now = now_ms()
    if attempt is None:
        attempts, first_at = tuple(call.attempts), None
        reason = ending.error_code or due.outcome
    else:
        attempts, first_at = (*call.attempts, attempt.record(call.id, now)), attempt.tally.first_at
        reason = ",".join(due.flags) if due.flags else due.outcome
    key, model, request = call.key, call.model, call.request
    price, last = model.price, attempts[-1] if attempts else None
    # In the order of the fields: see HoldRequest.
    record = CallRecord(
        call.id,
        key.account_id,
        key.project_id,
        key.id,
        model.id,
        last.channel_id if last else None,
        last.upstream_model if last else None,
        request.dialect,
        call.route,
        request.stream,
        ending.status,
        due.outcome,
        ending.error_code,
        due.flags,
        due.counts,
        price.version if price else 0,
        held.estimate.amount if held else 0,
        0,  # charged and
        0,  # absorbed are the ledger's to say
        _cost(attempts),
        call.created_at,
        first_at,
        now,
        call.ip,
        call.user_agent,
        price.discount if price else 0,
    )
    return Settlement(call.id, due.amount, reason, record, attempts)
