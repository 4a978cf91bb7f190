"""The tables beside the ledger: grants that expire, redemption codes, caps, budgets, low balances and what is to be told."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text, text

from tollway.store.schema.columns import metadata, number, words

AMOUNT = "BETWEEN 1 AND 1000000000000000"

lot = Table(
    "lot",
    metadata,
    Column("entry_id", Text, primary_key=True),
    number("wallet", ForeignKey("ledger_account.id")),
    number("amount", CheckConstraint(f"amount {AMOUNT}", name="amount")),
    number("used", default=0),
    number("expired", default=0),
    number("granted_at"),
    number("expires_at"),
    number("closed_at", null=True),
    CheckConstraint("used >= 0 AND expired >= 0 AND used + expired <= amount", name="within"),
    Index(
        "ix_lot_open",
        "expires_at",
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
    Index("ix_lot_wallet", "wallet"),
    comment="credits that expire: entry_id is the grant; used is what was spent of it, by the order of expiry",
)
lot_mark = Table(
    "lot_mark",
    metadata,
    Column("wallet", ForeignKey("ledger_account.id"), primary_key=True, autoincrement=False),
    number("spent"),
    comment="how much of a wallet's spending has been put down to its lots",
)
code = Table(
    "code",
    metadata,
    Column("digest", Text, primary_key=True),
    words("batch"),
    words("hint"),
    number("amount", CheckConstraint(f"amount {AMOUNT}", name="amount")),
    number("credit_days", CheckConstraint("credit_days > 0", name="credit_days"), null=True),
    words("note", null=True),
    number("created_at"),
    number("expires_at", null=True),
    number("voided_at", null=True),
    number("redeemed_at", null=True),
    words("redeemed_by", null=True),
    words("entry_id", null=True),
    CheckConstraint("(redeemed_at IS NULL) = (redeemed_by IS NULL)", name="redeemed"),
    Index("ix_code_batch", "batch"),
    comment="redemption codes by the SHA-256 of what is written on them; redeemed_by is an account id",
)
model_cap = Table(
    "model_cap",
    metadata,
    Column("key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    number("amount", CheckConstraint("amount >= 0", name="amount")),
    number("created_at"),
    comment="what one call of a key may cost at most, by model; * is every model without a cap of its own",
)
own_cap = Table(
    "own_cap",
    metadata,
    Column("key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    number("amount", CheckConstraint("amount >= 0", name="amount")),
    number("created_at"),
    comment="the same, set by whoever holds the key: it narrows what the operator allows",
)
project_budget = Table(
    "project_budget",
    metadata,
    Column("project_id", Text, ForeignKey("project.id"), primary_key=True),
    number("amount", CheckConstraint("amount BETWEEN 0 AND 1000000000000000", name="amount")),
    words("period", CheckConstraint("period IN ('total','daily','weekly','monthly')", name="period")),
    number("created_at"),
    comment="what the keys of a project may spend together in each period",
)
low_balance = Table(
    "low_balance",
    metadata,
    Column("wallet", ForeignKey("ledger_account.id"), primary_key=True, autoincrement=False),
    number("below", CheckConstraint("below >= 0", name="below")),
    number("since", null=True),
    comment="wallets to be watched: since is when the balance was found to be below",
)
money_event = Table(
    "money_event",
    metadata,
    Column("id", Text, primary_key=True),
    words("kind"),
    words("account_id"),
    number("at"),
    words("details", default="{}"),
    number("sent_at", null=True),
    number("seen_at", null=True),
    words("seen_by", null=True),
    Index("ix_money_event_account", "account_id", "at"),
    Index(
        "ix_money_event_unsent",
        "at",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
    comment="what accounts are to be told about their money; sent_at is null until somebody has told them, seen_at until somebody says they know",
)
