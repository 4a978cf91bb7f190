"""Credits as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.billing.money import AMOUNT_MAX, credits_number, credits_text, parse_credits


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX))
def test_every_amount_survives_its_text(amount: int) -> None:
    assert parse_credits(credits_text(amount)) == amount


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (1_500_000, "1.5"),
        (-20, "-0.00002"),
        (10_000_000, "10"),
        (10**15, "1000000000"),
    ],
)
def test_amounts_as_people_read_them(micro, text) -> None:
    assert credits_text(micro) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "NaN", "Infinity", "1e99", "0.0000001", "1000000001", "--1", "1,5"]
    + ["1e999999999", "-1e999999999", "1e-999999999", "9" * 5000],
)
def test_what_is_no_amount_is_refused(text) -> None:
    with pytest.raises(ValueError):
        parse_credits(text)


def test_underscores_group_digits() -> None:
    assert parse_credits(" 1_000.5 ") == 1_000_500_000


@pytest.mark.parametrize(("micro", "number"), [(0, 0), (5_000_000, 5), (1_500_000, 1.5), (-1, -0.000001)])
def test_amounts_as_json_shows_them(micro, number) -> None:
    assert credits_number(micro) == number and type(credits_number(micro)) is type(number)
