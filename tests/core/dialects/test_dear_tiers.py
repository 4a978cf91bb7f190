"""Ways of asking an upstream to hurry at a higher price are refused in every dialect and spelling."""

import pytest

from tollway.core.dialects.checked import ask
from tollway.core.errors import GatewayError

BODIES = {
    "gemini": {"model": "m", "contents": [{"parts": [{"text": "x"}]}]},
    "anthropic": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    "openai_responses": {"model": "m", "input": "x"},
}


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [
        ("gemini", "serviceTier", "priority"),
        ("gemini", "serviceTier", "PRIORITY"),
        ("gemini", "serviceTier", "SERVICE_TIER_PRIORITY"),
        ("gemini", "service_tier", "Priority"),
        ("anthropic", "speed", "fast"),
        ("openai_responses", "service_tier", "priority"),
    ],
)
def test_what_costs_more_than_its_price_is_refused_by_its_field(dialect, name, value):
    with pytest.raises(GatewayError) as caught:
        ask(dialect, {**BODIES[dialect], name: value})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [("gemini", "serviceTier", "flex"), ("anthropic", "service_tier", "standard_only")],
)
def test_what_costs_no_more_passes(dialect, name, value):
    assert ask(dialect, {**BODIES[dialect], name: value}).members[name] == value
