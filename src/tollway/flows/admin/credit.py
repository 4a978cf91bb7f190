"""Credits: granting and refunding them, and reading balances and the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.flows.admin import amounts, names
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.people import Nothing, find_account
from tollway.flows.admin.refusals import Refused, invalid
from tollway.store import careful, grants, wallets
from tollway.store.accounts import Account
from tollway.store.base import IllegalOperation, InsufficientFunds, Transfer
from tollway.store.verify import verify as proven

PAGE_MAX: Final = 1000
NOTE_MAX: Final = 500


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credits to grant. `id` makes a grant re-runnable: the same id is granted once.

    `expires_in`: seconds after which what is left of them is taken back.
    """

    amount: Decimal
    account: str = names.ACCOUNT
    note: str = ""
    id: str | None = None
    expires_in: int | None = None


class Adjust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credits to put into a wallet, or to take out of it where `amount` is negative. `note` says why.

    `id` makes it re-runnable: the same id is applied once.
    """

    amount: Decimal
    note: str
    account: str = names.ACCOUNT
    id: str | None = None


class OneWallet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account's wallet."""

    account: str = names.ACCOUNT


class LedgerPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of entries, newest first. `before`: the `next` of the page before it."""

    account: str = names.ACCOUNT
    before: int | None = None
    limit: int = 50


class Refund(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call to refund; `amount` in credits, None for all that is left of its charge."""

    call: str
    amount: Decimal | None = None
    note: str = ""
    id: str | None = None


class BalanceView(Struct, frozen=True, kw_only=True):
    """A wallet in credits. `available` = granted + overdraft - spent - held."""

    account: str
    available: Decimal
    held: Decimal
    granted: Decimal
    spent: Decimal
    overdraft: Decimal
    open_holds: int


class Granted(Struct, frozen=True, kw_only=True):
    """A grant and the balance after it."""

    id: str
    amount: Decimal
    balance: BalanceView


class Adjusted(Struct, frozen=True, kw_only=True):
    """An adjustment and the balance after it. `amount` is negative where credits were taken."""

    id: str
    amount: Decimal
    balance: BalanceView


class Refunded(Struct, frozen=True, kw_only=True):
    """A refund, what of the call's charge is left, and the balance after it."""

    id: str
    call: str
    amount: Decimal
    left: Decimal
    balance: BalanceView


class EntryView(Struct, frozen=True, kw_only=True):
    """An entry as its wallet sees it; `amount` in credits is negative where credits left."""

    seq: int
    id: str
    kind: str
    amount: Decimal
    call: str | None
    note: str | None
    at: int


class LedgerView(Struct, frozen=True, kw_only=True):
    """A page of entries. `next`: pass it as `before` for the next page; None at the end."""

    entries: tuple[EntryView, ...]
    has_more: bool
    next: int | None


class InvariantView(Struct, frozen=True, kw_only=True):
    """One promise of the ledger: how many rows were looked at, how many contradict it, the first of those.

    A promise that recovery keeps by itself is `ok` with contradictions, too.
    """

    name: str
    promise: str
    ok: bool
    checked: int
    wrong: int
    differences: tuple[str, ...]
    note: str = ""


class Proof(Struct, frozen=True, kw_only=True):
    """The ledger checked. `ok`: every invariant holds."""

    ok: bool
    invariants: tuple[InvariantView, ...]


async def grant(admin: Admin, request: Grant) -> Granted:
    """Put credits into an account's wallet."""
    amount = amounts.positive(request.amount, "a grant")
    if request.expires_in is not None and not 0 < request.expires_in <= 10**10:
        invalid("The credits cannot expire then", "The time must lie in the future.")
    _check(request.note, request.id)

    def work(change: Change) -> Granted:
        account = find_account(change.conn, request.account)
        entry_id = f"grant:{request.id}" if request.id else change.new_id("grant")
        transfer = Transfer(
            id=entry_id,
            kind="grant",
            wallet=account.wallet,
            amount=amount,
            at=change.now,
            note=request.note or None,
        )
        new = wallets.entry(change.conn, entry_id, account.wallet) is None
        _transfer(change, transfer, account)
        if new and request.expires_in is not None:
            grants.add(change.conn, transfer=transfer, expires_at=change.now + request.expires_in * 1000)
        return Granted(id=entry_id, amount=amounts.shown(amount), balance=_balance(change.conn, account))

    return await admin.change(work)


async def adjust(admin: Admin, request: Adjust) -> Adjusted:
    """Correct a balance by an entry of its own: an earlier one is never changed."""
    amount = amounts.micro(request.amount, "an adjustment")
    if amount == 0:
        invalid("An adjustment of 0 credits is not possible", "It adds or takes something.")
    _check(request.note, request.id)
    if not request.note.strip():
        invalid(
            "An adjustment needs a note", "It is the only thing that will tell why.", "--note 'Granted twice'"
        )

    def work(change: Change) -> Adjusted:
        account = find_account(change.conn, request.account)
        transfer = Transfer(
            id=f"adjust:{request.id}" if request.id else change.new_id("adjust"),
            kind="adjust",
            wallet=account.wallet,
            amount=abs(amount),
            at=change.now,
            note=request.note,
            inward=amount > 0,
        )
        _transfer(change, transfer, account)
        return Adjusted(id=transfer.id, amount=amounts.shown(amount), balance=_balance(change.conn, account))

    try:
        return await admin.change(work)
    except _Short as short:
        # What is held for calls that have not come yet must not keep an operator from it.
        if not await admin.store.ledger.free(short.wallet):
            raise
        return await admin.change(work)


async def balance(admin: Admin, request: OneWallet) -> BalanceView:
    """What a wallet has, holds and has spent."""
    return await admin.read(lambda conn: _balance(conn, find_account(conn, request.account)))


async def ledger(admin: Admin, request: LedgerPage) -> LedgerView:
    """A page of a wallet's entries, newest first."""
    if not 1 <= request.limit <= PAGE_MAX:
        invalid(f"A page of {request.limit} entries is not possible", f"It has 1 to {PAGE_MAX}.")

    def query(conn: Connection) -> list[wallets.Entry]:
        account = find_account(conn, request.account)
        return wallets.entries(conn, account.wallet, before=request.before, limit=request.limit + 1)

    found = await admin.read(query)
    page = found[: request.limit]
    more = len(found) > request.limit
    return LedgerView(
        entries=tuple(_entry_view(entry) for entry in page),
        has_more=more,
        next=page[-1].seq if more else None,
    )


async def refund(admin: Admin, request: Refund) -> Refunded:
    """Give back what a call was charged, whole or in part, as an entry that points at its hold."""
    _check(request.note, request.id)
    return await admin.change(lambda change: _refund(change, request))


def _refund(change: Change, request: Refund) -> Refunded:
    conn = change.conn
    hold = wallets.hold(conn, request.call)
    if hold is None:
        raise Refused("not_found", f"No call {request.call!r}", "No hold has this id.", "tollway logs")
    left = hold.charged - hold.refunded
    amount = left if request.amount is None else amounts.positive(request.amount, "a refund")
    if amount > left or left == 0:
        charged, refunded = amounts.shown(hold.charged), amounts.shown(hold.refunded)
        raise Refused(
            "refused",
            f"The call {request.call} cannot be refunded {amounts.shown(amount or left)} credits",
            f"It was charged {charged}, of which {refunded} is refunded already.",
        )
    account = find_account(conn, wallets.owner(conn, hold.wallet))
    transfer = Transfer(
        # Two refunds of the same call at the same time have the same id, and one of them is made.
        id=f"refund:{hold.id}:{request.id or hold.refunded}",
        kind="refund",
        wallet=hold.wallet,
        amount=amount,
        at=change.now,
        hold_id=hold.id,
        note=request.note or None,
    )
    _transfer(change, transfer, account)
    after = wallets.hold(conn, hold.id) or hold
    return Refunded(
        id=transfer.id,
        call=hold.id,
        amount=amounts.shown(amount),
        left=amounts.shown(after.charged - after.refunded),
        balance=_balance(conn, account),
    )


async def verify(admin: Admin, _: Nothing) -> Proof:
    """Check every invariant of the ledger against the rows themselves."""
    report = await admin.read(proven)
    invariants = tuple(
        InvariantView(
            name=check.name,
            promise=check.title,
            ok=check.ok or check.informational,
            checked=check.rows,
            wrong=check.wrong,
            differences=tuple(f"{one.id}: {one.found}" for one in check.differences),
            note=check.note,
        )
        for check in report.checks
    )
    return Proof(ok=report.ok, invariants=invariants)


class _Short(Refused):
    """A wallet has less than is to be taken."""

    def __init__(self, transfer: Transfer, account: Account, short: InsufficientFunds) -> None:
        wanted, available = amounts.shown(transfer.amount), amounts.shown(max(0, short.balance.available))
        super().__init__(
            "refused",
            f"{wanted} credits cannot be taken from the account {account.name!r}",
            f"It has {available} available; what calls under way hold, and what they cost, is theirs.",
            f"tollway credits balance --account {account.name}",
        )
        self.wallet = transfer.wallet


def _transfer(change: Change, transfer: Transfer, account: Account) -> None:
    """Write an entry and its audit row, unless an earlier run of the same command wrote both."""
    written = wallets.entry(change.conn, transfer.id, account.wallet) is not None
    try:
        careful.transfer(change.conn, request=transfer)
    except InsufficientFunds as short:
        raise _Short(transfer, account, short) from None
    except IllegalOperation as error:
        kind = "adjustment" if transfer.kind == "adjust" else transfer.kind
        raise Refused("refused", f"The ledger refused this {kind}", f"{error}.") from None
    if written:
        return
    amount = -transfer.amount if transfer.kind == "adjust" and not transfer.inward else transfer.amount
    after = {"amount": amount, "entry": transfer.id, "call": transfer.hold_id, "note": transfer.note}
    change.note(f"credits.{transfer.kind}", account.id, after=after)


def _balance(conn: Connection, account: Account) -> BalanceView:
    found = wallets.balance(conn, account.wallet)
    assert found is not None, "every account has a wallet"
    return BalanceView(
        account=account.name,
        available=amounts.shown(found.available),
        held=amounts.shown(found.held),
        granted=amounts.shown(found.credited),
        spent=amounts.shown(found.debited),
        overdraft=amounts.shown(found.overdraft),
        open_holds=wallets.open_holds(conn, account.wallet),
    )


def _entry_view(entry: wallets.Entry) -> EntryView:
    return EntryView(
        seq=entry.seq,
        id=entry.id,
        kind=entry.kind,
        amount=amounts.shown(entry.amount),
        call=entry.hold_id,
        note=entry.note,
        at=entry.at,
    )


def _check(note: str, given_id: str | None) -> None:
    if len(note) > NOTE_MAX or not note.isprintable():
        invalid("The note is too long or not printable", f"It has at most {NOTE_MAX} printable characters.")
    if given_id is not None and not (0 < len(given_id) <= 200 and given_id.isprintable()):
        invalid("The id is not possible", "It has 1 to 200 printable characters.")
