"""Seals travel through string and base64 fields and come back the same, beside the part they belong to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.exchange import Media, Reasoning, Request, Seal, Text, ToolCall, Turn
from tollway.core.seals import (
    affinity,
    carrier,
    gather,
    spread,
    unwrap,
    unwrap_base64,
    usable,
    wrap,
    wrap_base64,
)

ORIGINS = ("openai_chat", "openai_responses", "anthropic", "gemini")
seals = st.builds(
    Seal,
    st.sampled_from(ORIGINS),
    st.text(min_size=1),
    st.from_regex(r"[a-f0-9]{0,8}", fullmatch=True),
    st.text(),
)


@given(seal=seals)
def test_wrapping_is_undone(seal):
    assert unwrap(wrap(seal), "anthropic") == seal
    assert unwrap_base64(wrap_base64(seal), "gemini") == seal


@pytest.mark.parametrize(
    "text",
    ["ErUB==", "", "tw1.", "tw1.nobody.s.n.v", "tw1.gemini.s", "dHcxLg==", "dHcxLm5vYm9keQ==", "dHcxL!"],
)
def test_what_we_did_not_wrap_is_left_alone(text):
    assert unwrap(text, "anthropic") == Seal("anthropic", text)
    assert unwrap_base64(text, "gemini") == Seal("gemini", text)


@pytest.mark.parametrize(
    ("seal", "dialect", "scope", "expected"),
    [
        (None, "gemini", "a", False),
        (Seal("gemini", "v", "a"), "gemini", "a", True),
        (Seal("gemini", "v", "a"), "gemini", "b", False),
        (Seal("gemini", "v", ""), "gemini", "b", True),
        (Seal("gemini", "v", "a"), "gemini", "", True),
        (Seal("gemini", "v", "a"), "anthropic", "a", False),
    ],
)
def test_a_seal_is_for_its_maker_only(seal, dialect, scope, expected):
    assert usable(seal, dialect, scope) is expected


def test_affinity_names_the_channels_of_a_conversation():
    parts = (
        Reasoning("x", seal=Seal("anthropic", "v", "a")),
        Text("y"),
        ToolCall("1", "f", seal=Seal("gemini", "v", "b")),
    )
    turns = (Turn(role="user", parts=(Text("q"),)), Turn(role="assistant", parts=parts))
    assert affinity(Request(model="m", turns=turns, origin="openai_chat")) == {"a", "b"}


A, B = Seal("gemini", "a", "s"), Seal("gemini", "b", "s")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Text("x")],
        [Text("x", seal=A), ToolCall("1", "f", "{}", seal=B)],
        [Reasoning("t", seal=A), Media("image/png", "base64", "AA==", seal=B)],
        [Reasoning(form="withheld", seal=A), Text("x")],
    ],
)
def test_spreading_is_undone_by_gathering(parts):
    assert gather(spread(parts)) == parts
    assert all(part.seal is None for part in spread(parts) if not isinstance(part, Reasoning))


def test_a_late_seal_goes_back_to_the_part_before_it():
    assert gather([Text("x"), carrier(A, "prev")]) == [Text("x", seal=A)]


def test_a_carrier_without_its_part_stays_a_thought():
    assert gather([carrier(A, "next")]) == [Reasoning(form="withheld", seal=A)]
    assert gather([carrier(A, "prev")]) == [Reasoning(form="withheld", seal=A)]
