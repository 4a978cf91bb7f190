"""Calls and attempts as rows, in the order of their columns, for drivers that are used directly."""

from __future__ import annotations

from typing import Final

from tollway.core.json import encode
from tollway.store.base import AttemptRecord, CallRecord
from tollway.store.schema import attempt, call

CALL_COLUMNS: Final = tuple(column.name for column in call.columns)
ATTEMPT_COLUMNS: Final = tuple(column.name for column in attempt.columns)

Value = str | int | None


def call_row(record: CallRecord, charged: int, absorbed: int, *, late: bool = False) -> tuple[Value, ...]:
    """One call with what the ledger charged and absorbed, which may differ from what the record says."""
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
    )


def attempt_row(record: AttemptRecord) -> tuple[Value, ...]:
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
