"""Every operation on a real database: what it returns, what it refuses, what it leaves in the audit log."""

import base64
import json
from decimal import Decimal

import pytest
from tests.support.admin import Clock, do, instance, ready

from tollway.core.access import keys as key_rules
from tollway.flows.admin import amounts, operations, wire
from tollway.flows.admin.probes import Check, ProbeResult
from tollway.flows.admin.refusals import Refused
from tollway.store import audit, channels, keys
from tollway.store.base import CallRecord, HoldRequest, Settlement

CANARY = "sk-upstream-canary-0123456789"
HOUR = 3600


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


async def refused(admin, operation, /, **arguments):
    with pytest.raises(Refused) as error:
        await do(admin, operation, **arguments)
    return error.value.refusal


async def actions(admin):
    return [(row.action, row.actor, row.source) for row in await admin.read(audit.page)]


# -- arguments ---------------------------------------------------------------------------------


IMPOSSIBLE = [
    ("key.create", {}),
    ("key.create", {"name": "a", "unknown": 1}),
    ("key.create", {"name": "a", "rpm": "many"}),
    ("key.create", {"name": "a", "rpm": 0}),
    ("key.create", {"name": "a", "rpm": -1}),
    ("key.create", {"name": "a", "tpm": 10**13}),
    ("key.create", {"name": "a", "concurrency": 0}),
    ("key.create", {"name": "a", "budget": "-1"}),
    ("key.create", {"name": "a", "budget": "NaN"}),
    ("key.create", {"name": "a", "budget": "Infinity"}),
    ("key.create", {"name": "a", "budget": "0.0000001"}),
    ("key.create", {"name": "a", "budget_period": "yearly"}),
    ("key.create", {"name": "a", "expires_in": 0}),
    ("key.create", {"name": "a", "networks": ["300.0.0.1"]}),
    ("key.create", {"name": "a", "networks": ["localhost"]}),
    ("key.create", {"name": "a", "models": ["a b"]}),
    ("key.create", {"name": "a", "group": "Default"}),
    ("key.create", {"name": ""}),
    ("key.create", {"name": " a"}),
    ("key.create", {"name": "a\nb"}),
    ("key.create", {"name": "-a"}),
    ("key.create", {"name": "a" * 65}),
    ("key.rotate", {"key": "first", "overlap": -1}),
    ("key.rotate", {"key": "first", "overlap": 10**9}),
    ("channel.add", {"name": "c", "base_url": "ftp://h/v1"}),
    ("channel.add", {"name": "c", "base_url": "api.openai.com/v1"}),
    ("channel.add", {"name": "c", "base_url": "https://user:pw@h/v1"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1?key=x"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1#x"}),
    ("channel.add", {"name": "c", "base_url": "https://h:99999/v1"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1 x"}),
    ("channel.add", {"name": "c", "base_url": "https://h\r\nx/v1"}),
    ("channel.add", {"name": "c", "base_url": "https://[::1/v1"}),
    ("channel.add", {"name": "c", "base_url": "https:///v1"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1/chat/completions"}),
    ("channel.add", {"name": "c", "base_url": "https://" + "h" * 2048}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "dialect": "openai_chatt"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "secret": "   "}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "secret": "a\r\nx: y"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "secret": "schlüssel"}),
    ("channel.add", {"name": "c", "base_url": "sandbox:", "secret": "x"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "models": ["a b"]}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "models": ["a="]}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "models": ["a=x", "a=y"]}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "models": ["a"], "input_price": "1"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "weight": 0}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "priority": 5000}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "groups": []}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "options": {"verify": 0}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "options": {"total_timeout": -1}}),
    ("model.add", {"name": "m", "prices": {}}),
    ("model.add", {"name": "m", "prices": {"input": "1"}}),
    ("model.add", {"name": "m", "prices": {"input": "1", "output": "-1"}}),
    ("model.add", {"name": "m", "prices": {"input": "1", "outptu": "1"}}),
    ("model.add", {"name": "m", "prices": {"input": "1", "output": "1"}, "kind": "poem"}),
    ("model.add", {"name": "m", "prices": {"input": "1", "output": "1"}, "output_max": -1}),
    ("model.add", {"name": "../m", "prices": {"input": "1", "output": "1"}}),
    ("model.add", {"name": "m" * 129, "prices": {"input": "1", "output": "1"}}),
    ("credits.grant", {"amount": "0"}),
    ("credits.grant", {"amount": "-5"}),
    ("credits.grant", {"amount": "abc"}),
    ("credits.grant", {"amount": "1e30"}),
    ("credits.grant", {"amount": "1", "note": "a\nb"}),
    ("credits.ledger", {"limit": 0}),
    ("credits.ledger", {"limit": 1001}),
    ("admin.create", {"email": "nobody", "password": "correct horse battery"}),
    ("admin.create", {"email": "a@b", "password": "short"}),
    ("admin.create", {"email": "a@b", "password": "x" * 1025}),
    ("key.frobnicate", {}),
]


async def test_impossible_arguments_are_refused_and_change_nothing(admin, subtests):
    before = await admin.read(audit.page)
    for name, arguments in IMPOSSIBLE:
        with subtests.test(f"{name} {str(arguments)[:80]}"):
            refusal = await refused(admin, name, **arguments)
            assert refusal.kind == "invalid"
            assert refusal.what
            assert await admin.read(audit.page) == before


UNKNOWN = [
    ("key.show", {"key": "prodd"}, "prod"),
    ("key.disable", {"key": "nothing-like-it"}, None),
    ("channel.show", {"channel": "sandbx"}, "sandbox"),
    ("channel.test", {"channel": "sandbx"}, "sandbox"),
    ("model.show", {"name": "sandbox-chatt"}, "sandbox-chat"),
    ("model.price", {"name": "nope", "prices": {"input": "1", "output": "1"}}, None),
    ("model.unalias", {"alias": "fsat"}, "fast"),
    ("project.create", {"name": "p", "account": "mian"}, "main"),
    ("key.create", {"name": "k", "project": "defualt"}, "default"),
    ("credits.balance", {"account": "mian"}, "main"),
    ("credits.refund", {"call": "call_nope"}, None),
]


async def test_what_does_not_exist_is_named_with_what_resembles_it(admin, subtests):
    await do(admin, "key.create", name="prod")
    await do(admin, "model.alias", alias="fast", name="sandbox-chat")
    admin = _probing(admin, lambda *_: None)
    for name, arguments, near in UNKNOWN:
        with subtests.test(f"{name} {arguments}"):
            refusal = await refused(admin, name, **arguments)
            assert refusal.kind == "not_found"
            assert near is None or f"{near!r}" in refusal.why


def test_amounts_travel_exactly():
    exact = {"a": amounts.shown(123456789012345678901), "b": amounts.shown(1), "c": amounts.shown(5_000_000)}
    text = wire.encode(exact)
    assert text == b'{"a":123456789012345.678901,"b":0.000001,"c":5}'
    assert wire.decode(text) == exact
    assert wire.encode(wire.decode(text)) == text


# -- keys --------------------------------------------------------------------------------------


async def test_a_key_is_stored_as_a_digest_and_works_as_it_was_limited(admin, clock, tmp_path):
    made = await do(
        admin,
        "key.create",
        name="ci",
        models=["gpt-*"],
        networks=["10.1.2.3/8", "::1"],
        rpm=60,
        tpm=1000,
        concurrency=5,
        budget="12.5",
        budget_period="monthly",
        expires_in=HOUR,
        tags=["team a"],
    )
    secret = made["key"]
    assert key_rules.well_formed(secret)
    assert secret.startswith("sk-tw-")
    stored = await admin.read(lambda conn: keys.by_digest(conn, key_rules.digest(secret, admin.vault.pepper)))
    assert stored.id == made["id"]
    assert (stored.models, stored.networks) == (("gpt-*",), ("10.0.0.0/8", "::1/128"))
    assert (stored.rpm, stored.tpm, stored.concurrency) == (60, 1000, 5)
    assert (stored.budget, stored.budget_period) == (12_500_000, "monthly")
    assert stored.expires_at == clock.now + HOUR * 1000
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert secret.encode() not in everything


async def test_names_of_keys_in_use_are_unique_and_free_again_after_revoking(admin):
    first = await do(admin, "key.create", name="ci")
    assert (await refused(admin, "key.create", name="ci")).kind == "conflict"
    await do(admin, "key.disable", key="ci")
    assert (await refused(admin, "key.create", name="ci")).kind == "conflict"
    await do(admin, "key.revoke", key="ci")
    second = await do(admin, "key.create", name="ci")
    assert (await do(admin, "key.show", key="ci"))["details"]["id"] == second["id"]
    assert [row["id"] for row in await do(admin, "key.list")] == [second["id"]]
    assert [row["id"] for row in await do(admin, "key.list", revoked=True)] == [first["id"], second["id"]]
    for name in ("key.enable", "key.disable", "key.rotate"):
        assert (await refused(admin, name, key=first["id"])).kind == "conflict"


@pytest.mark.parametrize(
    ("overlap", "expires_in", "left"), [(0, None, 0), (HOUR, None, HOUR), (HOUR, 60, 60)]
)
async def test_rotation_keeps_limits_and_gives_the_old_key_its_overlap(
    admin, clock, overlap, expires_in, left
):
    more = {} if expires_in is None else {"expires_in": expires_in}
    old = await do(admin, "key.create", name="ci", rpm=7, budget="3", models=["a"], **more)
    new = await do(admin, "key.rotate", key="ci", overlap=overlap)
    assert new["key"] != old["key"]
    assert new["replaces"]["id"] == old["id"]
    assert new["replaces"]["expires_at"] == clock.now + left * 1000
    assert new["replaces"]["status"] == ("active" if left else "expired")
    kept = ("name", "rpm", "budget", "models", "project", "group", "networks")
    assert [new["details"][field] for field in kept] == [old["details"][field] for field in kept]
    assert (await do(admin, "key.show", key="ci"))["details"]["id"] == new["id"]
    clock.now += left * 1000
    assert (await do(admin, "key.show", key=old["id"]))["details"]["status"] == "expired"


async def test_limits_change_one_by_one_and_can_be_taken_away(admin):
    await do(admin, "key.create", name="ci", rpm=7, tpm=70)
    found = await do(admin, "key.limit", key="ci", rpm=None, budget="1.5", concurrency=3)
    assert (found["rpm"], found["tpm"], found["concurrency"], found["budget"]) == (
        None,
        70,
        3,
        Decimal("1.5"),
    )
    for arguments in ({}, {"rpm": 0}, {"budget": "-1"}):
        assert (await refused(admin, "key.limit", key="ci", **arguments)).kind == "invalid"


async def test_one_name_in_two_accounts_asks_for_the_account(admin):
    await do(admin, "account.create", name="acme")
    await do(admin, "key.create", name="ci")
    theirs = await do(admin, "key.create", name="ci", account="acme")
    assert (await refused(admin, "key.disable", key="ci")).kind == "conflict"
    assert (await do(admin, "key.disable", key="ci", account="acme"))["id"] == theirs["id"]
    assert [row["id"] for row in await do(admin, "key.list", account="acme")] == [theirs["id"]]


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


def _probing(admin, probe):
    import msgspec

    return msgspec.structs.replace(admin, probe=probe)


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
    found = await do(_probing(admin, probe), "channel.test", channel="up", model="m")
    assert found["ok"] is True
    assert tried == [("up", "x")]
    assert [check["finding"] for check in found["checks"]] == ["rejected", "ok"]
    assert "slowly: 9.0 s" in found["checks"][1]["meaning"]
    tried.clear()
    await do(_probing(admin, probe), "channel.test", channel="up")
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


# -- people ------------------------------------------------------------------------------------


async def test_accounts_have_wallets_and_projects_of_their_own(admin):
    await do(admin, "account.create", name="acme")
    await do(admin, "project.create", name="web", account="acme")
    await do(admin, "credits.grant", amount="7", account="acme")
    rows = {row["name"]: row["available"] for row in await do(admin, "account.list")}
    assert rows == {"main": 1000, "acme": 7}
    assert [row["name"] for row in await do(admin, "project.list", account="acme")] == ["default", "web"]
    assert (await refused(admin, "account.create", name="acme")).kind == "conflict"
    assert (await refused(admin, "project.create", name="web", account="acme")).kind == "conflict"
    await do(admin, "project.create", name="web")


async def test_an_administrators_password_is_kept_as_an_argon2id_hash(admin):
    from argon2 import PasswordHasher

    made = await do(admin, "admin.create", email="Me@Example.com", password="correct horse battery")
    assert (made["email"], made["role"]) == ("me@example.com", "admin")

    def hashed(conn):
        return conn.exec_driver_sql("SELECT password FROM user_account").scalar_one()

    stored = await admin.read(hashed)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PasswordHasher().verify(stored, "correct horse battery")
    assert (
        await refused(admin, "admin.create", email="me@example.com", password="correct horse battery")
    ).kind == "conflict"
    assert "horse" not in wire.encode(await admin.read(audit.page)).decode()


# -- audit -------------------------------------------------------------------------------------


async def test_every_change_is_audited_with_who_and_through_which_door(admin):
    await do(admin, "key.create", name="ci")
    await do(admin.acting_for("bob", "api"), "key.disable", key="ci")
    await do(admin, "key.disable", key="ci")
    rows = await admin.read(audit.page)
    assert [(row.action, row.actor, row.source) for row in rows[:2]] == [
        ("key.disabled", "bob", "api"),
        ("key.create", "alice", "cli"),
    ]
    assert (rows[0].before["status"], rows[0].after["status"]) == ("active", "disabled")
    assert len(rows) == 3, "disabling what is disabled changes nothing and is not audited"


async def test_a_change_that_fails_leaves_no_trace(admin):
    await do(admin, "channel.add", name="up", base_url="http://h/v1", models=["m"])
    before = await admin.read(audit.page)
    assert (await refused(admin, "channel.serve", channel="up", models=["ok", "ok=x"])).kind == "invalid"
    assert (
        await refused(admin, "channel.add", name="up", base_url="http://h/v1", models=["new"])
    ).kind == "conflict"
    assert await admin.read(audit.page) == before
    assert (await refused(admin, "model.show", name="new")).kind == "not_found"


def test_requests_with_secrets_do_not_print_them():
    from tollway.flows.admin.channels import AddChannel
    from tollway.flows.admin.people import CreateAdmin

    assert CANARY not in repr(AddChannel(name="a", base_url="b", secret=CANARY))
    assert CANARY not in repr(CreateAdmin(email="a@b", password=CANARY))


def test_every_operation_is_named_after_a_noun_and_a_verb():
    for name, operation in operations.OPERATIONS.items():
        assert name.count(".") == 1
        assert operation.request.__doc__
        assert operation.run.__doc__
