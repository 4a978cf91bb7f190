"""Printing results: tables for people, JSON, JSON lines and CSV for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tollway.cli.faults import colours

if TYPE_CHECKING:
    from tollway.cli.common import Common


class Column(NamedTuple):
    """A column: its title, and the cell of a row."""

    title: str
    cell: Callable[[dict[str, Any]], object]
    right: bool = False


def field(name: str, title: str = "", *, right: bool = False) -> Column:
    """The column of one field of the rows."""

    def cell(row: dict[str, Any]) -> object:
        return row.get(name)

    return Column(title or name.upper(), cell, right)


def rows(common: Common, found: Sequence[dict[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
    """Print a list. `empty`: the message, on stderr, where a table would have no rows."""
    if common.format == "table":
        if found:
            _table([[text(column.cell(row)) for column in columns] for row in found], columns)
        else:
            say(common, empty)
    else:
        _data(common, list(found), columns)


def one(
    common: Common, found: Any, facts: Iterable[tuple[str, object]], *, columns: Sequence[Column] = ()
) -> None:
    """Print one thing: as a list of facts, or as data."""
    if common.format == "table":
        shown = [(name, text(value)) for name, value in facts]
        width = max(len(name) for name, _ in shown)
        for name, value in shown:
            sys.stdout.write(f"{name:{width}}  {value}\n")
    else:
        _data(common, found, columns or [field(name) for name in found])


def secret(common: Common, found: dict[str, Any]) -> None:
    """Print a fresh key: alone on stdout, ready for `$(...)`, unless data was asked for."""
    if common.format == "table":
        sys.stdout.write(f"{found['key']}\n")
    else:
        _data(common, found, [field(name) for name in ("id", "name", "key")])


def say(common: Common, *lines: str) -> None:
    """Write messages to stderr, unless the command is quiet."""
    if not common.quiet:
        sys.stderr.write("".join(f"{line}\n" for line in lines if line))


def json_text(value: Any) -> str:
    """A result as indented JSON; decimals are exact numbers."""
    import msgspec

    from tollway.flows.admin import wire

    return msgspec.json.format(wire.encode(value), indent=2).decode()


def text(value: object) -> str:
    """A cell: "-" for nothing, words for lists, no control characters."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}={text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value))


def when(milliseconds: int | None) -> str:
    """A time in UTC to the minute."""
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(cells: list[list[str]], columns: Sequence[Column]) -> None:
    if colours(sys.stdout.isatty()):
        _rich_table(cells, columns)
        return
    widths = [max(len(column.title), *(len(row[n]) for row in cells)) for n, column in enumerate(columns)]
    for row in [[column.title for column in columns], *cells]:
        parts = [
            f"{cell:>{width}}" if column.right else f"{cell:<{width}}"
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(parts).rstrip() + "\n")


def _rich_table(cells: list[list[str]], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def _data(common: Common, found: Any, columns: Sequence[Column]) -> None:
    from tollway.flows.admin import wire

    if common.format == "json":
        sys.stdout.write(json_text(found) + "\n")
    elif common.format == "jsonl":
        for row in found if isinstance(found, list) else [found]:
            sys.stdout.write(wire.encode(row).decode() + "\n")
    else:
        _csv(found if isinstance(found, list) else [found], columns)


def _csv(found: list[dict[str, Any]], columns: Sequence[Column]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(column.title.lower() for column in columns)
    for row in found:
        writer.writerow(_harmless(column.cell(row)) for column in columns)


def _harmless(value: object) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    shown = text(value) if value not in ("", [], {}) else ""
    dangerous = shown.startswith(("=", "+", "-", "@", "\t")) and not isinstance(value, int | Decimal)
    return f"'{shown}" if dangerous else shown
