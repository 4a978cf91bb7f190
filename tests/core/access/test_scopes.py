"""Scopes: who may use a key, from where, for which models; listing agrees with authorisation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.access.keys import Key
from tollway.core.access.scopes import (
    allowed_models,
    denied,
    inside,
    key_denied,
    may_call,
    model_denied,
    parse_network,
)
from tollway.core.routing.models import Model

NOW = 1_800_000_000_000


def a_key(**fields) -> Key:
    defaults = {
        "id": "key_1", "account_id": "a", "account_status": "active", "project_id": "p", "project_name": "p", "name": "ci",
        "display": "sk", "status": "active", "wallet": 1, "group": "default", "models": (), "networks": (), "rpm": None, "tpm": None,
        "concurrency": None, "budget": None, "budget_period": "total", "expires_at": None, "created_at": 0,
    }  # fmt: skip
    return Key(**{**defaults, **fields})


def a_model(name: str, *aliases: str) -> Model:
    return Model(
        id=name, kind="chat", provider="", description="", context_window=0, output_max=0, capabilities=(),
        status="enabled", created_at=0, price=None, aliases=aliases, routes=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "code", "scope"),
    [
        ({}, None, None),
        ({"status": "disabled"}, "key_disabled", "key"),
        ({"status": "revoked"}, "key_revoked", "key"),
        ({"status": "a later version's word"}, "key_disabled", "key"),
        ({"account_status": "suspended"}, "account_suspended", "account"),
        ({"status": "revoked", "account_status": "suspended"}, "key_revoked", "key"),
        ({"expires_at": NOW}, "key_expired", "key"),
        ({"expires_at": NOW + 1}, None, None),
        ({"networks": ("10.0.0.0/8",)}, "ip_not_allowed", "key"),
        ({"networks": ("192.0.2.0/24",)}, None, None),
        ({"networks": ("192.0.2.7",), "models": ("other",)}, "model_not_allowed", "key"),
        ({"models": ("gpt-*",)}, None, None),
        ({"models": ("fast",)}, None, None),
        ({"models": ("GPT-4O",)}, "model_not_allowed", "key"),
    ],
)
def test_each_scope_refuses_with_its_own_code(fields, code, scope) -> None:
    error = denied(a_key(**fields), "gpt-4o", ("fast",), "192.0.2.7", NOW)
    assert (error and error.code) == code
    if error:
        assert error.scope == scope and error.status == 403 and not error.retryable


def test_refusals_name_what_is_at_stake() -> None:
    globs = tuple(f"m{number}" for number in range(10))
    error = model_denied(a_key(models=globs), "gpt-4o", ())
    assert error is not None and error.param == "model"
    assert error.message == (
        "the key 'ci' may not call 'gpt-4o'; it is limited to m0, m1, m2, m3, m4, m5, m6, m7 and 2 more"
    )
    error = model_denied(a_key(models=globs[:8]), "gpt-4o", ())
    assert error is not None and error.message.endswith("m6, m7")
    error = key_denied(a_key(networks=("10.0.0.0/8",)), "", NOW)
    assert error is not None and "from an unknown address" in error.message


@pytest.mark.parametrize(
    ("networks", "ip", "expected"),
    [
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.9/24",), "192.0.2.1", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("::/0",), "192.0.2.1", False),
        (("0.0.0.0/0",), "::ffff:192.0.2.1", True),
        (("::ffff:192.0.2.0/120",), "192.0.2.1", True),
        (("::ffff:192.0.2.0/120",), "::ffff:192.0.2.1", True),
        (("::ffff:192.0.2.0/120",), "192.0.3.1", False),
        (("::/96",), "192.0.2.1", False),
        (("::ffff:0:0/96",), "192.0.2.1", True),
        (("2001:db8::/32",), "2001:db8:1::5", True),
        (("2001:db8::/32", "192.0.2.1"), "192.0.2.1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        ((" 192.0.2.1 ",), "192.0.2.1", True),
        (("nonsense", "192.0.2.1"), "192.0.2.1", True),
        (("nonsense",), "192.0.2.1", False),
        (("0.0.0.0/0",), "", False),
        (("0.0.0.0/0",), "unix:", False),
        (("0.0.0.0/0",), "192.0.2.01", False),
        (("192.0.2.0/33",), "192.0.2.1", False),
    ],
)
def test_networks(networks, ip, expected) -> None:
    assert inside(networks, ip) is expected


def test_a_network_is_checked_when_it_is_set() -> None:
    assert str(parse_network("::ffff:10.1.0.0/112")) == "10.1.0.0/16"
    assert str(parse_network("10.1.2.3/8")) == "10.0.0.0/8"
    with pytest.raises(ValueError):
        parse_network("10.0.0.0/99")


@pytest.mark.parametrize(
    ("globs", "name", "expected"),
    [
        ((), "anything", True),
        (("*",), "a/b:c", True),
        (("gpt-4o",), "gpt-4o-mini", False),
        (("gpt-4o*",), "gpt-4o-mini", True),
        (("gpt-?o",), "gpt-4o", True),
        (("gpt-?o",), "gpt-44o", False),
        (("openai/*",), "openai/gpt-4o", True),
        (("gpt-[45]",), "gpt-4", True),
        (("gpt.4",), "gpt-4", False),
        (("gpt-4",), "gpt-4\n", False),
        (("a*", "b*"), "b1", True),
        (("",), "x", False),
    ],
)
def test_globs(globs, name, expected) -> None:
    assert may_call(globs, name, ()) is expected


def test_an_alias_admits_the_model_it_stands_for() -> None:
    assert may_call(("fast",), "gpt-4o", ("quick", "fast"))
    assert not may_call(("fast",), "gpt-4o", ("quick",))


def test_a_hostile_glob_ends_soon() -> None:
    assert not may_call(("*a" * 60 + "b",), "a" * 128, ())


NAMES = st.text("ab-*?[]4", min_size=0, max_size=6)


@given(st.lists(NAMES, max_size=4), st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=2)), max_size=6))
def test_a_model_is_listed_exactly_when_it_may_be_called(globs, models) -> None:
    key = a_key(models=tuple(globs))
    catalogue = [a_model(name, *aliases) for name, aliases in models]
    listed = allowed_models(key, catalogue)
    callable_ = [
        model for model in catalogue if denied(key, model.id, model.aliases, "192.0.2.1", NOW) is None
    ]
    assert listed == callable_
