"""What was used: by day, key, model and more, of all or of some, to the last call."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Connection

from tollway.flows.admin import amounts
from tollway.flows.admin.context import Admin
from tollway.flows.admin.keys import find as find_key
from tollway.flows.admin.people import find_account, find_project
from tollway.flows.admin.refusals import invalid, nearest, unknown
from tollway.store import accounts, keys, models
from tollway.store.rollups.periods import BadPeriod, zone_of
from tollway.store.rollups.usage import COLUMNS, UNITS, By, Used
from tollway.store.usage_now import used

DIMENSIONS: Final = get_args(By)
DAYS: Final = 30
"""Days that are shown where no time is named, today included."""
ROWS_MAX: Final = 10_000

_AGO: Final = re.compile(r"(\d{1,5})([hdw])")
_HOURS: Final = {"h": 1, "d": 24, "w": 168}
_DATE: Final = re.compile(r"\d{4}-\d\d(?:-\d\d(?:[ T]\d\d:\d\d)?)?")


class AskUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to show. `by`: of hour, day, month, account, project, key, model and channel; at most one of time.

    `since`, `until`: a month, day or minute in `zone` (an IANA name), or a time ago such as "7d"; the
    month or day `until` names is included.
    """

    by: tuple[str, ...] = ("day",)
    since: str | None = None
    until: str | None = None
    zone: str = "UTC"
    account: str | None = None
    project: str | None = None
    key: str | None = None
    model: str | None = None


class UsageRow(Struct, frozen=True, kw_only=True):
    """What was used in one period by one combination of what was asked for; None: not asked for by that.

    `period`: its beginning in the zone, `at` the same in Unix ms. Names stand for accounts, projects, keys
    and channels, ids where they are gone. Money is credits: `charged` to customers, `absorbed` by the
    operator, `cost` of upstreams where it is known, which it is not for `unpriced` calls.
    """

    period: str | None
    at: int | None
    account: str | None
    project: str | None
    key: str | None
    model: str | None
    channel: str | None
    calls: int
    failures: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    charged: Decimal
    refunded: Decimal
    absorbed: Decimal
    cost: Decimal
    unpriced: int


class UsageView(Struct, frozen=True, kw_only=True):
    """Rows by time, then by what was charged, most first, and their sum. `since`, `until`: Unix ms."""

    since: int
    until: int
    zone: str
    by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    total: UsageRow


async def show(admin: Admin, request: AskUsage) -> UsageView:
    """What was used between two times."""
    _check(request.by)
    now = admin.clock()
    try:
        zone = zone_of(request.zone)
    except BadPeriod as error:
        invalid("This time zone is not known", f"T{str(error)[1:]}.", "--tz Europe/Berlin")
    try:
        since, until = _span(request, zone, now)
        rows, total = await admin.read(partial(_read, request=request, since=since, until=until, zone=zone))
    except BadPeriod as error:
        text = str(error)
        invalid(
            "This time cannot be shown", f"{text[:1].upper()}{text[1:]}.", "--from 2026-11-01 --to 2026-11-30"
        )
    return UsageView(
        since=since, until=until, zone=request.zone, by=request.by, rows=tuple(rows), total=total
    )


def _check(by: tuple[str, ...]) -> None:
    for one in by:
        if one not in DIMENSIONS:
            near = nearest(one, DIMENSIONS)
            hint = f"Did you mean {near[0]!r}?" if near else f"It is one of {', '.join(DIMENSIONS)}."
            invalid(f"Usage cannot be shown by {one[:40]!r}", hint, "--by day,model")
    if len(set(by)) < len(by):
        invalid("Something is named twice", "Each part of --by counts once.", "--by day,model")
    if sum(one in UNITS for one in by) > 1:
        invalid("Usage is shown by one of hour, day and month", "", "--by day,model")


def _span(request: AskUsage, zone: ZoneInfo, now: int) -> tuple[int, int]:
    if request.since is None:
        today = datetime.fromtimestamp(now // 1000, zone).replace(hour=0, minute=0, second=0)
        since = _ms(today - timedelta(days=DAYS - 1))
    else:
        since = _time(request.since, zone, now, end=False)
    until = now + 1 if request.until is None else _time(request.until, zone, now, end=True)
    if since >= until:
        invalid(
            "The time asked for is empty", "It begins before it ends.", "--from 2026-11-01 --to 2026-11-30"
        )
    return since, until


def _time(text: str, zone: ZoneInfo, now: int, *, end: bool) -> int:
    """A moment as people write it, in Unix ms; with `end` that after the month, day or minute it names."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, now - int(ago[1]) * _HOURS[ago[2]] * 3_600_000)
    begin = _begin(text, zone)
    if begin is None:
        invalid(
            f"{text[:40]!r} is no time",
            "A time is a month, a day or a minute such as 2026-11-01T09:30, or a while ago such as 7d, 12h or 2w.",
            "--from 2026-11-01 --to 2026-11-30",
        )
    return _ms(_after(begin, text) if end else begin)


def _begin(text: str, zone: ZoneInfo) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text if len(text) > 7 else f"{text}-01").replace(tzinfo=zone)
    except ValueError:
        return None


def _after(begin: datetime, text: str) -> datetime:
    if len(text) == 7:
        return (begin + timedelta(days=32)).replace(day=1)
    return begin + (timedelta(days=1) if len(text) == 10 else timedelta(minutes=1))


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * 1000


def _read(
    conn: Connection, *, request: AskUsage, since: int, until: int, zone: ZoneInfo
) -> tuple[list[UsageRow], UsageRow]:
    by: Any = request.by
    only = _only(conn, request)
    found = used(conn, since=since, until=until, by=by, zone=request.zone, only=only)
    if len(found) > ROWS_MAX:
        invalid(
            f"That is more than {ROWS_MAX} rows",
            "Ask for less time or by less.",
            "--by month,model --from 2026-11",
        )
    total = used(conn, since=since, until=until, zone=request.zone, only=only)
    names = _names(conn, request.by)
    unit = next((one for one in request.by if one in UNITS), None)
    rows = [_row(one, names, unit, zone) for one in found]
    return rows, _row(total[0] if total else _nothing(), {}, None, zone)


def _nothing() -> Used:
    facts: dict[str, Any] = dict.fromkeys(Used.__struct_fields__, 0)
    return Used(**{**facts, "at": None, **dict.fromkeys(COLUMNS.values())})


def _only(conn: Connection, request: AskUsage) -> dict[str, str]:
    """What it is narrowed down to, as ids."""
    only: dict[str, str] = {}
    account = None if request.account is None else find_account(conn, request.account)
    if account is not None:
        only["account"] = account.id
    if request.project is not None:
        project = find_project(conn, request.project, account)
        only |= {"account": project.account_id, "project": project.id}
    if request.key is not None:
        key = find_key(conn, request.key, request.account).key
        only |= {"account": key.account_id, "key": key.id}
    if request.model is not None:
        catalogue = models.catalogue(conn)
        model = catalogue.resolve(request.model)
        if model is None:
            unknown("model", request.model, catalogue.models)
        only["model"] = model.id
    return only


def _names(conn: Connection, by: tuple[str, ...]) -> dict[str, str]:
    """What ids are called, of the kinds that are shown."""
    found: dict[str, str] = {}
    if "account" in by:
        found |= {one.id: one.name for one in accounts.accounts(conn)}
    if "project" in by:
        found |= {one.id: one.name for one in accounts.projects(conn)}
    if "key" in by:
        found |= {one.key.id: one.key.name for one in keys.listed(conn)}
    if "channel" in by:
        found |= {one.id: one.name for one in models.catalogue(conn).channels.values()}
    return found


def _row(one: Used, names: dict[str, str], unit: str | None, zone: ZoneInfo) -> UsageRow:
    period = None
    if one.at is not None and unit is not None:
        form = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}[unit]
        period = datetime.fromtimestamp(one.at // 1000, zone).strftime(form)
    return UsageRow(
        period=period,
        at=one.at,
        account=_named(one.account_id, names),
        project=_named(one.project_id, names),
        key=_named(one.key_id, names),
        model=one.model,
        channel=_named(one.channel_id, names),
        calls=one.calls,
        failures=one.failures,
        tokens_in=one.tokens_in,
        tokens_cached=one.tokens_cached,
        tokens_out=one.tokens_out,
        charged=amounts.shown(one.charged),
        refunded=amounts.shown(one.refunded),
        absorbed=amounts.shown(one.absorbed),
        cost=amounts.shown(one.cost),
        unpriced=one.unpriced,
    )


def _named(row_id: str | None, names: dict[str, str]) -> str | None:
    return None if row_id is None else names.get(row_id, row_id)
