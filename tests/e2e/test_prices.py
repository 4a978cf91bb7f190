"""Prices from outside: tiers, discounts and costs on a running gateway, and a change that touches no call under way."""

import asyncio
import json
from decimal import Decimal

import pytest
from tests.support import raw_http
from tests.support.gateway import wait_for

TIERED = (
    "--input-price",
    "1000",
    "--output-price",
    "2000",
    "--rate",
    "input@20=5000",
    "--rate",
    "output@20=9000",
)


def request(key, model, text="go", **more):
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50, **more}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def call(gateway, key, model, text="go"):
    answer = await raw_http.exchange(gateway.port, request(key, model, text))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def bill(usage, rates, off=Decimal(0)):
    """What the call costs in credits, by hand: micro-credits rounded up once."""
    exact = (usage["prompt_tokens"] * rates[0] + usage["completion_tokens"] * rates[1]) * (100 - off) / 100
    micro = -(-exact // 1)
    return float(Decimal(micro) / 10**6)


@pytest.fixture(scope="module", autouse=True)
def priced(gateway, upstream):
    """A channel of this module's own, and prices that tell small calls from large ones."""
    gateway.cli(
        "channel", "add", "--name", "priced", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1",
        "--model", "tiered=sandbox-chat", "--model", "patient=sandbox-slow-100",
    )  # fmt: skip
    gateway.cli("model", "price", "tiered", *TIERED)
    gateway.cli("model", "price", "patient", "--input-price", "1000", "--output-price", "2000")


def customer(gateway, name):
    gateway.cli("account", "create", name)
    gateway.cli("credits", "grant", "1000", "--account", name)
    return gateway.new_key(name, "--account", name)


async def test_a_call_is_charged_by_its_tier_and_its_callers_discount(gateway):
    key = customer(gateway, "tiers")
    small = await call(gateway, key, "tiered")
    assert small["usage"]["prompt_tokens"] <= 20
    assert small["usage"]["cost"] == bill(small["usage"], (1000, 2000))
    long = "many words that make the prompt exceed a threshold of twenty tokens " * 3
    large = await call(gateway, key, "tiered", long)
    assert large["usage"]["prompt_tokens"] > 20
    assert large["usage"]["cost"] == bill(large["usage"], (5000, 9000))

    gateway.cli("model", "discount", "12.5", "--account", "tiers")

    def discounted():
        _, _, body = gateway.get("/v1/models/tiered", key)
        return body["pricing"].get("discount_percent") == 12.5

    await asyncio.to_thread(wait_for, discounted)
    less = await call(gateway, key, "tiered")
    assert less["usage"]["cost"] == bill(less["usage"], (1000, 2000), Decimal("12.5"))
    assert less["usage"]["cost"] < small["usage"]["cost"]
    gateway.cli("credits", "verify")


async def test_changes_of_price_and_discount_leave_a_held_call_alone(gateway):
    key = customer(gateway, "patience")
    running = asyncio.create_task(call(gateway, key, "patient"))

    def held():
        return float(gateway.cli("credits", "balance", "--account", "patience")["held"]) > 0

    await asyncio.to_thread(wait_for, held)
    gateway.cli("model", "price", "patient", "--input-price", "900000", "--output-price", "900000")
    gateway.cli("model", "discount", "99", "--account", "patience")
    assert not running.done()
    answer = await running
    assert answer["usage"]["cost"] == bill(answer["usage"], (1000, 2000))
    gateway.cli("credits", "verify")


async def test_what_upstreams_charge_is_known_beside_what_customers_pay(gateway):
    key = customer(gateway, "margins")
    gateway.cli("channel", "serve", "priced", "--model", "gpt-4o=sandbox-chat")
    gateway.cli("model", "sync", "--models", "gpt-4o", "--channel", "priced", "--markup", "50", "--apply")
    answer = await raw_http.exchange(gateway.port, request(key, "gpt-4o"))
    usage = answer.json()["usage"]
    assert usage["cost"] == bill(usage, (3750, 15000))
    explained = gateway.cli("explain", answer.header("x-request-id"))
    assert explained["provider_cost"] == bill(usage, (2500, 10000))
    assert explained["margin"] == pytest.approx(usage["cost"] - explained["provider_cost"])
    shown = gateway.get("/v1/models/gpt-4o", key)[2]
    assert shown["pricing"]["rates"]["input"] == {
        "credits": 3750, "usd": 3.75, "per": "1000000 input tokens",
    }  # fmt: skip
    assert {"tools", "vision"} <= set(shown["capabilities"])
    assert shown["parameters"]["temperature"] == {"min": 0, "max": 2}
