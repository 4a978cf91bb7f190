"""Public models, their aliases and price versions as rows, and the catalogue they make up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from tollway.core import json
from tollway.core.billing.rates import Rates
from tollway.core.routing.models import Catalogue, Model, Price, Route
from tollway.store import channels, discounts, schema
from tollway.store.insert import insert_once
from tollway.store.instance import revision_of


def add(conn: Connection, model: Model) -> bool:
    """Insert a model without its price, aliases and routes; True unless it exists already."""
    return insert_once(
        conn,
        schema.model,
        {
            "id": model.id,
            "kind": model.kind,
            "provider": model.provider,
            "description": model.description,
            "context_window": model.context_window,
            "output_max": model.output_max,
            "capabilities": json.encode(model.capabilities).decode(),
            "status": model.status,
            "created_at": model.created_at,
            "parameters": json.encode(model.parameters).decode(),
        },
    )


def set_status(conn: Connection, model_id: str, status: str) -> None:
    """Make a model "enabled" or "disabled"."""
    conn.execute(update(schema.model).where(schema.model.c.id == model_id).values(status=status))


def set_facts(conn: Connection, model_id: str, facts: dict[str, Any]) -> None:
    """Change some of provider, description, context_window, output_max, capabilities and parameters."""
    lists = ("capabilities", "parameters")
    values = {name: json.encode(fact).decode() if name in lists else fact for name, fact in facts.items()}
    conn.execute(update(schema.model).where(schema.model.c.id == model_id).values(**values))


def add_price(conn: Connection, *, model_id: str, rates: dict[str, int], source: str, now: int) -> int:
    """Append a price version; calls held from now on pay it. Returns its number."""
    table = schema.price_version
    row = {"model_id": model_id, "rates": json.encode(rates).decode(), "source": source, "created_at": now}
    version: int = conn.execute(insert(table).values(**row).returning(table.c.version)).scalar_one()
    return version


def prices(conn: Connection, model_id: str) -> list[Price]:
    """Every price a model has had, newest first, but for those that cannot be read."""
    table = schema.price_version
    rows = conn.execute(select(table).where(table.c.model_id == model_id).order_by(table.c.version.desc()))
    return [found for row in rows if (found := _price(row)) is not None]


def price(conn: Connection, version: int) -> Price | None:
    """One price version, of whichever model; None also if it cannot be read."""
    table = schema.price_version
    found = conn.execute(select(table).where(table.c.version == version)).first()
    return None if found is None else _price(found)


def add_alias(conn: Connection, *, alias: str, model_id: str, now: int) -> None:
    """Insert another name of a model."""
    conn.execute(insert(schema.model_alias).values(alias=alias, model_id=model_id, created_at=now))


def remove_alias(conn: Connection, alias: str) -> bool:
    """Delete an alias; True if it existed."""
    return conn.execute(delete(schema.model_alias).where(schema.model_alias.c.alias == alias)).rowcount == 1


def alias_target(conn: Connection, alias: str) -> str | None:
    """The model an alias stands for."""
    table = schema.model_alias
    return conn.execute(select(table.c.model_id).where(table.c.alias == alias)).scalar()


def catalogue(conn: Connection) -> Catalogue:
    """Models, aliases and channels as one snapshot; `version` is the revision of topic "catalogue"."""
    aliases = _aliases(conn)
    names: dict[str, list[str]] = {}
    for alias, model_id in aliases.items():
        names.setdefault(model_id, []).append(alias)
    newest = _newest_prices(conn)
    routes = _routes(conn)
    models = {
        row.id: Model(
            id=row.id,
            kind=row.kind,
            provider=row.provider,
            description=row.description,
            context_window=row.context_window,
            output_max=row.output_max,
            capabilities=tuple(json.decode(row.capabilities)),
            status=row.status,
            created_at=row.created_at,
            price=newest.get(row.id),
            aliases=tuple(names.get(row.id, ())),
            routes=tuple(routes.get(row.id, ())),
            parameters=json.decode(row.parameters),
        )
        for row in conn.execute(select(schema.model).order_by(schema.model.c.id))
    }
    return Catalogue(
        version=revision_of(conn, "catalogue"),
        models=models,
        aliases=aliases,
        channels={channel.id: channel for channel in channels.listed(conn)},
        discounts=discounts.by_owner(conn),
    )


def revision(conn: Connection) -> int:
    """The number of the newest catalogue; see `Catalogue.version`."""
    query = select(schema.revision.c.number).where(schema.revision.c.topic == "catalogue")
    return conn.execute(query).scalar() or 0


def _aliases(conn: Connection) -> dict[str, str]:
    table = schema.model_alias
    rows = conn.execute(select(table.c.alias, table.c.model_id).order_by(table.c.alias))
    return {row.alias: row.model_id for row in rows}


def _routes(conn: Connection) -> dict[str, list[Route]]:
    table = schema.route
    found: dict[str, list[Route]] = {}
    for row in conn.execute(select(table).order_by(table.c.model_id, table.c.channel_id)):
        cost = None if row.cost is None else _rates(row.cost)
        found.setdefault(row.model_id, []).append(
            Route(
                channel_id=row.channel_id,
                upstream_model=row.upstream_model,
                cost=cost,
                options=json.decode(row.options),
            )
        )
    return found


def _newest_prices(conn: Connection) -> dict[str, Price | None]:
    table = schema.price_version
    newest = select(func.max(table.c.version)).group_by(table.c.model_id)
    rows = conn.execute(select(table).where(table.c.version.in_(newest)))
    return {row.model_id: _price(row) for row in rows}


def _price(row: Any) -> Price | None:
    rates = _rates(row.rates)
    if rates is None:
        return None
    return Price(version=row.version, rates=rates, created_at=row.created_at, source=row.source)


def _rates(stored: str) -> Rates | None:
    """Rates as stored; None for those this version cannot read, by which nothing must be billed."""
    try:
        found = json.decode(stored)
        return Rates(found) if type(found) is dict and found else None
    except ValueError:
        return None
