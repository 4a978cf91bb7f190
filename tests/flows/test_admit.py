"""Finding the model of a call: what is remembered for one customer says nothing of another."""

from __future__ import annotations

import itertools
import random

from tests.support.limits import a_key
from tests.support.servers import whole
from tests.support.till import till

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Catalogue, Channel, Model, Price, Route
from tollway.flows import admit
from tollway.flows.gate import Gate

NAMES = ("m", "other-name", "vip-only", "free", "off", "lost", "")
KEYS = [
    a_key(id=f"{account} {group} {models}", account_id=account, group=group, models=models)
    for account in ("plain", "cheap")
    for group in ("default", "vip", "nobody")
    for models in ((), ("m",), ("other*", "vip-only"), ("x*",))
]


def a_model(name: str, channel: str, **fields) -> Model:
    price = Price(version=1, rates={"input": 1000, "output": 4000}, created_at=0)
    defaults = {
        "id": name, "kind": "chat", "provider": "", "description": "", "context_window": 0, "output_max": 0,
        "capabilities": (), "status": "enabled", "created_at": 0, "price": price, "aliases": (),
        "routes": (Route(channel_id=channel, upstream_model=name),),
    }  # fmt: skip
    return Model(**{**defaults, **fields})


def a_channel(name: str, *groups: str) -> Channel:
    return Channel(
        id=name, name=name, dialect="openai_chat", base_url="http://127.0.0.1", secret=None, secret_hint="",
        groups=groups, priority=0, weight=1, status="enabled", created_at=0, options={},
    )  # fmt: skip


def a_catalogue() -> Catalogue:
    models = [
        a_model("m", "a", aliases=("other-name",)),
        a_model("vip-only", "v"),
        a_model("free", "a", price=None),
        a_model("off", "a", status="disabled"),
        a_model("lost", "gone"),
    ]
    channels = [a_channel("a", "default", "vip"), a_channel("v", "vip")]
    return Catalogue(
        version=10**9,
        models={model.id: model for model in models},
        aliases={"other-name": "m"},
        channels={channel.id: channel for channel in channels},
        discounts={("account", "cheap"): 2000, ("group", "vip"): 500},
    )


async def found(gate: Gate, key: Key, name: str) -> object:
    """What comes of looking for a model."""
    try:
        return await admit.find_model(gate, key, name)
    except GatewayError as error:
        return error.code, error.message


async def test_what_is_remembered_is_what_would_be_found_anew(tmp_path, monkeypatch) -> None:
    asks = list(itertools.product(KEYS, NAMES)) * 2
    random.Random(7).shuffle(asks)
    async with till(tmp_path, lambda _: whole()) as one:
        remembering = a_catalogue()
        seen = []
        for key, name in asks:
            one.gate.catalogue = remembering
            known = await found(one.gate, key, name)
            one.gate.catalogue = a_catalogue()
            assert await found(one.gate, key, name) == known
            seen.append(known)
        assert {known.price.discount for known in seen if isinstance(known, Model)} == {0, 500, 2000}
        assert {known[0] for known in seen if isinstance(known, tuple)} == {
            "model_not_found", "model_not_allowed", "model_not_available",
        }  # fmt: skip
        one.gate.catalogue = remembering
        monkeypatch.setattr(admit, "FOUND_MAX", 3)
        for account in range(10):
            await found(one.gate, a_key(account_id=str(account)), "m")
            assert len(remembering.found) <= 3


async def test_one_model_of_a_customer_is_one_value(tmp_path) -> None:
    async with till(tmp_path, lambda _: whole()) as one:
        one.gate.catalogue = a_catalogue()
        key = a_key(account_id="cheap")
        first = await admit.find_model(one.gate, key, "m")
        assert first.price is not None and first.price.discount == 2000
        assert await admit.find_model(one.gate, key, "m") is first
