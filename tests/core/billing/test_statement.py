"""A bill taken apart: its parts always add up to what pricing charges, to the last digit."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import Rates
from tollway.core.billing.statement import exact, explains, state

METERS = ["input", "cache_read", "cache_write", "output", "reasoning", "image:1024x1024:high", "call"]
RATES = st.dictionaries(
    st.sampled_from(["input", "cache_read", "cache_write", "output", "reasoning", "image", "image:any:high", "call"]),
    st.integers(0, 10**13),
    min_size=1,
)  # fmt: skip
COUNTS = st.dictionaries(st.sampled_from(METERS), st.integers(1, 10**9))


@given(COUNTS, RATES, st.integers(0, 10_000))
def test_lines_less_the_discount_rounded_up_are_what_is_charged(meters, rates, discount):
    bill = state(meters, rates, discount)
    assert bill.due_micro == cost(meters, Rates(rates).less(discount))
    with localcontext() as context:
        context.prec = 100
        total = sum((line.credits for line in bill.lines), Decimal(0))
        assert total == bill.sum
        for line in bill.lines:
            assert line.credits == line.price * line.quantity / line.per
        assert bill.exact == total * (100 - bill.discount_percent) / 100
        assert bill.exact + bill.rounding == bill.due
        assert 0 <= bill.rounding < Decimal("0.000001")


def test_a_bill_by_hand():
    """1,200 of 1,500 input tokens cached, 350 out, at 3 / 0.3 / 15 credits a million, less 12.5 %."""
    rates = {"input": 3_000_000, "cache_read": 300_000, "output": 15_000_000}
    bill = state({"cache_read": 1_200, "input": 300, "output": 350}, rates, 1250)
    assert [(line.meter, line.quantity, str(line.price), line.per, str(line.credits)) for line in bill.lines] == [
        ("cache_read", 1200, "0.3", 1_000_000, "0.00036"),
        ("input", 300, "3", 1_000_000, "0.0009"),
        ("output", 350, "15", 1_000_000, "0.00525"),
    ]  # fmt: skip
    assert (str(bill.sum), str(bill.exact), str(bill.due)) == ("0.00651", "0.00569625", "0.005697")


def test_the_dearer_rate_of_a_large_call_is_the_one_shown():
    rates = {"input": 2_000_000, "input@1000": 4_000_000}
    assert [line.price for line in state({"input": 1_000}, rates).lines] == [2]
    assert [line.price for line in state({"input": 1_001}, rates).lines] == [4]


def test_single_units_are_priced_one_by_one():
    line = state({"image:1024x1024:high": 2}, {"image:1024x1024:high": 40_000_000_000_000}).lines[0]
    assert (line.price, line.per, line.credits) == (40, 1, 80)


@pytest.mark.parametrize(
    ("due", "held", "charged", "absorbed", "good"),
    [
        (5, 9, 5, 0, True),
        (12, 9, 9, 0, True),
        (12, 9, 12, 0, True),
        (12, 9, 9, 3, True),
        (5, 9, 0, 5, True),
        (5, 9, 4, 0, False),
        (5, 9, 6, 0, False),
        (12, 9, 10, 0, False),
    ],
)
def test_what_follows_from_a_bill(due, held, charged, absorbed, good):
    assert explains(due, held, charged, absorbed) is good


@pytest.mark.parametrize(
    ("numerator", "divisor", "text"),
    [
        (0, 10**6, "0"),
        (1, 10**6, "0.000001"),
        (-1_500_000, 10**6, "-1.5"),
        (10**18 + 1, 10**6, "1000000000000.000001"),
        (10**40 + 1, 10**16, "1000000000000000000000000.0000000000000001"),
        (120, 1, "120"),
    ],
)
def test_fractions_keep_all_digits(numerator, divisor, text):
    assert f"{exact(numerator, divisor):f}" == text
