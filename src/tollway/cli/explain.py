"""`tollway explain`: what a call cost and why, with the channels it went through."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common
from tollway.cli.output import Column, field, one, rows, say, when
from tollway.cli.session import perform

LINES: Final = (
    field("meter"),
    field("quantity", right=True),
    Column("PRICE", lambda row: f"{row['price']} per {row['per']} {row['unit']}"),
    field("credits", right=True),
)
ATTEMPTS: Final = (
    field("n", right=True),
    field("channel"),
    field("upstream_model", "MODEL"),
    field("status", right=True),
    field("error"),
    Column("FIRST BYTE", lambda row: _ms(row["first_byte_ms"]), right=True),
    Column("LATENCY", lambda row: _ms(row["latency_ms"]), right=True),
    field("cost", right=True),
    field("dropped"),
)
HOLDS: Final = (
    field("id"),
    field("amount", right=True),
    field("state"),
    field("settled", right=True),
    field("released", right=True),
    field("refunded", right=True),
    field("reason"),
)
ENTRIES: Final = (field("id"), field("kind"), field("credits", right=True), field("note"))


def explain(
    call: Annotated[str, Parameter(help="Its id: the x-request-id its client got.")],
    /,
    *,
    common: Common = DEFAULT,
) -> None:
    """Explain a call: what was used, held, charged and given back, and by which channels."""
    found = perform(common, "call.explain", call=call)
    if common.format != "table":
        one(common, found, ())
        return
    receipt = found["receipt"]
    one(common, found, [("call", found["id"]), *(_facts(found, receipt) if receipt else [])])
    if receipt and receipt["bill"]:
        _section(common, "Bill", receipt["bill"]["lines"], LINES)
        say(common, f"{'Proof' if receipt['bill']['proved'] else 'NOT PROVED'}: {receipt['bill']['proof']}.")
    _section(common, "Attempts", found["attempts"], ATTEMPTS)
    _section(common, "Holds", found["holds"], HOLDS)
    _section(common, "Entries", receipt["entries"] if receipt else [], ENTRIES)
    say(common, found["story"])


def _facts(found: dict[str, Any], receipt: dict[str, Any]) -> list[tuple[str, object]]:
    timings = receipt["timings"]
    return [
        ("account", found["account"]),
        ("project", found["project"]),
        ("key", found["key"]),
        ("model", receipt["model"]),
        ("route", receipt["route"]),
        ("outcome", f"{receipt['outcome']} ({receipt['status']})"),
        ("error", receipt["error"]),
        ("flags", receipt["flags"]),
        ("at", when(timings["created_at"])),
        ("first token", _ms(timings["first_token_ms"])),
        ("total", _ms(timings["total_ms"])),
        ("tokens", f"{receipt['usage']['input_tokens']} in, {receipt['usage']['output_tokens']} out"),
        ("held", f"{receipt['held']} credits"),
        ("charged", f"{receipt['charged']} credits"),
        ("absorbed", f"{receipt['absorbed']} credits"),
        ("refunded", f"{receipt['refunded']} credits"),
        ("upstream cost", found["provider_cost"]),
        ("margin", found["margin"]),
    ]


def _section(common: Common, title: str, found: list[dict[str, Any]], columns: tuple[Column, ...]) -> None:
    if found:
        say(common, "", f"{title}:")
        rows(common, found, columns, empty="")


def _ms(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds} ms"
