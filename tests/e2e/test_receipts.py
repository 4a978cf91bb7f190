"""Receipts from outside: every answer's cost can be recomputed, at once, by its owner and by nobody else."""

import json
import urllib.request
from decimal import Decimal

import pytest
from tests.support.gateway import fetch

ROOTS = ("/v1", "/api/v1", "/openai/v1")


def exact_get(gateway, path, key=None):
    """GET with amounts as decimals, to see every digit that was sent."""
    request = urllib.request.Request(
        gateway.url + path, headers={"Authorization": f"Bearer {key or gateway.key}"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read(), parse_float=Decimal)


def recomputed(bill):
    """The bill done again from what it shows: products, sum, discount, one rounding up."""
    total = sum(
        Decimal(line["quantity"]) * Decimal(line["price"]) / Decimal(line["per"]) for line in bill["lines"]
    )
    less = total * (100 - Decimal(bill["discount_percent"])) / 100
    return less.quantize(Decimal("0.000001"), rounding="ROUND_CEILING")


@pytest.mark.parametrize("root", ROOTS)
def test_a_receipt_is_there_with_the_answer_and_recomputes_to_its_cost(gateway, root):
    status, headers, body = gateway.chat("sandbox-chat", max_tokens=100)
    assert status == 200
    found = exact_get(gateway, f"{root}/generations/{headers['x-request-id']}")
    assert found["usage"]["cost"] == found["charged"] == Decimal(str(body["usage"]["cost"])) > 0
    assert recomputed(found["bill"]) == found["charged"]
    assert found["bill"]["proved"]
    assert f"charged {found['charged']} credits" in found["bill"]["proof"]
    assert found["usage"]["input_tokens"] == body["usage"]["prompt_tokens"]
    assert found["usage"]["output_tokens"] == body["usage"]["completion_tokens"]
    assert found["held"] >= found["charged"]
    assert (found["absorbed"], found["refunded"], found["net"]) == (0, 0, found["charged"])
    hold = found["holds"][0]
    assert hold["state"] == "settled"
    assert hold["settled"] + hold["released"] == hold["amount"] == found["held"]
    assert [(entry["id"], entry["credits"]) for entry in found["entries"]] == [
        (f"s:{found['id']}", found["charged"])
    ]
    assert [(one["n"], one["status"], one["error"]) for one in found["attempts"]] == [(1, 200, None)]
    times = found["timings"]
    assert times["created_at"] <= times["first_token_at"] <= times["finished_at"]
    assert times["total_ms"] == times["finished_at"] - times["created_at"]


def test_a_streams_last_usage_is_its_receipts_charge(gateway):
    _, headers, body = gateway.chat("sandbox-chat", stream=True, stream_options={"include_usage": True})
    chunks = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line.startswith("data: {")]
    found = exact_get(gateway, f"/v1/generations/{headers['x-request-id']}")
    assert found["stream"] is True
    assert Decimal(str(chunks[-1]["usage"]["cost"])) == found["charged"] > 0


def test_the_form_of_openrouter(gateway):
    _, headers, body = gateway.chat("sandbox-chat")
    found = exact_get(gateway, f"/v1/generation?id={headers['x-request-id']}")["data"]
    assert found["total_cost"] == Decimal(str(body["usage"]["cost"]))
    assert (found["tokens_prompt"], found["native_tokens_completion"]) == (
        body["usage"]["prompt_tokens"],
        body["usage"]["completion_tokens"],
    )
    assert found["streamed"] is False
    status, _, error = gateway.get("/v1/generation")
    assert (status, error["error"]["code"]) == (400, "missing_field")


def test_a_refund_and_a_discount_show_on_the_receipt(gateway):
    key = gateway.new_key("refunded")
    _, headers, _ = gateway.chat("sandbox-chat", key=key)
    call = headers["x-request-id"]
    charged = exact_get(gateway, f"/v1/generations/{call}", key)["charged"]
    gateway.cli("credits", "refund", call, "--amount", "0.000001", "--note", "sorry")
    gateway.cli("credits", "refund", call)
    found = exact_get(gateway, f"/v1/generations/{call}", key)
    assert (found["charged"], found["refunded"], found["net"]) == (charged, charged, 0)
    assert [entry["kind"] for entry in found["entries"]] == ["settle", "refund", "refund"]
    assert found["entries"][1]["note"] == "sorry"
    assert sum(entry["credits"] for entry in found["entries"][1:]) == charged


def test_a_failed_call_has_a_receipt_that_says_it_was_free(gateway):
    status, headers, _ = gateway.chat("up-500")
    assert status == 502
    found = exact_get(gateway, f"/v1/generations/{headers['x-request-id']}")
    assert (found["outcome"], found["charged"], found["bill"], found["entries"]) == ("failed", 0, None, [])
    assert found["holds"][0]["state"] == "released"
    assert found["attempts"][0]["status"] == 500


def test_a_receipt_hides_the_operators_side(gateway, upstream):
    _, headers, _ = gateway.chat("up-chat")
    raw = json.dumps(gateway.get(f"/v1/generations/{headers['x-request-id']}")[2])
    for secret in (str(upstream.port), "sk-upstream", '"channel"', '"cost": null', "chn_"):
        assert secret not in raw


def test_others_calls_and_nonsense_look_the_same(gateway):
    """Another account's call, another project's call, one that never was, and no id at all: one answer."""
    gateway.cli("account", "create", "stranger")
    gateway.cli("project", "create", "another-shop")
    others = [
        gateway.new_key("stranger", "--account", "stranger"),
        gateway.new_key("another-shop", "--project", "another-shop"),
    ]
    _, headers, _ = gateway.chat("sandbox-chat")
    real = headers["x-request-id"]
    shapes = set()
    for key in others:
        for wanted in (real, "req_" + "0" * 31, "x", "a%20OR%201=1", "a" * 300):
            status, _, body = gateway.get(f"/v1/generations/{wanted}", key)
            error = body["error"]
            assert status == 404
            shapes.add((error["type"], error["code"], error["message"].partition("'")[0]))
    assert len(shapes) == 1
    assert gateway.get(f"/v1/generations/{real}")[0] == 200
    bare = urllib.request.Request(f"{gateway.url}/v1/generations/{real}")
    assert fetch(bare)[0] == 401


def test_the_operator_sees_channels_costs_and_the_proof(gateway):
    _, headers, _ = gateway.chat("up-chat")
    found = gateway.cli("explain", headers["x-request-id"])
    assert found["receipt"]["attempts"][0]["channel"] == "up"
    assert found["receipt"]["bill"]["proved"]
    assert (found["key"], found["project"], found["account"]) == ("first", "default", "main")
    assert "charged" in found["story"]
    assert gateway.cli("explain", "req_nothing", ok=False) == 3
