"""Putting credits aside for a call, and saying clearly why that cannot be done."""

from __future__ import annotations

from typing import Literal, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.billing.money import credits_text
from tollway.core.billing.periods import period_end
from tollway.core.billing.pricing import Estimate, estimate
from tollway.core.errors import GatewayError, Limit
from tollway.core.terms import PLAIN, Terms
from tollway.flows import caps, fees
from tollway.flows.budgets import UNBOUNDED, Bounds
from tollway.flows.call import Call
from tollway.flows.gate import Gate
from tollway.flows.hushed import hushed, reset_words
from tollway.store.base import Balance, HoldRequest, InsufficientFunds, LedgerUnavailable

CLAMP_MIN = 16
"""Output tokens below which clamping an answer to what a wallet affords helps nobody."""
UNAVAILABLE_RETRY_MS = 5_000
HOLD_MS = 3_600_000
"""How long a hold is expected to live at most; recovery goes by its owner's life, not by this."""


class Held(Struct, frozen=True):
    """A hold: what it may cost at most, and the wallet's balance after it."""

    estimate: Estimate
    balance: Balance


async def reserve(gate: Gate, call: Call) -> Held:
    """Hold the upper bound of a call. Raises GatewayError (402 family, ledger_unavailable).

    A request that leaves its output open is clamped to what the wallet or budget affords; the
    caller learns of it by `Held.estimate.clamped_output`, which must be sent upstream.
    """
    key = call.key
    try:
        if key.budget is None and key.project_budget is None:
            bounds = UNBOUNDED
        else:
            bounds = await gate.budgets.bounds(key, call.created_at)
        terms = call.request.terms
        if terms is not PLAIN:
            terms = fees.terms(gate, call.request, call.model, key.group)
        cap = caps.cap_of(call)
        available = cap.amount if cap else None
        while True:
            bound = _bound(call, terms, call.request.output_wanted, available)
            if cap is not None:
                bound = _within(cap, bound, call, terms)
            try:
                return Held(bound, await gate.store.ledger.hold(_request(call, bounds, bound)))
            except InsufficientFunds as error:
                short = error
            available = _less(call, terms, bound, short, cap, available)
    except LedgerUnavailable:
        raise unavailable() from None
    except GatewayError as refused:
        raise refused if gate.settings.show_amounts else hushed(refused, call) from None


def _less(
    call: Call,
    terms: Terms,
    bound: Estimate,
    short: InsufficientFunds,
    cap: caps.Cap | None,
    available: int | None,
) -> int:
    """What the next round may reserve at most, after one was too much. Raises GatewayError if that helps nobody.

    Each round asks for less than the last; a wallet that is being emptied by others ends it.
    """
    left = max(0, short.balance.available)
    if call.request.output_wanted is not None or (available is not None and left >= available):
        _refuse(call, bound, short)
    left = left if cap is None else min(left, cap.amount)
    clamped = _bound(call, terms, None, left).clamped_output
    if clamped is None or clamped < CLAMP_MIN:
        _refuse(call, bound, short)
    return left


def _within(cap: caps.Cap, bound: Estimate, call: Call, terms: Terms) -> Estimate:
    """The bound, if it keeps the cap. Where nobody knows how long the answer may get, it is limited to what is held."""
    clamped = bound.clamped_output
    if bound.amount > cap.amount or (clamped is not None and clamped < CLAMP_MIN):
        needed = bound.amount if clamped is None else _bound(call, terms, CLAMP_MIN, None).amount
        caps.refuse(cap, max(needed, bound.amount), call.model.id)
    if bound.bounded:
        return bound
    return replace(bound, clamped_output=bound.output_tokens, bounded=True)


def _bound(call: Call, terms: Terms, wanted: int | None, available: int | None) -> Estimate:
    asked = call.request
    return estimate(
        asked.input_bound, wanted, asked.choices, call.model, available, audio=asked.audio, terms=terms
    )


def _request(call: Call, bounds: Bounds, bound: Estimate) -> HoldRequest:
    price = call.model.price
    assert price is not None, "estimate refuses models without a price"
    created_at = call.created_at
    # In the order of the fields: see there.
    return HoldRequest(
        call.id,
        call.key.wallet,
        bounds.key,
        bound.amount,
        price.version,
        created_at,
        created_at + HOLD_MS,
        None,
        call.claim,
        bounds.project,
    )


def unavailable() -> GatewayError:
    """The refusal while the database cannot commit."""
    return GatewayError(
        "ledger_unavailable",
        "The gateway cannot record this call at the moment, so it was not made and nothing was charged. Try again shortly.",
        scope="gateway",
        retry_after_ms=UNAVAILABLE_RETRY_MS,
    )


def _refuse(call: Call, bound: Estimate, short: InsufficientFunds) -> NoReturn:
    key, balance = call.key, short.balance
    needs, has = credits_text(bound.amount), credits_text(max(0, balance.available))
    held = f" ({credits_text(balance.held)} held by calls in flight)" if balance.held else ""
    used, most = balance.debited + balance.held, balance.credited + balance.overdraft
    if short.kind == "wallet":
        raise GatewayError(
            "insufficient_credits",
            f"This call needs up to {needs} credits; the account of project {key.project_name!r} has {has} available{held}. "
            "Add credits (tollway credits grant) or lower max_tokens.",
            scope="account",
            limit=Limit("credits", used, most),
        )
    scope: Literal["key", "project"] = "key" if short.kind == "budget" else "project"
    name, period = key.name, key.budget_period
    if scope == "project":
        name, period = key.project_name, key.project_period
    resets = period_end(period, call.created_at)
    raise GatewayError(
        f"{scope}_budget_exceeded",
        f"This call needs up to {needs} credits; the {period} budget of {scope} {name!r} has {has} left{held}. "
        f"The account's balance is not the problem. Raise the {scope}'s budget{reset_words(resets)} or lower max_tokens.",
        scope=scope,
        limit=Limit("budget", used, most, resets),
    )
