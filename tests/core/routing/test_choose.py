"""Choosing: groups, priorities, weights, dialects, affinity, and breakers that never shut the last channel."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.errors import GatewayError
from tollway.core.routing.choose import Wish, candidates, serving
from tollway.core.routing.health import CONSECUTIVE, OPEN_MAX_MS, PROBE_MS, Health
from tollway.core.routing.models import Catalogue, Channel, Model, Route

NOW = 1_800_000_000_000
WISH = Wish("default", "openai_chat")


def a_channel(name: str, **fields) -> Channel:
    defaults = {
        "id": name, "name": name, "dialect": "openai_chat", "base_url": "http://127.0.0.1", "secret": None, "secret_hint": "",
        "groups": ("default",), "priority": 0, "weight": 1, "status": "enabled", "created_at": 0, "options": {},
    }  # fmt: skip
    return Channel(**{**defaults, **fields})


def a_catalogue(*channels: Channel) -> tuple[Model, Catalogue]:
    model = Model(
        id="m", kind="chat", provider="", description="", context_window=0, output_max=0, capabilities=(),
        status="enabled", created_at=0, price=None, aliases=(),
        routes=tuple(Route(channel_id=channel.id, upstream_model=f"up-{channel.id}") for channel in channels),
    )  # fmt: skip
    return model, Catalogue(
        version=1, models={"m": model}, aliases={}, channels={channel.id: channel for channel in channels}
    )


def order(*channels: Channel, wish=WISH, health=None, now=NOW, dice=lambda: 0.5) -> list[str]:
    model, catalogue = a_catalogue(*channels)
    found = candidates(model, catalogue, wish, health=health or Health(), now=now, dice=dice)
    assert all(one.route.upstream_model == f"up-{one.channel.id}" for one in found)
    return [one.channel.id + "?" * one.probe for one in found]


def ill(*names: str, at=NOW) -> Health:
    health = Health()
    for name in names:
        for _ in range(CONSECUTIVE):
            health.fault(name, "m", at, dice=0.5)
    return health


@pytest.mark.parametrize(
    ("channels", "wish", "expected"),
    [
        ([a_channel("a")], WISH, ["a"]),
        ([a_channel("a", priority=1), a_channel("b")], WISH, ["b", "a"]),
        ([a_channel("a", dialect="anthropic"), a_channel("b")], WISH, ["b", "a"]),
        ([a_channel("a", dialect="anthropic"), a_channel("b", priority=1)], WISH, ["a", "b"]),
        ([a_channel("a", weight=1), a_channel("b", weight=9)], WISH, ["b", "a"]),
        ([a_channel("a"), a_channel("b", status="disabled"), a_channel("c", groups=("vip",))], WISH, ["a"]),
        ([a_channel("a"), a_channel("c", groups=("vip", "default"))], Wish("vip", "openai_chat"), ["c"]),
        (
            [a_channel("a"), a_channel("b", priority=5, dialect="gemini")],
            Wish("default", "openai_chat", frozenset({"b"})),
            ["b", "a"],
        ),
        ([a_channel("a")], Wish("default", "gemini", frozenset({"gone"})), ["a"]),
    ],
)
def test_the_order(channels, wish, expected) -> None:
    assert order(*channels, wish=wish) == expected


def test_weights_share_the_first_place() -> None:
    rng = random.Random(7)
    firsts = Counter(
        order(a_channel("a", weight=1), a_channel("b", weight=3), dice=rng.random)[0] for _ in range(4000)
    )
    assert 0.70 < firsts["b"] / 4000 < 0.80


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        ([], "no enabled channel of the group 'default' serves 'm'"),
        ([a_channel("a", status="disabled")], "no enabled channel"),
        ([a_channel("a", groups=("vip",))], "no enabled channel"),
    ],
)
def test_no_channel_is_a_404_of_its_own(channels, says) -> None:
    with pytest.raises(GatewayError) as caught:
        order(*channels)
    assert (caught.value.code, caught.value.status, caught.value.param) == (
        "model_not_available",
        404,
        "model",
    )
    assert says in caught.value.message


def test_a_disabled_model_and_a_dangling_route_serve_nobody() -> None:
    model, catalogue = a_catalogue(a_channel("a"))
    off = Model(**{**{name: getattr(model, name) for name in model.__struct_fields__}, "status": "disabled"})
    with pytest.raises(GatewayError) as caught:
        candidates(off, catalogue, WISH, health=Health(), now=NOW, dice=lambda: 0.5)
    assert caught.value.message == "the model 'm' is disabled"
    assert serving(model, Catalogue(version=2, models={}, aliases={}, channels={}), "default") == []


def test_an_open_channel_is_left_out() -> None:
    assert order(a_channel("a"), a_channel("b", priority=1), health=ill("a")) == ["b"]


def test_when_all_are_open_the_one_due_first_is_tried() -> None:
    health = ill("a", at=NOW + 5000)
    for _ in range(CONSECUTIVE):
        health.fault("b", "m", NOW, dice=0.5)
    assert order(a_channel("a"), a_channel("b"), health=health, now=NOW + 6000) == ["b?"]


def test_the_only_channel_is_always_tried() -> None:
    health = ill("a")
    assert [order(a_channel("a"), health=health, now=NOW + at) for at in (0, 1000, 40_000, 40_001)] == [
        ["a?"]
    ] * 4


def test_a_half_open_channel_gets_one_probe_at_a_time_in_its_place() -> None:
    health = ill("a")
    both = a_channel("a"), a_channel("b", priority=1)
    later = NOW + 40_000
    assert order(*both, health=health, now=later) == ["a?", "b"]
    assert order(*both, health=health, now=later) == ["b"]
    assert order(*both, health=health, now=later + PROBE_MS) == ["a?", "b"]
    health.ok("a", "m", later + PROBE_MS)
    assert order(*both, health=health, now=later + PROBE_MS) == ["a", "b"]


def test_a_half_open_channel_behind_others_waits_for_its_turn() -> None:
    health = ill("b")
    both = a_channel("a"), a_channel("b", priority=1)
    assert order(*both, health=health, now=NOW + 40_000) == ["a"]
    assert health.claim("b", "m", NOW + 40_000)


def test_illness_is_per_model() -> None:
    health = Health()
    for _ in range(CONSECUTIVE):
        health.fault("a", "other", NOW, dice=0.5)
    assert order(a_channel("a"), a_channel("b", priority=1), health=health) == ["a", "b"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "fault", "claim", "release"]),
        st.sampled_from("abc"),
        st.integers(0, 60_000),
        st.none() | st.integers(0, 2 * OPEN_MAX_MS),
    ),
    max_size=60,
)


@given(EVENTS, st.sets(st.sampled_from("abc"), min_size=1), st.floats(0, 1, exclude_max=True))
def test_whatever_happened_some_enabled_channel_is_tried(events, enabled, roll) -> None:
    health, now = Health(), NOW
    channels = [a_channel(name, status="enabled" if name in enabled else "disabled") for name in "abc"]
    for event, name, pause, hint in events:
        now += pause
        match event:
            case "ok":
                health.ok(name, "m", now)
            case "fault":
                health.fault(name, "m", now, dice=roll, retry_after_ms=hint)
            case "claim":
                health.claim(name, "m", now)
            case _:
                health.release(name, "m")
        found = [name.rstrip("?") for name in order(*channels, health=health, now=now, dice=lambda: roll)]
        assert found and set(found) <= enabled and len(found) == len(set(found))


def test_a_name_or_an_alias_stands_for_a_model() -> None:
    model, catalogue = a_catalogue(a_channel("a"))
    named = Catalogue(version=1, models=catalogue.models, aliases={"quick": "m", "gone": "x"}, channels={})
    assert named.resolve("m") is model and named.resolve("quick") is model
    assert named.resolve("gone") is None and named.resolve("") is None


@given(st.lists(st.tuples(st.sampled_from("afor"), st.integers(0, 40_000)), max_size=30))
def test_an_only_channel_is_tried_as_its_breaker_says(story) -> None:
    model, catalogue = a_catalogue(a_channel("a"))
    health, now = Health(), NOW
    for event, pause in story:
        now += pause
        if event == "a":
            expected = not health.available("a", "m", now) or health.state("a", "m", now) == "half_open"
            [one] = candidates(model, catalogue, WISH, health=health, now=now, dice=lambda: 0.5)
            assert (one.channel.id, one.probe) == ("a", expected)
        elif event == "f":
            for _ in range(CONSECUTIVE):
                health.fault("a", "m", now, dice=0.5)
        elif event == "o":
            health.ok("a", "m", now)
        else:
            health.release("a", "m")
