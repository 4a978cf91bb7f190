"""The catalogue: public models, their prices and the channels that serve them, as immutable values.

A `Catalogue` is a snapshot. It is never changed; a change in the database yields a new one.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Price(Struct, frozen=True, kw_only=True):
    """One version of a model's price. `rates`: micro-credits per 10^6 units, by the keys of core.billing.rates.

    `discount`: hundredths of a percent this customer pays less; its `rates` know of it.
    """

    version: int
    rates: dict[str, int]
    created_at: int
    source: str = "operator"
    discount: int = 0


class Channel(Struct, frozen=True, kw_only=True):
    """One configured upstream: a base URL, a credential and the models it serves.

    `secret` is sealed (AES-GCM) and only `upstream/channels.py` opens it. `status` is "enabled"
    or "disabled". `groups`: the groups of keys that may use it. Lower `priority` numbers go first;
    `weight` shares traffic among equals. `options`: per-channel settings (timeouts in seconds,
    extra headers, `bills_after_cancel`).
    """

    id: str
    name: str
    dialect: str
    base_url: str
    secret: bytes | None
    secret_hint: str
    groups: tuple[str, ...]
    priority: int
    weight: int
    status: str
    created_at: int
    options: dict[str, object]


class Route(Struct, frozen=True, kw_only=True):
    """A model on a channel: what the upstream calls it, and what it costs us per meter (or None: unknown).

    `options`: what is special about the model there, such as how it takes a wish for thought.
    """

    channel_id: str
    upstream_model: str
    cost: dict[str, int] | None = None
    options: dict[str, object] = {}


class Model(Struct, frozen=True, kw_only=True):
    """A public model. `kind`: chat, embedding, image, ...; `status`: "enabled" or "disabled".

    `context_window` and `output_max` are tokens, 0 where unknown. A model without a price
    cannot be called. `routes` are unordered: `choose` orders them. `parameters`: what it may be
    asked with, as `{}`, `{"values": [...]}` or `{"min": ..., "max": ...}` by name.
    """

    id: str
    kind: str
    provider: str
    description: str
    context_window: int
    output_max: int
    capabilities: tuple[str, ...]
    status: str
    created_at: int
    price: Price | None
    aliases: tuple[str, ...]
    routes: tuple[Route, ...]
    parameters: dict[str, object] = {}


class Catalogue(Struct, frozen=True, kw_only=True):
    """A snapshot of everything routing needs. `version` grows with each change.

    `discounts`: hundredths of a percent by ("account", its id) or ("group", its name). What has been
    found in this snapshot is remembered in it: `serving` by `choose.serving`, for a model and a group,
    and `found` by `admit.find_model`, for a name and all of a key that decides what it may call and pays.
    """

    version: int
    models: dict[str, Model]
    aliases: dict[str, str]
    channels: dict[str, Channel]
    discounts: dict[tuple[str, str], int] = {}
    serving: dict[tuple[str, str], list[Any]] = {}
    found: dict[tuple[str, tuple[str, ...], str, str], Model] = {}

    def discount(self, account_id: str, group: str) -> int:
        """What a customer pays less: the account's own discount, else that of the key's group."""
        found = self.discounts.get(("account", account_id))
        return self.discounts.get(("group", group), 0) if found is None else found

    def resolve(self, name: str) -> Model | None:
        """The model a public name or alias stands for, enabled or not."""
        return self.models.get(name) or self.models.get(self.aliases.get(name, ""))
