"""API keys: making, listing, limiting, rotating, disabling and revoking them."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access import keys as key_rules
from tollway.flows import credits as money
from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import find_account, find_project
from tollway.flows.admin.refusals import Refused, invalid, unknown
from tollway.store import caps, keys, wallets

OVERLAP_MAX: Final = 30 * 24 * 3600
COUNT_MAX: Final = 10**12
Period = Literal["total", "daily", "weekly", "monthly"]


class CreateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make. `budget`: credits per `budget_period`; `expires_in`: seconds from now."""

    name: str
    account: str = names.ACCOUNT
    project: str = names.PROJECT
    group: str = "default"
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget: Decimal | None = None
    budget_period: Period = "total"
    expires_in: int | None = None
    tags: tuple[str, ...] = ()


class ListKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys to list: of one account, of one project, or (None) of all; revoked ones on request."""

    account: str | None = None
    project: str | None = None
    revoked: bool = False


class OneKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key, by id or name."""

    key: str
    account: str | None = None


class RotateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to replace; the old one works `overlap` seconds more."""

    key: str
    account: str | None = None
    overlap: int = 0


class LimitKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New limits of a key; what is UNSET stays, None takes the limit away. `budget` is credits."""

    key: str
    account: str | None = None
    rpm: int | msgspec.UnsetType | None = msgspec.UNSET
    tpm: int | msgspec.UnsetType | None = msgspec.UNSET
    concurrency: int | msgspec.UnsetType | None = msgspec.UNSET
    budget: Decimal | msgspec.UnsetType | None = msgspec.UNSET


class KeyView(Struct, frozen=True, kw_only=True):
    """A key as shown. `status`: "active", "expired", "disabled" or "revoked"; times are Unix milliseconds."""

    id: str
    name: str
    display: str
    status: str
    account_id: str
    project: str
    group: str
    models: tuple[str, ...]
    networks: tuple[str, ...]
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    budget: Decimal | None
    budget_period: str
    expires_at: int | None
    created_at: int
    replaces: str | None
    tags: tuple[str, ...]


class MadeKey(Struct, frozen=True, kw_only=True):
    """A fresh key; `key` is its secret, which is shown this once."""

    key: str
    id: str
    name: str
    project: str
    details: KeyView
    replaces: KeyView | None = None


class KeyPeriod(Struct, frozen=True, kw_only=True):
    """What a key spent and holds in one period of its budget, in credits."""

    period: str
    spent: Decimal
    held: Decimal
    limit: Decimal


class KeyReport(Struct, frozen=True, kw_only=True):
    """A key with what it has been used for. `spent` is credits over its lifetime.

    `caps`, by model, is what one call may cost as the operator set it, `own_caps` as the key's holder did.
    `usage`, `budget` and `project_budget` are those that `GET /v1/key` shows.
    """

    details: KeyView
    calls: int
    spent: Decimal
    last_used_at: int | None
    budget_periods: tuple[KeyPeriod, ...]
    caps: dict[str, Decimal]
    own_caps: dict[str, Decimal]
    usage: money.UseView
    budget: money.BudgetView | None
    project_budget: money.BudgetView | None


async def create(admin: Admin, request: CreateKey) -> MadeKey:
    """Make a key. Refused if the name is taken in its account or a limit is impossible."""
    _check(request)
    secret = key_rules.new_secret(admin.settings.key_prefix, secrets.randbits(192))

    def work(change: Change) -> MadeKey:
        account = find_account(change.conn, request.account)
        project = find_project(change.conn, request.project, account)
        _refuse_taken(change.conn, account.id, request.name)
        new = keys.NewKey(
            id=change.new_id("key"),
            account_id=account.id,
            project_id=project.id,
            name=request.name,
            digest=key_rules.digest(secret, admin.vault.pepper),
            display=key_rules.display(secret),
            created_at=change.now,
            group=request.group,
            models=request.models,
            networks=tuple(names.network(network) for network in request.networks),
            rpm=request.rpm,
            tpm=request.tpm,
            concurrency=request.concurrency,
            budget=None if request.budget is None else amounts.micro(request.budget, "a budget"),
            budget_period=request.budget_period,
            expires_at=None if request.expires_in is None else change.now + request.expires_in * 1000,
            tags=request.tags,
        )
        keys.add(change.conn, new)
        made = find(change.conn, new.id)
        change.note("key.create", new.id, after=_audited(made))
        return _made(secret, made, change.now)

    return await admin.change(work)


async def listed(admin: Admin, request: ListKeys) -> list[KeyView]:
    """Keys, oldest first; revoked ones only if asked for."""
    now = admin.clock()

    def query(conn: Connection) -> list[KeyView]:
        account = None if request.account is None else find_account(conn, request.account)
        project = None if request.project is None else find_project(conn, request.project, account)
        found = keys.listed(conn, account.id if account else None, project.id if project else None)
        return [view(key, now) for key in found if request.revoked or key.key.status != "revoked"]

    return await admin.read(query)


async def show(admin: Admin, request: OneKey) -> KeyReport:
    """A key with its use and its budget's periods."""
    now = admin.clock()

    def query(conn: Connection) -> KeyReport:
        found = find(conn, request.key, request.account)
        key = keys.capped(conn, found.key)
        use = money.use_of(conn, key, now)
        periods = tuple(
            KeyPeriod(
                period=period,
                spent=amounts.shown(balance.debited),
                held=amounts.shown(balance.held),
                limit=amounts.shown(balance.credited + balance.overdraft),
            )
            for period, balance in wallets.budget_spent(conn, key.id)
        )
        return KeyReport(
            details=view(found, now),
            calls=use.calls,
            spent=use.spent,
            last_used_at=use.last_used_at,
            budget_periods=periods,
            caps={model: amounts.shown(amount) for model, amount in key.caps},
            own_caps={model: amounts.shown(amount) for model, amount in key.own_caps},
            usage=use,
            budget=money.budget_of(conn, key.id, key.budget, key.budget_period, now),
            project_budget=money.budget_of(conn, key.project_id, key.project_budget, key.project_period, now),
        )

    return await admin.read(query)


async def rotate(admin: Admin, request: RotateKey) -> MadeKey:
    """Replace a key by one with the same name, project and limits; the old one expires after the overlap."""
    if not 0 <= request.overlap <= OVERLAP_MAX:
        invalid(
            f"An overlap of {request.overlap} seconds is not possible", f"It is 0 to {OVERLAP_MAX} seconds."
        )
    secret = key_rules.new_secret(admin.settings.key_prefix, secrets.randbits(192))

    def work(change: Change) -> MadeKey:
        old = find(change.conn, request.key, request.account)
        if old.key.status == "revoked":
            raise Refused(
                "conflict",
                f"The key {old.key.name!r} is revoked",
                "A revoked key cannot be rotated.",
                f"tollway key create --name {old.key.name!r}",
            )
        ends = change.now + request.overlap * 1000
        if old.key.expires_at is not None:
            ends = min(ends, old.key.expires_at)
        keys.set_expiry(change.conn, old.key.id, ends)
        new = _successor(change, old, key_rules.digest(secret, admin.vault.pepper), secret)
        keys.add(change.conn, new)
        caps.copy(change.conn, old.key.id, new.id, change.now)
        retired, made = find(change.conn, old.key.id), find(change.conn, new.id)
        change.note("key.rotate", new.id, _audited(old), {**_audited(made), "old_expires_at": ends})
        return _made(secret, made, change.now, view(retired, change.now))

    return await admin.change(work)


async def disable(admin: Admin, request: OneKey) -> KeyView:
    """Make a key answer 403 until it is enabled again."""
    return await _set_status(admin, request, "disabled")


async def enable(admin: Admin, request: OneKey) -> KeyView:
    """Let a disabled key work again."""
    return await _set_status(admin, request, "active")


async def revoke(admin: Admin, request: OneKey) -> KeyView:
    """End a key for good."""
    return await _set_status(admin, request, "revoked")


async def limit(admin: Admin, request: LimitKey) -> KeyView:
    """Change a key's limits; they hold for its next call."""
    wanted: dict[str, int | None] = {}
    for field in ("rpm", "tpm", "concurrency"):
        value = getattr(request, field)
        if value is not msgspec.UNSET:
            _check_count(field, value)
            wanted[field] = value
    if request.budget is not msgspec.UNSET:
        wanted["budget"] = None if request.budget is None else _budget(request.budget)
    if not wanted:
        invalid("No limit was given", "", "tollway key limit NAME --rpm 60")

    def work(change: Change) -> KeyView:
        old = find(change.conn, request.key, request.account)
        keys.set_limits(change.conn, old.key.id, wanted)
        new = find(change.conn, old.key.id)
        change.note("key.limit", old.key.id, _audited(old), _audited(new))
        return view(new, change.now)

    return await admin.change(work)


def find(conn: Connection, reference: str, account: str | None = None) -> keys.StoredKey:
    """A key by id or name: the newest one in use of that name. Refuses unknown and ambiguous names."""
    account_id = None if account is None else find_account(conn, account).id
    found = keys.by_reference(conn, reference, account_id)
    if not found:
        known = {key.key.name for key in keys.listed(conn, account_id)}
        unknown("key", reference, known)
    if len({key.key.account_id for key in found}) > 1:
        raise Refused(
            "conflict",
            f"More than one account has a key {reference!r}",
            "Name the account, or use the key's id.",
            "tollway key list",
        )
    return found[0]


def view(stored: keys.StoredKey, now: int) -> KeyView:
    """A stored key as shown at a time."""
    key = stored.key
    expired = key.status == "active" and key.expires_at is not None and key.expires_at <= now
    return KeyView(
        id=key.id,
        name=key.name,
        display=key.display,
        status="expired" if expired else key.status,
        account_id=key.account_id,
        project=key.project_name,
        group=key.group,
        models=key.models,
        networks=key.networks,
        rpm=key.rpm,
        tpm=key.tpm,
        concurrency=key.concurrency,
        budget=None if key.budget is None else amounts.shown(key.budget),
        budget_period=key.budget_period,
        expires_at=key.expires_at,
        created_at=key.created_at,
        replaces=stored.replaces,
        tags=stored.tags,
    )


async def _set_status(admin: Admin, request: OneKey, status: str) -> KeyView:
    def work(change: Change) -> KeyView:
        old = find(change.conn, request.key, request.account)
        if old.key.status == "revoked" and status != "revoked":
            raise Refused(
                "conflict",
                f"The key {old.key.name!r} is revoked",
                "Revoking is final.",
                f"tollway key create --name {old.key.name!r}",
            )
        if old.key.status == status:
            return view(old, change.now)
        keys.set_status(change.conn, old.key.id, status)
        new = find(change.conn, old.key.id)
        change.note(f"key.{status}", old.key.id, _audited(old), _audited(new))
        return view(new, change.now)

    return await admin.change(work)


def _check(request: CreateKey) -> None:
    names.name(request.name, "key")
    names.group(request.group)
    for glob in request.models:
        names.model_glob(glob)
    for network in request.networks:
        names.network(network)
    for tag in request.tags:
        names.name(tag, "tag")
    for field in ("rpm", "tpm", "concurrency"):
        _check_count(field, getattr(request, field))
    if request.expires_in is not None and not 0 < request.expires_in <= 10**10:
        invalid(f"A key cannot expire in {request.expires_in} seconds", "It must lie in the future.")
    if request.budget is not None:
        _budget(request.budget)


def _budget(budget: Decimal) -> int:
    found = amounts.micro(budget, "a budget")
    if found < 0:
        invalid(f"A budget of {budget} is not possible", "A budget is not negative.")
    return found


def _check_count(field: str, value: Any) -> None:
    if value is not None and not 0 < value <= COUNT_MAX:
        invalid(f"--{field} {value} is not possible", "A limit is a whole number above 0.")


def _refuse_taken(conn: Connection, account_id: str, name: str) -> None:
    if keys.name_taken(conn, account_id, name):
        raise Refused(
            "conflict",
            f"A key {name!r} exists already",
            "Names of keys in use are unique within an account.",
            f"Choose another name, or replace it: tollway key rotate {name!r}",
        )


def _successor(change: Change, old: keys.StoredKey, digest: bytes, secret: str) -> keys.NewKey:
    return keys.NewKey(
        id=change.new_id("key"),
        account_id=old.key.account_id,
        project_id=old.key.project_id,
        name=old.key.name,
        digest=digest,
        display=key_rules.display(secret),
        created_at=change.now,
        group=old.key.group,
        models=old.key.models,
        networks=old.key.networks,
        rpm=old.key.rpm,
        tpm=old.key.tpm,
        concurrency=old.key.concurrency,
        budget=old.key.budget,
        budget_period=old.key.budget_period,
        expires_at=old.key.expires_at,
        replaces=old.key.id,
        tags=old.tags,
    )


def _made(secret: str, stored: keys.StoredKey, now: int, replaces: KeyView | None = None) -> MadeKey:
    details = view(stored, now)
    return MadeKey(
        key=secret,
        id=details.id,
        name=details.name,
        project=details.project,
        details=details,
        replaces=replaces,
    )


def _audited(stored: keys.StoredKey) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(stored.key)
    return found
