"""Redemption codes: making batches of them, listing and voiding batches, redeeming one for an account."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Final

from msgspec import Struct

from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import Nothing, find_account
from tollway.flows.admin.refusals import Refused, invalid, nearest
from tollway.flows.credits import digest_of
from tollway.store import codes
from tollway.store.codes import CodeRefused

COUNT_MAX: Final = 10_000
DAYS_MAX: Final = 36_500
NOTE_MAX: Final = 500
ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Five bits a character, none of which is mistaken for another."""
GROUPS: Final = 5
GROUP_SIZE: Final = 4
"""20 characters hold 100 bits: nobody guesses one."""


class MakeCodes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch of codes to make. `amount`: credits of each; `credit_days`: how long they live once redeemed.

    `expires_in`: seconds in which the codes must be redeemed.
    """

    amount: Decimal
    count: int = 1
    credit_days: int | None = None
    expires_in: int | None = None
    note: str = ""


class OneBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch of codes, by its id."""

    batch: str


class RedeemCode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code to turn into credits of an account."""

    code: str
    account: str = names.ACCOUNT


class MadeCodes(Struct, frozen=True, kw_only=True):
    """A fresh batch. Its `codes` are shown this once; only their digests are kept."""

    batch: str
    amount: Decimal
    codes: tuple[str, ...]
    credit_days: int | None
    expires_at: int | None


class BatchView(Struct, frozen=True, kw_only=True):
    """A batch as shown. `open`: codes that can still be redeemed, if their time is not over."""

    batch: str
    amount: Decimal
    codes: int
    redeemed: int
    voided: int
    open: int
    note: str | None
    created_at: int
    expires_at: int | None


class Voided(Struct, frozen=True, kw_only=True):
    """How many codes of a batch were made worthless."""

    batch: str
    voided: int


class RedeemedCode(Struct, frozen=True, kw_only=True):
    """Credits that a code became."""

    account: str
    entry: str
    amount: Decimal
    expires_at: int | None


async def make(admin: Admin, request: MakeCodes) -> MadeCodes:
    """Make a batch of codes."""
    amount = amounts.positive(request.amount, "a code")
    _check(request)
    written = tuple(_new_code() for _ in range(request.count))

    def work(change: Change) -> MadeCodes:
        batch = change.new_id("bat")
        ends = None if request.expires_in is None else change.now + request.expires_in * 1000
        rows = [
            codes.Code(
                digest=digest_of(one),
                batch=batch,
                hint=one[-GROUP_SIZE:],
                amount=amount,
                credit_days=request.credit_days,
                note=request.note or None,
                created_at=change.now,
                expires_at=ends,
            )
            for one in written
        ]
        codes.add(change.conn, rows)
        after = {"amount": amount, "count": request.count, "credit_days": request.credit_days}
        change.note("code.create", batch, after={**after, "expires_at": ends})
        return MadeCodes(
            batch=batch,
            amount=amounts.shown(amount),
            codes=written,
            credit_days=request.credit_days,
            expires_at=ends,
        )

    return await admin.change(work)


async def listed(admin: Admin, _: Nothing) -> list[BatchView]:
    """Every batch, newest first."""
    return [
        BatchView(
            batch=one.batch,
            amount=amounts.shown(one.amount),
            codes=one.codes,
            redeemed=one.redeemed,
            voided=one.voided,
            open=one.codes - one.redeemed - one.voided,
            note=one.note,
            created_at=one.created_at,
            expires_at=one.expires_at,
        )
        for one in await admin.read(codes.batches)
    ]


async def void(admin: Admin, request: OneBatch) -> Voided:
    """Make the codes of a batch worthless that nobody has redeemed."""

    def work(change: Change) -> Voided:
        known = [one.batch for one in codes.batches(change.conn)]
        if request.batch not in known:
            near = nearest(request.batch, known)
            why = f"Did you mean {near[0]!r}?" if near else "There is no such batch."
            raise Refused("not_found", f"No batch {request.batch!r}", why, "tollway code list")
        gone = codes.void(change.conn, request.batch, change.now)
        change.note("code.void", request.batch, after={"voided": gone})
        return Voided(batch=request.batch, voided=gone)

    return await admin.change(work)


async def redeem(admin: Admin, request: RedeemCode) -> RedeemedCode:
    """Turn a code into credits of an account."""

    def work(change: Change) -> RedeemedCode:
        account = find_account(change.conn, request.account)
        found = codes.redeem(
            change.conn, digest_of(request.code), account_id=account.id, wallet=account.wallet, now=change.now
        )
        change.note("code.redeem", account.id, after={"amount": found.amount, "entry": found.entry_id})
        return RedeemedCode(
            account=account.name,
            entry=found.entry_id,
            amount=amounts.shown(found.amount),
            expires_at=found.expires_at,
        )

    try:
        return await admin.change(work)
    except CodeRefused as refused:
        if refused.why == "mine":
            raise Refused(
                "conflict", "This account has redeemed this code already", "A code works once."
            ) from None
        raise Refused(
            "not_found", "This code cannot be redeemed", "It is mistyped, used, voided, or its time is over."
        ) from None


def _check(request: MakeCodes) -> None:
    if not 1 <= request.count <= COUNT_MAX:
        invalid(f"A batch of {request.count} codes is not possible", f"It has 1 to {COUNT_MAX}.")
    if request.credit_days is not None and not 1 <= request.credit_days <= DAYS_MAX:
        invalid("The credits cannot live that long", f"They live 1 to {DAYS_MAX} days.")
    if request.expires_in is not None and not 0 < request.expires_in <= 10**10:
        invalid("The codes cannot expire then", "The time must lie in the future.")
    if len(request.note) > NOTE_MAX or not request.note.isprintable():
        invalid("The note is too long or not printable", f"It has at most {NOTE_MAX} printable characters.")


def _new_code() -> str:
    marks = "".join(secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP_SIZE))
    return "-".join(marks[at : at + GROUP_SIZE] for at in range(0, len(marks), GROUP_SIZE))
