"""Pricing: exact costs, rounded once; estimates that bound them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from tollway.core.billing.meters import METERS, meters_of
from tollway.core.billing.money import AMOUNT_MAX
from tollway.core.billing.pricing import OUTPUT_UNKNOWN, Estimate, cost, estimate, estimate_tokens
from tollway.core.billing.rates import WHOLE, Rates
from tollway.core.errors import GatewayError
from tollway.core.exchange import Usage
from tollway.core.routing.models import Model, Price
from tollway.core.terms import Terms

RATES = st.dictionaries(st.sampled_from(sorted(METERS)), st.integers(0, 10**9), max_size=6)
COUNTS = st.dictionaries(st.sampled_from(sorted(METERS)), st.integers(0, 10**9), max_size=6)


def a_model(*, rates=None, output_max=0, context=0) -> Model:
    return Model(
        id="m", kind="chat", provider="", description="", context_window=context, output_max=output_max,
        capabilities=(), status="enabled", created_at=0, aliases=(), routes=(),
        price=None if rates is None else Price(version=1, rates=rates, created_at=0),
    )  # fmt: skip


@given(COUNTS, RATES)
def test_the_cost_is_the_exact_sum_rounded_up_once(meters, rates) -> None:
    exact = sum((Fraction(count * rates.get(name, 0), 10**6) for name, count in meters.items()), Fraction(0))
    assert cost(meters, rates) == math.ceil(exact)


@given(COUNTS, RATES, st.sampled_from(sorted(METERS)), st.integers(0, 10**6))
def test_the_cost_never_falls_when_a_count_or_a_rate_grows(meters, rates, name, more) -> None:
    before = cost(meters, rates)
    assert cost({**meters, name: meters.get(name, 0) + more}, rates) >= before
    assert cost(meters, {**rates, name: rates.get(name, 0) + more}) >= before


def test_parts_are_not_rounded_one_by_one() -> None:
    assert cost({"input": 1, "output": 1}, {"input": 400_000, "output": 600_000}) == 1
    assert cost({"input": 1}, {"input": 1}) == 1
    assert cost({}, {"input": 1}) == 0


RATE = {"input": 2_000_000, "output": 10_000_000}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # the caller's limit is taken as it is, within what the model can say
        ({"output_wanted": 100, "output_max": 0}, Estimate(50, 100, 1100, None, True)),
        ({"output_wanted": 100, "output_max": 60}, Estimate(50, 60, 700, None, True)),
        ({"output_wanted": 100, "output_max": 60, "n": 3}, Estimate(50, 60, 1900, None, True)),
        # ... and never lowered: a wallet that does not afford it is refused its hold
        ({"output_wanted": 100, "output_max": 0, "available": 5}, Estimate(50, 100, 1100, None, True)),
        # no limit: the model's, or what the wallet affords of it
        ({"output_max": 60}, Estimate(50, 60, 700, None, True)),
        ({"output_max": 60, "available": 700}, Estimate(50, 60, 700, None, True)),
        ({"output_max": 60, "available": 699}, Estimate(50, 59, 690, 59, True)),
        ({"output_max": 60, "available": 150, "n": 2}, Estimate(50, 2, 140, 2, True)),
        # never no output at all; the hold will be refused with the amount it takes
        ({"output_max": 60, "available": 100}, Estimate(50, 1, 110, 1, True)),
        ({"output_max": 60, "available": 0}, Estimate(50, 1, 110, 1, True)),
        # nobody knows: a reservation, not a bound
        ({}, Estimate(50, OUTPUT_UNKNOWN, 100 + 10 * OUTPUT_UNKNOWN, None, False)),
        ({"available": 10**12}, Estimate(50, OUTPUT_UNKNOWN, 100 + 10 * OUTPUT_UNKNOWN, None, False)),
        ({"available": 200}, Estimate(50, 10, 200, 10, True)),
        # the context bounds the input
        ({"output_wanted": 1, "context": 30}, Estimate(30, 1, 70, None, True)),
        # free output needs no clamp
        ({"rates": {"input": 10**6}, "output_max": 9, "available": 50}, Estimate(50, 9, 50, None, True)),
        # a price per call
        ({"rates": {"call": 7_000_000}, "output_wanted": 1}, Estimate(50, 1, 7, None, True)),
    ],
)
def test_estimates(case, expected) -> None:
    model = a_model(
        rates=case.get("rates", RATE), output_max=case.get("output_max", 0), context=case.get("context", 0)
    )
    found = estimate(50, case.get("output_wanted"), case.get("n", 1), model, case.get("available"))
    assert found == expected


TIERED = {"input": 10**6, "output": 10 * 10**6, "input@40": 2 * 10**6, "output@40": 15 * 10**6}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # input of at most 40 tokens cannot exceed the threshold, 41 can
        ({"bound": 40}, Estimate(40, 10, 40 + 100, None, True)),
        ({"bound": 41}, Estimate(41, 10, 82 + 150, None, True)),
        # ... nor can input that the context bounds
        ({"bound": 900, "context": 40}, Estimate(40, 10, 40 + 100, None, True)),
        # a discount is part of the bound, and of what the wallet affords
        ({"bound": 40, "discount": 2500}, Estimate(40, 10, 105, None, True)),
        ({"bound": 40, "wanted": None, "available": 105, "discount": 2500}, Estimate(40, 10, 105, 10, True)),
        ({"bound": 40, "wanted": None, "available": 104, "discount": 2500}, Estimate(40, 9, 98, 9, True)),
        # who pays nothing needs no clamp
        ({"bound": 40, "wanted": None, "available": 0, "discount": WHOLE}, Estimate(40, 99, 0, None, True)),
    ],
)
def test_estimates_know_of_thresholds_and_discounts(case, expected) -> None:
    model = a_model(
        rates=Rates(TIERED, case.get("discount", 0)), output_max=99, context=case.get("context", 0)
    )
    found = estimate(case["bound"], case.get("wanted", 10), 1, model, case.get("available"))
    assert found == expected


def test_pictures_may_come_out_of_whatever_sells_their_tokens() -> None:
    rates = {"input": 10**6, "output": 10**6, "image_token_in": 4 * 10**6, "image_token_out": 30 * 10**6}
    assert estimate(10, 10, 1, a_model(rates=rates), None).amount == 340


def test_input_is_bounded_by_its_dearest_rate() -> None:
    rates = {"input": 10**6, "cache_read": 10**5, "cache_write_1h": 2 * 10**6, "audio_in": 9 * 10**6}
    assert estimate(10, 1, 1, a_model(rates=rates), None).amount == 20
    assert estimate(10, 1, 1, a_model(rates=rates), None, audio=True).amount == 90


def test_output_is_bounded_by_its_dearest_rate() -> None:
    rates = {"output": 10**6, "reasoning": 3 * 10**6, "audio_out": 9 * 10**6}
    assert estimate(0, 10, 1, a_model(rates=rates), None).amount == 30
    assert estimate(0, 10, 1, a_model(rates=rates), None, audio=True).amount == 90


def test_a_model_without_a_price_cannot_be_called() -> None:
    with pytest.raises(GatewayError) as caught:
        estimate(1, 1, 1, a_model(), None)
    assert caught.value.code == "model_not_available"


def test_no_hold_is_larger_than_the_database_takes() -> None:
    assert estimate(10**9, 10**9, 128, a_model(rates={"output": 10**12}), None).amount == AMOUNT_MAX


@st.composite
def any_price(draw) -> Rates:
    """A price with details, up to two thresholds and a discount."""
    meters = ["cache_read", "cache_write_1h", "audio_in", "image_token_in", "reasoning", "audio_out", "call"]
    base = draw(st.dictionaries(st.sampled_from(meters), st.integers(0, 10**8)))
    rates = {"input": draw(st.integers(0, 10**8)), "output": draw(st.integers(0, 10**8)), **base}
    for above in sorted(draw(st.sets(st.integers(1, 10**5), max_size=2))):
        for meter in draw(st.sets(st.sampled_from(["input", "output", *(set(base) - {"call"})]))):
            below = max(rate for key, rate in rates.items() if key.partition("@")[0] == meter)
            rates[f"{meter}@{above}"] = below + draw(st.integers(0, 10**8))
    return Rates(rates, draw(st.integers(0, WHOLE)))


def any_usage(draw, used: int, output: int) -> Usage:
    """Details that need not be consistent with each other."""
    inward, outward = st.integers(0, used), st.integers(0, output)
    return Usage(
        input=used, cache_read=draw(inward), cache_write=draw(inward), cache_write_1h=draw(inward),
        audio_in=draw(inward), image_in=draw(inward),
        output=output, reasoning=draw(outward), audio_out=draw(outward), image_out=draw(outward),
    )  # fmt: skip


@given(
    rates=any_price(),
    bound=st.integers(0, 10**5),
    output_max=st.integers(0, 10**5),
    n=st.integers(1, 8),
    available=st.integers(0, 10**10),
    data=st.data(),
)
def test_what_a_bounded_call_uses_never_costs_more_than_its_estimate(
    rates, bound, output_max, n, available, data
):
    found = estimate(bound, None, n, a_model(rates=rates, output_max=output_max), available, audio=True)
    assert found.output_tokens >= 1
    if found.clamped_output is not None and found.clamped_output > 1:
        assert found.amount <= available
    assume(found.bounded)
    output = data.draw(st.integers(0, found.output_tokens * n))
    usage = any_usage(data.draw, data.draw(st.integers(0, found.input_tokens)), output)
    assert cost(meters_of(usage, rates), rates) <= found.amount


@given(
    rates=any_price(),
    rate=st.integers(0, 10**9),
    bound=st.integers(0, 10**5),
    output=st.integers(1, 10**5),
    served=st.sampled_from(["", "priority", "priority-us", "flex"]),
    data=st.data(),
)
def test_whichever_tier_serves_a_call_it_costs_no_more_than_was_held_for_the_one_it_asked_for(
    rates, rate, bound, output, served, data
):
    more = {"input:priority": rate, "output:priority": 3 * rate, "reasoning:priority": 5 * rate}
    priced = Rates({**rates, **more}, rates.discount)
    found = estimate(bound, output, 1, a_model(rates=priced), None, audio=True, terms=Terms(tier="priority"))
    usage = any_usage(data.draw, data.draw(st.integers(0, bound)), data.draw(st.integers(0, output)))
    assert cost(meters_of(replace(usage, tier=served), priced), priced) <= found.amount


@given(any_price(), st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 10**5))
def test_a_larger_call_is_never_cheaper_under_any_thresholds(rates, used, more, output) -> None:
    small, large = Usage(input=used, output=output), Usage(input=used + more, output=output)
    assert cost(meters_of(small, rates), rates) <= cost(meters_of(large, rates), rates)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_the_clamp_is_as_large_as_the_wallet_affords(available, bound) -> None:
    found = estimate(bound, None, 1, a_model(rates=RATE, output_max=10**9), available)
    assert found.clamped_output is not None
    if found.clamped_output > 1:
        assert found.amount <= available < found.amount + 10 + 1


@pytest.mark.parametrize(
    ("chunks", "size", "expected"), [(0, 0, 0), (0, 1, 1), (0, 4, 1), (0, 5, 2), (3, 4, 3), (1, 400, 100)]
)
def test_our_own_count_of_tokens(chunks, size, expected) -> None:
    assert estimate_tokens(chunks, size) == expected
