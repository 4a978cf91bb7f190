"""What can be called: listing and authorisation ask the same questions here."""

from __future__ import annotations

from tollway.core.access import scopes
from tollway.core.access.keys import Key
from tollway.core.routing.models import Catalogue, Model
from tollway.flows.gate import Gate


def servable(catalogue: Catalogue, model: Model, group: str) -> bool:
    """Whether a model is enabled, priced, and served by an enabled channel of the group."""
    if model.status != "enabled" or model.price is None:
        return False
    for route in model.routes:
        channel = catalogue.channels.get(route.channel_id)
        if channel is not None and channel.status == "enabled" and group in channel.groups:
            return True
    return False


def callable_models(gate: Gate, key: Key) -> list[Model]:
    """The models this key may call, by name."""
    catalogue = gate.catalogue
    served = [model for model in catalogue.models.values() if servable(catalogue, model, key.group)]
    return sorted(scopes.allowed_models(key, served), key=lambda model: model.id)
