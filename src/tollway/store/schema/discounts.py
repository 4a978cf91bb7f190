"""What customers pay less than the price: one row for each account or group that has a discount."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Table, Text

from tollway.store.schema.columns import metadata, number

discount = Table(
    "discount",
    metadata,
    Column("scope", Text, CheckConstraint("scope IN ('account','group')", name="scope"), primary_key=True),
    Column("owner", Text, primary_key=True),
    number("hundredths", CheckConstraint("hundredths BETWEEN 1 AND 10000", name="hundredths")),
    number("created_at"),
    comment="owner is an account id or the name of a group; hundredths of a percent off every price",
)
