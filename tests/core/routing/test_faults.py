"""Faults: what each means, how it is told, and that no secret of an upstream is told with it."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.errors import CODES
from tollway.core.routing.faults import (
    KINDS,
    MESSAGE_MAX,
    STATUSES,
    Fault,
    blames_channel,
    rule,
    scrubbed,
    upstream_error,
)
from tollway.upstream.transport import FaultKind

NOW = 1_800_000_000_000


def test_every_fault_of_the_transport_has_a_rule() -> None:
    assert set(get_args(FaultKind)) <= set(KINDS)
    assert {one.code for one in [*KINDS.values(), *STATUSES.values()]} <= set(CODES)


@pytest.mark.parametrize(
    ("status", "elsewhere", "blames", "code"),
    [
        (302, True, True, "upstream_error"),
        (400, False, False, "upstream_rejected"),
        (401, True, True, "upstream_error"),
        (402, True, True, "upstream_error"),
        (403, True, True, "upstream_error"),
        (404, True, True, "upstream_error"),
        (405, True, True, "upstream_error"),
        (408, True, True, "upstream_timeout"),
        (409, True, False, "upstream_error"),
        (413, False, False, "upstream_rejected"),
        (415, False, False, "upstream_rejected"),
        (422, False, False, "upstream_rejected"),
        (425, True, False, "upstream_error"),
        (429, True, True, "upstream_rate_limited"),
        (451, False, False, "upstream_rejected"),
        (500, True, True, "upstream_error"),
        (502, True, True, "upstream_error"),
        (503, True, True, "upstream_error"),
        (504, True, True, "upstream_timeout"),
        (529, True, True, "upstream_rate_limited"),
        (599, True, True, "upstream_error"),
    ],
)
def test_statuses(status, elsewhere, blames, code) -> None:
    fault = Fault("status", NOW, status)
    assert rule(fault) == (elsewhere, blames, code)
    assert blames_channel(fault) is blames


def test_an_unheard_of_fault_is_the_channels() -> None:
    assert rule(Fault("gremlins", NOW)) == (True, True, "upstream_error")
    assert rule(Fault("truncated", NOW, 200)) == (True, True, "upstream_error")


@pytest.mark.parametrize(
    ("fault", "attempts", "status", "message", "retry", "upstream"),
    [
        (
            Fault("status", NOW, 422, code="bad_schema", message="no such type"), 1,
            422, "the upstream refused the request with 422: no such type", None,
            {"status": 422, "code": "bad_schema", "message": "no such type"},
        ),
        (
            Fault("status", NOW, 401, 5000, message="Incorrect API key"), 2,
            502, "the upstream failed (status 401), after 2 attempts; nothing was charged: Incorrect API key", 5000,
            {"status": 401, "message": "Incorrect API key"},
        ),
        (
            Fault("status", NOW, 429, 7000), 3,
            429, "the upstream is limiting its rate, after 3 attempts", 7000, {"status": 429},
        ),
        (
            Fault("status", NOW, 429), 1,
            429, "the upstream is limiting its rate, after one attempt", 1000, {"status": 429},
        ),
        (
            Fault("status", NOW, 429, 10**9), 1,
            429, "the upstream is limiting its rate, after one attempt", 600_000, {"status": 429},
        ),
        (
            Fault("connect_timeout", NOW), 1,
            504, "the upstream did not answer in time (connect_timeout), after one attempt; nothing was charged",
            None, None,
        ),
        (
            Fault("reset", NOW), 1,
            502, "the upstream failed (reset), after one attempt; nothing was charged", None, None,
        ),
        (
            Fault("idle_timeout", NOW, before_first_byte=False), 1,
            502, "the upstream broke off its answer (idle_timeout); what had arrived of it is charged", None, None,
        ),
        (
            Fault("status", NOW, 400, 5000), 1,
            400, "the upstream refused the request with 400", None, {"status": 400},
        ),
    ],
)  # fmt: skip
def test_what_the_caller_is_told(fault, attempts, status, message, retry, upstream) -> None:
    error = upstream_error(fault, attempts)
    assert (error.status, error.message, error.retry_after_ms, error.upstream) == (
        status,
        message,
        retry,
        upstream,
    )
    assert error.scope == "upstream"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-proj-abcdEFGH1234.", "Incorrect API key provided: [secret]."),
        ("bad key sk-ab*****************wxyz", "bad key [secret]"),
        ("key AIzaSyA1234567890abcdef not valid", "key [secret] not valid"),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwx", "Authorization: [secret]"),
        ("token 0123456789abcdef0123456789abcdef expired", "token [secret] expired"),
        ("my-very-own-password!", "[secret]!"),
        ("invalid_api_key: the api_key_format is wrong", "invalid_api_key: the api_key_format is wrong"),
        ("max_tokens must be <= 4096", "max_tokens must be <= 4096"),
        ("a" * 40, "a" * 40),
        (
            "Item 'rs_0a1b2c3d4e5f60718293a4b5c6d7e8f901' is missing",
            "Item 'rs_0a1b2c3d4e5f60718293a4b5c6d7e8f901' is missing",
        ),
        ("a" * MESSAGE_MAX, "a" * MESSAGE_MAX),
        ("line one\r\nSet-Cookie: x\x00\x1b[31m", "line one Set-Cookie: x [31m"),
        ("x " * 400, ("x " * 400)[: MESSAGE_MAX - 1] + "…"),
        ("", ""),
    ],
)
def test_an_upstreams_words_are_scrubbed(text, shown) -> None:
    assert scrubbed(text, ["my-very-own-password", ""]) == shown


@given(st.text(max_size=60), st.text(max_size=60), st.text("abcXYZ019-_", min_size=6, max_size=80))
def test_a_known_secret_never_gets_through(before, after, secret) -> None:
    shown = scrubbed(before + secret + after, [secret])
    assert secret not in shown.replace("[secret]", " ")
    assert len(shown) <= MESSAGE_MAX and shown.isprintable()


def test_a_huge_message_is_cut_before_it_is_searched() -> None:
    assert len(scrubbed("a-1" * 5_000_000)) <= MESSAGE_MAX
