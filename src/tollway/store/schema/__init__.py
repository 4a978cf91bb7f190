"""The tables, as SQLAlchemy Core sees them: one definition for queries on both databases."""

from __future__ import annotations

from tollway.store.schema.books import job, mark, proof_sum, rolled_refund, rollup, rollup_sum, seal
from tollway.store.schema.columns import metadata
from tollway.store.schema.discounts import discount
from tollway.store.schema.grants import (
    code,
    lot,
    lot_mark,
    low_balance,
    model_cap,
    money_event,
    project_budget,
)
from tollway.store.schema.idempotency import idempotency
from tollway.store.schema.responses import response, response_item
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
    "code",
    "discount",
    "entry",
    "hold",
    "idempotency",
    "instance",
    "job",
    "job_run",
    "ledger_account",
    "lot",
    "lot_mark",
    "low_balance",
    "mark",
    "metadata",
    "model",
    "model_alias",
    "model_cap",
    "money_event",
    "price_version",
    "project",
    "project_budget",
    "proof_sum",
    "response",
    "response_item",
    "revision",
    "rolled_refund",
    "rollup",
    "rollup_sum",
    "route",
    "seal",
    "user",
    "worker",
)
