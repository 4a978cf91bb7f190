"""Which models a channel serves: adding them to a channel that exists."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from tollway.flows.admin import channels
from tollway.flows.admin.context import Admin, Change
from tollway.store import channels as rows


class ServeModels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models a channel shall serve, written as in `channels.AddChannel`, with the price of new ones."""

    channel: str
    models: tuple[str, ...]
    input_price: Decimal | None = None
    output_price: Decimal | None = None


async def serve(admin: Admin, request: ServeModels) -> channels.AddedChannel:
    """Let a channel serve more models; one it serves already gets the new upstream name."""
    prices = channels.checked_prices(request.input_price, request.output_price)
    pairs = channels.parsed(request.models)

    def work(change: Change) -> channels.AddedChannel:
        channel = channels.find(change.conn, request.channel)
        before = rows.routes(change.conn).get(channel.id, {})
        added = [channels.serve_model(change, channel, pair, prices) for pair in pairs]
        after = channels.view_of(change.conn, channel)
        change.note("channel.serve", channel.id, {"models": before}, {"models": after.models})
        return channels.AddedChannel(
            id=channel.id, name=channel.name, channel=after, models=tuple(added), hints=()
        )

    return await admin.change(work)
