"""Caps that the holder of a key sets through the API: they narrow what the operator allows, and never widen it."""

from decimal import Decimal

import pytest
from tests.e2e.test_credits_api import PRICE, account, chat, get, sent
from tests.support.gateway import running, wait_for

BODY = chat(max_tokens=50)
ASKED = {"credits": "0.05"}


@pytest.fixture(scope="module")
def priced(gateway, upstream):
    gateway.cli(
        "channel", "add", "--name", "caps", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1", *PRICE,
        "--model", "cr=sandbox-tokens-50", "--model", "vendor/deep=sandbox-tokens-50",
    )  # fmt: skip
    gateway.cli("model", "alias", "cr-alias", "cr")
    return gateway


def put(gateway, key, model, credits_):
    return sent(gateway, "PUT", f"/v1/caps/{model}", {"credits": credits_}, key)


def drop(gateway, key, model):
    return sent(gateway, "DELETE", f"/v1/caps/{model}", None, key)


def refused(gateway, key):
    status, _, answer = gateway.post(BODY, key)
    return status == 402 and answer["error"]["code"] == "call_cap_exceeded" and answer["error"]["message"]


def test_a_cap_holds_from_the_next_call_on_is_listed_and_taken_away(priced):
    key = account(priced, "own-caps", "100")
    assert get(priced, "/v1/caps", key) == {"object": "list", "data": []}
    assert priced.post(BODY, key)[0] == 200
    status, _, made = put(priced, key, "cr-alias", 0.05)
    assert (status, made["model"], made["credits"], made["effective"]) == (
        200,
        "cr",
        Decimal("0.05"),
        Decimal("0.05"),
    )
    assert "by its own cap for 'cr'" in refused(priced, key)
    assert get(priced, "/v1/caps", key)["data"] == [
        {"object": "cap", "model": "cr", "credits": Decimal("0.05"), "set_by": "key"}
    ]
    assert get(priced, "/v1/key", key)["own_caps"] == {"cr": Decimal("0.05")}
    # A cap of its own goes before that of every model.
    assert put(priced, key, "%2A", 0.01)[0] == 200
    assert put(priced, key, "cr", 50)[2]["effective"] == 50
    assert priced.post(BODY, key)[0] == 200
    assert drop(priced, key, "cr")[2] == {
        "object": "cap", "model": "cr", "credits": None, "set_by": "key", "effective": Decimal("0.01"),
    }  # fmt: skip
    assert "its own cap for every call" in refused(priced, key)
    assert drop(priced, key, "*")[2]["effective"] is None
    assert priced.post(BODY, key)[0] == 200
    assert drop(priced, key, "*")[0] == 404


@pytest.mark.parametrize("name", ["vendor/deep", "vendor%2Fdeep"])
def test_a_models_name_may_have_a_slash(priced, name):
    key = account(priced, f"slash-{len(name)}", "100")
    assert put(priced, key, name, 0.05)[2]["model"] == "vendor/deep"
    assert priced.post(chat("vendor/deep", max_tokens=50), key)[0] == 402
    assert drop(priced, key, name)[0] == 200
    assert priced.post(chat("vendor/deep", max_tokens=50), key)[0] == 200


@pytest.mark.parametrize("model", ["cr", "*"])
@pytest.mark.parametrize("own", ["cr", "*"])
def test_the_operators_cap_counts_whatever_the_holder_sets(priced, model, own):
    name = f"strict-{'a' if model == '*' else 'm'}{'a' if own == '*' else 'm'}"
    key = account(priced, name, "100")
    priced.cli("key", "cap", name, model, "0.05", "--account", name)
    status, _, made = put(priced, key, own, 50)
    assert (status, made["credits"]) == (200, 50)
    if model == own or model == "*":
        assert made["effective"] == Decimal("0.05")
    wait_for(lambda: refused(priced, key))
    assert "by its cap for" in refused(priced, key)
    status, _, answer = drop(priced, key, "vendor/deep" if own == model else model)
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (404, "gateway_error", "not_found")
    assert drop(priced, key, own)[0] == 200
    assert refused(priced, key)


def test_a_key_touches_no_other_keys_caps_and_the_operator_may_clear_them(priced):
    key = account(priced, "caps-mine", "100")
    other = priced.new_key("caps-other", "--account", "caps-mine")
    assert put(priced, key, "cr", 0.05)[0] == 200
    assert get(priced, "/v1/caps", other)["data"] == []
    assert priced.post(BODY, other)[0] == 200
    renewed = priced.cli("key", "rotate", "caps-mine", "--account", "caps-mine")["key"]
    assert refused(priced, renewed)
    shown = priced.cli("key", "show", "caps-mine", "--account", "caps-mine")
    assert (shown["caps"], shown["own_caps"]) == ({}, {"cr": 0.05})
    found = priced.cli("key", "cap", "caps-mine", "cr", "none", "--own", "--account", "caps-mine")
    assert found["own_caps"] == {}
    wait_for(lambda: priced.post(BODY, renewed)[0] == 200)


@pytest.mark.parametrize(
    ("model", "body", "status", "code"),
    [
        ("cr", {}, 400, "missing_field"),
        ("cr", {"credits": None}, 400, "missing_field"),
        ("cr", {"credits": -1}, 400, "invalid_value"),
        ("cr", {"credits": True}, 400, "invalid_value"),
        ("cr", {"credits": "much"}, 400, "invalid_value"),
        ("cr", {"credits": 0.00000001}, 400, "invalid_value"),
        ("cr", {"credits": 10**13}, 400, "invalid_value"),
        ("cr", [1], 400, "invalid_json"),
        ("nonesuch", {"credits": 1}, 404, "model_not_found"),
        ("sandbox-chat", {"credits": 1}, 403, "model_not_allowed"),
    ],
)
def test_impossible_caps_are_refused_in_the_gateways_envelope(priced, model, body, status, code):
    key = limited_key(priced)
    found, _, answer = sent(priced, "PUT", f"/v1/caps/{model}", body, key)
    assert (found, answer["error"]["type"], answer["error"]["code"]) == (status, "gateway_error", code), (
        answer
    )
    assert get(priced, "/v1/caps", key)["data"] == []


_made = {}


def limited_key(priced):
    if "key" not in _made:
        _made["key"] = account(priced, "caps-limited", "100", "--model", "cr*")
    return _made["key"]


def test_without_a_key_there_are_no_caps(priced):
    for method, path, body in (
        ("GET", "/v1/caps", None),
        ("PUT", "/v1/caps/cr", ASKED),
        ("DELETE", "/v1/caps/cr", None),
    ):
        assert sent(priced, method, path, body, key="")[0] == 401
    key = account(priced, "caps-gone", "1")
    priced.cli("key", "disable", "caps-gone", "--account", "caps-gone")
    wait_for(lambda: sent(priced, "PUT", "/v1/caps/cr", ASKED, key)[0] == 403)


def test_a_change_takes_a_request_of_the_keys_rate(priced):
    key = account(priced, "caps-rated", "1", "--rpm", "2")
    statuses = [put(priced, key, "cr", 1)[0] for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_refusals_hide_amounts_where_they_shall(tmp_path, upstream):
    """Every refusal for lack of credits names whose limit it was, without a single amount."""
    with running(tmp_path / "data", TOLLWAY_SHOW_AMOUNTS="false") as gateway:
        gateway.cli(
            "channel", "add", "--name", "c", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1", *PRICE,
            "--model", "cr=sandbox-tokens-50",
        )  # fmt: skip
        gateway.cli("project", "create", "website")
        gateway.cli("project", "budget", "website", "0.001", "--period", "monthly")
        poor = account(gateway, "poor", "0.001")
        keys = {
            "insufficient_credits": poor,
            "key_budget_exceeded": gateway.new_key(
                "budgeted", "--budget", "0.001", "--budget-period", "daily"
            ),
            "project_budget_exceeded": gateway.new_key("web", "--project", "website"),
            "call_cap_exceeded": gateway.new_key("capped"),
        }
        put(gateway, keys["call_cap_exceeded"], "cr", 0.001)
        for code, key in keys.items():
            for path, body in (
                ("/v1/chat/completions", BODY),
                ("/v1/messages", {"model": "cr", "max_tokens": 50, "messages": BODY["messages"]}),
            ):
                status, _, answer = gateway.post(body, key, path)
                error = answer["error"]
                said = error["message"].replace("max_tokens", "")
                assert status == 402, answer
                assert "limit" not in error
                words, _, reset = said.partition(", wait for its reset at ")
                assert not any(mark.isdigit() for mark in words.replace("'cr'", "")), said
                assert bool(reset) is code.endswith("budget_exceeded"), said
                assert code == "insufficient_credits" or "not the problem" in said
        # What the request itself said is no secret.
        _, _, answer = gateway.post({**BODY, "max_credits": 0.05}, gateway.key)
        assert answer["error"]["limit"]["max"] == 50_000
