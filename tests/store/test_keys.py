"""Many keys are found by one query, each with its own caps and nobody else's."""

from __future__ import annotations

from sqlalchemy import Connection

from tollway.store import accounts, caps, keys
from tollway.store.base import Store

NOW = 1_800_000_000_000


def _filled(conn: Connection) -> None:
    accounts.add_account(conn, id="acc_many", name="many", now=NOW)
    accounts.add_project(conn, id="prj_many", account_id="acc_many", name="p", now=NOW)
    for at in range(5):
        keys.add(
            conn,
            keys.NewKey(
                id=f"key_many{at}",
                account_id="acc_many",
                project_id="prj_many",
                name=f"k{at}",
                digest=b"many%d" % at,
                display="sk…",
                created_at=NOW,
            ),
        )
    for key, model, amount, table in (
        ("key_many1", "b", 2, caps.CAP),
        ("key_many1", "a", 1, caps.CAP),
        ("key_many1", "*", 9, caps.OWN),
        ("key_many3", "a", 3, caps.OWN),
    ):
        caps.put(conn, key_id=key, model=model, amount=amount, now=NOW, table=table)


async def test_many_keys_come_with_their_own_caps(store: Store) -> None:
    await store.write(_filled)
    wanted = (b"many0", b"many1", b"many3", b"nobody's")
    found = await store.read(lambda conn: keys.by_digests(conn, wanted))
    assert {digest: key.name for digest, key in found.items()} == {
        b"many0": "k0",
        b"many1": "k1",
        b"many3": "k3",
    }
    assert {key.name: (key.caps, key.own_caps) for key in found.values()} == {
        "k0": ((), ()),
        "k1": ((("a", 1), ("b", 2)), (("*", 9),)),
        "k3": ((), (("a", 3),)),
    }
    for digest, key in found.items():
        assert await store.read(lambda conn, one=digest: keys.by_digest(conn, one)) == key
    assert await store.read(lambda conn: keys.by_digests(conn, ())) == {}
