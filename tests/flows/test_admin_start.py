"""Instance keys and first starts: what an empty database gets, and which databases are refused."""

import asyncio
import base64
import stat
import threading

import pytest
from tests.support.admin import do, fresh, instance

from tollway.config import Settings
from tollway.core.access import keys as key_rules
from tollway.flows.admin.access import KEY_CHECK
from tollway.flows.admin.bootstrap import bootstrap
from tollway.flows.admin.refusals import Refused
from tollway.store import audit, keys, models
from tollway.store import instance as facts
from tollway.upstream.sandbox.models import MODELS
from tollway.upstream.secrets import (
    BadInstanceKey,
    SealBroken,
    Secret,
    Vault,
    find_instance_key,
    make_instance_key,
)

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()


async def test_an_empty_database_gets_what_a_first_call_needs(tmp_path):
    async with instance(fresh(tmp_path), set_up=False) as admin:
        found = await bootstrap(admin, with_key=True)
        assert (found.first, found.opening) == (True, 1_000_000_000)
        digest = key_rules.digest(found.key, admin.vault.pepper)
        key = await admin.read(lambda conn: keys.by_digest(conn, digest))
        assert (key.name, key.project_name, key.status) == ("first", "default", "active")
        assert (await do(admin, "credits.balance"))["available"] == 1000
        catalogue = await admin.read(models.catalogue)
        assert {model.id for model in MODELS} == set(catalogue.models)
        for model in catalogue.models.values():
            assert model.price is not None
            assert model.price.rates["input"] > 0
            assert [catalogue.channels[route.channel_id].name for route in model.routes] == ["sandbox"]


async def test_a_second_start_changes_nothing_and_shows_no_key(tmp_path):
    async with instance(fresh(tmp_path), set_up=False) as admin:
        await bootstrap(admin, with_key=True)
        rows = await admin.read(audit.page)
        again = await bootstrap(admin, with_key=True)
        assert (again.first, again.key) == (False, None)
        assert await admin.read(audit.page) == rows
        assert len(await do(admin, "key.list")) == 1


async def test_of_four_first_starts_at_once_one_sets_up(tmp_path):
    async with instance(fresh(tmp_path), set_up=False) as admin:
        found = await asyncio.gather(*(bootstrap(admin, with_key=True) for _ in range(4)))
        assert sorted(one.first for one in found) == [False, False, False, True]
        assert len([one.key for one in found if one.key]) == 1
        assert (await do(admin, "credits.balance"))["granted"] == 1000


@pytest.mark.parametrize(
    ("settings", "models_wanted", "credits_wanted"),
    [
        ({"sandbox": False}, 0, 1000),
        ({"opening_credits": "0"}, len(MODELS), 0),
        ({"opening_credits": "0.5"}, len(MODELS), 0.5),
    ],
)
async def test_settings_decide_what_a_first_start_makes(tmp_path, settings, models_wanted, credits_wanted):
    async with instance(fresh(tmp_path), **settings) as admin:
        assert len(await do(admin, "model.list", faults=True)) == models_wanted
        assert float((await do(admin, "credits.balance"))["available"]) == credits_wanted


async def test_impossible_opening_credits_are_refused_and_nothing_is_set_up(tmp_path):
    with pytest.raises(Refused, match="An opening grant of abc"):
        async with instance(fresh(tmp_path), opening_credits="abc"):
            pass


async def test_the_key_file_is_its_owners_only_and_stays(tmp_path):
    async with instance(tmp_path / "a" / "data"):
        pass
    path = tmp_path / "a" / "data" / "instance.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert len(base64.b64decode(before)) == 32
    async with instance(tmp_path / "a" / "data"):
        pass
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if "instance.key" in file.name] == ["instance.key"]


def test_processes_that_make_the_key_at_once_agree_on_it(tmp_path):
    settings = Settings(data=str(tmp_path))
    found = []
    barrier = threading.Barrier(8)

    def make():
        barrier.wait()
        found.append(make_instance_key(settings))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["instance.key"]


async def test_another_instances_key_is_refused_with_both_places_named(tmp_path):
    async with instance(fresh(tmp_path)):
        pass
    with pytest.raises(Refused) as refused:
        async with instance(tmp_path, instance_key=OTHER):
            pass
    refusal = refused.value.refusal
    assert refusal.kind == "denied"
    assert "TOLLWAY_INSTANCE_KEY" in refusal.fix
    assert "instance.key" in refusal.fix
    assert OTHER not in str(refusal)


async def test_a_lost_key_file_is_refused_and_never_replaced(tmp_path):
    async with instance(fresh(tmp_path)):
        pass
    (tmp_path / "instance.key").unlink()
    with pytest.raises(Refused, match="not usable") as refused:
        async with instance(tmp_path):
            pass
    assert "missing" in refused.value.refusal.why
    assert not (tmp_path / "instance.key").exists()


async def test_of_two_hosts_with_different_keys_the_second_is_refused(tmp_path):
    """Both read that the database has no key yet; the one that writes second must notice."""
    async with instance(fresh(tmp_path), set_up=False) as admin:
        await admin.store.write(
            lambda conn: conn.exec_driver_sql("DELETE FROM instance WHERE name = 'key_check'")
        )
        first, second = Vault(b"a" * 32), Vault(b"b" * 32)
        for vault in (first, second):
            await admin.store.write(lambda conn, v=vault: facts.state_once(conn, KEY_CHECK, v.fingerprint))
        assert await admin.read(lambda conn: facts.fact(conn, KEY_CHECK)) == first.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "A" * 44,
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 33).decode(),
        "é" * 44,
    ],
)
def test_what_is_no_key_is_refused(tmp_path, text):
    (tmp_path / "instance.key").write_text(text, encoding="utf-8")
    with pytest.raises(BadInstanceKey, match="32 bytes in base64"):
        find_instance_key(Settings(data=str(tmp_path)))


def test_the_setting_wins_over_the_file_and_may_be_url_safe(tmp_path):
    (tmp_path / "instance.key").write_text(KEY)
    raw = bytes(range(224, 256))
    given = base64.urlsafe_b64encode(raw).decode()
    assert find_instance_key(Settings(data=str(tmp_path), instance_key=given)) == raw
    assert find_instance_key(Settings(data=str(tmp_path))) == b"k" * 32


def test_a_sealed_secret_opens_only_in_its_place_with_its_key():
    vault = Vault(b"k" * 32)
    sealed = vault.seal(Secret("sk-upstream"), "channel", "chn_1", "secret")
    assert b"sk-upstream" not in sealed
    assert vault.open(sealed, "channel", "chn_1", "secret").reveal() == "sk-upstream"
    assert vault.seal(Secret("sk-upstream"), "channel", "chn_1", "secret") != sealed
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for broken, place in [
        (sealed, ("channel", "chn_2", "secret")),
        (sealed, ("channel", "chn_1", "other")),
        (sealed, ("user", "chn_1", "secret")),
        (damaged, ("channel", "chn_1", "secret")),
        (b"\x02" + sealed[1:], ("channel", "chn_1", "secret")),
        (b"", ("channel", "chn_1", "secret")),
        (sealed[:13], ("channel", "chn_1", "secret")),
    ]:
        with pytest.raises(SealBroken):
            vault.open(broken, *place)
    with pytest.raises(SealBroken):
        Vault(b"o" * 32).open(sealed, "channel", "chn_1", "secret")


def test_what_is_derived_from_one_key_is_unrelated():
    vault = Vault(b"k" * 32)
    assert len(vault.pepper) == 32
    assert vault.pepper.hex() not in vault.fingerprint
    assert vault.fingerprint not in vault.pepper.hex()
    assert "k" * 32 not in repr(vault)


def test_a_secret_shows_itself_to_nobody():
    import copy
    import pickle

    secret = Secret("sk-canary")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret])):
        assert "canary" not in shown
    assert secret == Secret("sk-canary")
    assert secret != Secret("sk-other")
    assert secret != "sk-canary"
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="never pickled"):
            leak(secret)
    with pytest.raises(TypeError):
        hash(secret)
