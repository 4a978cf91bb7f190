"""Which models a channel serves: adding them to a channel that exists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.routing.models import Channel
from tollway.flows.admin import channel_changes, channels, connecting
from tollway.flows.admin.context import Admin, Change
from tollway.store import channels as rows
from tollway.upstream.secrets import Secret


class ServeModels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models a channel shall serve, written as in `AddChannel`, with the price of new ones.

    `quirks` of these models on this channel replace those they had; left out, they stay.
    """

    channel: str
    models: tuple[str, ...]
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    quirks: dict[str, Any] | None = None


async def serve(admin: Admin, request: ServeModels) -> channels.AddedChannel:
    """Let a channel serve more models; one it serves already gets the new upstream name."""
    prices = channels.checked_prices(request.input_price, request.output_price)
    quirks = None if request.quirks is None else connecting.checked_quirks(request.quirks, of_route=True)
    channel, secret = await admin.read(lambda conn: _known(admin, conn, request.channel))
    pairs, hints = await channels.resolved(admin, channel, request.models)
    channels.usable(channel, secret, [upstream for _, upstream in pairs])

    def work(change: Change) -> channels.AddedChannel:
        channel = channels.find(change.conn, request.channel)
        before = rows.routes(change.conn).get(channel.id, {})
        added = [channels.serve_model(change, channel, pair, prices) for pair in pairs]
        for one in added if quirks is not None else ():
            rows.set_route_options(
                change.conn, channel_id=channel.id, model_id=one.name, options=dict(quirks or {})
            )
        after = channels.view_of(change.conn, channel)
        change.note(
            "channel.serve", channel.id, {"models": before}, {"models": after.models, "quirks": quirks}
        )
        return channels.AddedChannel(
            id=channel.id, name=channel.name, channel=after, models=tuple(added), hints=tuple(hints)
        )

    return await admin.change(work)


def _known(admin: Admin, conn: Connection, reference: str) -> tuple[Channel, Secret | None]:
    channel = channels.find(conn, reference)
    return channel, channel_changes.opened(admin, channel)
