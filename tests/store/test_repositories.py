"""The repositories on both databases: what goes in comes out, and pages and orders are what they say."""

import pytest
import sqlalchemy as sa

from tollway.core.routing.models import Channel, Model
from tollway.store import (
    accounts,
    audit,
    calls,
    channels,
    instance,
    key_use,
    keys,
    models,
    records,
    schema,
    wallets,
)
from tollway.store.base import AttemptRecord, CallRecord

NOW = 1_800_000_000_000


@pytest.fixture
def conn():
    """A connection to a database with the tables and the counter accounts, without triggers."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as found:
        found.exec_driver_sql("PRAGMA foreign_keys = ON")
        schema.metadata.create_all(found)
        for kind in ("world", "revenue", "absorbed", "promo"):
            found.execute(sa.insert(schema.ledger_account).values(kind=kind, owner="", bounded=0))
        yield found
    engine.dispose()


@pytest.fixture
def wallet(conn):
    found = accounts.add_account(conn, id="acc", name="main", now=NOW)
    accounts.add_project(conn, id="prj", account_id="acc", name="default", now=NOW)
    return found


def new_key(**more) -> keys.NewKey:
    fields = {
        "id": "key_1",
        "account_id": "acc",
        "project_id": "prj",
        "name": "ci",
        "digest": b"d1",
        "display": "sk…1",
        "created_at": NOW,
    }
    return keys.NewKey(**{**fields, **more})


def new_channel(**more) -> Channel:
    fields = {
        "id": "chn_1",
        "name": "up",
        "dialect": "openai_chat",
        "base_url": "https://h/v1",
        "secret": b"\x00\xffsealed",
        "secret_hint": "…abcd",
        "groups": ("default", "gold"),
        "priority": -3,
        "weight": 7,
        "status": "enabled",
        "created_at": NOW,
        "options": {"connect_timeout": 2.5},
    }
    return Channel(**{**fields, **more})


def new_model(**more) -> Model:
    fields = {
        "id": "m",
        "kind": "chat",
        "provider": "p",
        "description": "d",
        "context_window": 1000,
        "output_max": 100,
        "capabilities": ("tools", "vision"),
        "status": "enabled",
        "created_at": NOW,
        "price": None,
        "aliases": (),
        "routes": (),
    }
    return Model(**{**fields, **more})


def test_accounts_projects_and_people(conn, wallet):
    found = accounts.account(conn, "main")
    assert found == accounts.account(conn, "acc")
    assert (found.wallet, found.status) == (wallet, "active")
    accounts.set_account_status(conn, "acc", "suspended")
    assert accounts.account(conn, "acc").status == "suspended"
    assert accounts.project(conn, "default", "acc").account_name == "main"
    assert accounts.project(conn, "default", "other") is None
    assert not accounts.has_admin(conn)
    person = accounts.User(
        id="u", account_id="acc", email="a@b", role="admin", status="active", created_at=NOW
    )
    accounts.add_user(conn, person, "hash")
    assert accounts.user(conn, "a@b") == person
    assert accounts.has_admin(conn)


def test_a_key_comes_back_as_it_was_stored(conn, wallet):
    new = new_key(
        models=("gpt-*",),
        networks=("10.0.0.0/8",),
        rpm=1,
        tpm=2,
        concurrency=3,
        budget=4,
        budget_period="daily",
        expires_at=5,
        tags=("t",),
    )
    keys.add(conn, new)
    found = keys.by_digest(conn, b"d1")
    assert found == keys.by_reference(conn, "ci")[0].key
    assert (found.wallet, found.account_status, found.project_name, found.group) == (
        wallet,
        "active",
        "default",
        "default",
    )
    assert (found.models, found.networks) == (("gpt-*",), ("10.0.0.0/8",))
    assert (found.rpm, found.tpm, found.concurrency, found.budget, found.budget_period, found.expires_at) == (
        1,
        2,
        3,
        4,
        "daily",
        5,
    )
    assert keys.by_reference(conn, "key_1")[0].tags == ("t",)
    assert keys.by_digest(conn, b"d2") is None
    accounts.set_account_status(conn, "acc", "suspended")
    assert keys.by_digest(conn, b"d1").account_status == "suspended"


def test_the_key_in_use_comes_before_replaced_and_revoked_ones_of_its_name(conn, wallet):
    keys.add(conn, new_key(id="key_z", digest=b"1"))
    keys.add(conn, new_key(id="key_a", digest=b"2", replaces="key_z"))
    keys.add(conn, new_key(id="key_y", digest=b"3", created_at=NOW + 1))
    keys.set_status(conn, "key_y", "revoked")
    assert [one.key.id for one in keys.by_reference(conn, "ci")] == ["key_a", "key_z", "key_y"]
    assert keys.name_taken(conn, "acc", "ci")
    assert not keys.name_taken(conn, "acc", "other")


def test_a_digest_is_stored_once(conn, wallet):
    keys.add(conn, new_key())
    with pytest.raises(sa.exc.IntegrityError):
        keys.add(conn, new_key(id="key_2"))


def test_a_channel_comes_back_as_it_was_stored_and_takes_its_routes_along(conn):
    channel = new_channel()
    channels.add(conn, channel)
    assert channels.by_reference(conn, "up") == channels.by_reference(conn, "chn_1") == channel
    models.add(conn, new_model())
    channels.set_route(conn, channel_id="chn_1", model_id="m", upstream_model="a", now=NOW)
    channels.set_route(conn, channel_id="chn_1", model_id="m", upstream_model="b", now=NOW)
    assert channels.routes(conn) == {"chn_1": {"m": "b"}}
    channels.remove(conn, "chn_1")
    assert channels.routes(conn) == {}
    assert channels.listed(conn) == []


def test_the_catalogue_is_what_was_put_in_with_the_newest_price(conn):
    channels.add(conn, new_channel())
    channels.add(conn, new_channel(id="chn_2", name="down", status="disabled", priority=-9))
    assert models.add(conn, new_model())
    assert not models.add(conn, new_model(provider="other"))
    first = models.add_price(conn, model_id="m", rates={"input": 1}, source="provisional", now=NOW)
    second = models.add_price(conn, model_id="m", rates={"input": 2, "output": 3}, source="operator", now=NOW)
    models.add(conn, new_model(id="bare"))
    models.add_alias(conn, alias="fast", model_id="m", now=NOW)
    for channel_id in ("chn_1", "chn_2"):
        channels.set_route(
            conn, channel_id=channel_id, model_id="m", upstream_model=f"at-{channel_id}", now=NOW
        )
    conn.execute(
        sa.update(schema.route).where(schema.route.c.channel_id == "chn_2").values(cost='{"input": 5}')
    )
    conn.execute(sa.insert(schema.revision).values(topic="catalogue", number=41))
    found = models.catalogue(conn)
    assert found.version == 41
    assert found.aliases == {"fast": "m"}
    assert found.resolve("fast") is found.models["m"]
    assert found.models["bare"].price is None
    model = found.models["m"]
    assert (model.price.version, model.price.rates, model.provider) == (
        second,
        {"input": 2, "output": 3},
        "p",
    )
    assert model.capabilities == ("tools", "vision")
    assert {route.channel_id: (route.upstream_model, route.cost) for route in model.routes} == {
        "chn_1": ("at-chn_1", None),
        "chn_2": ("at-chn_2", {"input": 5}),
    }
    assert list(found.channels) == ["chn_2", "chn_1"]
    assert [one.version for one in models.prices(conn, "m")] == [second, first]
    assert models.price(conn, first).source == "provisional"
    models.remove_alias(conn, "fast")
    assert models.catalogue(conn).aliases == {}


def test_entries_page_from_the_newest_with_the_wallets_sign(conn, wallet):
    other = accounts.add_account(conn, id="acc2", name="other", now=NOW)
    for number in range(1, 8):
        sides = {"debit": other, "credit": wallet} if number % 2 else {"debit": wallet, "credit": other}
        conn.execute(
            sa.insert(schema.entry).values(id=f"e{number}", amount=number, kind="grant", at=NOW, **sides)
        )
    first = wallets.entries(conn, wallet, before=None, limit=3)
    assert [one.amount for one in first] == [7, -6, 5]
    second = wallets.entries(conn, wallet, before=first[-1].seq, limit=10)
    assert [one.amount for one in second] == [-4, 3, -2, 1]
    assert wallets.entry(conn, "e2", wallet).amount == -2
    assert wallets.entry(conn, "e2", wallet + 100) is None
    assert wallets.owner(conn, wallet) == "acc"


def test_calls_and_attempts_come_back_as_they_were_recorded(conn):
    for number in range(3):
        record = CallRecord(
            id=f"call_{number}",
            account_id="acc",
            project_id="prj",
            key_id="key_1" if number else "key_2",
            model="m",
            channel_id=None,
            upstream_model=None,
            dialect="openai_chat",
            route="/v1/chat/completions",
            stream=bool(number % 2),
            status=200,
            outcome="ok",
            error_code=None,
            flags=("estimated",),
            usage={"input": 3},
            price_version=1,
            held=10,
            charged=number,
            absorbed=0,
            cost=None,
            created_at=NOW + number,
            first_token_at=None,
            finished_at=NOW + number,
            ip="127.0.0.1",
            user_agent="ua",
        )
        row = records.call_row(record, record.charged, 0, late=False)
        conn.execute(sa.insert(schema.call), dict(zip(records.CALL_COLUMNS, row, strict=True)))
        assert calls.by_id(conn, record.id) == record
    attempt = AttemptRecord(
        call_id="call_1",
        n=1,
        channel_id="c",
        upstream_model="u",
        status=500,
        error="e",
        latency_ms=1,
        first_byte_ms=None,
        cost=None,
        created_at=NOW,
    )
    conn.execute(
        sa.insert(schema.attempt),
        dict(zip(records.ATTEMPT_COLUMNS, records.attempt_row(attempt), strict=True)),
    )
    assert calls.attempts(conn, "call_1") == [attempt]
    assert [one.id for one in calls.page(conn, limit=2)] == ["call_2", "call_1"]
    assert [one.id for one in calls.page(conn, account_id="acc", before="call_1")] == ["call_0"]
    assert [one.id for one in calls.page(conn, before="call_2")] == ["call_1", "call_0"]
    assert calls.page(conn, account_id="other") == []
    assert key_use.since(conn, "key_1", 0, NOW) == key_use.Use(calls=2, charged=3)
    assert key_use.last_used(conn, "acc", "key_1") == NOW + 2
    assert key_use.since(conn, "none", 0, NOW) == key_use.Use(calls=0, charged=0)
    assert key_use.last_used(conn, "acc", "none") is None


def test_the_audit_log_pages_by_target(conn):
    for number in range(4):
        audit.record(
            conn,
            audit.AuditRow(
                at=NOW,
                actor="a",
                source="cli",
                action="x",
                target=f"t{number % 2}",
                before=None,
                after={"n": number},
            ),
        )
    assert [row.after["n"] for row in audit.page(conn, limit=3)] == [3, 2, 1]
    assert [row.after["n"] for row in audit.page(conn, target="t1")] == [3, 1]
    newest = audit.page(conn, limit=1)[0]
    assert [row.after["n"] for row in audit.page(conn, before=newest.seq)] == [2, 1, 0]


def test_a_fact_is_stated_once(conn):
    assert instance.fact(conn, "a") is None
    assert instance.state_once(conn, "a", "1")
    assert not instance.state_once(conn, "a", "2")
    assert instance.fact(conn, "a") == "1"
    assert instance.revision_of(conn, "keys") == 0
