"""Budget periods: which one a moment belongs to, and when it ends. Periods are counted in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def period_of(kind: str, now: int) -> str:
    """The name of the period `now` (Unix ms) lies in: "", "2026-11-20", "2026-W47" or "2026-11"."""
    if kind == "total":
        return ""
    day = datetime.fromtimestamp(now / 1000, UTC)
    if kind == "daily":
        return day.strftime("%Y-%m-%d")
    if kind == "weekly":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02d}"
    return day.strftime("%Y-%m")


def period_end(kind: str, now: int) -> int | None:
    """When the period of `now` ends, in Unix milliseconds; None for a budget that never resets."""
    if kind == "total":
        return None
    midnight = datetime.fromtimestamp(now / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "daily":
        end = midnight + timedelta(days=1)
    elif kind == "weekly":
        end = midnight + timedelta(days=7 - midnight.weekday())
    else:
        end = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return int(end.timestamp() * 1000)


def period_start(kind: str, now: int) -> int:
    """When the period of `now` began, in Unix milliseconds; 0 for a budget that never resets."""
    if kind == "total":
        return 0
    midnight = datetime.fromtimestamp(now / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "weekly":
        midnight -= timedelta(days=midnight.weekday())
    elif kind == "monthly":
        midnight = midnight.replace(day=1)
    return int(midnight.timestamp() * 1000)
