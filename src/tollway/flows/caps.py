"""What one call may cost at most: by its own wish, by its key's cap for the model, whichever is less."""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

from tollway.core.access.keys import Key
from tollway.core.billing.money import credits_text, parse_credits
from tollway.core.errors import GatewayError, Limit, Scope
from tollway.flows.call import Call

FIELD: Final = "max_credits"
HEADER: Final = "x-tollway-max-credits"
EVERY: Final = "*"

Caps = tuple[tuple[str, int], ...]
"""Caps as (model, micro-credits)."""


class Cap(NamedTuple):
    """A bound on one call in micro-credits, and who set it: `scope` is "key" for a key's own."""

    amount: int
    words: str
    param: str | None
    scope: Scope | None


def cap_of(call: Call) -> Cap | None:
    """The lowest bound on a call, None if nobody set one. Raises GatewayError (invalid_value) for an impossible one."""
    wished = call.request.max_credits
    if wished is None and call.max_credits is None and not call.key.caps and not call.key.own_caps:
        return None
    found = []
    if wished is not None:
        words = f"this request's own {FIELD}"
        found.append(Cap(micro(str(wished), FIELD), words, FIELD, None))
    if call.max_credits is not None:
        found.append(Cap(micro(call.max_credits, HEADER), f"this request's header {HEADER}", HEADER, None))
    own = of_key(call.key, call.model.id)
    if own is not None:
        found.append(own)
    return min(found, key=lambda cap: cap.amount, default=None)


def refuse(cap: Cap, needed: int, model: str) -> NoReturn:
    """Say that a call may cost more than its cap. Raises GatewayError (call_cap_exceeded)."""
    raise GatewayError(
        "call_cap_exceeded",
        f"This call to {model!r} may cost up to {credits_text(needed)} credits; {cap.words} allows {credits_text(cap.amount)}. "
        "The balance is not the problem, and nothing was charged. Raise the cap, lower max_tokens, or send less.",
        param=cap.param,
        scope=cap.scope,
        limit=Limit("per_call", needed, cap.amount),
    )


def of_key(key: Key, model: str) -> Cap | None:
    """The lower of the operator's cap on a key for a model and its holder's, each for that model or for every one."""
    found = [_layer(key, model, key.caps, "its"), _layer(key, model, key.own_caps, "its own")]
    return min((one for one in found if one is not None), key=lambda cap: cap.amount, default=None)


def lookup(caps: Caps, model: str) -> int | None:
    """What caps say of a model: that of its own, else that of every model."""
    known = dict(caps)
    return known.get(model, known.get(EVERY))


def _layer(key: Key, model: str, caps: Caps, whose: str) -> Cap | None:
    amount = lookup(caps, model)
    if amount is None:
        return None
    which = f"for {model!r}" if model in dict(caps) else "for every call"
    return Cap(amount, f"the key {key.name!r} by {whose} cap {which}", None, "key")


def micro(text: str, param: str) -> int:
    """Credits as they were written, in micro-credits. Raises GatewayError (invalid_value)."""
    try:
        found = parse_credits(text)
    except ValueError as error:
        raise GatewayError("invalid_value", f"{param!r} is not possible: {error}.", param=param) from None
    if found < 0:
        raise GatewayError("invalid_value", f"{param!r} must not be negative.", param=param)
    return found
