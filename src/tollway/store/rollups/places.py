"""Places: what calls are summed by, each combination of dimensions under a number of its own.

A row of sums has the number instead of five long ids, so that it is a few dozen bytes and is
compared at once. A place is never deleted or changed, but for the numbers of the places above it,
which are filled in when calls are first summed by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tollway.store.schema import rollup_place as place

DIMENSIONS: Final = ("account_id", "project_id", "key_id", "model", "channel_id")
GRAINS: Final = {
    "model_channel": ("model", "channel_id"),
    "key": ("account_id", "project_id", "key_id"),
    "key_model": ("account_id", "project_id", "key_id", "model"),
    "full": DIMENSIONS,
}
"""The dimensions that calls are summed by, the fewest rows first; the others are ''."""
ABOVE: Final = {
    "owner": ("account_id",),
    "of_key": GRAINS["key"],
    "of_model_channel": GRAINS["model_channel"],
    "of_key_model": GRAINS["key_model"],
}
"""The columns of a place that name places of fewer dimensions, with theirs."""

Dimensions = tuple[str, str, str, str, str]
"""The dimensions in their order."""


def reduced(one: Dimensions, kept: Iterable[str]) -> Dimensions:
    """The place of fewer dimensions that one lies in."""
    account, project, key, model, channel = (
        value if name in kept else "" for name, value in zip(DIMENSIONS, one, strict=True)
    )
    return account, project, key, model, channel


def ensure(conn: Connection, wanted: Iterable[Dimensions]) -> None:
    """Make places that calls can be summed by, with those above them; what is there already stays."""
    fulls = sorted(set(wanted))
    if not fulls:
        return
    every = {reduced(one, kept) for one in fulls for kept in (*ABOVE.values(), DIMENSIONS)}
    # Sums by key are made of those by key and model.
    fulls = sorted({*fulls, *(reduced(one, GRAINS["key_model"]) for one in fulls)})
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    rows = [dict(zip(DIMENSIONS, one, strict=True)) for one in sorted(every)]
    conn.execute(dialect.insert(place).on_conflict_do_nothing(), rows)
    above = place.alias()
    numbers = {
        column: select(above.c.id)
        .where(*(above.c[name] == (place.c[name] if name in kept else "") for name in DIMENSIONS))
        .scalar_subquery()
        for column, kept in ABOVE.items()
    }
    change = update(place).where(*(place.c[name] == bindparam(f"its_{name}") for name in DIMENSIONS))
    conn.execute(
        change.values(**numbers),
        [{f"its_{name}": value for name, value in zip(DIMENSIONS, one, strict=True)} for one in fulls],
    )


def owner(conn: Connection, only: dict[str, str]) -> int | None:
    """The number of the one account that calls can belong to which have these dimensions.

    None: there are several. 0, which nobody has: there are none.
    """
    narrow = [place.c[name] == value for name, value in only.items()]
    if not {"account_id", "project_id", "key_id"} & only.keys():
        return None
    found = conn.execute(select(place.c.owner).where(place.c.owner > 0, *narrow).distinct().limit(2)).all()
    return None if len(found) > 1 else found[0].owner if found else 0
