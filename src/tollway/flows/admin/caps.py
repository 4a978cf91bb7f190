"""Caps of keys: what one call may cost at most, for one model or for all."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from tollway.flows.admin import amounts, names
from tollway.flows.admin import keys as admin_keys
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.refusals import invalid, unknown
from tollway.store import caps, models


class CapKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one call of a key may cost, in credits; None takes the cap away. `model` "*": every other model.

    `own`: the cap that the key's holder set instead of the operator's.
    """

    key: str
    model: str
    amount: Decimal | None = None
    account: str | None = None
    own: bool = False


class KeyCaps(Struct, frozen=True, kw_only=True):
    """The caps of a key, in credits by model: the operator's, and those its holder set."""

    id: str
    name: str
    caps: dict[str, Decimal]
    own_caps: dict[str, Decimal]


async def cap(admin: Admin, request: CapKey) -> KeyCaps:
    """Set or take away a cap; it holds for the key's next call."""
    amount = None if request.amount is None else amounts.micro(request.amount, "a cap")
    if amount is not None and amount < 0:
        invalid(f"A cap of {request.amount} is not possible", "A cap is not negative.")
    if request.model != caps.EVERY:
        names.model(request.model)

    def work(change: Change) -> KeyCaps:
        conn = change.conn
        found = admin_keys.find(conn, request.key, request.account).key
        catalogue = models.catalogue(conn)
        model = catalogue.resolve(request.model)
        if model is None and request.model != caps.EVERY and amount is not None:
            unknown("model", request.model, catalogue.models)
        name = model.id if model else request.model
        table = caps.OWN if request.own else caps.CAP
        before = dict(caps.of_key(conn, found.id, table))
        caps.put(conn, key_id=found.id, model=name, amount=amount, now=change.now, table=table)
        after = dict(caps.of_key(conn, found.id, table))
        action = "key.own_cap" if request.own else "key.cap"
        change.note(action, found.id, {"caps": before}, {"caps": after})
        return KeyCaps(
            id=found.id,
            name=found.name,
            caps=_shown(caps.of_key(conn, found.id)),
            own_caps=_shown(caps.of_key(conn, found.id, caps.OWN)),
        )

    return await admin.change(work)


def _shown(found: caps.Caps) -> dict[str, Decimal]:
    return {model: amounts.shown(amount) for model, amount in found}
