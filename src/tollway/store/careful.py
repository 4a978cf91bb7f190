"""Ledger operations one at a time, for both databases: all that a batch does not do in passing.

Re-runs, extended holds, overage, late settlements and transfers are rare, so they are plain
functions over a connection, each run in a transaction of its own. Books of one call `c`:

    s:c   wallet   -> revenue   what was charged within the hold    (by the database, on closing)
    b:c   budget   -> world     the same, against the key's budget  (by the database, on closing)
    o:c   wallet   -> revenue   what exceeded the hold, if the wallet and the budget afforded it
    ob:c  budget   -> world     the same, against the key's budget
    p:c   budget   -> world     what was charged within the hold, against the project's budget
    op:c  budget   -> world     what exceeded it, the same
    a:c   absorbed -> revenue   what exceeded the hold and nobody paid: the operator's loss
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

from sqlalchemy import BindParameter, Connection, Row, bindparam, case, insert, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from tollway.store import idempotency, owners, records, schema
from tollway.store.base import (
    Balance,
    Claim,
    HoldRequest,
    IllegalOperation,
    InsufficientFunds,
    Settled,
    Settlement,
    Transfer,
)
from tollway.store.insert import insert_once
from tollway.store.pending import Pending, Void

WORLD: Final = 1
REVENUE: Final = 2
ABSORBED: Final = 3
PROMO: Final = 4
"""Ids of the unbounded counter accounts, made by the first migration."""

NO_OVERSPEND: Final = "ck_ledger_account_no_overspend"

ACCOUNT: Final = schema.ledger_account
HOLD: Final = schema.hold
CALL: Final = schema.call
ENTRY: Final = schema.entry

# Statements are made once: making one takes SQLAlchemy longer than SQLite takes to run it.
_ONE: Final[BindParameter[Any]] = bindparam("one")
_BALANCE: Final = select(ACCOUNT.c.credited, ACCOUNT.c.debited, ACCOUNT.c.held, ACCOUNT.c.overdraft).where(
    ACCOUNT.c.id == _ONE
)
_HELD: Final = select(HOLD).where(HOLD.c.id == _ONE)
_RECORDED: Final = select(CALL.c.charged, CALL.c.absorbed).where(CALL.c.id == _ONE)
_FAMILY: Final = (
    select(HOLD).where((HOLD.c.id == _ONE) | (HOLD.c.extends == _ONE)).order_by(HOLD.c.id).with_for_update()
)
_CLOSE: Final = (
    update(HOLD)
    .where(HOLD.c.id == _ONE, owners.OPEN)
    .values(
        state=bindparam("to"), settled=bindparam("by"), reason=bindparam("why"), closed_at=bindparam("at")
    )
)
_ENTERED: Final = select(ENTRY).where(ENTRY.c.id == _ONE)


def balance(conn: Connection, account: int) -> Balance:
    """A ledger account's balance. Raises IllegalOperation if there is none of that id."""
    found = conn.execute(_BALANCE, {"one": account}).first()
    if found is None:
        raise IllegalOperation(f"there is no ledger account {account}")
    return Balance(*found)


def carry_out(conn: Connection, owner: str, one: Pending) -> Balance | Settled:
    """Whatever the operation is. Raises StoreError."""
    request = one.request
    if isinstance(request, HoldRequest):
        return hold(conn, owner, request)
    if isinstance(request, Settlement):
        if one.draw is not None:
            _catch_up(conn, owner, one.draw.hold)
        return settle(conn, request, doubtful=one.doubtful)
    if isinstance(request, Void):
        return void(conn, request)
    assert_never(request)


def hold(conn: Connection, owner: str, request: HoldRequest) -> Balance:
    """Reserve, or find that an earlier run did. Raises InsufficientFunds, ClaimTaken, IllegalOperation."""
    found = conn.execute(_HELD, {"one": request.id}).first()
    if found is None:
        if request.claim is not None:
            _claim(conn, request, request.claim)
        refused = _refused(conn, HOLD, _hold_row(owner, request))
        # The re-run of a doubtful operation may have waited for the first run to commit.
        found = conn.execute(_HELD, {"one": request.id}).first()
        if found is None:
            raise refusal(refused or "the hold was not written", request, lambda one: balance(conn, one))
    _same_hold(found, request)
    return balance(conn, request.wallet)


def _catch_up(conn: Connection, owner: str, request: HoldRequest) -> None:
    """Write the hold of a call that was drawn from a lease, unless it was written. Raises InsufficientFunds."""
    if conn.execute(_HELD, {"one": request.id}).first() is None:
        hold(conn, owner, request)


def lapse(conn: Connection, owner: str, leases: Sequence[str], drawn: Sequence[HoldRequest], at: int) -> None:
    """Release leases and hold what was drawn from them; what is held or settled already is left alone."""
    for one in leases:
        _close(conn, one, None, "lapsed", at)
    for request in drawn:
        insert_once(conn, HOLD, _hold_row(owner, request))


def _claim(conn: Connection, request: HoldRequest, claim: Claim) -> None:
    """Take an idempotency key for a call. Raises ClaimTaken.

    A call that was paid and whose answer was lost is paid back, for its client asks once more: the
    key is charged once.
    """
    lost = idempotency.take(conn, claim, request.id, request.created_at)
    if lost is None or not lost.owed:
        return
    refund = Transfer(
        id=f"refund:{lost.call_id}:unanswered",
        kind="refund",
        wallet=request.wallet,
        amount=lost.owed,
        at=request.created_at,
        hold_id=lost.call_id,
        note="the answer was lost; the same idempotency key runs again",
    )
    transfer(conn, refund)


def _hold_row(owner: str, request: HoldRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "wallet": request.wallet,
        "budget": request.budget,
        "project_budget": request.project_budget,
        "amount": request.amount,
        "extends": request.extends,
        "price_version": request.price_version,
        "owner": owner,
        "expires_at": request.expires_at,
        "created_at": request.created_at,
    }


def refusal(cause: str, request: HoldRequest, read: Any) -> InsufficientFunds | IllegalOperation:
    """What the database's words about a refused hold mean; `read` gives an account's balance."""
    if NO_OVERSPEND not in cause:
        return IllegalOperation(cause)
    bounds = (("wallet", request.wallet), ("budget", request.budget), ("project", request.project_budget))
    given = [(kind, account, read(account)) for kind, account in bounds if account is not None]
    # By the time of the look others may have freed what was lacking: then it is the last that was.
    short = next((one for one in given if one[2].available < request.amount), given[-1])
    return InsufficientFunds(*short)


def _same_hold(found: Row[Any], request: HoldRequest) -> None:
    terms = (found.wallet, found.budget, found.project_budget, found.amount, found.extends)
    wanted = (request.wallet, request.budget, request.project_budget, request.amount, request.extends)
    if terms != wanted:
        raise IllegalOperation(f"hold {request.id} exists with other terms")
    if found.state != "held":
        raise IllegalOperation(f"hold {request.id} is already {found.state}")


def void(conn: Connection, request: Void) -> Settled:
    """Release a hold nobody was promised. A hold that never was, or is closed, is left alone."""
    _close(conn, request.hold_id, None, "unacknowledged", request.at)
    return Settled(first=True, charged=0, absorbed=0, balance=Balance(0, 0, 0))


def settle(conn: Connection, request: Settlement, *, doubtful: bool = False) -> Settled:
    """Close a hold and its extensions, and write its call; or report what an earlier run did.

    `doubtful` says that this very settlement may have been committed before. A hold that was
    swept meanwhile stays released: the call is flagged `late` and what is owed is absorbed.
    Raises IllegalOperation if there is no such hold.
    """
    if request.call.id != request.hold_id:
        raise IllegalOperation(f"call {request.call.id} cannot close hold {request.hold_id}")
    family = _family(conn, request.hold_id)
    recorded = conn.execute(_RECORDED, {"one": request.hold_id}).first()
    wallet = family[0].wallet
    if recorded is not None:
        return Settled(doubtful, recorded.charged, recorded.absorbed, balance(conn, wallet))
    late = family[0].state != "held"
    owed = request.amount or 0
    charged = 0 if late else _charge(conn, family, request)
    if not late and charged < owed and _overage(conn, family[0], owed - charged, request.call.finished_at):
        charged = owed
    absorbed = owed - charged
    if absorbed:
        _absorb(conn, request, absorbed)
    _record(conn, request, charged, absorbed, late=late and owed > 0)
    return Settled(not late, charged, absorbed, balance(conn, wallet))


def _family(conn: Connection, hold_id: str) -> Sequence[Row[Any]]:
    rows = conn.execute(_FAMILY, {"one": hold_id}).all()
    family = sorted(rows, key=lambda row: (row.extends is not None, row.created_at, row.id))
    if not family:
        raise IllegalOperation(f"there is no hold {hold_id}")
    if family[0].extends is not None:
        raise IllegalOperation(f"hold {hold_id} closes with {family[0].extends}, which it extends")
    return family


def _charge(conn: Connection, family: Sequence[Row[Any]], request: Settlement) -> int:
    charged = 0
    for one in family:
        part = None if request.amount is None else min(request.amount - charged, one.amount)
        if part == 0 and one.extends is not None:
            part = None
        if _close(conn, one.id, part, request.reason, request.call.finished_at):
            charged += part or 0
    return charged


def _close(conn: Connection, hold_id: str, amount: int | None, reason: str, at: int) -> bool:
    state = "released" if amount is None else "settled"
    facts = {"one": hold_id, "to": state, "by": amount, "why": reason, "at": at}
    return conn.execute(_CLOSE, facts).rowcount == 1


def _overage(conn: Connection, head: Row[Any], amount: int, at: int) -> bool:
    entry = {"amount": amount, "hold_id": head.id, "at": at}
    rows = [{**entry, "id": f"o:{head.id}", "debit": head.wallet, "credit": REVENUE, "kind": "overage"}]
    for prefix, account in (("ob", head.budget), ("op", head.project_budget)):
        if account is not None:
            rows.append(
                {**entry, "id": f"{prefix}:{head.id}", "debit": account, "credit": WORLD, "kind": "budget"}
            )
    refused = _refused(conn, ENTRY, *rows)
    if refused is not None and NO_OVERSPEND not in refused:
        raise IllegalOperation(refused)
    return refused is None


def _absorb(conn: Connection, request: Settlement, amount: int) -> None:
    entry = {"id": f"a:{request.hold_id}", "kind": "absorb", "hold_id": request.hold_id, "amount": amount}
    conn.execute(
        insert(ENTRY), {**entry, "debit": ABSORBED, "credit": REVENUE, "at": request.call.finished_at}
    )


def _record(conn: Connection, request: Settlement, charged: int, absorbed: int, *, late: bool) -> None:
    row, attempts = records.settled_rows(request, charged, absorbed, late=late)
    conn.execute(insert(CALL), dict(zip(records.CALL_COLUMNS, row, strict=True)))
    for one in attempts:
        values = dict(zip(records.ATTEMPT_COLUMNS, records.attempt_row(one), strict=True))
        insert_once(conn, schema.attempt, values)


def transfer(conn: Connection, request: Transfer) -> Balance:
    """Write one entry, or find that an earlier run did. Raises InsufficientFunds, IllegalOperation."""
    values = _entry_of(request)
    found = conn.execute(_ENTERED, {"one": request.id}).first()
    if found is None:
        refused = _refused(conn, ENTRY, values)
        if refused is not None and NO_OVERSPEND in refused:
            raise InsufficientFunds("wallet", request.wallet, balance(conn, request.wallet))
        if refused is not None:
            found = conn.execute(_ENTERED, {"one": request.id}).first()
            if found is None:
                raise IllegalOperation(refused)
    if found is not None and any(getattr(found, name) != values[name] for name in _IDENTITY):
        raise IllegalOperation(f"entry {request.id} exists with other terms")
    return balance(conn, request.wallet)


_IDENTITY: Final = ("debit", "credit", "amount", "kind", "hold_id")


def _entry_of(request: Transfer) -> dict[str, Any]:
    sides = {
        "grant": (PROMO, request.wallet),
        "topup": (WORLD, request.wallet),
        "refund": (REVENUE, request.wallet),
        "expire": (request.wallet, PROMO),
        "adjust": (WORLD, request.wallet) if request.inward else (request.wallet, WORLD),
    }
    if request.kind not in sides:
        raise IllegalOperation(f"a transfer is one of {', '.join(sides)}, not {request.kind!r}")
    debit, credit = sides[request.kind]
    return {
        "id": request.id,
        "debit": debit,
        "credit": credit,
        "amount": request.amount,
        "kind": request.kind,
        "hold_id": request.hold_id,
        "note": request.note,
        "at": request.at,
    }


def budget(conn: Connection, owner: str, period: str, limit: int) -> int:
    """The account of a key's or project's budget in a period, with `limit` as its overdraft.

    A limit below what is spent and held becomes just that: nothing more can be reserved.
    """
    row = {"kind": "budget", "owner": owner, "period": period, "overdraft": limit}
    of_owner = (ACCOUNT.c.kind == "budget", ACCOUNT.c.owner == owner, ACCOUNT.c.period == period)
    if not insert_once(conn, ACCOUNT, row):
        used = ACCOUNT.c.debited + ACCOUNT.c.held - ACCOUNT.c.credited
        floor = case((used > limit, used), else_=limit)
        change = update(ACCOUNT).where(*of_owner, ACCOUNT.c.overdraft != floor)
        conn.execute(change.values(overdraft=floor))
    return int(conn.execute(select(ACCOUNT.c.id).where(*of_owner)).scalar_one())


def _refused(conn: Connection, table: Any, *rows: dict[str, Any]) -> str | None:
    """Insert rows, all or none; the database's words if it refuses."""
    try:
        with conn.begin_nested():
            for row in rows:
                conn.execute(insert(table), row)
    except DBAPIError as error:
        if not at_fault(error):
            raise
        return str(error.orig)
    except OverflowError as error:
        return str(error)
    return None


def at_fault(error: DBAPIError) -> bool:
    """Whether the database refused the values or the statement, rather than failed itself."""
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, IntegrityError | DataError | ProgrammingError) or sqlstate[:2] in (
        "22",
        "23",
        "42",
    )
