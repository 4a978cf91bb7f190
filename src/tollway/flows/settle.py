"""Closing a call's hold and writing its record: the only code that settles."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.billing.ledger import Facts, FailedBy, Outcome, bill, close, close_plain
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
    now = now_ms()
    attempts = (*call.attempts, attempt.record(call.id, now))
    settlement = Settlement(
        hold_id=call.id,
        amount=due.amount,
        reason=",".join(due.flags) if due.flags else due.outcome,
        call=_record(call, held, ending, _How(due.outcome, due.flags, due.counts, attempt, attempts, now)),
        attempts=attempts,
    )
    return Closed(await gate.store.ledger.settle(settlement), due.usage, due.flags)


def _facts(call: Call, attempt: Attempt, ending: Ending, *, complete: bool) -> Facts:
    ours = estimate_tokens(0, call.request.input_bound)
    facts = attempt.tally.facts(ending.failed_by, input_tokens=ours, complete=complete)
    if attempt.drains and ending.failed_by == "client":
        return replace(facts, drained=True, usage_final=attempt.ended)
    return facts


async def release(gate: Gate, call: Call, held: Held | None, ending: Ending) -> Settled:
    """Give the whole hold back: no channel delivered anything."""
    outcome: Outcome = "cancelled" if ending.failed_by == "client" else "failed"
    attempts = tuple(call.attempts)
    settlement = Settlement(
        hold_id=call.id,
        amount=None,
        reason=ending.error_code or outcome,
        call=_record(call, held, ending, _How(outcome, (), {}, None, attempts, now_ms())),
        attempts=attempts,
    )
    return await gate.store.ledger.settle(settlement)


def _cost(attempts: Sequence[AttemptRecord]) -> int | None:
    """What upstreams charge us: of all attempts that were accepted, None if one of them is not known."""
    total = 0
    for attempt in attempts:
        if attempt.status == 200:
            if attempt.cost is None:
                return None
            total += attempt.cost
    return total


class _How(Struct, frozen=True):
    """What a record says beyond the call itself. `attempt`: the one that answered."""

    outcome: Outcome
    flags: tuple[str, ...]
    usage: dict[str, int]
    attempt: Attempt | None
    attempts: tuple[AttemptRecord, ...]
    now: int


def _record(call: Call, held: Held | None, ending: Ending, how: _How) -> CallRecord:
    key, model, request, price, attempt = call.key, call.model, call.request, call.model.price, how.attempt
    last = how.attempts[-1] if how.attempts else None
    return CallRecord(
        id=call.id,
        account_id=key.account_id,
        project_id=key.project_id,
        key_id=key.id,
        model=model.id,
        channel_id=last.channel_id if last else None,
        upstream_model=last.upstream_model if last else None,
        dialect=request.dialect,
        route=call.route,
        stream=request.stream,
        status=ending.status,
        outcome=how.outcome,
        error_code=ending.error_code,
        flags=how.flags,
        usage=how.usage,
        price_version=price.version if price else 0,
        held=held.estimate.amount if held else 0,
        charged=0,
        absorbed=0,
        cost=_cost(how.attempts),
        created_at=call.created_at,
        first_token_at=attempt.tally.first_at if attempt else None,
        finished_at=how.now,
        ip=call.ip,
        user_agent=call.user_agent,
        discount=price.discount if price else 0,
    )
