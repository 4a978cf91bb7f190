"""What can be checked about an instance from inside its database, and a summary of its state."""

from __future__ import annotations

import time
from decimal import Decimal

from msgspec import Struct
from sqlalchemy import Connection, text

from tollway import __version__
from tollway.core.routing.models import Catalogue
from tollway.flows.admin import amounts, books, names
from tollway.flows.admin.books import Finding
from tollway.flows.admin.context import Admin
from tollway.flows.admin.people import Nothing
from tollway.store import accounts, models, wallets
from tollway.upstream.channels import SANDBOX_URL
from tollway.upstream.secrets import SealBroken


class Status(Struct, frozen=True, kw_only=True):
    """An instance in a few numbers. `available`: credits of the main account."""

    version: str
    engine: str
    models: int
    channels: int
    keys: int
    available: Decimal


class Check(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How thoroughly to look. `full`: prove the whole ledger, not only what is new since the last proof."""

    full: bool = False


async def check(admin: Admin, request: Check) -> list[Finding]:
    """Look at the database, its ledger, prices, channels, credentials, administrators and clock."""
    catalogue = await admin.read(models.catalogue)
    return [
        await _database(admin),
        await books.look(admin, full=request.full),
        _instance_key(admin),
        _sealed(admin, catalogue),
        _prices(catalogue),
        _provisional(catalogue),
        _served(catalogue),
        _without_secret(catalogue),
        await admin.read(_administrators),
        await admin.read(_balance),
        await _clock(admin),
    ]


async def status(admin: Admin, _: Nothing) -> Status:
    """How many models can be called, channels are enabled and keys are active; the main balance."""
    from tollway.store import keys  # noqa: PLC0415 - its name is this module's word, too

    now = admin.clock()

    def query(conn: Connection) -> Status:
        catalogue = models.catalogue(conn)
        main = accounts.account(conn, names.ACCOUNT)
        balance = None if main is None else wallets.balance(conn, main.wallet)
        active = [
            one.key
            for one in keys.listed(conn)
            if one.key.status == "active" and (one.key.expires_at is None or one.key.expires_at > now)
        ]
        return Status(
            version=__version__,
            engine=admin.store.engine,
            models=len(_callable(catalogue)),
            channels=sum(channel.status == "enabled" for channel in catalogue.channels.values()),
            keys=len(active),
            available=amounts.shown(balance.available if balance else 0),
        )

    return await admin.read(query)


async def _database(admin: Admin) -> Finding:
    engine = admin.store.engine
    version = await admin.read(
        lambda conn: str(
            conn.execute(
                text("SHOW server_version" if engine == "postgresql" else "SELECT sqlite_version()")
            ).scalar_one()
        )
    )
    return Finding(check="database", verdict="ok", detail=f"{engine} {version}, its schema is current")


def _instance_key(admin: Admin) -> Finding:
    return Finding(
        check="instance key",
        verdict="ok",
        detail=f"fits this database (fingerprint {admin.vault.fingerprint[:8]})",
    )


def _sealed(admin: Admin, catalogue: Catalogue) -> Finding:
    broken = []
    sealed = [channel for channel in catalogue.channels.values() if channel.secret is not None]
    for channel in sealed:
        try:
            admin.vault.open(channel.secret or b"", "channel", channel.id, "secret")
        except SealBroken:
            broken.append(channel.name)
    if broken:
        return Finding(
            check="credentials",
            verdict="failed",
            detail=f"cannot be opened: {', '.join(broken)}",
            fix=f"tollway channel remove {broken[0]}, then add it again",
        )
    return Finding(check="credentials", verdict="ok", detail=f"{len(sealed)} sealed credentials open")


def _prices(catalogue: Catalogue) -> Finding:
    missing = [
        model.id for model in catalogue.models.values() if model.status == "enabled" and model.price is None
    ]
    if missing:
        return Finding(
            check="prices",
            verdict="failed",
            detail=f"no price, so not callable: {', '.join(missing[:5])}",
            fix=f"tollway model price {missing[0]} --input-price 3000 --output-price 15000",
        )
    return Finding(check="prices", verdict="ok", detail=f"{len(catalogue.models)} models, each has a price")


def _provisional(catalogue: Catalogue) -> Finding:
    found = [
        model.id
        for model in catalogue.models.values()
        if model.price is not None and model.price.source == amounts.PROVISIONAL
    ]
    if found:
        return Finding(
            check="chosen prices",
            verdict="warning",
            detail=f"provisional price: {', '.join(found[:5])}",
            fix=f"tollway model price {found[0]} --input-price 3000 --output-price 15000",
        )
    return Finding(check="chosen prices", verdict="ok", detail="no model has a provisional price")


def _served(catalogue: Catalogue) -> Finding:
    wanted = [model for model in catalogue.models.values() if model.status == "enabled"]
    able = _callable(catalogue)
    unserved = [model.id for model in wanted if model.id not in able and model.price is not None]
    if unserved:
        return Finding(
            check="routes",
            verdict="warning",
            detail=f"no enabled channel serves {', '.join(unserved[:5])}",
            fix="tollway channel add --name NAME --base-url URL --model "
            f"{unserved[0]}, or tollway model disable {unserved[0]}",
        )
    return Finding(check="routes", verdict="ok", detail=f"{len(able)} models can be called")


def _without_secret(catalogue: Catalogue) -> Finding:
    found = [
        channel.name
        for channel in catalogue.channels.values()
        if channel.secret is None and channel.base_url.startswith("https://")
    ]
    if found:
        return Finding(
            check="channel secrets",
            verdict="warning",
            detail=f"https upstreams without a credential: {', '.join(found)}",
            fix=f"tollway channel remove {found[0]}, then add it with --secret-env NAME",
        )
    real = sum(channel.base_url != SANDBOX_URL for channel in catalogue.channels.values())
    return Finding(check="channel secrets", verdict="ok", detail=f"{real} channels beside the sandbox")


def _administrators(conn: Connection) -> Finding:
    if accounts.has_admin(conn):
        return Finding(check="administrator", verdict="ok", detail="there is one")
    return Finding(
        check="administrator",
        verdict="warning",
        detail="none, so the gateway serves loopback addresses only",
        fix="tollway admin create --email YOU@EXAMPLE.COM",
    )


def _balance(conn: Connection) -> Finding:
    main = accounts.account(conn, names.ACCOUNT)
    balance = None if main is None else wallets.balance(conn, main.wallet)
    available = balance.available if balance else 0
    if available <= 0:
        return Finding(
            check="balance",
            verdict="warning",
            detail=f"the account {names.ACCOUNT!r} has nothing left to spend",
            fix="tollway credits grant 1000",
        )
    return Finding(
        check="balance", verdict="ok", detail=f"{amounts.shown(available)} credits in {names.ACCOUNT!r}"
    )


async def _clock(admin: Admin) -> Finding:
    """Compare our clock with the database server's; SQLite shares ours."""
    ask = (
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        if admin.store.engine == "postgresql"
        else "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    )
    began = time.monotonic()
    theirs = await admin.read(lambda conn: int(conn.execute(text(ask)).scalar_one()))
    taken = (time.monotonic() - began) * 1000
    off = abs(admin.clock() - theirs)
    if off > 2000 + taken:
        return Finding(
            check="clock",
            verdict="failed",
            detail=f"{off / 1000:.1f} s apart from the database's clock",
            fix="Synchronise both clocks, e.g. timedatectl set-ntp true",
        )
    return Finding(check="clock", verdict="ok", detail=f"{off} ms from the database's clock")


def _callable(catalogue: Catalogue) -> set[str]:
    enabled = {channel.id for channel in catalogue.channels.values() if channel.status == "enabled"}
    return {
        model.id
        for model in catalogue.models.values()
        if model.status == "enabled"
        and model.price is not None
        and any(route.channel_id in enabled for route in model.routes)
    }
