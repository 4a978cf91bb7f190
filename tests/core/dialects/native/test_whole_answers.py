"""Native relays over whole answers: what is read, what is changed, what is no answer."""

from __future__ import annotations

import json

import pytest
from tests.core.dialects.native.relays import (
    ESTIMATED,
    NAME,
    NATIVES,
    RECEIPT,
    told,
    translated_whole,
    whole_of,
)
from tests.core.dialects.native.test_golden_streams import CASES
from tests.support.dialects import NAMES, REPLY, golden

from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import Failed
from tollway.core.relay import BadAnswer, Fed

USAGE = {"anthropic": "usage", "openai_responses": "usage", "gemini": "usageMetadata"}
MODEL = {"anthropic": "model", "openai_responses": "model", "gemini": "modelVersion"}


def ended(relay, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert relay.feed(raw[: len(raw) // 2]) == Fed(b"", [])
    relay.feed(raw[len(raw) // 2 :])
    fed = relay.end()
    assert fed.out == b""
    return fed.events


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_only_the_model_the_id_and_the_price_change(dialect, case):
    body = golden(dialect, case)["response"]
    relay = whole_of(dialect)
    ended(relay, body)
    found = json.loads(relay.close(RECEIPT))
    expected = {**body, MODEL[dialect]: NAME}
    expected[USAGE[dialect]] = {**body[USAGE[dialect]], "cost": RECEIPT.cost}
    if dialect == "openai_responses":
        expected["id"] = f"resp_{REPLY.token}"
    assert found == expected
    assert list(found) == list(body)
    assert relay.answer == found


@pytest.mark.parametrize(("dialect", "case"), CASES)
def test_the_events_say_what_the_translating_relay_says(dialect, case):
    body = golden(dialect, case)["response"]
    ours, other = ended(whole_of(dialect), body), ended(translated_whole(dialect), body)
    assert [type(one) for one in ours] == [type(one) for one in other]
    assert told(ours)["size"] == told(other)["size"]
    assert told(ours)["usage"] == told(other)["usage"]
    assert told(ours)["finish"][0][:2] == told(other)["finish"][0][:2]
    assert ours[0] == other[0]


@pytest.mark.parametrize("dialect", NATIVES)
def test_missing_usage_is_estimated_and_says_so(dialect):
    body = golden(dialect, "plain")["response"]
    del body[USAGE[dialect]]
    relay, other = whole_of(dialect), translated_whole(dialect)
    assert told(ended(relay, body))["usage"] is None
    ended(other, body)
    usage = json.loads(relay.close(ESTIMATED))[USAGE[dialect]]
    assert usage == json.loads(other.close(ESTIMATED))[USAGE[dialect]]
    assert (usage["cost"], usage["estimated"]) == (ESTIMATED.cost, True)


@pytest.mark.parametrize("dialect", NATIVES)
def test_an_error_with_status_200_is_a_failure(dialect):
    relay = whole_of(dialect)
    events = ended(relay, golden(dialect, "error_first")["error"]["body"])
    assert [type(one) for one in events] == [Failed]
    assert events[0].kind == "overloaded"
    failed = json.loads(relay.fail(GatewayError("upstream_error", "Ours."), "req_1"))
    assert DIALECTS[dialect].read_error(502, failed).message == "Ours."
    assert relay.keep_alive() == b""


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b"\xff", b"{" * 2_000, b"null"])
def test_what_is_no_answer_is_a_bad_answer(dialect, body):
    with pytest.raises(BadAnswer):
        ended(whole_of(dialect), body)


@pytest.mark.parametrize("dialect", NATIVES)
@pytest.mark.parametrize("other", NAMES)
def test_an_answer_of_another_dialect_is_a_bad_answer(dialect, other):
    if other != dialect:
        with pytest.raises(BadAnswer):
            ended(whole_of(dialect), golden(other, "plain")["response"])


@pytest.mark.parametrize("dialect", NATIVES)
def test_a_body_cut_anywhere_is_a_bad_answer(dialect):
    raw = json.dumps(golden(dialect, "tools")["response"]).encode()
    for cut in range(len(raw)):
        with pytest.raises(BadAnswer):
            ended(whole_of(dialect), raw[:cut])


@pytest.mark.parametrize("dialect", NATIVES)
def test_another_gateways_price_is_not_shown(dialect):
    body = golden(dialect, "plain")["response"]
    member = "costDetails" if dialect == "gemini" else "cost_details"
    body[USAGE[dialect]] |= {"cost": 77.7, member: {"upstream": 77.7}}
    relay = whole_of(dialect)
    ended(relay, body)
    usage = json.loads(relay.close(RECEIPT))[USAGE[dialect]]
    assert usage["cost"] == RECEIPT.cost
    assert member not in usage
