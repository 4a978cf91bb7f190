"""The tables, as SQLAlchemy Core sees them: one definition for queries on both databases."""

from __future__ import annotations

from tollway.store.schema.columns import metadata
from tollway.store.schema.tables import (
    account,
    api_key,
    attempt,
    audit,
    call,
    channel,
    entry,
    hold,
    instance,
    job_run,
    ledger_account,
    model,
    model_alias,
    price_version,
    project,
    revision,
    route,
    user,
    worker,
)

__all__ = (
    "account",
    "api_key",
    "attempt",
    "audit",
    "call",
    "channel",
    "entry",
    "hold",
    "instance",
    "job_run",
    "ledger_account",
    "metadata",
    "model",
    "model_alias",
    "price_version",
    "project",
    "revision",
    "route",
    "user",
    "worker",
)
