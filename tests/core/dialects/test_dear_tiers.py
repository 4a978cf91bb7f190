"""Tiers in every dialect and spelling: refused where the price has no rates for them, held and named where it has."""

import json

import pytest

from tollway.core.billing.pricing import estimate
from tollway.core.billing.rates import Rates
from tollway.core.dialects.checked import ask, read_chat
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Model, Price

BODIES = {
    "gemini": {"model": "m", "contents": [{"parts": [{"text": "x"}]}]},
    "anthropic": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    "openai_responses": {"model": "m", "input": "x"},
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
}
PLAIN = {"input": 10**6, "output": 10**7}


def asked(dialect, **more):
    body = {**BODIES[dialect], **more}
    return read_chat(json.dumps(body).encode()) if dialect == "openai_chat" else ask(dialect, body)


def held(request, rates):
    """What 100 tokens in and 10 out are held for."""
    model = Model(
        id="m", kind="chat", provider="", description="", context_window=0, output_max=0, capabilities=(),
        status="enabled", created_at=0, aliases=(), routes=(), price=Price(version=1, rates=Rates(rates), created_at=0),
    )  # fmt: skip
    return estimate(100, 10, 1, model, None, terms=request.terms).amount


DEAR = [
    ("gemini", {"serviceTier": "priority"}, "priority"),
    ("gemini", {"serviceTier": "PRIORITY"}, "priority"),
    ("gemini", {"serviceTier": "SERVICE_TIER_PRIORITY"}, "priority"),
    ("gemini", {"service_tier": "Priority"}, "priority"),
    ("anthropic", {"speed": "fast"}, "fast"),
    ("anthropic", {"inference_geo": "us"}, "us"),
    ("anthropic", {"speed": "fast", "inference_geo": "us", "service_tier": "auto"}, "fast-us"),
    ("openai_responses", {"service_tier": "priority"}, "priority"),
    ("openai_chat", {"service_tier": "priority"}, "priority"),
    ("openai_chat", {"service_tier": "fast"}, "fast"),
]


@pytest.mark.parametrize(("dialect", "more", "tier"), DEAR)
def test_what_costs_more_than_its_price_is_refused_by_its_field(dialect, more, tier):
    request = asked(dialect, **more)
    assert request.terms.tier == tier
    with pytest.raises(GatewayError) as caught:
        held(request, PLAIN)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(more)))
    assert f"input:{tier}" in caught.value.message


@pytest.mark.parametrize(("dialect", "more", "tier"), DEAR)
def test_a_price_that_knows_the_tier_lets_it_through_and_holds_its_rates(dialect, more, tier):
    request = asked(dialect, **more)
    rates = {**PLAIN, f"input:{tier}": 2 * 10**6, f"output:{tier}": 3 * 10**7}
    # 100 x 2 + 10 x 30 micro-credits
    assert held(request, rates) == 500
    [(name, value)] = list(more.items())[:1]
    assert json.loads(request.body("up", None))[name] == value


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("gemini", {"serviceTier": "flex"}),
        ("openai_responses", {"service_tier": "flex"}),
        ("openai_responses", {"service_tier": "batch"}),
        ("anthropic", {"service_tier": "standard_only"}),
        ("anthropic", {"inference_geo": "global"}),
        ("openai_chat", {"service_tier": "auto"}),
        ("openai_chat", {"service_tier": "flex"}),
    ],
)
def test_what_costs_no_more_passes_and_is_held_at_the_usual_price(dialect, more):
    request = asked(dialect, **more)
    # It may be served as usual, so a cheaper tier holds no less.
    for rates in (PLAIN, {**PLAIN, "input:flex": 5 * 10**5, "output:flex": 5 * 10**6}):
        assert held(request, rates) == 100 + 100


def test_two_tiers_at_once_need_a_price_together():
    request = asked("anthropic", speed="fast", inference_geo="us")
    apart = {
        **PLAIN,
        "input:us": 2 * 10**6,
        "output:us": 10**7,
        "input:fast": 3 * 10**6,
        "output:fast": 10**7,
    }
    with pytest.raises(GatewayError) as caught:
        held(request, apart)
    assert caught.value.param == "speed"
