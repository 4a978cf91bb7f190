"""Channels and the models they serve, as rows and as values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from tollway.core import json
from tollway.core.routing.models import Channel
from tollway.store import schema
from tollway.store.insert import insert_once


def add(conn: Connection, channel: Channel) -> None:
    """Insert a channel; its `secret` is already sealed."""
    conn.execute(
        insert(schema.channel).values(
            id=channel.id,
            name=channel.name,
            dialect=channel.dialect,
            base_url=channel.base_url,
            secret=channel.secret,
            secret_hint=channel.secret_hint,
            groups=json.encode(channel.groups).decode(),
            priority=channel.priority,
            weight=channel.weight,
            status=channel.status,
            options=json.encode(channel.options).decode(),
            created_at=channel.created_at,
        )
    )


def by_reference(conn: Connection, reference: str) -> Channel | None:
    """A channel by its id or its name."""
    table = schema.channel
    found = conn.execute(select(table).where((table.c.id == reference) | (table.c.name == reference))).first()
    return None if found is None else to_channel(found)


def listed(conn: Connection) -> list[Channel]:
    """Every channel, first the ones that are tried first."""
    table = schema.channel
    return [to_channel(row) for row in conn.execute(select(table).order_by(table.c.priority, table.c.name))]


def set_status(conn: Connection, channel_id: str, status: str) -> None:
    """Make a channel "enabled" or "disabled"."""
    conn.execute(update(schema.channel).where(schema.channel.c.id == channel_id).values(status=status))


def change(conn: Connection, channel: Channel) -> None:
    """Make a channel's row what the value says, but for its id, name, dialect, status and time."""
    conn.execute(
        update(schema.channel)
        .where(schema.channel.c.id == channel.id)
        .values(
            base_url=channel.base_url,
            secret=channel.secret,
            secret_hint=channel.secret_hint,
            groups=json.encode(channel.groups).decode(),
            priority=channel.priority,
            weight=channel.weight,
            options=json.encode(channel.options).decode(),
        )
    )


def remove(conn: Connection, channel_id: str) -> None:
    """Delete a channel and its routes; calls and attempts keep its id."""
    conn.execute(delete(schema.route).where(schema.route.c.channel_id == channel_id))
    conn.execute(delete(schema.channel).where(schema.channel.c.id == channel_id))


def set_route(conn: Connection, *, channel_id: str, model_id: str, upstream_model: str, now: int) -> None:
    """Let a channel serve a model, or serve it under another upstream name than before."""
    table = schema.route
    row = {
        "channel_id": channel_id,
        "model_id": model_id,
        "upstream_model": upstream_model,
        "created_at": now,
    }
    if not insert_once(conn, table, row):
        of_model = (table.c.channel_id == channel_id, table.c.model_id == model_id)
        conn.execute(update(table).where(*of_model).values(upstream_model=upstream_model))


def set_cost(conn: Connection, *, channel_id: str, model_id: str, cost: dict[str, int]) -> None:
    """Say what a model on a channel costs us: micro-credits per 10^6 units, by rate key."""
    table = schema.route
    of_model = (table.c.channel_id == channel_id, table.c.model_id == model_id)
    conn.execute(update(table).where(*of_model).values(cost=json.encode(cost).decode()))


def set_route_options(
    conn: Connection, *, channel_id: str, model_id: str, options: dict[str, object]
) -> None:
    """Say what is special about a model on a channel; see `core.routing.models.Route`."""
    table = schema.route
    of_model = (table.c.channel_id == channel_id, table.c.model_id == model_id)
    conn.execute(update(table).where(*of_model).values(options=json.encode(options).decode()))


def routes(conn: Connection) -> dict[str, dict[str, str]]:
    """For each channel id, its upstream model by public model."""
    table = schema.route
    found: dict[str, dict[str, str]] = {}
    for row in conn.execute(select(table).order_by(table.c.channel_id, table.c.model_id)):
        found.setdefault(row.channel_id, {})[row.model_id] = row.upstream_model
    return found


def to_channel(row: Row[Any]) -> Channel:
    """A row of the channel table as a value."""
    return Channel(
        id=row.id,
        name=row.name,
        dialect=row.dialect,
        base_url=row.base_url,
        secret=row.secret,
        secret_hint=row.secret_hint,
        groups=tuple(json.decode(row.groups)),
        priority=row.priority,
        weight=row.weight,
        status=row.status,
        created_at=row.created_at,
        options=json.decode(row.options),
    )
