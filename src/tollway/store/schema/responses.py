"""The tables of the Responses API's stored state: answers, what they answered, and how they follow one another."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, LargeBinary, Table, Text

from tollway.store.schema.columns import metadata, number, words

response = Table(
    "response",
    metadata,
    Column("id", Text, primary_key=True),
    words("account_id"),
    words("project_id"),
    words("key_id"),
    words("model"),
    words("scope"),
    words("thread"),
    words("previous_id", null=True),
    number("depth", CheckConstraint("depth >= 1", name="depth")),
    number("size", CheckConstraint("size >= 0", name="size")),
    number("total", CheckConstraint("total >= size", name="total")),
    words("status"),
    number("created_at"),
    number("expires_at"),
    Column("request", LargeBinary, nullable=False),
    Column("output", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Index("ix_response_thread", "thread", "expires_at"),
    Index("ix_response_expires", "expires_at"),
    comment="scope: the channel account that answered; thread: the conversation's first response; size: bytes of JSON of this turn, total: with those before it",
)
response_item = Table(
    "response_item",
    metadata,
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE"), primary_key=True),
    Column("item_id", Text, primary_key=True),
    Index("ix_response_item_item", "item_id"),
    sqlite_with_rowid=False,
    comment="output items whose ids an upstream chose, so that references to them can be followed",
)
