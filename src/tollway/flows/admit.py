"""Who may come in: the key behind a secret, and the model it asks for."""

from __future__ import annotations

import difflib
from ipaddress import IPv6Address
from typing import Final

from tollway.core.access import scopes
from tollway.core.access.keys import Key
from tollway.core.addresses import read_address
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Model
from tollway.flows.catalogue import callable_models, priced_for, servable
from tollway.flows.gate import Gate

COMPARED_MAX: Final = 200
"""Names that an unknown one is compared with: looking for what was meant must not hold up other calls."""
FOUND_MAX: Final = 10_000
"""Models a catalogue remembers as found; accounts are as many as operators make."""
STRANGER_RPM: Final = 120
"""What callers of one address may ask a minute without a key."""


async def identify(gate: Gate, secret: str, ip: str, now: int, digest: bytes | None = None) -> Key:
    """The key that may speak now, from here; `digest` of its secret, if known. Raises GatewayError (401, 403)."""
    key = gate.keyring.cached(digest or gate.keyring.digest(secret)) or await gate.keyring.find(secret)
    refusal = scopes.key_denied(key, ip, now)
    if refusal is not None:
        raise refusal
    return key


def stranger(ip: str, now: int) -> Key:
    """Whom a limiter counts calls without a key to: an address, or all of an IPv6 subscriber's."""
    found = read_address(ip)
    if found is not None:
        ip = f"{int(found) >> 64:x}::/64" if isinstance(found, IPv6Address) else str(found)
    return Key(
        id=f"ip {ip}",
        account_id="",
        account_status="active",
        project_id="",
        project_name="",
        name="anonymous",
        display="",
        status="active",
        wallet=0,
        group="",
        models=(),
        networks=(),
        rpm=STRANGER_RPM,
        tpm=None,
        concurrency=None,
        budget=None,
        budget_period="total",
        expires_at=None,
        created_at=now,
    )


async def find_model(gate: Gate, key: Key, name: str) -> Model:
    """The model a name stands for, with the price this key pays. Raises GatewayError with one of three causes."""
    # All that `_find` asks of a key. What was found holds for as long as this catalogue is in force.
    known = gate.catalogue.found.get((name, key.models, key.group, key.account_id))
    if known is not None:
        return known
    try:
        return _find(gate, key, name)
    except GatewayError:
        if not await gate.look_again():
            raise
    return _find(gate, key, name)


def _find(gate: Gate, key: Key, name: str) -> Model:
    catalogue = gate.catalogue
    model = catalogue.resolve(name)
    if model is None:
        raise _not_found(gate, key, name)
    refusal = scopes.model_denied(key, model.id, model.aliases)
    if refusal is not None:
        raise refusal
    if not servable(catalogue, model, key.group):
        raise GatewayError(
            "model_not_available",
            f"The model {name!r} exists but is not available: it is disabled, has no price or no enabled channel "
            f"in the group {key.group!r}. The operator can see why with: tollway model show {model.id}",
            param="model",
            scope="model",
        )
    if len(catalogue.found) >= FOUND_MAX:
        catalogue.found.clear()
    found = priced_for(catalogue, key, model)
    catalogue.found[name, key.models, key.group, key.account_id] = found
    return found


def _not_found(gate: Gate, key: Key, name: str) -> GatewayError:
    names = [model.id for model in callable_models(gate, key)]
    if len(names) > COMPARED_MAX:
        names = [one for one in names if one[:1] == name[:1]][:COMPARED_MAX]
    near = tuple(difflib.get_close_matches(name, names, n=3, cutoff=0.5))
    hint = f" Did you mean {near[0]!r}?" if near else " GET /v1/models lists the models this key may call."
    return GatewayError(
        "model_not_found",
        f"There is no model {name!r}.{hint}",
        param="model",
        scope="model",
        suggestions=near,
    )
