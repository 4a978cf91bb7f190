"""What every table's definition is made of: the metadata they belong to, and columns as both databases have them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, MetaData, Text, text

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

BigInt = BigInteger().with_variant(Integer(), "sqlite")


def words(
    name: str, *more: CheckConstraint | ForeignKey, null: bool = False, default: str | None = None
) -> Column[str]:
    """A column of text; JSON columns are such, written by `tollway.core.json`."""
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, Text, *more, nullable=null, server_default=server_default)


def number(
    name: str, *more: CheckConstraint | ForeignKey, null: bool = False, default: int | None = None
) -> Column[int]:
    """A column of integers of 64 bits: times are Unix milliseconds, money is micro-credits."""
    server_default = None if default is None else text(str(default))
    return Column(name, BigInt, *more, nullable=null, server_default=server_default)
