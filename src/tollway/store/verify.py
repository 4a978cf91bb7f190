"""Proving the books: each published invariant asked of the database, with what contradicts it.

I1  credited equals debited over all accounts
I2  a bounded account never exceeds what it was given
I3  counters are the sums of entries and open holds
I4  a hold closes exactly once, within its amount
I5  refunds stay within what was charged
I6  entries are of a known shape, each id once
I7  each call has one closed hold and the charge its entries say
I8  open holds have a living owner (information; recovery sees to it)
I10 each bill is what its usage costs by its price version
I11 the seals over the entries fit
I12 what upstreams cost is what their attempts cost, apart from what customers paid (information)
I13 calls, and the sums of those deleted, add up to the entries; rollups are the sums of their calls

I9 is a promise about media tasks, which come later. I13 is ours, not the published list's.

The counter accounts (world, revenue, absorbed, promo) keep no counters; their side of every sum
is taken from the entries.

A proof looks at all rows, which takes as long as there are many, or at those that came after the
last point up to which all was proved (`proved`): new entries, the holds and calls they belong to,
calls that finished since. What came before is then carried along as one sum for each account.
Deleted calls, longer spans of rollups and old refunds are looked at by whole proofs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.store import recomputed, sealed
from tollway.store.proved import WHOLE, Scope
from tollway.store.rollups.fill import RECOUNTED_MS
from tollway.store.rollups.sums import MEASURES, QUARTER_MS, STORED

DIFFERENCES_MAX: Final = 100


class Difference(Struct, frozen=True):
    """One row that contradicts an invariant: its id, and what was found against what was expected."""

    id: str
    found: str


class Check(Struct, frozen=True):
    """One invariant: how many rows were looked at, how many contradict it, and the first of those.

    `note`: what else there is to say, such as the sums that were compared.
    """

    name: str
    title: str
    rows: int
    wrong: int
    differences: tuple[Difference, ...]
    informational: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.wrong == 0


class Report(Struct, frozen=True):
    """All checks, in order. `ok` ignores those that only inform."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok or check.informational for check in self.checks)


class _Rule(Struct, frozen=True):
    """`rows` counts what is looked at; each of `wrong` yields (id, what was found) of a contradiction.

    Names in braces are filled in by the scope. `whole` are queries for proofs of everything only;
    `found` does the same where a query cannot; `note` is a query for one text.
    """

    name: str
    title: str
    rows: str
    wrong: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    informational: bool = False
    found: Callable[[Connection, Scope], Iterable[tuple[str, str]]] | None = None
    note: str = ""


def _bills(conn: Connection, scope: Scope) -> Iterable[tuple[str, str]]:
    return recomputed.wrong_bills(conn, None if scope.whole else scope.calls(conn))


def _seals(conn: Connection, scope: Scope) -> Iterable[tuple[str, str]]:
    return sealed.broken(conn, scope.seals)


_ENTRIES: Final = "SELECT count(*) FROM {entry} AS e"
_ACCOUNTS: Final = "SELECT count(*) FROM ledger_account"
_HOLDS: Final = "SELECT count(*) FROM {hold} AS h"
_CALLS: Final = "SELECT count(*) FROM {call} AS c"

_TOTAL: Final = """
    SELECT '{name}', 'calls say ' || there || ' and deleted ones ' || gone || ', the entries ' || entered FROM (
      SELECT COALESCE((SELECT sum({name}) FROM call), 0) AS there,
        COALESCE((SELECT sum({name}) FROM rollup WHERE kept = 1), 0) AS gone,
        COALESCE((SELECT sum(amount) FROM entry WHERE kind IN ({kinds})), 0) AS entered
    ) AS sums WHERE there + gone <> entered
    """
_SUMS: Final = ", ".join(f"COALESCE(sum({name}), 0) AS {name}" for name in MEASURES)
_PAIRS: Final = ", ".join(f"('{span}', '{grain}')" for span, grain in STORED)
_ABOVE: Final = f"""
    WITH pair (span, grain) AS (VALUES {_PAIRS}),
    built AS (SELECT substr(topic, 7) AS span, value AS until FROM mark WHERE substr(topic, 1, 6) = 'built_'),
    whole AS (SELECT b.span, {_SUMS} FROM built b LEFT JOIN rollup r ON r.bucket < b.until GROUP BY b.span),
    above AS (
      SELECT s.span, s.grain, {_SUMS} FROM built b JOIN rollup_sum s ON s.span = b.span AND s.bucket < b.until GROUP BY s.span, s.grain
    )
    SELECT p.span || ' by ' || p.grain, 'sums to calls ' || COALESCE(a.calls, 0) || ', charged ' || COALESCE(a.charged, 0)
      || ', ...; the quarters to calls ' || w.calls || ', charged ' || w.charged || ', ...'
    FROM pair p JOIN whole w ON w.span = p.span LEFT JOIN above a ON a.span = p.span AND a.grain = p.grain
    WHERE {" OR ".join(f"COALESCE(a.{name}, 0) <> w.{name}" for name in MEASURES)}
    """  # noqa: S608 - our own names

_RULES: Final = (
    _Rule(
        "I1",
        "credited equals debited over all accounts",
        _ACCOUNTS,
        (
            """
            SELECT 'all accounts', 'credited - debited = ' || total FROM (
              SELECT COALESCE((SELECT sum(credited - debited) FROM ledger_account), 0)
                + COALESCE((SELECT sum(c.amount) FROM {credits} AS c JOIN ledger_account a ON a.id = c.id WHERE a.bounded = 0), 0)
                - COALESCE((SELECT sum(d.amount) FROM {debits} AS d JOIN ledger_account a ON a.id = d.id WHERE a.bounded = 0), 0)
                AS total
            ) AS sums WHERE total <> 0
            """,
        ),
    ),
    _Rule(
        "I2",
        "a bounded account never exceeds what it was given",
        _ACCOUNTS,
        (
            """
            SELECT id, kind || ' of ' || owner || ': debited ' || debited || ' + held ' || held
              || ' of credited ' || credited || ' + overdraft ' || overdraft
            FROM ledger_account
            WHERE bounded = 1 AND debited + held > credited + overdraft
              OR credited < 0 OR debited < 0 OR held < 0 OR overdraft < 0
            """,
        ),
    ),
    _Rule(
        "I3",
        "counters are the sums of entries and open holds",
        _ACCOUNTS,
        (
            """
            WITH holds AS (
              SELECT id, sum(amount) AS amount FROM (
                SELECT wallet AS id, amount FROM hold WHERE state = 'held'
                UNION ALL
                SELECT budget, amount FROM hold WHERE state = 'held' AND budget IS NOT NULL
                UNION ALL
                SELECT project_budget, amount FROM hold WHERE state = 'held' AND project_budget IS NOT NULL
              ) AS sides GROUP BY id
            )
            SELECT a.id, a.kind || ' of ' || a.owner || ': credited ' || a.credited || ' not ' || COALESCE(c.amount, 0)
              || ', debited ' || a.debited || ' not ' || COALESCE(d.amount, 0)
              || ', held ' || a.held || ' not ' || COALESCE(h.amount, 0)
            FROM ledger_account a LEFT JOIN {credits} AS c ON c.id = a.id LEFT JOIN {debits} AS d ON d.id = a.id
              LEFT JOIN holds h ON h.id = a.id
            WHERE a.bounded = 1 AND (a.credited <> COALESCE(c.amount, 0) OR a.debited <> COALESCE(d.amount, 0)
              OR a.held <> COALESCE(h.amount, 0))
            """,
            """
            SELECT id, kind || ' keeps counters of its own' FROM ledger_account
            WHERE bounded = 0 AND (credited <> 0 OR debited <> 0 OR held <> 0)
            """,
        ),
    ),
    _Rule(
        "I4",
        "a hold closes exactly once, within its amount",
        _HOLDS,
        (
            """
            SELECT id, state || ' with settled ' || COALESCE(CAST(settled AS TEXT), 'nothing') || ' of ' || amount
            FROM {hold} AS h WHERE (state = 'settled') <> (settled IS NOT NULL) OR (state = 'held') <> (closed_at IS NULL)
              OR settled < 0 OR settled > amount OR amount < 0
            """,
            """
            SELECT h.id, 'settled ' || h.settled || ', entered ' || COALESCE(CAST(e.amount AS TEXT), 'nothing')
            FROM {hold} AS h LEFT JOIN entry e
              ON e.id = 's:' || h.id AND e.kind = 'settle' AND e.debit = h.wallet AND e.hold_id = h.id
            WHERE h.settled > 0 AND (e.amount IS NULL OR e.amount <> h.settled)
            """,
            """
            SELECT h.id, 'settled ' || h.settled || ', entered against the budget '
              || COALESCE(CAST(e.amount AS TEXT), 'nothing')
            FROM {hold} AS h LEFT JOIN entry e
              ON e.id = 'b:' || h.id AND e.kind = 'budget' AND e.debit = h.budget AND e.hold_id = h.id
            WHERE h.settled > 0 AND h.budget IS NOT NULL AND (e.amount IS NULL OR e.amount <> h.settled)
            """,
            """
            SELECT h.id, 'settled ' || h.settled || ', entered against the project''s budget '
              || COALESCE(CAST(e.amount AS TEXT), 'nothing')
            FROM {hold} AS h LEFT JOIN entry e
              ON e.id = 'p:' || h.id AND e.kind = 'budget' AND e.debit = h.project_budget AND e.hold_id = h.id
            WHERE h.settled > 0 AND h.project_budget IS NOT NULL AND (e.amount IS NULL OR e.amount <> h.settled)
            """,
            """
            SELECT e.id, e.kind || ' of ' || e.amount || ' for a hold that is ' || COALESCE(h.state, 'missing')
            FROM {entry} AS e LEFT JOIN hold h ON h.id = e.hold_id
            WHERE e.kind IN ('settle', 'budget', 'overage', 'refund') AND (h.id IS NULL OR h.state <> 'settled')
            """,
        ),
    ),
    _Rule(
        "I5",
        "refunds stay within what was charged",
        _HOLDS,
        (
            """
            SELECT h.id, 'refunded ' || h.refunded || ' of ' || COALESCE(h.settled, 0) || ' and beyond the hold ' || h.refunded_over
              || ' of ' || COALESCE(o.amount, 0) || ', entered ' || COALESCE(r.amount, 0)
            FROM {hold} AS h LEFT JOIN (
              SELECT hold_id, sum(amount) AS amount FROM entry WHERE kind = 'refund' GROUP BY hold_id
            ) AS r ON r.hold_id = h.id
              LEFT JOIN entry o ON o.id = 'o:' || h.id AND o.kind = 'overage' AND o.hold_id = h.id
            WHERE (h.refunded <> 0 OR h.refunded_over <> 0 OR r.amount IS NOT NULL)
              AND (h.refunded > COALESCE(h.settled, 0) OR h.refunded_over > COALESCE(o.amount, 0)
                OR h.refunded + h.refunded_over <> COALESCE(r.amount, 0))
            """,
        ),
    ),
    _Rule(
        "I6",
        "entries are of a known shape, each id once",
        _ENTRIES,
        (
            "SELECT id, 'appears ' || count(*) || ' times' FROM entry WHERE {named} GROUP BY id HAVING count(*) > 1",
            """
            SELECT e.id, e.kind || ' of ' || e.amount || ' from ' || COALESCE(d.kind, 'nowhere') || ' to ' || COALESCE(c.kind, 'nowhere')
            FROM {entry} AS e LEFT JOIN ledger_account d ON d.id = e.debit LEFT JOIN ledger_account c ON c.id = e.credit
            WHERE e.amount < 1 OR COALESCE(CASE e.kind
              WHEN 'settle' THEN d.kind = 'wallet' AND c.kind = 'revenue' AND e.id = 's:' || e.hold_id
              WHEN 'overage' THEN d.kind = 'wallet' AND c.kind = 'revenue' AND e.id = 'o:' || e.hold_id
              WHEN 'budget' THEN d.kind = 'budget' AND c.kind = 'world' AND e.id IN ('b:' || e.hold_id, 'ob:' || e.hold_id, 'p:' || e.hold_id, 'op:' || e.hold_id)
              WHEN 'absorb' THEN d.kind = 'absorbed' AND c.kind = 'revenue' AND e.id = 'a:' || e.hold_id
              WHEN 'refund' THEN d.kind = 'revenue' AND c.kind = 'wallet' AND e.hold_id IS NOT NULL
              WHEN 'grant' THEN d.kind = 'promo' AND c.kind = 'wallet'
              WHEN 'topup' THEN d.kind = 'world' AND c.kind = 'wallet'
              WHEN 'expire' THEN d.kind = 'wallet' AND c.kind = 'promo'
              WHEN 'adjust' THEN d.kind = 'wallet' AND c.kind = 'world' OR d.kind = 'world' AND c.kind = 'wallet'
            END, FALSE) = FALSE
            """,
        ),
    ),
    _Rule(
        "I7",
        "each call has one closed hold and the charge its entries say",
        _CALLS,
        (
            """
            SELECT c.id, 'its hold is ' || COALESCE(h.state, 'missing')
            FROM {call} AS c LEFT JOIN hold h ON h.id = c.id WHERE h.id IS NULL OR h.state = 'held' OR h.extends IS NOT NULL
            """,
            """
            SELECT h.id, 'a settled hold without a call' FROM {hold} AS h LEFT JOIN call c ON c.id = h.id
            WHERE h.state = 'settled' AND h.extends IS NULL AND c.id IS NULL
              AND h.closed_at >= COALESCE((SELECT value FROM mark WHERE topic = 'pruned'), 0)
            """,
            """
            -- The cast gives the column a type, without which SQLite joins it row by row.
            WITH charges AS (
              SELECT CAST(COALESCE(h.extends, h.id) AS TEXT) AS id, sum(e.amount) AS amount
              FROM {entered} WHERE e.kind IN ('settle', 'overage')
              GROUP BY COALESCE(h.extends, h.id)
            )
            SELECT c.id, 'charged ' || c.charged || ', entered ' || COALESCE(s.amount, 0)
            FROM {call} AS c LEFT JOIN charges s ON s.id = c.id WHERE c.charged <> COALESCE(s.amount, 0)
            """,
            """
            SELECT c.id, 'absorbed ' || c.absorbed || ', entered ' || COALESCE(e.amount, 0)
            FROM {call} AS c LEFT JOIN entry e ON e.id = 'a:' || c.id WHERE c.absorbed <> COALESCE(e.amount, 0)
            """,
        ),
    ),
    _Rule(
        "I8",
        "open holds have a living owner",
        "SELECT count(*) FROM hold WHERE state = 'held'",
        (
            """
            SELECT h.id, 'its owner ' || h.owner || CASE WHEN w.id IS NULL THEN ' is unknown' ELSE ' has stopped' END
            FROM hold h LEFT JOIN worker w ON w.id = h.owner
            WHERE h.state = 'held' AND (w.id IS NULL OR w.stopped_at IS NOT NULL)
            """,
        ),
        informational=True,
    ),
    _Rule(
        "I10",
        "each bill is what its usage costs by its price version",
        _CALLS,
        found=_bills,
    ),
    _Rule(
        "I11", "the seals over the entries fit", "SELECT count(*) FROM seal WHERE n > {seals}", found=_seals
    ),
    _Rule(
        "I12",
        "what upstreams cost is what their attempts cost",
        "SELECT count(*) FROM {call} AS c WHERE cost IS NOT NULL",
        (
            """
            SELECT id, 'cost ' || cost || ', its attempts ' || tried FROM (
              SELECT c.id, c.cost, COALESCE((SELECT sum(a.cost) FROM attempt a WHERE a.call_id = c.id), 0) AS tried
              FROM {call} AS c WHERE c.cost IS NOT NULL AND c.tried_at IS NULL
            ) AS sums WHERE cost <> tried
            """,
        ),
        informational=True,
        note="""
            SELECT 'charged ' || COALESCE(sum(charged), 0) || ', absorbed ' || COALESCE(sum(absorbed), 0)
              || ', cost ' || COALESCE(sum(cost), 0) || ' where it is known, unknown for '
              || COALESCE(sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END), 0) || ' calls' FROM {call} AS c
            """,
    ),
    _Rule(
        "I13",
        "calls and the sums of those deleted add up to the entries",
        "SELECT count(*) FROM rollup WHERE {bucket}",
        (
            f"""
            WITH there AS (
              SELECT finished_at - finished_at % {QUARTER_MS} AS bucket, count(*) AS calls, sum(charged) AS charged,
                sum(absorbed) AS absorbed, sum(COALESCE(cost, 0)) AS cost
              FROM call WHERE {{finished}} AND finished_at < COALESCE((SELECT value FROM mark WHERE topic = 'rolled'), 0) GROUP BY 1
            ), live AS (
              SELECT bucket, sum(calls) AS calls, sum(charged) AS charged, sum(absorbed) AS absorbed, sum(cost) AS cost
              FROM rollup WHERE {{bucket}} AND kept = 0 GROUP BY bucket
            )
            SELECT 'quarter ' || t.bucket, 'calls ' || t.calls || ' not ' || COALESCE(l.calls, 0)
              || ', charged ' || t.charged || ' not ' || COALESCE(l.charged, 0)
              || ', absorbed ' || t.absorbed || ' not ' || COALESCE(l.absorbed, 0)
              || ', cost ' || t.cost || ' not ' || COALESCE(l.cost, 0)
            FROM there t LEFT JOIN live l ON l.bucket = t.bucket
            WHERE t.calls <> COALESCE(l.calls, 0)
                AND t.bucket < (SELECT value FROM mark WHERE topic = 'rolled') - {RECOUNTED_MS}
              OR t.calls = l.calls AND (t.charged <> l.charged OR t.absorbed <> l.absorbed OR t.cost <> l.cost)
            """,  # noqa: S608 - our own number
        ),
        whole=(
            _TOTAL.format(name="charged", kinds="'settle', 'overage'"),
            _TOTAL.format(name="absorbed", kinds="'absorb'"),
            """
            SELECT 'refunded', 'rollups say ' || summed || ', the entries ' || entered FROM (
              SELECT COALESCE((SELECT sum(refunded) FROM rollup), 0) AS summed,
                COALESCE((SELECT sum(e.amount) FROM rolled_refund r JOIN entry e ON e.id = r.entry_id), 0) AS entered
            ) AS sums WHERE summed <> entered
            """,
            _ABOVE,
            """
            WITH gone AS (
              SELECT a.owner, sum(e.amount) AS amount
              FROM entry e JOIN hold h ON h.id = e.hold_id JOIN ledger_account a ON a.id = h.wallet
                LEFT JOIN call c ON c.id = COALESCE(h.extends, h.id)
              WHERE e.kind IN ('settle', 'overage') AND c.id IS NULL GROUP BY a.owner
            ), kept AS (
              SELECT l.account_id AS owner, sum(r.charged) AS amount FROM rollup r JOIN rollup_place l ON l.id = r.place
              WHERE r.kept = 1 AND r.charged <> 0 GROUP BY l.account_id
            )
            SELECT 'account ' || g.owner, 'deleted calls were charged ' || g.amount || ', kept ' || COALESCE(k.amount, 0)
            FROM gone g LEFT JOIN kept k ON k.owner = g.owner WHERE g.amount <> COALESCE(k.amount, 0)
            """,
        ),
    ),
)


class Stopped(Exception):
    """The proof was given up before its end."""


def verify(conn: Connection, stop: Callable[[], bool] = lambda: False, *, scope: Scope = WHOLE) -> Report:
    """Check every invariant in the connection's transaction, which should see one moment.

    `stop` is asked before each; raises Stopped when it says so. `scope`: everything, or what came
    after what was proved.
    """
    checks = []
    for rule in _RULES:
        if stop():
            raise Stopped
        checks.append(_check(conn, rule, scope))
    return Report(tuple(checks))


def _check(conn: Connection, rule: _Rule, scope: Scope) -> Check:
    wrong = 0
    differences: list[Difference] = []
    for name, found in _contradictions(conn, rule, scope):
        wrong += 1
        if len(differences) < DIFFERENCES_MAX:
            differences.append(Difference(str(name), str(found)))
    rows = scope.ask(conn, rule.rows).scalar_one()
    note = scope.ask(conn, rule.note).scalar_one() if rule.note else ""
    return Check(rule.name, rule.title, rows, wrong, tuple(differences), rule.informational, note)


def _contradictions(conn: Connection, rule: _Rule, scope: Scope) -> Iterable[Any]:
    for query in (*rule.wrong, *(rule.whole if scope.whole else ())):
        yield from scope.ask(conn, query)
    if rule.found is not None:
        yield from rule.found(conn, scope)
