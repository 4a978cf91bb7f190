"""Stored responses on both engines: whose they are, how they follow one another, when they go."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from tollway.store import responses, schema
from tollway.store.base import Store, StoreError
from tollway.store.responses import NewResponse, Owner, pack, unpack

DAY = 86_400_000
NOW = 1_800_000_000_000
_owners = itertools.count(1)


@pytest.fixture
def owner() -> Owner:
    """One nobody else has: on PostgreSQL the tests of a module share a database."""
    number = next(_owners)
    return Owner(f"acc_{number}", f"prj_{number}")


def new(owner: Owner, name: str, before: NewResponse | None = None, **more: Any) -> NewResponse:
    response_id = f"resp_{owner.project_id}_{name}"
    fields: dict[str, Any] = {
        "id": response_id,
        "owner": owner,
        "key_id": "key_1",
        "model": "m",
        "scope": "",
        "thread": before.thread if before else response_id,
        "previous_id": before.id if before else None,
        "depth": before.depth + 1 if before else 1,
        "size": 10,
        "total": 10 + (before.total if before else 0),
        "status": "completed",
        "created_at": NOW,
        "expires_at": NOW + 30 * DAY,
        "request": pack([f"ask {name}"]),
        "output": pack([f"answer {name}"]),
        "response": pack({"id": response_id}),
    }
    return NewResponse(**{**fields, **more})


async def keep(store: Store, *rows: NewResponse) -> None:
    await store.write(lambda conn: responses.add(conn, *rows))


async def turns(store: Store, owner: Owner, response_id: str) -> list[str]:
    found = await store.read(lambda conn: responses.chain(conn, owner, response_id))
    return [unpack(turn.request)[0] for turn in found]


async def names(store: Store, owner: Owner) -> set[str]:
    table = schema.response
    mine = select(table.c.id).where(table.c.project_id == owner.project_id)
    found = await store.read(lambda conn: conn.execute(mine).scalars().all())
    return {name.rpartition("_")[2] for name in found}


@pytest.mark.parametrize("size", [0, 10, responses.SMALL - 4, responses.SMALL, 100_000])
def test_what_is_packed_comes_out_again_and_large_texts_take_less_room(size: int) -> None:
    value = {"text": "ä" * size, "number": 2**60}
    kept = pack(value)
    assert unpack(kept) == value
    assert len(kept) < responses.SMALL + 1000


async def test_a_response_comes_back_as_it_was_kept(store: Store, owner: Owner) -> None:
    row = new(owner, "a", request=pack(["x" * 9000]), output=pack([1]), response=pack({"id": "a"}))
    await keep(store, row)
    found = await store.read(lambda conn: responses.by_id(conn, owner, row.id, NOW))
    assert found is not None
    assert (unpack(found.response), unpack(found.output)) == ({"id": "a"}, [1])
    head = await store.read(lambda conn: responses.head(conn, owner, row.id, NOW))
    assert head == responses.Head(row.id, row.id, 1, 10)


async def test_the_same_response_is_kept_once(store: Store, owner: Owner) -> None:
    row = new(owner, "a", items=("rs_1", "rs_2"))
    await keep(store, row)
    await keep(store, new(owner, "a", status="incomplete", items=("rs_2", "rs_3")))
    table = schema.response
    status = select(table.c.status).where(table.c.id == row.id)
    assert await store.read(lambda conn: conn.execute(status).scalar_one()) == "completed"
    # One that is there already keeps no other out.
    await keep(store, row, new(owner, "b", items=("rs_1",)))
    assert await names(store, owner) == {"a", "b"}


async def test_a_conversation_is_its_own_branch_in_order(store: Store, owner: Owner) -> None:
    first = new(owner, "1")
    left, right = new(owner, "left", first), new(owner, "right", first)
    deeper = new(owner, "deeper", left)
    await keep(store, first, left, right, deeper)
    assert await turns(store, owner, deeper.id) == ["ask 1", "ask left", "ask deeper"]
    assert await turns(store, owner, right.id) == ["ask 1", "ask right"]
    assert await turns(store, owner, first.id) == ["ask 1"]


async def test_a_long_conversation_is_one_query(store: Store, owner: Owner) -> None:
    rows = [new(owner, "0")]
    for number in range(1, 300):
        rows.append(new(owner, str(number), rows[-1]))
    await keep(store, *rows)
    assert await turns(store, owner, rows[-1].id) == [f"ask {number}" for number in range(300)]


@pytest.mark.parametrize("other", ["account", "project"])
async def test_another_owner_finds_nothing_anywhere(store: Store, owner: Owner, other: str) -> None:
    row = new(owner, "a", items=("rs_1",))
    await keep(store, row)
    stranger = Owner("acc_x", owner.project_id) if other == "account" else Owner(owner.account_id, "prj_x")

    def look(conn: Any) -> list[Any]:
        return [
            responses.by_id(conn, stranger, row.id, NOW),
            responses.head(conn, stranger, row.id, NOW),
            responses.chain(conn, stranger, row.id),
            responses.holders(conn, stranger, ["rs_1"], NOW),
            responses.several(conn, stranger, [row.id], NOW),
            responses.sizes(conn, stranger, [row.id], NOW),
        ]

    assert not any(await store.read(look))
    assert not await store.write(lambda conn: responses.remove(conn, stranger, row.id, NOW))
    assert await names(store, owner) == {"a"}


async def test_a_conversation_never_goes_on_into_another_owners(store: Store, owner: Owner) -> None:
    """Even if a row said so, which none can."""
    theirs = new(Owner(owner.account_id, "prj_theirs"), owner.project_id)
    mine = new(owner, "mine", theirs)
    await keep(store, theirs, mine)
    assert await turns(store, owner, mine.id) == ["ask mine"]


async def test_a_conversation_that_bites_its_tail_ends(store: Store, owner: Owner) -> None:
    first = new(owner, "1")
    second = new(owner, "2", first)
    await keep(store, first, second)
    table = schema.response
    loop = update(table).where(table.c.id == first.id).values(previous_id=second.id)
    await store.write(lambda conn: conn.execute(loop).rowcount)
    assert await turns(store, owner, second.id) == ["ask 1", "ask 2"]


async def test_of_many_who_delete_at_once_one_did(store: Store, owner: Owner) -> None:
    row = new(owner, "a", items=("rs_1",))
    await keep(store, row)
    done = await asyncio.gather(
        *(store.write(lambda conn: responses.remove(conn, owner, row.id, NOW)) for _ in range(8))
    )
    assert sorted(done) == [False] * 7 + [True]
    assert await names(store, owner) == set()
    item = schema.response_item
    left = select(func.count()).select_from(item).where(item.c.response_id == row.id)
    assert await store.read(lambda conn: conn.execute(left).scalar_one()) == 0


async def test_a_deleted_turn_leaves_a_gap(store: Store, owner: Owner) -> None:
    first = new(owner, "1")
    second = new(owner, "2", first)
    third = new(owner, "3", second)
    await keep(store, first, second, third)
    assert await store.write(lambda conn: responses.remove(conn, owner, second.id, NOW))
    found = await store.read(lambda conn: responses.chain(conn, owner, third.id))
    assert [turn.depth for turn in found] == [3]
    assert found[0].previous_id == second.id


async def test_an_item_is_held_by_the_newest_response_that_has_it(store: Store, owner: Owner) -> None:
    await keep(
        store,
        new(owner, "new", created_at=NOW + 2, items=("rs_1", "fc_2")),
        new(owner, "old", created_at=NOW + 1, items=("rs_1",)),
        new(owner, "gone", created_at=NOW, expires_at=NOW, items=("rs_3",)),
    )
    found = await store.read(lambda conn: responses.holders(conn, owner, ["rs_1", "fc_2", "rs_3", "no"], NOW))
    assert {item: name.rpartition("_")[2] for item, name in found.items()} == {"rs_1": "new", "fc_2": "new"}


async def test_sizes_are_those_of_the_turns_themselves(store: Store, owner: Owner) -> None:
    first = new(owner, "1", size=5, total=5)
    second = new(owner, "2", first, size=7, total=12)
    await keep(store, first, second)
    ids = [first.id, second.id, "resp_none"]
    assert await store.read(lambda conn: responses.sizes(conn, owner, ids, NOW)) == 12
    assert await store.read(lambda conn: responses.sizes(conn, owner, [], NOW)) == 0


async def test_an_expired_response_is_not_found_but_its_conversation_goes_on(
    store: Store, owner: Owner
) -> None:
    first = new(owner, "1", expires_at=NOW)
    second = new(owner, "2", first)
    await keep(store, first, second)
    assert await store.read(lambda conn: responses.by_id(conn, owner, first.id, NOW)) is None
    assert await store.read(lambda conn: responses.head(conn, owner, first.id, NOW)) is None
    assert not await store.write(lambda conn: responses.remove(conn, owner, first.id, NOW))
    assert await turns(store, owner, second.id) == ["ask 1", "ask 2"]


async def expired(store: Store, now: int, limit: int = 100) -> list[int]:
    """The sizes of the batches until nothing is left to do."""
    found = []
    while done := await store.write(lambda conn: responses.expire(conn, now, limit)):
        found.append(done)
    return found


async def test_a_conversation_goes_as_a_whole_when_its_last_turn_does(store: Store, owner: Owner) -> None:
    # Long before every other test's time, so that nothing else has expired then.
    old = NOW - 1000 * DAY
    over = old + responses.GRACE_MS
    first = new(owner, "1", expires_at=old - DAY)
    branch = new(owner, "branch", first, expires_at=old)
    last = new(owner, "last", first, expires_at=old + DAY)
    alone = new(owner, "alone", expires_at=old - DAY)
    await keep(store, first, branch, last, alone)
    assert await expired(store, over) == [1]
    assert await names(store, owner) == {"1", "branch", "last"}
    assert await expired(store, over + DAY - 1) == []
    assert await expired(store, over + DAY, limit=2) == [2, 1]
    assert await names(store, owner) == set()


async def test_what_has_just_expired_stays_for_calls_that_build_on_it(store: Store, owner: Owner) -> None:
    old = NOW - 2000 * DAY
    await keep(store, new(owner, "1", expires_at=old))
    assert await expired(store, old + responses.GRACE_MS - 1) == []
    assert await expired(store, old + responses.GRACE_MS) == [1]


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"size": -1, "total": 5}, {"size": 9, "total": 8}])
async def test_the_database_refuses_rows_that_make_no_sense(
    store: Store, owner: Owner, wrong: dict[str, int]
) -> None:
    row = new(owner, "a", **wrong)
    with pytest.raises((StoreError, DBAPIError)):
        await store.write(lambda conn: responses.add(conn, row))
    assert await names(store, owner) == set()
