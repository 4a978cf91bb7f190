"""The tables of the books beside the ledger: sums of calls, seals of entries, and the jobs that keep both."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text

from tollway.store.schema.columns import BigInt, metadata, number, words


def _id(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _begins() -> Column[int]:
    return Column("bucket", BigInt, primary_key=True, autoincrement=False)


def _place() -> Column[int]:
    return Column("place", BigInt, primary_key=True, autoincrement=False)


def _one_of(column: str, *values: str) -> str:
    """A condition in the form that SQLite checks at once: for IN it would make a table of the values for every row."""
    return " OR ".join(f"{column} = '{value}'" for value in values)


def _measures() -> tuple[Column[int], ...]:
    """What is summed: counts, micro-credits and tokens."""
    return (
        number("calls", default=0),
        number("failures", default=0),
        number("charged", default=0),
        number("absorbed", default=0),
        number("refunded", default=0),
        number("cost", default=0),
        number("unpriced", default=0),
        number("tokens_in", default=0),
        number("tokens_cached", default=0),
        number("tokens_out", default=0),
    )


rollup_place = Table(
    "rollup_place",
    metadata,
    Column("id", BigInt, primary_key=True, autoincrement=True),
    words("account_id"),
    words("project_id"),
    words("key_id"),
    words("model"),
    words("channel_id"),
    number("owner", null=True),
    number("of_key", null=True),
    number("of_model_channel", null=True),
    number("of_key_model", null=True),
    UniqueConstraint("account_id", "project_id", "key_id", "model", "channel_id"),
    comment="who pays for what and where it goes, by number; '' where a call had none or where all are meant; "
    "owner and of_...: the places of the account alone and of fewer dimensions, where somebody needed them",
)
rollup = Table(
    "rollup",
    metadata,
    _begins(),
    Column("kept", Integer, primary_key=True, autoincrement=False),
    _place(),
    number("owner"),
    *_measures(),
    CheckConstraint("kept IN (0, 1)", name="kept"),
    comment="sums of quarter hours (by finished_at, UTC): kept 0 of the calls that are there, kept 1 of those deleted, and refunds",
    sqlite_with_rowid=False,
)
rollup_sum = Table(
    "rollup_sum",
    metadata,
    Column(
        "span",
        Text,
        CheckConstraint(_one_of("span", "quarter", "hour", "watch", "day", "week", "month"), name="span"),
        primary_key=True,
    ),
    Column(
        "grain",
        Text,
        CheckConstraint(_one_of("grain", "model_channel", "key", "key_model", "full"), name="grain"),
        primary_key=True,
    ),
    _begins(),
    _place(),
    number("owner"),
    *_measures(),
    Index(
        "ix_rollup_sum_owner",
        "owner",
        "span",
        "grain",
        "bucket",
        sqlite_where=text("owner > 0"),
        postgresql_where=text("owner > 0"),
    ),
    comment="the same sums over longer spans (UTC) and fewer dimensions; changes with rollup, in its transactions",
    sqlite_with_rowid=False,
)
rolled_refund = Table(
    "rolled_refund",
    metadata,
    _id("entry_id"),
    comment="the refunds that rollup has",
    sqlite_with_rowid=False,
)
mark = Table(
    "mark",
    metadata,
    _id("topic"),
    number("value"),
    comment="how far a piece of bookkeeping has come; the topics are in store/marks.py",
)
seal = Table(
    "seal",
    metadata,
    Column("n", BigInt, primary_key=True, autoincrement=False),
    number("first_seq"),
    number("last_seq"),
    number("entries", CheckConstraint("entries > 0", name="entries")),
    number("amount"),
    words("previous"),
    words("digest"),
    number("sealed_at"),
    UniqueConstraint("first_seq"),
    UniqueConstraint("last_seq"),
    CheckConstraint("first_seq <= last_seq", name="order"),
    comment="append-only: each seal's digest covers its entries and the digest before it",
)
proof_sum = Table(
    "proof_sum",
    metadata,
    Column("account", BigInt, primary_key=True, autoincrement=False),
    number("credited", default=0),
    number("debited", default=0),
    comment="the sums of the entries that were proved, by ledger account",
)
job = Table(
    "job",
    metadata,
    _id("name"),
    words("owner", null=True),
    number("token", default=0),
    number("lease_until", default=0),
    number("next_at", default=0),
    words("memo", default="{}"),
    comment="internal periodic work: who runs it now; token grows with each claim and fences off earlier ones",
)
