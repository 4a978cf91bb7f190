"""Prices as /v1/models shows them."""

from __future__ import annotations

from tollway.core.billing.rates import Rates
from tollway.core.routing.models import Price
from tollway.web.pricing import price_view


def shown(discount: int = 0, **rates: int):
    listed = {key.replace("__", "@").replace("_of_", ":"): rate for key, rate in rates.items()}
    return price_view(Price(version=7, rates=Rates(listed, discount), created_at=0, discount=discount))


def test_no_price_is_none() -> None:
    assert price_view(None) is None


def test_tokens_are_priced_per_million_and_all_else_singly() -> None:
    view = shown(
        input=1_250_000_000, output=10**10, image=40 * 10**12, audio_second=10**11, character=15 * 10**9
    )
    assert view == {
        "version": 7,
        "currency": "credits",
        "rates": {
            "input": {"credits": 1250, "usd": 1.25, "per": "1000000 input tokens"},
            "output": {"credits": 10000, "usd": 10, "per": "1000000 output tokens"},
            "image": {"credits": 40, "usd": 0.04, "per": "1 image"},
            "audio_second": {"credits": 0.1, "usd": 0.0001, "per": "1 second of audio"},
            "character": {"credits": 15000, "usd": 15, "per": "1000000 characters"},
        },
    }


def test_tiers_say_when_they_apply() -> None:
    view = shown(
        input=10**9,
        output=2 * 10**9,
        input__200000=2 * 10**9,
        output__200000=3 * 10**9,
        input__900000=4 * 10**9,
    )
    per = "1000000 input tokens"
    assert view["rates"]["input"] == {"credits": 1000, "usd": 1, "per": per}
    assert view["tiers"] == [
        {
            "above_input_tokens": 200_000,
            "rates": {
                "input": {"credits": 2000, "usd": 2, "per": per},
                "output": {"credits": 3000, "usd": 3, "per": "1000000 output tokens"},
            },
        },
        {"above_input_tokens": 900_000, "rates": {"input": {"credits": 4000, "usd": 4, "per": per}}},
    ]


def test_variants_name_what_tells_them_apart() -> None:
    rates = {"image": 5, "image:1024x1024:high": 167, "image:any:low": 11, "video_second:1080p:audio": 400}
    view = price_view(Price(version=1, rates=Rates({k: v * 10**12 for k, v in rates.items()}), created_at=0))
    assert view["rates"] == {
        "image": {
            "credits": 5,
            "usd": 0.005,
            "per": "1 image",
            "variants": [
                {"size": "1024x1024", "quality": "high", "credits": 167, "usd": 0.167},
                {"quality": "low", "credits": 11, "usd": 0.011},
            ],
        },
        "video_second": {
            "per": "1 second of video",
            "variants": [{"resolution": "1080p", "sound": "audio", "credits": 400, "usd": 0.4}],
        },
    }


def test_a_discount_is_told_beside_the_public_price() -> None:
    view = shown(input=10**9, discount=1250)
    assert view["rates"]["input"]["credits"] == 1000
    assert view["discount_percent"] == 12.5
    assert "discount_percent" not in shown(input=10**9)
