"""`tollway credits estimate`: what a call would cost, before it is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tollway.cli.common import DEFAULT, Common, given
from tollway.cli.faults import OK, REFUSED, USAGE, CommandFailed
from tollway.cli.output import Column, field, one, rows, say
from tollway.cli.session import perform

LINES: Final = (
    field("meter"),
    field("quantity", right=True),
    Column("PRICE", lambda row: f"{row['price']} per {row['per']} {row['unit']}"),
    field("credits", right=True),
)
STDIN: Final = "-"


def estimate(  # noqa: PLR0913 - the options of one command
    model: Annotated[str | None, Parameter(help="The model (default: the one in the body).")] = None,
    /,
    *,
    input_tokens: Annotated[int | None, Parameter(help="Tokens it reads.")] = None,
    output_tokens: Annotated[int | None, Parameter(help="Tokens it writes.")] = None,
    meter: Annotated[
        list[str] | None,
        Parameter(help="A count of any meter, as METER=COUNT, e.g. image:1024x1024:high=2; repeatable."),
    ] = None,
    body: Annotated[
        str | None,
        Parameter(
            help="The file with the body of a call of any dialect; - is standard input.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    key: Annotated[str | None, Parameter(help="As this key pays, and whether it may.")] = None,
    account: Annotated[str | None, Parameter(help="The key's account.")] = None,
    common: Common = DEFAULT,
) -> int:
    """Say what a call would cost at most, or what tokens cost; exits 5 if the key would be refused."""
    counts = _counts(input_tokens, output_tokens, meter)
    if counts and body is not None:
        raise CommandFailed(
            "Counts and a body are given", "An estimate is for one of them.", _EXAMPLE, code=USAGE
        )
    text = _written(counts) if counts else _read(body)
    found = perform(common, "credits.estimate", body=text, model=model, key=key, account=account)
    verdict = found["verdict"]
    if common.format == "table":
        rows(common, found["lines"], LINES, empty="")
        one(common, found, _facts(found, verdict))
    else:
        one(common, found, ())
    say(common, f"How: {found['rule']}.")
    return OK if verdict is None or verdict["allowed"] else REFUSED


_EXAMPLE: Final = "tollway credits estimate gpt-5 --input-tokens 1200 --output-tokens 350"


def _counts(tokens_in: int | None, tokens_out: int | None, meters: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = given(input_tokens=tokens_in, output_tokens=tokens_out)
    for pair in meters or ():
        name, _, number = pair.rpartition("=")
        if not name or not (number.isascii() and number.isdigit()):
            raise CommandFailed(
                f"{pair!r} is no count", "A count is METER=COUNT.", "--meter image=2", code=USAGE
            )
        found.setdefault("meters", {})[name] = int(number)
    return found


def _written(counts: dict[str, Any]) -> str:
    from tollway.core.json import encode

    return encode(counts).decode()


def _read(body: str | None) -> str:
    """The body of a call. Without an option it may be piped in."""
    try:
        if body not in (None, STDIN):
            return Path(str(body)).read_text(encoding="utf-8")
        text = "" if body is None and sys.stdin.isatty() else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CommandFailed(f"{body} cannot be read", f"{why}.", "--body FILE", code=USAGE) from None
    if not text.strip():
        raise CommandFailed(
            "Nothing to estimate was given", "Name tokens, or a call's body.", _EXAMPLE, code=USAGE
        )
    return text


def _facts(found: dict[str, Any], verdict: dict[str, Any] | None) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("model", found["model"]),
        ("price version", found["price_version"]),
        ("discount", f"{found['discount_percent']} %" if found["discount_percent"] else None),
        ("costs" if found["bounded"] else "costs about", f"{found['credits']} credits (${found['usd']})"),
    ]
    if verdict is None:
        return facts
    limits = [
        (name.replace("_", " "), f"{verdict[name]} credits")
        for name in ("available", "budget_remaining", "project_budget_remaining", "cap")
        if verdict[name] is not None
    ]
    said = verdict["reason"] if verdict["allowed"] else f"{verdict['code']}: {verdict['reason']}"
    return [*facts, *limits, ("verdict", said)]
