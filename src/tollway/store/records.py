"""Calls, their attempts and drawn holds as rows, in the order of their columns, for drivers that are used directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tollway.core.json import encode
from tollway.store.base import AttemptRecord, CallRecord, Draw, Settlement
from tollway.store.schema import attempt, call

CALL_COLUMNS: Final = tuple(column.name for column in call.columns)
ATTEMPT_COLUMNS: Final = tuple(column.name for column in attempt.columns)
DRAW_COLUMNS: Final = (
    "id",
    "wallet",
    "amount",
    "price_version",
    "expires_at",
    "created_at",
    "lease",
    "state",
    "settled",
    "reason",
    "closed_at",
)
WENT_WELL: Final = 200
"""The status of an attempt that may be kept within its call's row."""
_NOT_HERE: Final = (None, None, None)

Value = str | int | None
Row = tuple[Value, ...]


def settled_rows(
    request: Settlement, charged: int, absorbed: int, *, late: bool = False
) -> tuple[Row, Sequence[AttemptRecord]]:
    """The row of a settled call, and those of its attempts that need rows of their own.

    Most calls are answered by the first channel they are sent to, and a row of its own for that attempt would
    be a tenth of what a settlement writes. Its time is kept with the call; all else it repeats.
    """
    attempts = request.attempts
    if len(attempts) == 1 and _repeats(attempts[0], request.call):
        return call_row(request.call, charged, absorbed, attempts[0], late=late), ()
    return call_row(request.call, charged, absorbed, late=late), attempts


def _repeats(one: AttemptRecord, whole: CallRecord) -> bool:
    return (
        one.status == WENT_WELL
        and one.n == 1
        and one.error is None
        and not one.dropped
        and one.call_id == whole.id
        and one.channel_id == whole.channel_id
        and one.upstream_model == whole.upstream_model
        and one.cost == whole.cost
    )


def call_row(
    record: CallRecord, charged: int, absorbed: int, only: AttemptRecord | None = None, *, late: bool = False
) -> Row:
    """One call with what the ledger charged and absorbed, which may differ from what the record says.

    `only`: its attempt, if there is nothing more to say of it than when it was and how long it took.
    """
    flags = record.flags
    if late and "late" not in flags:
        flags = (*flags, "late")
    return (
        record.id,
        record.account_id,
        record.project_id,
        record.key_id,
        clean(record.model),
        record.channel_id,
        record.upstream_model,
        record.dialect,
        record.route,
        int(record.stream),
        record.status,
        record.outcome,
        record.error_code,
        encode(flags).decode() if flags else "[]",
        encode(record.usage).decode() if record.usage else "{}",
        record.price_version,
        record.held,
        charged,
        absorbed,
        record.cost,
        record.created_at,
        record.first_token_at,
        record.finished_at,
        record.ip,
        clean(record.user_agent),
        record.discount,
        *(_NOT_HERE if only is None else (only.created_at, only.latency_ms, only.first_byte_ms)),
    )


def draw_row(draw: Draw, request: Settlement) -> Row:
    """The hold of a call that was drawn from a lease, closed as it begins; its owner is the process's."""
    hold = draw.hold
    return (
        hold.id,
        hold.wallet,
        hold.amount,
        hold.price_version,
        hold.expires_at,
        hold.created_at,
        draw.lease,
        "released" if request.amount is None else "settled",
        request.amount,
        request.reason,
        request.call.finished_at,
    )


def attempt_row(record: AttemptRecord) -> Row:
    """One attempt."""
    return (
        record.call_id,
        record.n,
        record.channel_id,
        record.upstream_model,
        record.status,
        None if record.error is None else clean(record.error),
        record.latency_ms,
        record.first_byte_ms,
        record.cost,
        record.created_at,
        encode(record.dropped).decode() if record.dropped else None,
    )


def clean(text: str) -> str:
    """Text from outside as both databases can store it: without NUL and lone surrogates.

    A settlement must not fail because of a character in a header.
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
