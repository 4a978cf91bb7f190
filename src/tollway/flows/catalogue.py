"""What can be called and for how much: listing and authorisation ask the same questions here."""

from __future__ import annotations

from msgspec.structs import replace

from tollway.core.access import scopes
from tollway.core.access.keys import Key
from tollway.core.billing.rates import Rates
from tollway.core.routing.choose import serving
from tollway.core.routing.models import Catalogue, Model
from tollway.flows.gate import Gate


def servable(catalogue: Catalogue, model: Model, group: str) -> bool:
    """Whether a model is enabled, priced, and served by an enabled channel of the group."""
    return model.price is not None and bool(serving(model, catalogue, group))


def callable_models(gate: Gate, key: Key) -> list[Model]:
    """The models this key may call, by name, with the prices it pays."""
    catalogue = gate.catalogue
    served = [model for model in catalogue.models.values() if servable(catalogue, model, key.group)]
    allowed = sorted(scopes.allowed_models(key, served), key=lambda model: model.id)
    return [priced_for(catalogue, key, model) for model in allowed]


def priced_for(catalogue: Catalogue, key: Key, model: Model) -> Model:
    """The model with the price this key pays: the public one less its account's or group's discount.

    A call keeps the model it was admitted with, so that a change of discounts never touches it.
    """
    if not catalogue.discounts or model.price is None:
        return model
    discount = catalogue.discount(key.account_id, key.group)
    if not discount:
        return model
    known = model.price.rates
    rates = known.less(discount) if isinstance(known, Rates) else Rates(known, discount)
    return replace(model, price=replace(model.price, rates=rates, discount=discount))
