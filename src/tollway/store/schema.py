"""The tables, as SQLAlchemy Core sees them: one definition for queries on both databases.

The migrations below `store/migrations` create them, with the triggers that make the ledger's
tables refuse every illegal operation; a test compares the two. Times are Unix milliseconds,
money is micro-credits, JSON columns hold text written by `tollway.core.json`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

BigInt = BigInteger().with_variant(Integer(), "sqlite")


def _text(
    name: str, *more: CheckConstraint | ForeignKey, null: bool = False, default: str | None = None
) -> Column[str]:
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, Text, *more, nullable=null, server_default=server_default)


def _big(
    name: str, *more: CheckConstraint | ForeignKey, null: bool = False, default: int | None = None
) -> Column[int]:
    server_default = None if default is None else text(str(default))
    return Column(name, BigInt, *more, nullable=null, server_default=server_default)


# -- the instance ------------------------------------------------------------------------------

instance = Table(
    "instance",
    metadata,
    Column("name", Text, primary_key=True),
    _text("value"),
    comment="named facts about this database: key_check (fingerprint of the instance key), created_at, ...",
)
revision = Table(
    "revision",
    metadata,
    Column("topic", Text, primary_key=True),
    _big("number"),
    comment="topic 'keys' or 'catalogue'; the number grows with each change, so that processes notice",
)
worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    _text("host"),
    _big("pid"),
    _big("started_at"),
    _big("heartbeat_at"),
    _big("stopped_at", null=True),
    comment="processes that own holds; one whose heartbeat is older than 20 s is dead",
)

# -- who ---------------------------------------------------------------------------------------

account = Table(
    "account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _text("status", CheckConstraint("status IN ('active','suspended')", name="status"), default="active"),
    _big("created_at"),
    comment="who pays: owns one wallet, projects and users",
)
user = Table(
    "user_account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("email", Text, nullable=False, unique=True),
    _text("role", CheckConstraint("role IN ('admin','member')", name="role")),
    _text("password", null=True),
    _text("status", CheckConstraint("status IN ('active','disabled')", name="status"), default="active"),
    _big("created_at"),
    comment="a person; password is an argon2id hash",
)
project = Table(
    "project",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    _text("name"),
    _text("status", CheckConstraint("status IN ('active','disabled')", name="status"), default="active"),
    _big("created_at"),
    UniqueConstraint("account_id", "name"),
)
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    _text("name"),
    Column("digest", LargeBinary, nullable=False, unique=True),
    _text("display"),
    _text(
        "status",
        CheckConstraint("status IN ('active','disabled','revoked')", name="status"),
        default="active",
    ),
    _text("key_group", default="default"),
    _text("models", default="[]"),
    _text("networks", default="[]"),
    _big("rpm", CheckConstraint("rpm > 0", name="rpm"), null=True),
    _big("tpm", CheckConstraint("tpm > 0", name="tpm"), null=True),
    _big("concurrency", CheckConstraint("concurrency > 0", name="concurrency"), null=True),
    _big("budget", CheckConstraint("budget >= 0", name="budget"), null=True),
    _text(
        "budget_period",
        CheckConstraint("budget_period IN ('total','daily','weekly','monthly')", name="budget_period"),
        default="total",
    ),
    _big("expires_at", null=True),
    _text("replaces", ForeignKey("api_key.id"), null=True),
    _text("tags", default="[]"),
    _big("created_at"),
    Index("ix_api_key_account", "account_id"),
    comment="digest is BLAKE2b keyed with the instance's pepper; the secret itself is nowhere",
)

# -- where to ----------------------------------------------------------------------------------

channel = Table(
    "channel",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _text("dialect"),
    _text("base_url"),
    Column("secret", LargeBinary, nullable=True),
    _text("secret_hint", default=""),
    _text("groups", default='["default"]'),
    _big("priority", default=0),
    _big("weight", CheckConstraint("weight > 0", name="weight"), default=1),
    _text("status", CheckConstraint("status IN ('enabled','disabled')", name="status"), default="enabled"),
    _text("options", default="{}"),
    _big("created_at"),
    comment="secret is sealed with AES-256-GCM; lower priority numbers go first",
)
model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind", default="chat"),
    _text("provider", default=""),
    _text("description", default=""),
    _big("context_window", default=0),
    _big("output_max", default=0),
    _text("capabilities", default="[]"),
    _text("status", CheckConstraint("status IN ('enabled','disabled')", name="status"), default="enabled"),
    _big("created_at"),
)
model_alias = Table(
    "model_alias",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("model_id", Text, ForeignKey("model.id"), nullable=False),
    _big("created_at"),
)
route = Table(
    "route",
    metadata,
    Column("channel_id", Text, ForeignKey("channel.id"), primary_key=True),
    Column("model_id", Text, ForeignKey("model.id"), primary_key=True),
    _text("upstream_model"),
    _text("cost", null=True),
    _big("created_at"),
    comment="which channel serves which model, under what name; cost maps meters to our price per 10^6 units",
)
price_version = Table(
    "price_version",
    metadata,
    Column("version", BigInt, primary_key=True, autoincrement=True),
    Column("model_id", Text, ForeignKey("model.id"), nullable=False),
    _text("rates"),
    _text("source", default="operator"),
    _big("created_at"),
    Index("ix_price_version_model", "model_id", "version"),
    comment="append-only; the newest version of a model is its price, older ones stay for the calls held at them",
    sqlite_autoincrement=True,
)

# -- money -------------------------------------------------------------------------------------

AMOUNT = "BETWEEN 0 AND 1000000000000000"
COUNTER = "BETWEEN 0 AND 1000000000000000000"

ledger_account = Table(
    "ledger_account",
    metadata,
    Column("id", BigInt, primary_key=True, autoincrement=True),
    _text(
        "kind",
        CheckConstraint("kind IN ('wallet','budget','revenue','world','absorbed','promo')", name="kind"),
    ),
    _text("owner"),
    _text("period", default=""),
    _big("credited", CheckConstraint(f"credited {COUNTER}", name="credited"), default=0),
    _big("debited", CheckConstraint(f"debited {COUNTER}", name="debited"), default=0),
    _big("held", CheckConstraint("held >= 0", name="held"), default=0),
    _big("overdraft", CheckConstraint(f"overdraft {AMOUNT}", name="overdraft"), default=0),
    Column(
        "bounded",
        Integer,
        CheckConstraint("(bounded = 1) = (kind IN ('wallet','budget'))", name="bounded"),
        nullable=False,
        server_default=text("1"),
    ),
    UniqueConstraint("kind", "owner", "period"),
    CheckConstraint("bounded = 0 OR debited + held <= credited + overdraft", name="no_overspend"),
    comment="wallet: owner is an account id; budget: owner is a key id, one row per period, its overdraft is the limit",
)
hold = Table(
    "hold",
    metadata,
    Column("id", Text, primary_key=True),
    _big("wallet", ForeignKey("ledger_account.id")),
    _big("budget", ForeignKey("ledger_account.id"), null=True),
    _big("amount", CheckConstraint(f"amount {AMOUNT}", name="amount")),
    _text("state", CheckConstraint("state IN ('held','settled','released')", name="state"), default="held"),
    _big(
        "settled",
        CheckConstraint("settled IS NULL OR settled BETWEEN 0 AND amount", name="settled"),
        null=True,
    ),
    _big(
        "refunded",
        CheckConstraint("refunded >= 0 AND refunded <= COALESCE(settled, 0)", name="refunded"),
        default=0,
    ),
    _text("extends", ForeignKey("hold.id"), null=True),
    _text("reason", null=True),
    _big("price_version", default=0),
    _text("owner"),
    _big("expires_at"),
    _big("created_at"),
    _big("closed_at", null=True),
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
    _big("debit", ForeignKey("ledger_account.id")),
    _big("credit", ForeignKey("ledger_account.id")),
    _big("amount", CheckConstraint("amount BETWEEN 1 AND 1000000000000000", name="amount")),
    _text(
        "kind",
        CheckConstraint(
            "kind IN ('grant','topup','settle','budget','overage','refund','adjust','expire','absorb')",
            name="kind",
        ),
    ),
    _text("hold_id", ForeignKey("hold.id"), null=True),
    _text("note", null=True),
    _big("at"),
    CheckConstraint("debit <> credit", name="two_sides"),
    Index("ix_entry_debit", "debit", "seq"),
    # The counter accounts are on one side of nearly every entry, and nobody pages through them.
    Index(
        "ix_entry_credit",
        "credit",
        "seq",
        sqlite_where=text("credit > 4"),
        postgresql_where=text("credit > 4"),
    ),
    comment="immutable: one debit, one credit, a positive amount",
)

# -- what happened -----------------------------------------------------------------------------

call = Table(
    "call",
    metadata,
    Column("id", Text, primary_key=True),
    _text("account_id"),
    _text("project_id"),
    _text("key_id"),
    _text("model"),
    _text("channel_id", null=True),
    _text("upstream_model", null=True),
    _text("dialect"),
    _text("route"),
    Column("stream", Integer, nullable=False),
    _big("status"),
    _text("outcome"),
    _text("error_code", null=True),
    _text("flags", default="[]"),
    _text("usage", default="{}"),
    _big("price_version"),
    _big("held"),
    _big("charged"),
    _big("absorbed"),
    _big("cost", null=True),
    _big("created_at"),
    _big("first_token_at", null=True),
    _big("finished_at"),
    _text("ip"),
    _text("user_agent"),
    Index("ix_call_account", "account_id", "created_at"),
    comment="one client request; hold id = call id; ids sort by time",
    sqlite_with_rowid=False,
)
attempt = Table(
    "attempt",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    _text("channel_id"),
    _text("upstream_model"),
    _big("status"),
    _text("error", null=True),
    _big("latency_ms"),
    _big("first_byte_ms", null=True),
    _big("cost", null=True),
    _big("created_at"),
    sqlite_with_rowid=False,
)
job_run = Table(
    "job_run",
    metadata,
    Column("id", Text, primary_key=True),
    _text("job"),
    _text("status", CheckConstraint("status IN ('running','ok','failed')", name="status")),
    _big("started_at"),
    _big("finished_at", null=True),
    _text("result", default="{}"),
    Index("ix_job_run_job", "job", "started_at"),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=True),
    _big("at"),
    _text("actor"),
    _text("source"),
    _text("action"),
    _text("target"),
    _text("before", null=True),
    _text("after", null=True),
    Index("ix_audit_target", "target", "seq"),
    sqlite_autoincrement=True,
    comment="append-only; secrets never appear in before or after",
)
