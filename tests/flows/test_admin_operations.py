"""Every operation on a real database: what it returns, what it refuses, what it leaves in the audit log."""

from decimal import Decimal

import msgspec
import pytest
from tests.support.admin import Clock, do, instance, ready, refused

from tollway.core.access import keys as key_rules
from tollway.flows.admin import amounts, operations, wire
from tollway.store import audit, keys

CANARY = "sk-upstream-canary-0123456789"
HOUR = 3600


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def admin(tmp_path, clock):
    async with instance(ready(tmp_path), clock=clock) as found:
        yield found


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
    ("channel.add", {"base_url": "https://h/v1"}),
    ("channel.add", {"name": "c"}),
    ("channel.add", {"preset": "vertex", "secret": "k"}),
    ("channel.add", {"preset": "azure", "place": {"resource": "a/b"}}),
    ("channel.add", {"preset": "azure", "place": {"resource": "r", "planet": "mars"}}),
    ("channel.add", {"preset": "azure", "place": {"resource": "r"}, "dialect": "anthropic"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "platform": "mars"}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "quirks": {"unheard": True}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "quirks": {"thinking": "hard"}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "headers": {"Authorization": "x"}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "headers": {"x-my-api-key": "x"}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "headers": {"x": "a\r\nb: c"}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "headers": {"content-length": "5"}}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "secret": '{"type":'}),
    ("channel.add", {"name": "c", "base_url": "https://h/v1", "dialect": "gemini", "models": ["m=.."]}),
    ("channel.add", {"preset": "bedrock", "place": {"region": "us-east-1"}}),
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
    admin = msgspec.structs.replace(admin, probe=lambda *_: None)
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


async def test_names_of_keys_in_use_are_unique_and_free_again_after_revoking(admin, clock):
    first = await do(admin, "key.create", name="ci")
    assert (await refused(admin, "key.create", name="ci")).kind == "conflict"
    await do(admin, "key.disable", key="ci")
    assert (await refused(admin, "key.create", name="ci")).kind == "conflict"
    await do(admin, "key.revoke", key="ci")
    clock.now += 1
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
    from tollway.flows.admin.channel_changes import RotateChannel
    from tollway.flows.admin.connecting import AddChannel
    from tollway.flows.admin.people import CreateAdmin

    assert CANARY not in repr(AddChannel(name="a", base_url="b", secret=CANARY))
    assert CANARY not in repr(RotateChannel(channel="a", secret=CANARY))
    assert CANARY not in repr(CreateAdmin(email="a@b", password=CANARY))


def test_every_operation_is_named_after_a_noun_and_a_verb():
    for name, operation in operations.OPERATIONS.items():
        assert name.count(".") == 1
        assert operation.request.__doc__
        assert operation.run.__doc__
