"""The catalogue of public models that ships with Tollway: what they can do and what their makers ask for them.

`tools/catalogue.py` builds the file. It is only ever read when somebody asks for it: nothing in it
is a price of this gateway until an operator takes it over.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct

HOSTS: Final = frozenset(("cerebras", "fireworks", "groq", "openrouter", "together"))
"""Providers that serve models of others; the maker's own row is meant where none is named."""


class PublicModel(Struct, frozen=True, kw_only=True):
    """One model at one provider. `rates`: micro-credits per 10^6 units, by rate key.

    `upstream`: what the provider calls it, "" for its id. `source` and `date` say where and when the
    price was read; it is not `certain` unless that was the provider's own word.
    """

    id: str
    provider: str
    kind: str
    rates: dict[str, int]
    source: str
    date: str
    upstream: str = ""
    description: str = ""
    context_window: int = 0
    output_max: int = 0
    capabilities: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    certain: bool = True


class Shipped(Struct, frozen=True, kw_only=True):
    """The file: its format, what it was built from, the day its prices were true, and its rows."""

    format: int
    built_from: str
    as_of: str
    models: tuple[PublicModel, ...]


@cache
def shipped() -> Shipped:
    """The catalogue of this version of Tollway."""
    raw = files("tollway").joinpath("data", "catalogue.json").read_bytes()
    return msgspec.json.decode(raw, type=Shipped)


def providers() -> list[str]:
    """Every provider that has a row, by name."""
    return sorted({row.provider for row in shipped().models})


def chosen(provider: str | None, pattern: str | None) -> list[PublicModel]:
    """The rows of a provider (None: any) whose ids match a pattern (None: all), sorted by id."""
    rows = [
        row
        for row in shipped().models
        if provider in (None, row.provider) and (pattern is None or fnmatchcase(row.id, pattern))
    ]
    return sorted(rows, key=lambda row: (row.id, row.provider in HOSTS, row.provider))


def one_for_each(rows: list[PublicModel], made_by: dict[str, str]) -> list[PublicModel]:
    """One row for each id: that of the provider a model is said to be of, else its maker's.

    `made_by`: the provider of each model that exists, "" where none was named.
    """
    found: dict[str, PublicModel] = {}
    for row in rows:
        if row.id not in found or (
            row.provider == made_by.get(row.id) and found[row.id].provider != row.provider
        ):
            found[row.id] = row
    return list(found.values())
