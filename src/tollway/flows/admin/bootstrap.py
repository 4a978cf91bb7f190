"""The first start: what an empty database is given so that the first call can be made at once."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Final

from msgspec import Struct

from tollway.core.access import keys as key_rules
from tollway.core.routing.models import Channel, Model
from tollway.flows.admin import amounts
from tollway.flows.admin import models as catalogue
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.names import ACCOUNT, PROJECT
from tollway.store import accounts, careful, channels, instance, keys, models
from tollway.store.base import Transfer
from tollway.upstream.channels import SANDBOX_URL
from tollway.upstream.sandbox.models import MODELS

FIRST_KEY: Final = "first"
SANDBOX_CHANNEL: Final = "sandbox"

SANDBOX_RATES: Final = amounts.rates(
    {"input": Decimal(100), "cache_read": Decimal(10), "output": Decimal(400)}
)
"""Small but not zero, so that a first call shows a cost."""

_SET_UP: Final = "set_up_at"


class Bootstrapped(Struct, frozen=True, kw_only=True):
    """What a start found. `first`: the database was empty and is set up now.

    `key`: the secret of the first API key, only when it was asked for and only this once. `opening`:
    micro-credits granted.
    """

    first: bool
    key: str | None = None
    opening: int = 0


async def bootstrap(admin: Admin, *, with_key: bool) -> Bootstrapped:
    """Set up an empty database: account, project, opening grant, sandbox channel and models, a key.

    One transaction. Does nothing to a database that is set up. Safe when several processes start
    at once: one of them sets up, the others wait for it.
    """
    secret = key_rules.new_secret(admin.settings.key_prefix, secrets.randbits(192)) if with_key else None
    opening = amounts.micro(admin.settings.opening_credits, "an opening grant")
    first = await admin.change(lambda change: _set_up(change, admin, secret, opening))
    if not first:
        return Bootstrapped(first=False)
    return Bootstrapped(first=True, key=secret, opening=opening)


def _set_up(change: Change, admin: Admin, secret: str | None, opening: int) -> bool:
    conn, now = change.conn, change.now
    if instance.fact(conn, _SET_UP) is not None or not instance.state_once(conn, _SET_UP, str(now)):
        return False
    account_id, project_id = change.new_id("acc"), change.new_id("prj")
    wallet = accounts.add_account(conn, id=account_id, name=ACCOUNT, now=now)
    accounts.add_project(conn, id=project_id, account_id=account_id, name=PROJECT, now=now)
    if opening > 0:
        grant = Transfer(
            id=f"opening:{account_id}",
            kind="grant",
            wallet=wallet,
            amount=opening,
            at=now,
            note="opening credits",
        )
        careful.transfer(conn, request=grant)
    if admin.settings.sandbox:
        _add_sandbox(change)
    if secret is not None:
        keys.add(
            conn,
            keys.NewKey(
                id=change.new_id("key"),
                account_id=account_id,
                project_id=project_id,
                name=FIRST_KEY,
                digest=key_rules.digest(secret, admin.vault.pepper),
                display=key_rules.display(secret),
                created_at=now,
            ),
        )
    change.note(
        "instance.set_up", account_id, after={"account": ACCOUNT, "project": PROJECT, "opening": opening}
    )
    return True


def _add_sandbox(change: Change) -> None:
    channel_id = change.new_id("chn")
    channels.add(
        change.conn,
        Channel(
            id=channel_id,
            name=SANDBOX_CHANNEL,
            dialect="openai_chat",
            base_url=SANDBOX_URL,
            secret=None,
            secret_hint="",
            groups=("default",),
            priority=0,
            weight=1,
            status="enabled",
            created_at=change.now,
            options={},
        ),
    )
    for known in MODELS:
        model = Model(
            id=known.id,
            kind=known.kind,
            provider="sandbox",
            description=known.description,
            context_window=known.context,
            output_max=known.output_max,
            capabilities=(*known.capabilities, catalogue.FAULT)
            if known.misbehaves
            else tuple(known.capabilities),
            status="enabled",
            created_at=change.now,
            price=None,
            aliases=(),
            routes=(),
        )
        models.add(change.conn, model)
        models.add_price(
            change.conn, model_id=known.id, rates=SANDBOX_RATES, source="sandbox", now=change.now
        )
        channels.set_route(
            change.conn, channel_id=channel_id, model_id=known.id, upstream_model=known.id, now=change.now
        )
