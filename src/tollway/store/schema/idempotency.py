"""The table of idempotency keys: which call each one is, and the answer it got."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, Text

from tollway.store.schema.columns import metadata, number, words

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    words("fingerprint"),
    words("call_id"),
    number("created_at"),
    number("expires_at"),
    number("answered_at", null=True),
    number("status", null=True),
    Column("headers", LargeBinary, nullable=True),
    Column("body", LargeBinary, nullable=True),
    Index("ix_idempotency_expires", "expires_at"),
    comment="a row without an answer counts as long as its call's hold is open; body is zlib, null if it was too large",
)
