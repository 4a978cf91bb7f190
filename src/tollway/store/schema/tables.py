"""The tables of the first revision: who pays, where calls go, the ledger, what happened.

The migrations below `store/migrations` create them, with the triggers that make the ledger's
tables refuse every illegal operation; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tollway.store.schema.columns import BigInt, metadata, number, words

# -- the instance ------------------------------------------------------------------------------

instance = Table(
    "instance",
    metadata,
    Column("name", Text, primary_key=True),
    words("value"),
    comment="named facts about this database: key_check (fingerprint of the instance key), created_at, ...",
)
revision = Table(
    "revision",
    metadata,
    Column("topic", Text, primary_key=True),
    number("number"),
    comment="topic 'keys' or 'catalogue'; the number grows with each change, so that processes notice",
)
worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    words("host"),
    number("pid"),
    number("started_at"),
    number("heartbeat_at"),
    number("stopped_at", null=True),
    comment="processes that own holds; one whose heartbeat is older than 20 s is dead",
)

# -- who ---------------------------------------------------------------------------------------

account = Table(
    "account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    words("status", CheckConstraint("status IN ('active','suspended')", name="status"), default="active"),
    number("created_at"),
    comment="who pays: owns one wallet, projects and users",
)
user = Table(
    "user_account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("email", Text, nullable=False, unique=True),
    words("role", CheckConstraint("role IN ('admin','member')", name="role")),
    words("password", null=True),
    words("status", CheckConstraint("status IN ('active','disabled')", name="status"), default="active"),
    number("created_at"),
    comment="a person; password is an argon2id hash",
)
project = Table(
    "project",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    words("name"),
    words("status", CheckConstraint("status IN ('active','disabled')", name="status"), default="active"),
    number("created_at"),
    UniqueConstraint("account_id", "name"),
)
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    words("name"),
    Column("digest", LargeBinary, nullable=False, unique=True),
    words("display"),
    words(
        "status",
        CheckConstraint("status IN ('active','disabled','revoked')", name="status"),
        default="active",
    ),
    words("key_group", default="default"),
    words("models", default="[]"),
    words("networks", default="[]"),
    number("rpm", CheckConstraint("rpm > 0", name="rpm"), null=True),
    number("tpm", CheckConstraint("tpm > 0", name="tpm"), null=True),
    number("concurrency", CheckConstraint("concurrency > 0", name="concurrency"), null=True),
    number("budget", CheckConstraint("budget >= 0", name="budget"), null=True),
    words(
        "budget_period",
        CheckConstraint("budget_period IN ('total','daily','weekly','monthly')", name="budget_period"),
        default="total",
    ),
    number("expires_at", null=True),
    words("replaces", ForeignKey("api_key.id"), null=True),
    words("tags", default="[]"),
    number("created_at"),
    Index("ix_api_key_account", "account_id"),
    comment="digest is BLAKE2b keyed with the instance's pepper; the secret itself is nowhere",
)

# -- where to ----------------------------------------------------------------------------------

channel = Table(
    "channel",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    words("dialect"),
    words("base_url"),
    Column("secret", LargeBinary, nullable=True),
    words("secret_hint", default=""),
    words("groups", default='["default"]'),
    number("priority", default=0),
    number("weight", CheckConstraint("weight > 0", name="weight"), default=1),
    words("status", CheckConstraint("status IN ('enabled','disabled')", name="status"), default="enabled"),
    words("options", default="{}"),
    number("created_at"),
    comment="secret is sealed with AES-256-GCM; lower priority numbers go first",
)
model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    words("kind", default="chat"),
    words("provider", default=""),
    words("description", default=""),
    number("context_window", default=0),
    number("output_max", default=0),
    words("capabilities", default="[]"),
    words("status", CheckConstraint("status IN ('enabled','disabled')", name="status"), default="enabled"),
    number("created_at"),
    words("parameters", default="{}"),
)
model_alias = Table(
    "model_alias",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("model_id", Text, ForeignKey("model.id"), nullable=False),
    number("created_at"),
)
route = Table(
    "route",
    metadata,
    Column("channel_id", Text, ForeignKey("channel.id"), primary_key=True),
    Column("model_id", Text, ForeignKey("model.id"), primary_key=True),
    words("upstream_model"),
    words("cost", null=True),
    number("created_at"),
    words("options", default="{}"),
    comment="which channel serves which model, under what name; cost maps meters to our price per 10^6 units",
)
price_version = Table(
    "price_version",
    metadata,
    Column("version", BigInt, primary_key=True, autoincrement=True),
    Column("model_id", Text, ForeignKey("model.id"), nullable=False),
    words("rates"),
    words("source", default="operator"),
    number("created_at"),
    Index("ix_price_version_model", "model_id", "version"),
    comment="append-only; the newest version of a model is its price, older ones stay for the calls held at them",
    sqlite_autoincrement=True,
)

# -- money -------------------------------------------------------------------------------------


def _one_of(name: str, words: str) -> str:
    """A check that a column is one of these words.

    Spelled out, because SQLite builds a table of more than two values after IN, for each row that is written: a
    third of what inserting a hold costs.
    """
    return " OR ".join([f"{name} = '{word}'" for word in words.split()])


AMOUNT = "BETWEEN 0 AND 1000000000000000"
COUNTER = "BETWEEN 0 AND 1000000000000000000"

ledger_account = Table(
    "ledger_account",
    metadata,
    Column("id", BigInt, primary_key=True, autoincrement=True),
    words(
        "kind",
        CheckConstraint("kind IN ('wallet','budget','revenue','world','absorbed','promo')", name="kind"),
    ),
    words("owner"),
    words("period", default=""),
    number("credited", CheckConstraint(f"credited {COUNTER}", name="credited"), default=0),
    number("debited", CheckConstraint(f"debited {COUNTER}", name="debited"), default=0),
    number("held", CheckConstraint("held >= 0", name="held"), default=0),
    number("overdraft", CheckConstraint(f"overdraft {AMOUNT}", name="overdraft"), default=0),
    Column(
        "bounded",
        Integer,
        CheckConstraint("(bounded = 1) = (kind IN ('wallet','budget'))", name="bounded"),
        nullable=False,
        server_default=text("1"),
    ),
    UniqueConstraint("kind", "owner", "period"),
    CheckConstraint("bounded = 0 OR debited + held <= credited + overdraft", name="no_overspend"),
    comment="wallet: owner is an account id; budget: owner is a key or project id, one row per period, its overdraft is the limit",
)
hold = Table(
    "hold",
    metadata,
    Column("id", Text, primary_key=True),
    number("wallet", ForeignKey("ledger_account.id")),
    number("budget", ForeignKey("ledger_account.id"), null=True),
    number("amount", CheckConstraint(f"amount {AMOUNT}", name="amount")),
    words("state", CheckConstraint(_one_of("state", "held settled released"), name="state"), default="held"),
    number(
        "settled",
        CheckConstraint("settled IS NULL OR settled BETWEEN 0 AND amount", name="settled"),
        null=True,
    ),
    number(
        "refunded",
        CheckConstraint("refunded >= 0 AND refunded <= COALESCE(settled, 0)", name="refunded"),
        default=0,
    ),
    words("extends", ForeignKey("hold.id"), null=True),
    words("reason", null=True),
    number("price_version", default=0),
    words("owner"),
    number("expires_at"),
    number("created_at"),
    number("closed_at", null=True),
    number("project_budget", ForeignKey("ledger_account.id"), null=True),
    number("refunded_over", CheckConstraint("refunded_over >= 0", name="refunded_over"), default=0),
    words("lease", null=True),
    CheckConstraint("(state = 'settled') = (settled IS NOT NULL)", name="settled_state"),
    CheckConstraint("(state = 'held') = (closed_at IS NULL)", name="closed_state"),
    Index(
        "ix_hold_open",
        "owner",
        "expires_at",
        sqlite_where=text("state = 'held'"),
        postgresql_where=text("state = 'held'"),
    ),
    Index(
        "ix_hold_extends",
        "extends",
        sqlite_where=text("extends IS NOT NULL"),
        postgresql_where=text("extends IS NOT NULL"),
    ),
    comment="credits put aside for one call; closes exactly once",
    sqlite_with_rowid=False,
)
entry = Table(
    "entry",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    number("debit", ForeignKey("ledger_account.id")),
    number("credit", ForeignKey("ledger_account.id")),
    number("amount", CheckConstraint("amount BETWEEN 1 AND 1000000000000000", name="amount")),
    words(
        "kind",
        CheckConstraint(
            _one_of("kind", "grant topup settle budget overage refund adjust expire absorb"),
            name="kind",
        ),
    ),
    words("hold_id", ForeignKey("hold.id"), null=True),
    words("note", null=True),
    number("at"),
    CheckConstraint("debit <> credit", name="two_sides"),
    # With what a page is narrowed down by and its balance is the sum of.
    Index("ix_entry_debit", "debit", "seq", "at", "kind", "amount"),
    # The counter accounts are on one side of nearly every entry, and nobody pages through them.
    Index(
        "ix_entry_credit",
        "credit",
        "seq",
        "at",
        "kind",
        "amount",
        sqlite_where=text("credit > 4"),
        postgresql_where=text("credit > 4"),
    ),
    Index(
        "ix_entry_refund",
        "at",
        sqlite_where=text("kind = 'refund'"),
        postgresql_where=text("kind = 'refund'"),
    ),
    comment="immutable: one debit, one credit, a positive amount",
)

# -- what happened -----------------------------------------------------------------------------

call = Table(
    "call",
    metadata,
    Column("id", Text, primary_key=True),
    words("account_id"),
    words("project_id"),
    words("key_id"),
    words("model"),
    words("channel_id", null=True),
    words("upstream_model", null=True),
    words("dialect"),
    words("route"),
    Column("stream", Integer, nullable=False),
    number("status"),
    words("outcome"),
    words("error_code", null=True),
    words("flags", default="[]"),
    words("usage", default="{}"),
    number("price_version"),
    number("held"),
    number("charged"),
    number("absorbed"),
    number("cost", null=True),
    number("created_at"),
    number("first_token_at", null=True),
    number("finished_at"),
    words("ip"),
    words("user_agent"),
    number("discount", default=0),
    number("tried_at", null=True),
    number("tried_ms", null=True),
    number("tried_first_ms", null=True),
    Index("ix_call_account", "account_id", "created_at"),
    Index("ix_call_finished", "finished_at"),
    comment="one client request; hold id = call id; ids sort by time; tried_*: its attempt, where the first went well",
    sqlite_with_rowid=False,
)
attempt = Table(
    "attempt",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    words("channel_id"),
    words("upstream_model"),
    number("status"),
    words("error", null=True),
    number("latency_ms"),
    number("first_byte_ms", null=True),
    number("cost", null=True),
    number("created_at"),
    words("dropped", null=True),
    comment="one send to one channel; that of a call which went well at once is within the call's row",
    sqlite_with_rowid=False,
)
job_run = Table(
    "job_run",
    metadata,
    Column("id", Text, primary_key=True),
    words("job"),
    words("status", CheckConstraint("status IN ('running','ok','failed')", name="status")),
    number("started_at"),
    number("finished_at", null=True),
    words("result", default="{}"),
    Index("ix_job_run_job", "job", "started_at"),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=True),
    number("at"),
    words("actor"),
    words("source"),
    words("action"),
    words("target"),
    words("before", null=True),
    words("after", null=True),
    Index("ix_audit_target", "target", "seq"),
    sqlite_autoincrement=True,
    comment="append-only; secrets never appear in before or after",
)
