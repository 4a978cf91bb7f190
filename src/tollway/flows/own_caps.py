"""Caps that whoever holds a key sets on it: what one call to a model may cost, at most what the operator allows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.flows import caps
from tollway.flows.admit import find_model
from tollway.flows.gate import Gate
from tollway.flows.receipts import credits_of
from tollway.store import audit
from tollway.store import caps as stored

MOST: Final = 500
"""Caps that the holder of a key may set on it."""


class CapView(Struct, frozen=True, kw_only=True):
    """A cap in credits for each call. `model` "*": every model without a cap of its own by whoever set it."""

    object: str = "cap"
    model: str
    credits: Decimal
    set_by: Literal["operator", "key"]


class CapsView(Struct, frozen=True, kw_only=True):
    """All caps of a key: the operator's, then those its holder set."""

    object: str = "list"
    data: tuple[CapView, ...]


class SetView(Struct, frozen=True, kw_only=True):
    """A cap after a change. `credits`: the holder's, None if there is none; `effective`: what counts now, None for nothing."""

    object: str = "cap"
    model: str
    credits: Decimal | None
    set_by: Literal["key"] = "key"
    effective: Decimal | None


async def listed(gate: Gate, key: Key) -> CapsView:
    """The caps of a key as they are in the database."""
    theirs, own = await gate.store.read(
        lambda conn: (stored.of_key(conn, key.id), stored.of_key(conn, key.id, stored.OWN))
    )
    views = [CapView(model=name, credits=credits_of(most), set_by="operator") for name, most in theirs]
    views += [CapView(model=name, credits=credits_of(most), set_by="key") for name, most in own]
    return CapsView(data=tuple(views))


async def put(gate: Gate, key: Key, name: str, told: Any, now: int) -> SetView:
    """Cap every call of a key to a model. Raises GatewayError (invalid_value, missing_field, 404 and 403 of the model)."""
    if told is None:
        raise GatewayError(
            "missing_field",
            "The field 'credits' is missing: what one call may cost at most.",
            param="credits",
        )
    amount = caps.micro(str(told), "credits")
    model = name if name == caps.EVERY else (await find_model(gate, key, name)).id
    return await _change(gate, key, model, amount, now)


async def remove(gate: Gate, key: Key, name: str, now: int) -> SetView:
    """Take away a cap that a key's holder set. Raises GatewayError (not_found)."""
    known = gate.catalogue.resolve(name)
    # A cap may be for a model that is gone by now.
    return await _change(gate, key, known.id if known else name, None, now)


async def _change(gate: Gate, key: Key, model: str, amount: int | None, now: int) -> SetView:
    found = await gate.store.write(_changing(key, model, amount, now))
    # The next call that this process admits must keep it; others learn of it within a second.
    gate.keyring.forget()
    return found


def _changing(key: Key, model: str, amount: int | None, now: int) -> Callable[[Connection], SetView]:
    def work(conn: Connection) -> SetView:
        before = dict(stored.of_key(conn, key.id, stored.OWN))
        theirs = stored.of_key(conn, key.id)
        if amount is None and model not in before:
            raise _none(model, theirs)
        if model not in before and len(before) >= MOST:
            raise GatewayError(
                "invalid_value",
                f"A key has at most {MOST} caps of its own; take one away first.",
                scope="key",
            )
        stored.put(conn, key_id=key.id, model=model, amount=amount, now=now, table=stored.OWN)
        after = {name: most for name, most in {**before, model: amount}.items() if most is not None}
        _note(conn, key, now, before, after)
        limits = [caps.lookup(theirs, model), caps.lookup(tuple(after.items()), model)]
        counts = min((one for one in limits if one is not None), default=None)
        return SetView(
            model=model,
            credits=None if amount is None else credits_of(amount),
            effective=None if counts is None else credits_of(counts),
        )

    return work


def _none(model: str, theirs: stored.Caps) -> GatewayError:
    why = " The operator's cap on it is not this key's to take away." if model in dict(theirs) else ""
    return GatewayError("not_found", f"This key has set no cap for {model[:128]!r}.{why}", param="model")


def _note(conn: Connection, key: Key, now: int, before: dict[str, int], after: dict[str, int]) -> None:
    row = audit.AuditRow(
        at=now,
        actor=key.id,
        source="api",
        action="key.own_cap",
        target=key.id,
        before={"own_caps": before},
        after={"own_caps": after},
    )
    audit.record(conn, row)
