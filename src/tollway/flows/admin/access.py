"""Opening an instance: the right instance key for this database, and the context of its operations."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from tollway.config import Settings
from tollway.flows.admin.context import Admin
from tollway.flows.admin.probes import Probe
from tollway.flows.admin.refusals import Refused
from tollway.store import instance
from tollway.store.base import Store
from tollway.upstream import secrets
from tollway.upstream.secrets import BadInstanceKey, Vault

KEY_CHECK = "key_check"


async def unlock(store: Store, settings: Settings) -> Vault:
    """The vault of an open database; makes the instance key of a new one.

    Raises Refused when the key is missing, malformed or another database's. Of two processes that
    set up one database with different keys, one is refused.
    """
    known = await store.read(lambda conn: instance.fact(conn, KEY_CHECK))
    try:
        key = secrets.find_instance_key(settings)
        if key is None:
            key = _made(known, settings)
        vault = Vault(key)
    except BadInstanceKey as error:
        raise Refused(
            "denied",
            "The instance key is not usable",
            f"{str(error)[:1].upper()}{str(error)[1:]}.",
            _fix(settings),
        ) from None
    if known is None:
        known = await store.write(lambda conn: _claim(conn, vault.fingerprint))
    if known != vault.fingerprint:
        raise Refused(
            "denied",
            "This database belongs to another instance key",
            f"The key found in {_where(settings)} does not fit it, so no API key or credential could be read.",
            _fix(settings),
        )
    return vault


async def open_admin(
    store: Store,
    settings: Settings,
    clock: Callable[[], int],
    *,
    actor: str,
    source: str,
    probe: Callable[[Vault], Probe] | None = None,
) -> Admin:
    """The context of administrative operations on an open store. Raises Refused as `unlock` does."""
    vault = await unlock(store, settings)
    return Admin(
        store=store,
        vault=vault,
        settings=settings,
        clock=clock,
        actor=actor,
        source=source,
        probe=None if probe is None else probe(vault),
    )


def _claim(conn: Connection, fingerprint: str) -> str:
    instance.state_once(conn, KEY_CHECK, fingerprint)
    return instance.fact(conn, KEY_CHECK) or ""


def _made(known: str | None, settings: Settings) -> bytes:
    if known is not None:
        raise BadInstanceKey(f"this database is in use already, but {secrets.key_file(settings)} is missing")
    return secrets.make_instance_key(settings)


def _where(settings: Settings) -> str:
    return "TOLLWAY_INSTANCE_KEY" if settings.instance_key else str(secrets.key_file(settings))


def _fix(settings: Settings) -> str:
    return f"Set TOLLWAY_INSTANCE_KEY to this database's key, or restore {secrets.key_file(settings)} from a backup"
