"""Channels, models and credits on a real database: what they return, refuse and leave in the audit log."""

import base64
import json
from decimal import Decimal

import msgspec
import pytest
from tests.support.admin import Clock, do, instance, ready, refused

from tollway.flows.admin import wire
from tollway.flows.admin.probes import Check, ProbeResult
from tollway.store import audit, channels, keys
from tollway.store.base import CallRecord, HoldRequest, Settlement

CANARY = "sk-upstream-canary-0123456789"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


async def actions(admin):
    return [(row.action, row.actor, row.source) for row in await admin.read(audit.page)]


# -- channels ----------------------------------------------------------------------------------


async def test_a_channel_brings_its_models_with_a_price_that_is_named_provisional(admin):
    made = await do(
        admin,
        "channel.add",
        name="up",
        base_url="https://api.example.com/v1/",
        secret=f" {CANARY}\n",
        models=["gpt-5=gpt-5-2026", "llama", "sandbox-chat=llama"],
        groups=["default", "gold"],
        priority=-1,
        weight=3,
        options={"first_byte_timeout": 5},
    )
    assert made["channel"]["base_url"] == "https://api.example.com/v1"
    assert made["channel"]["secret"] == "…6789"
    assert made["channel"]["models"] == {"gpt-5": "gpt-5-2026", "llama": "llama", "sandbox-chat": "llama"}
    assert [(one["name"], one["created"], one["price"]["provisional"]) for one in made["models"]] == [
        ("gpt-5", True, True),
        ("llama", True, True),
        ("sandbox-chat", False, False),
    ]
    assert made["models"][0]["price"]["rates"] == {"input": 3000, "output": 15000}
    shown = await do(admin, "model.show", name="gpt-5")
    assert shown["details"]["callable"] is True
    priced = await do(
        admin, "model.price", name="gpt-5", prices={"input": "1250", "output": "10000", "cache_read": "125"}
    )
    assert priced["old"]["provisional"] is True
    assert priced["new"]["provisional"] is False
    assert [one["rates"]["input"] for one in (await do(admin, "model.show", name="gpt-5"))["prices"]] == [
        1250,
        3000,
    ]


async def test_a_credential_is_nowhere_but_sealed(admin, tmp_path):
    made = await do(admin, "channel.add", name="up", base_url="https://h/v1", secret=CANARY, models=["m"])
    row = await admin.read(lambda conn: channels.by_reference(conn, "up"))
    assert admin.vault.open(row.secret, "channel", made["id"], "secret").reveal() == CANARY
    shown = [made, await do(admin, "channel.list"), await do(admin, "channel.show", channel="up")]
    log = [wire.encode(one).decode() for one in await admin.read(audit.page)]
    assert CANARY not in json.dumps([wire.encode(one).decode() for one in shown] + log)
    await do(admin, "channel.remove", channel="up")
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for form in (CANARY.encode(), base64.b64encode(CANARY.encode())):
        assert form not in everything


async def test_given_prices_are_nobodys_provisional_ones(admin):
    made = await do(
        admin,
        "channel.add",
        name="up",
        base_url="http://127.0.0.1:1/v1",
        models=["m"],
        input_price="1",
        output_price="0",
    )
    assert made["models"][0]["price"]["rates"] == {"input": 1, "output": 0}
    assert made["models"][0]["price"]["provisional"] is False


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://api.example.com", "/v1"),
        ("http://api.example.com/v1", "unencrypted"),
        ("https://api.example.com/v1", "No credential"),
        ("http://127.0.0.1:11434/v1", None),
        ("http://localhost:1/v1beta/openai", None),
        ("http://[::1]:8080/api/v3", None),
    ],
)
async def test_odd_base_urls_are_taken_with_a_hint(admin, url, hint):
    made = await do(admin, "channel.add", name="up", base_url=url)
    if hint is None:
        assert made["hints"] == []
    else:
        assert hint in " ".join(made["hints"])


async def test_channels_switch_off_and_on_and_go(admin):
    await do(admin, "channel.add", name="up", base_url="http://h/v1", models=["m"])
    assert (await refused(admin, "channel.add", name="up", base_url="http://h/v1")).kind == "conflict"
    assert (await do(admin, "channel.disable", channel="up"))["status"] == "disabled"
    assert (await do(admin, "model.show", name="m"))["details"]["callable"] is False
    assert (await do(admin, "channel.enable", channel="up"))["status"] == "enabled"
    served = await do(admin, "channel.serve", channel="up", models=["m=other", "n"])
    assert served["channel"]["models"] == {"m": "other", "n": "n"}
    assert sorted((await do(admin, "channel.remove", channel="up"))["unserved"]) == ["m", "n"]
    assert [row["name"] for row in await do(admin, "channel.list")] == ["sandbox"]


async def test_a_test_says_what_it_found_and_passes_an_upstream_that_only_streams(admin):
    tried = []

    async def probe(channel, model):
        tried.append((channel.name, model))
        return ProbeResult(
            upstream_model=model,
            checks=(
                Check(capability="chat", finding="rejected", status=400, latency_ms=3, detail="stream only"),
                Check(capability="stream", finding="ok", status=200, latency_ms=9000),
            ),
        )

    await do(
        admin, "channel.add", name="up", base_url="http://h/v1", models=["m=x", *(f"m{n}" for n in range(9))]
    )
    found = await do(msgspec.structs.replace(admin, probe=probe), "channel.test", channel="up", model="m")
    assert found["ok"] is True
    assert tried == [("up", "x")]
    assert [check["finding"] for check in found["checks"]] == ["rejected", "ok"]
    assert "slowly: 9.0 s" in found["checks"][1]["meaning"]
    tried.clear()
    await do(msgspec.structs.replace(admin, probe=probe), "channel.test", channel="up")
    assert len(tried) == 5
    assert (await refused(admin, "channel.test", channel="up")).kind == "unavailable"


# -- models ------------------------------------------------------------------------------------


async def test_a_model_has_one_name_among_models_and_aliases(admin):
    prices = {"input": "1", "output": "2"}
    await do(admin, "model.add", name="m", prices=prices, context_window=1000, capabilities=["tools"])
    await do(admin, "model.alias", alias="fast", name="m")
    for name in ("m", "fast"):
        assert (await refused(admin, "model.add", name=name, prices=prices)).kind == "conflict"
        assert (await refused(admin, "model.alias", alias=name, name="m")).kind == "conflict"
    assert (await do(admin, "model.show", name="fast"))["details"]["name"] == "m"
    made = await do(admin, "channel.add", name="up", base_url="http://h/v1", models=["fast=x"])
    assert made["models"][0]["name"] == "m"
    await do(admin, "model.unalias", alias="fast")
    assert (await refused(admin, "model.show", name="fast")).kind == "not_found"


async def test_a_model_without_a_price_is_not_enabled(admin):
    await do(admin, "model.add", name="m", prices={"input": "1", "output": "2"})
    assert (await do(admin, "model.disable", name="m"))["status"] == "disabled"
    assert (await do(admin, "model.enable", name="m"))["status"] == "enabled"

    def unpriced(conn):
        conn.exec_driver_sql("INSERT INTO model(id, status, created_at) VALUES ('bare', 'disabled', 1)")

    await admin.store.write(unpriced)
    refusal = await refused(admin, "model.enable", name="bare")
    assert (refusal.kind, "has no price" in refusal.what) == ("refused", True)
    assert (await do(admin, "model.show", name="bare"))["details"]["callable"] is False


async def test_lists_leave_the_faulty_sandbox_models_out_unless_asked(admin):
    usual = {row["name"] for row in await do(admin, "model.list")}
    every = {row["name"] for row in await do(admin, "model.list", faults=True)}
    assert "sandbox-chat" in usual
    assert "sandbox-500" in every - usual


# -- credits -----------------------------------------------------------------------------------


async def test_grants_add_up_and_one_with_an_id_is_made_once(admin):
    await do(admin, "credits.grant", amount="10.25", note="November")
    for _ in range(2):
        found = await do(admin, "credits.grant", amount="5", id="invoice 7")
    assert found["balance"]["available"] == Decimal("1015.25")
    assert (await refused(admin, "credits.grant", amount="6", id="invoice 7")).kind == "refused"
    assert [action for action, *_ in await actions(admin)].count("credits.grant") == 2


async def test_the_ledger_pages_from_the_newest_to_the_oldest(admin):
    for amount in range(1, 8):
        await do(admin, "credits.grant", amount=str(amount))
    seen, before = [], None
    while True:
        page = await do(admin, "credits.ledger", limit=3, **({} if before is None else {"before": before}))
        seen += [entry["amount"] for entry in page["entries"]]
        before = page["next"]
        if not page["has_more"]:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1, 1000]
    assert before is None


async def test_a_refund_gives_back_no_more_than_was_charged(admin, clock):
    call = await _charged(admin, clock, 2_000_000)
    found = await do(admin, "credits.refund", call=call, amount="0.5", note="sorry")
    assert (found["amount"], found["left"]) == (Decimal("0.5"), Decimal("1.5"))
    assert found["balance"]["available"] == Decimal("998.5")
    assert (await refused(admin, "credits.refund", call=call, amount="1.6")).kind == "refused"
    assert (await do(admin, "credits.refund", call=call))["left"] == 0
    assert (await refused(admin, "credits.refund", call=call)).kind == "refused"
    assert (await do(admin, "credits.balance"))["available"] == 1000
    key = (await do(admin, "key.list"))[0]["id"]
    report = await do(admin, "key.show", key=key)
    assert (report["calls"], report["spent"], report["last_used_at"]) == (1, 2, clock.now)


async def _charged(admin, clock, amount):
    key = await do(admin, "key.create", name="payer")
    stored = (await admin.read(lambda conn: keys.by_reference(conn, key["id"])))[0].key
    ledger = admin.store.ledger
    await ledger.hold(
        HoldRequest(
            id="call_1",
            wallet=stored.wallet,
            budget=None,
            amount=amount,
            price_version=1,
            created_at=clock.now,
            expires_at=clock.now + 1000,
        )
    )
    record = CallRecord(
        id="call_1",
        account_id=stored.account_id,
        project_id=stored.project_id,
        key_id=stored.id,
        model="sandbox-chat",
        channel_id=None,
        upstream_model=None,
        dialect="openai_chat",
        route="/v1/chat/completions",
        stream=False,
        status=200,
        outcome="ok",
        error_code=None,
        flags=(),
        usage={},
        price_version=1,
        held=amount,
        charged=amount,
        absorbed=0,
        cost=None,
        created_at=clock.now,
        first_token_at=None,
        finished_at=clock.now,
        ip="",
        user_agent="",
    )
    await ledger.settle(Settlement(hold_id="call_1", amount=amount, reason="ok", call=record, attempts=()))
    return "call_1"


async def test_a_proof_holds_and_a_planted_difference_breaks_it(admin):
    await do(admin, "credits.grant", amount="5")
    proof = await do(admin, "credits.verify")
    assert proof["ok"] is True
    assert len(proof["invariants"]) >= 7
    assert all(one["promise"] and one["name"] for one in proof["invariants"])

    def tamper(conn):
        conn.exec_driver_sql("UPDATE ledger_account SET credited = credited + 1 WHERE kind = 'wallet'")

    await admin.store.write(tamper)
    proof = await do(admin, "credits.verify")
    assert proof["ok"] is False
    assert any(one["differences"] for one in proof["invariants"])
