"""Money as the holder of a key sees it: balances, ledger pages, the key, estimates and caps."""

import asyncio
import json
import urllib.request
from decimal import Decimal

import pytest
from tests.support.gateway import fetch, running, wait_for

from tollway.flows.admit import STRANGER_RPM

PRICE = ("--input-price", "1000", "--output-price", "10000")


def sent(gateway, method, path, body=None, key=None, **headers):
    """A request with amounts as decimals; `key` "" sends none."""
    bearer = {} if key == "" else {"Authorization": f"Bearer {key or gateway.key}"}
    request = urllib.request.Request(
        gateway.url + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={**bearer, "Content-Type": "application/json", **headers},
    )
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, json.loads(answer.read(), parse_float=Decimal)


def get(gateway, path, key=None):
    status, _, body = sent(gateway, "GET", path, key=key)
    assert status == 200, body
    return body


def estimate(gateway, body, key="", **headers):
    return sent(gateway, "POST", "/v1/credits/estimate", body, key, **headers)


def account(gateway, name, credits_, *options):
    gateway.cli("account", "create", name)
    gateway.cli("credits", "grant", credits_, "--account", name)
    return gateway.new_key(name, "--account", name, *options)


@pytest.fixture(scope="module")
def priced(gateway, upstream):
    words = [
        word for model in ("cr=sandbox-tokens-50", "cr-long=sandbox-long") for word in ("--model", model)
    ]
    gateway.cli(
        "channel", "add", "--name", "credits", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1", *PRICE, *words,
    )  # fmt: skip
    return gateway


def chat(model="cr", **more):
    return {"model": model, "messages": [{"role": "user", "content": "go"}], **more}


# -- balance, ledger, key ------------------------------------------------------------------------


def test_the_balance_is_exact(priced):
    key = account(priced, "exact", "10.000001")
    spent = Decimal(str(priced.chat("cr", "go", key=key, max_tokens=50)[2]["usage"]["cost"]))
    found = get(priced, "/v1/credits", key)
    assert found["balance"] == found["available"] == Decimal("10.000001") - spent
    assert (found["credited"], found["debited"], found["held"]) == (Decimal("10.000001"), spent, 0)
    assert (found["low"], found["low_below"], found["overdraft"]) == (False, None, 0)
    assert found["data"] == {"total_credits": Decimal("10.000001"), "total_usage": spent}
    assert (found["currency"], found["credits_per_usd"]) == ("credits", 1000)


def test_ledger_pages_join_without_gaps_and_their_balances_add_up(priced):
    key = account(priced, "paged", "5")
    for _ in range(4):
        priced.chat("cr", "go", key=key, max_tokens=50)
    priced.cli("credits", "grant", "1", "--account", "paged", "--note", "more")
    whole = get(priced, "/v1/credits/ledger?limit=100", key)
    entries = whole["data"]
    assert [entry["kind"] for entry in entries] == ["grant", *["settle"] * 4, "grant"]
    assert (whole["has_more"], whole["next"]) == (False, None)
    balance = get(priced, "/v1/credits", key)["balance"]
    for entry in entries:
        assert entry["balance_after"] == balance
        balance -= entry["credits"]
    assert balance == 0
    for size in (1, 2, 3, 5):
        paged, before = [], ""
        while True:
            page = get(priced, f"/v1/credits/ledger?limit={size}{before}", key)
            paged += page["data"]
            if not page["has_more"]:
                break
            before = f"&before={page['next']}"
        assert paged == entries
    # A position alone is enough.
    assert get(priced, f"/v1/credits/ledger?before={entries[1]['seq']}", key)["data"] == entries[2:]


def test_ledger_filters(priced):
    key = account(priced, "filtered", "5")
    for _ in range(3):
        priced.chat("cr", "go", key=key, max_tokens=50)
    entries = get(priced, "/v1/credits/ledger", key)["data"]
    only = get(priced, "/v1/credits/ledger?kind=grant", key)["data"]
    assert [entry["id"] for entry in only] == [entries[-1]["id"]]
    assert only[0]["balance_after"] is None
    assert len(get(priced, "/v1/credits/ledger?kind=grant,settle", key)["data"]) == 4
    middle = entries[1]["at"]
    assert [one["id"] for one in get(priced, f"/v1/credits/ledger?since={middle}", key)["data"]] == [
        one["id"] for one in entries if one["at"] >= middle
    ]
    # Balances stay true behind a filter of time.
    assert get(priced, f"/v1/credits/ledger?until={entries[0]['at']}", key)["data"] == [
        one for one in entries if one["at"] < entries[0]["at"]
    ]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=1e9", "limit=1001", "before=x", "before=1.", "before=" + "9" * 30,
     "kind=nothing", "kind=budget", "since=-1", "until=now", "since=99999999999999999"],
)  # fmt: skip
def test_impossible_pages_are_refused(gateway, query):
    status, _, body = sent(gateway, "GET", f"/v1/credits/ledger?{query}")
    assert (status, body["error"]["code"]) == (400, "invalid_value")
    assert body["error"]["type"] == "gateway_error"


def test_an_account_sees_its_own_ledger_only(priced):
    mine, others = account(priced, "mine", "1"), account(priced, "others", "2")
    assert [one["credits"] for one in get(priced, "/v1/credits/ledger", mine)["data"]] == [1]
    assert [one["credits"] for one in get(priced, "/v1/credits/ledger", others)["data"]] == [2]


def test_a_key_knows_its_limits_budget_and_use(priced):
    key = account(
        priced, "known", "100", "--budget", "2", "--budget-period", "monthly", "--rpm", "60", "--model", "cr*"
    )
    before = get(priced, "/v1/key", key)
    assert (before["usage"]["calls"], before["usage"]["spent"], before["usage"]["last_used_at"]) == (
        0,
        0,
        None,
    )
    assert (before["budget"]["used"], before["budget"]["remaining"]) == (0, 2)
    costs = [
        Decimal(str(priced.chat("cr", "go", key=key, max_tokens=50)[2]["usage"]["cost"])) for _ in range(2)
    ]
    found = get(priced, "/v1/key", key)
    spent = sum(costs)
    assert (found["usage"]["calls"], found["usage"]["spent"], found["usage"]["spent_today"]) == (
        2,
        spent,
        spent,
    )
    assert found["budget"]["used"] == spent
    assert found["budget"]["remaining"] == 2 - spent
    assert found["budget"]["resets_at"] > 0
    assert (found["models"], found["limits"]["requests_per_minute"], found["status"]) == (
        ["cr*"],
        60,
        "active",
    )
    data = found["data"]
    assert (data["limit"], data["limit_remaining"], data["usage"]) == (2, 2 - spent, spent)
    assert key not in json.dumps(found, default=str)


# -- estimates -----------------------------------------------------------------------------------


def test_anybody_may_ask_for_the_public_price(priced):
    status, _, found = estimate(priced, chat(max_tokens=50))
    assert (status, found["verdict"], found["bounded"]) == (200, None, True)
    assert found["output_tokens"] == 50
    assert found["credits"] == sum(line["credits"] for line in found["lines"])
    assert found["credits"] == found["usd"] * 1000
    assert estimate(priced, {"model": "nothing-of-the-kind", "input_tokens": 1})[0] == 404
    assert estimate(priced, chat(), key="sk-tw-wrong")[0] == 401


def test_strangers_may_ask_so_often_and_holders_of_keys_as_before(tmp_path):
    """What anybody may have computed for nothing must not keep the gateway from its calls."""
    body = {"model": "sandbox-chat", "input_tokens": 5}
    with running(tmp_path / "data") as found:
        asked = [estimate(found, body)[0] for _ in range(STRANGER_RPM)]
        assert set(asked) == {200}
        status, headers, refused = estimate(found, body)
        assert (status, refused["error"]["code"]) == (429, "rate_limited")
        assert 0 < int(headers["retry-after"]) <= 60
        assert estimate(found, body, found.key)[0] == 200


def test_an_estimate_bounds_the_hold_and_the_charge(priced):
    key = account(priced, "bounding", "1000")
    for body in (chat(max_tokens=50), chat(max_tokens=50, n=2), chat("cr-long")):
        bound = estimate(priced, body, key)[2]["credits"]
        _, headers, _ = priced.post(body, key)
        receipt = get(priced, f"/v1/generations/{headers['x-request-id']}", key)
        assert receipt["charged"] <= receipt["held"] == bound


def test_counts_cost_exactly_what_they_say(priced):
    counts = {"model": "cr", "input_tokens": 1_234_567, "output_tokens": 89}
    found = estimate(priced, counts)[2]
    assert found["credits"] == Decimal("1235.457")
    assert [(line["meter"], line["credits"]) for line in found["lines"]] == [
        ("input", Decimal("1234.567")),
        ("output", Decimal("0.89")),
    ]
    meters = estimate(priced, {"model": "cr", "meters": {"input": 1_234_567, "output": 89}})[2]
    assert meters["credits"] == found["credits"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "cr", "input": "go", "max_output_tokens": 50},
        {"model": "cr", "contents": [{"parts": [{"text": "go"}]}], "generationConfig": {"maxOutputTokens": 50}},
        {"model": "cr", "system": "be brief", "max_tokens": 50, "messages": [{"role": "user", "content": "go"}]},
        {"model": "cr", "dialect": "messages", "max_tokens": 50, "messages": [{"role": "user", "content": "go"}]},
        {"model": "cr", "prompt": "go", "max_tokens": 50},
    ],
)  # fmt: skip
def test_bodies_of_every_dialect_are_understood(priced, body):
    status, _, found = estimate(priced, body)
    assert (status, found["output_tokens"]) == (200, 50), found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "cr"},
        {"model": "cr", "input_tokens": -1},
        {"model": "cr", "input_tokens": 1.5},
        {"model": "cr", "input_tokens": 10**30},
        {"model": "cr", "meters": {}},
        {"model": "cr", "meters": {"nothing": 1}},
        {"model": "cr", "meters": {"input@5": 1}},
        {"model": "cr", "songs": 1},
        {"model": 5, "input_tokens": 1},
        {"model": "cr", "dialect": "klingon", "messages": []},
        {"model": "cr", "messages": "no"},
    ],
)
def test_nonsense_has_no_price(priced, body):
    status, _, found = estimate(priced, body)
    assert status == 400, found
    assert found["error"]["type"] == "gateway_error"


def test_a_large_body_needs_a_key(priced):
    big = chat(max_tokens=50, user="x" * 300_000)
    assert estimate(priced, big)[0] == 413
    assert estimate(priced, big, priced.key)[0] == 200


def test_the_verdict_is_what_happens(priced):
    """For each key: what the estimate foretells, and what the call then gets."""
    cases = {
        "rich": (account(priced, "v-rich", "100"), {}, None),
        "poor": (account(priced, "v-poor", "0.1"), {}, "insufficient_credits"),
        "budget": (account(priced, "v-budget", "100", "--budget", "0.1"), {}, "key_budget_exceeded"),
        "both": (account(priced, "v-both", "0.1", "--budget", "0.05"), {}, "insufficient_credits"),
        "wish": (account(priced, "v-wish", "100"), {"max_credits": 0.1}, "call_cap_exceeded"),
    }
    for name, (key, more, code) in cases.items():
        body = chat(max_tokens=50, **more)
        verdict = estimate(priced, body, key)[2]["verdict"]
        assert (verdict["allowed"], verdict["code"]) == (code is None, code), name
        status, _, answer = priced.post(body, key)
        assert status == (200 if code is None else 402)
        if code is not None:
            assert answer["error"]["code"] == code


# -- caps ----------------------------------------------------------------------------------------


def test_max_credits_refuses_before_anything_happens_and_is_not_sent_upstream(priced, upstream):
    key = account(priced, "capped", "100")
    before = upstream.stats()["requests"]
    for body, headers in (
        (chat(max_tokens=50, max_credits=0.05), {}),
        (chat(max_tokens=50), {"x-tollway-max-credits": "0.05"}),
    ):
        status, _, answer = sent(priced, "POST", "/v1/chat/completions", body, key, **headers)
        error = answer["error"]
        assert (status, error["code"], error["limit"]["name"]) == (402, "call_cap_exceeded", "per_call")
        assert error["limit"]["max"] == 50_000
        assert "max_credits" in error["message"] or "max-credits" in error["message"]
    assert upstream.stats()["requests"] == before
    assert get(priced, "/v1/credits", key)["debited"] == 0
    assert priced.post(chat(max_tokens=50, max_credits=50), key)[0] == 200


CAPPED = {
    "/v1/messages": {"max_tokens": 50, "messages": [{"role": "user", "content": "go"}]},
    "/v1/responses": {"max_output_tokens": 50, "input": "go"},
    "/v1beta/models/cr:generateContent": {
        "contents": [{"parts": [{"text": "go"}]}], "generationConfig": {"maxOutputTokens": 50},
    },
    "/v1/completions": {"max_tokens": 50, "prompt": "go"},
}  # fmt: skip


@pytest.mark.parametrize("path", CAPPED)
def test_every_dialect_takes_max_credits(priced, path):
    body = {"model": "cr", **CAPPED[path]}
    status, _, answer = sent(priced, "POST", path, {**body, "max_credits": 0.05})
    # What Responses clients take for the end of their credits is a 429.
    assert status == (429 if "responses" in path else 402), answer
    status, _, answer = sent(priced, "POST", path, {**body, "max_credits": 50})
    assert status == 200, answer


@pytest.mark.parametrize("value", [-1, "a", True, {}, 0.00000001, 10**12])
def test_impossible_caps_are_refused(priced, value):
    status, _, answer = priced.post(chat(max_credits=value))
    assert (status, answer["error"]["code"]) == (400, "invalid_value")
    status, _, answer = sent(
        priced, "POST", "/v1/chat/completions", chat(), None, **{"x-tollway-max-credits": "0.00000001"}
    )
    assert (status, answer["error"]["code"]) == (400, "invalid_value")


def test_an_open_answer_is_clamped_to_the_cap_and_said(priced):
    status, headers, body = priced.post(chat("cr-long", max_credits=0.5))
    assert status == 200
    clamp = int(headers["x-tollway-max-tokens"])
    assert 16 <= clamp < 50
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["cost"] <= 0.5


def test_a_keys_caps_hold_for_its_model_and_survive_rotation(priced):
    key = account(priced, "caps", "100")
    body = chat(max_tokens=50)
    priced.cli("key", "cap", "caps", "cr", "0.05", "--account", "caps")
    wait_for(lambda: priced.post(body, key)[0] == 402)
    status, _, answer = priced.post(body, key)
    error = answer["error"]
    assert (error["code"], error["scope"]) == ("call_cap_exceeded", "key")
    assert "cap for 'cr'" in error["message"] and "'caps'" in error["message"]
    assert priced.post(chat("cr-long", max_tokens=50), key)[0] == 200
    assert get(priced, "/v1/key", key)["caps"] == {"cr": Decimal("0.05")}
    renewed = priced.cli("key", "rotate", "caps", "--account", "caps")["key"]
    assert priced.post(body, renewed)[0] == 402
    priced.cli("key", "cap", "caps", "cr", "none", "--account", "caps")
    wait_for(lambda: priced.post(body, renewed)[0] == 200)
    priced.cli("key", "cap", "caps", "*", "0.05", "--account", "caps")
    wait_for(lambda: priced.post(chat("cr-long", max_tokens=50), renewed)[0] == 402)
    priced.cli("key", "cap", "caps", "cr-long", "50", "--account", "caps")
    wait_for(lambda: priced.post(chat("cr-long", max_tokens=50), renewed)[0] == 200)


def test_without_a_key_only_the_estimate_answers(gateway):
    for path in ("/v1/credits", "/v1/credits/ledger", "/v1/key"):
        assert fetch(urllib.request.Request(gateway.url + path))[0] == 401


# -- codes, overdraft, low balance ---------------------------------------------------------------


async def test_64_at_once_redeem_a_code_once(priced):
    key = account(priced, "redeemer", "1")
    code = priced.cli("code", "create", "25", "--count", "1", "--credit-days", "30")["codes"][0]

    async def one():
        return await asyncio.to_thread(sent, priced, "POST", "/v1/credits/redeem", {"code": code}, key)

    found = await asyncio.gather(*(one() for _ in range(64)))
    statuses = [status for status, _, _ in found]
    assert (statuses.count(200), statuses.count(409)) == (1, 63)
    codes = {body["error"]["code"] for status, _, body in found if status == 409}
    assert codes == {"code_redeemed"}
    balance = get(priced, "/v1/credits", key)
    assert balance["available"] == 26
    assert [one["credits"] for one in balance["expiring"]] == [25]
    other = account(priced, "redeemer2", "1")
    status, _, body = sent(priced, "POST", "/v1/credits/redeem", {"code": code}, other)
    assert (status, body["error"]["code"]) == (404, "not_found")
    for nonsense in ({}, {"code": 5}, {"code": ""}, {"code": "x" * 500}):
        assert sent(priced, "POST", "/v1/credits/redeem", nonsense, other)[0] == 400


def test_an_overdraft_is_spent_only_where_it_is_set(priced):
    key = account(priced, "overdrawn", "0.1")
    body = chat(max_tokens=50)
    status, _, answer = priced.post(body, key)
    assert (status, answer["error"]["code"]) == (402, "insufficient_credits")
    priced.cli("credits", "overdraft", "5", "--account", "overdrawn")
    assert priced.post(body, key)[0] == 200
    found = get(priced, "/v1/credits", key)
    assert found["balance"] < 0
    assert found["available"] == found["balance"] + 5
    assert priced.cli("credits", "overdraft", "0", "--account", "overdrawn", ok=False) == 5


def test_a_low_balance_is_said(priced):
    key = account(priced, "lowly", "1")
    priced.cli("credits", "alert", "2", "--account", "lowly")
    found = get(priced, "/v1/credits", key)
    assert (found["low"], found["low_below"]) == (True, 2)
    priced.cli("credits", "grant", "2", "--account", "lowly")
    assert get(priced, "/v1/credits", key)["low"] is False


# -- budgets of projects -------------------------------------------------------------------------


def test_a_projects_budget_bounds_all_of_its_keys_together(priced):
    priced.cli("project", "create", "shared")
    keys = [
        priced.new_key(f"shared{n}", "--project", "shared", *more)
        for n, more in enumerate(((), ("--budget", "50")))
    ]
    body = chat(max_tokens=50)
    bound = estimate(priced, body, keys[0])[2]["credits"]
    priced.cli("project", "budget", "shared", str(bound * 2), "--period", "monthly")
    statuses = [priced.post(body, keys[turn % 2])[0] for turn in range(8)]
    assert statuses[:2] == [200, 200]
    assert statuses[-1] == 402
    status, _, answer = priced.post(body, keys[1])
    error = answer["error"]
    assert (status, error["code"], error["scope"]) == (402, "project_budget_exceeded", "project")
    assert "'shared'" in error["message"] and "not the problem" in error["message"]
    found = get(priced, "/v1/key", keys[1])["project_budget"]
    assert (found["limit"], found["period"]) == (bound * 2, "monthly")
    assert found["remaining"] == found["limit"] - found["used"] < bound
    verdict = estimate(priced, body, keys[0])[2]["verdict"]
    assert (verdict["allowed"], verdict["code"]) == (False, "project_budget_exceeded")
    # A limit that is raised and lowered again is the lower one.
    for amount, expected in (("100", 200), (str(bound * 2), 402), ("none", 200)):
        priced.cli("project", "budget", "shared", amount, "--period", "monthly")
        assert priced.post(body, keys[0])[0] == expected
