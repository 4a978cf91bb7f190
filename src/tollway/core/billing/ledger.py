"""Who pays when something breaks: the facts of a call turned into its bill.

The side that broke the exchange pays. In the order in which it is decided:

    nothing reached an upstream, or none accepted it       nothing
    the answer was not one (wrong body, empty completion)  nothing; the channel is at fault
    the upstream or the gateway failed before any output   nothing
    ... after output                                       input and the output received
    ... but the upstream itself counts no output           nothing
    the client left before any output                      input, if the upstream had accepted
    ... after output                                       input and the output received
    normal end                                             what the upstream counted
    normal end, nothing counted                            our own count
    the upstream declined to answer, or made vectors       input, and what it counted

Nothing here does I/O; `close` caps what is a matter of estimate by what is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.billing.meters import contradictory, meters_of, plain
from tollway.core.billing.money import AMOUNT_MAX
from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import Rates
from tollway.core.exchange import Usage

Outcome = Literal["ok", "partial", "cancelled", "failed"]
FailedBy = Literal["none", "client", "upstream", "gateway"]


class Facts(Struct, frozen=True, kw_only=True):
    """What happened to a call, counted at the gateway.

    `accepted`: an upstream answered with a 2xx head. `input_tokens` and `output_tokens` are our
    own counts of what was sent and of what was received (not only delivered), by
    `pricing.estimate_tokens`. `usage` is the last the upstream reported, if it did; it is `final`
    when it was reported with the end of the answer or after the cancellation, else it is a
    running total. `finished`: the answer came to its proper end. `bad_body`: a 2xx whose body is
    not the dialect's. `drained`: the upstream bills after a cancel, so the rest was read for its
    usage.
    """

    accepted: bool
    failed_by: FailedBy = "none"
    input_tokens: int = 0
    output_tokens: int = 0
    usage: Usage | None = None
    usage_final: bool = False
    finished: bool = False
    bad_body: bool = False
    drained: bool = False
    silent: bool = False


class Bill(Struct, frozen=True):
    """What the customer owes. `usage` None: nothing, the hold is released whole.

    `flags` and `outcome` are those of the call's record.
    """

    usage: Usage | None
    flags: tuple[str, ...]
    outcome: Outcome


class Due(Struct, frozen=True):
    """A bill with the counts it comes to by meter, and the micro-credits to settle with (None: release the hold)."""

    usage: Usage | None
    flags: tuple[str, ...]
    outcome: Outcome
    counts: dict[str, int]
    amount: int | None


_CAPPED: Final = frozenset({"estimated", "usage_anomaly", "partial"})


def bill(facts: Facts) -> Bill:
    """Who pays what, by the table above."""
    if not facts.accepted:
        return Bill(None, *_unserved(facts))
    if facts.bad_body:
        return Bill(None, ("bad_upstream",), "failed")
    if facts.failed_by == "client":
        return _left(facts)
    if facts.failed_by != "none" or not facts.finished:
        return _broken(facts)
    return _complete(facts)


def close(owed: Bill, rates: Mapping[str, int], held: int, *, bounded: bool) -> Due:
    """What to settle a hold of `held` micro-credits with.

    A call never costs more than its hold, with one exception: when the hold was not an upper
    bound (`Estimate.bounded`) and the upstream counted properly to a proper end, the whole cost
    is asked for and the ledger decides what the wallet affords of it.
    """
    usage, flags = owed.usage, owed.flags
    if usage is None:
        return Due(None, flags, owed.outcome, {}, None)
    counts = meters_of(usage, rates)
    amount = min(cost(counts, rates), AMOUNT_MAX)
    if bounded or not _CAPPED.isdisjoint(flags):
        amount = min(amount, held)
    return Due(usage, flags, owed.outcome, counts, amount)


def close_plain(usage: Usage, rates: Mapping[str, int], held: int, *, bounded: bool) -> Due | None:
    """The same for most calls: they came to their end, and the upstream counted input and output and nothing else.

    None where there is more to think about; then `bill` and `close` do. They would say the same.
    """
    if type(rates) is not Rates or rates.plain is None:
        return None
    taken, given = usage.input, usage.output
    if not taken or not given or usage.anomalous or not plain(usage):
        return None
    due_in, due_out = rates.plain
    amount = -(-(taken * due_in + given * due_out) // rates.scale)
    most = held if bounded and held < AMOUNT_MAX else AMOUNT_MAX
    counts = {"input": taken, "output": given}
    return Due(usage, (), "ok", counts, min(most, amount))


def _unserved(facts: Facts) -> tuple[tuple[str, ...], Outcome]:
    if facts.failed_by == "client":
        return ("client_cancelled",), "cancelled"
    return (), "failed"


def _left(facts: Facts) -> Bill:
    usage, flags = _counted(facts)
    if facts.drained:
        flags = ("drained", *flags)
    return Bill(usage, ("client_cancelled", *flags), "cancelled")


def _broken(facts: Facts) -> Bill:
    usage = facts.usage
    counted = usage is not None and facts.usage_final and not usage.anomalous and not _running(usage)
    if facts.output_tokens == 0 or (counted and usage is not None and usage.output == 0):
        return Bill(None, (), "failed")
    usage, flags = _counted(facts)
    return Bill(usage, ("partial", *flags), "partial")


def _running(usage: Usage) -> bool:
    """Whether this was told when a tool had run, and not at the end: it says nothing of output."""
    return bool(usage.tools) and usage.output == 0


def _complete(facts: Facts) -> Bill:
    nothing = facts.output_tokens == 0 and (facts.usage is None or facts.usage.output == 0)
    if nothing and not facts.silent:
        return Bill(None, ("bad_upstream",), "failed")
    usage, flags = _counted(facts)
    return Bill(usage, flags, "ok")


def _counted(facts: Facts) -> tuple[Usage, tuple[str, ...]]:
    """The usage to bill: the upstream's where it can be believed, ours where it is missing."""
    usage = facts.usage
    if usage is None or (usage.input == 0 and usage.output == 0):
        ours = Usage(input=facts.input_tokens, output=facts.output_tokens)
        if usage is not None and (usage.tools or usage.tier):
            # Searches are told as they happen, tokens only at the end.
            ours = replace(ours, tools=usage.tools, tier=usage.tier)
        odd = usage is not None and usage.anomalous
        return ours, ("estimated", "usage_anomaly") if odd else ("estimated",)
    flags: tuple[str, ...] = ("usage_anomaly",) if usage.anomalous or contradictory(usage) else ()
    final = facts.finished or facts.usage_final
    # A running total lags behind what has arrived, and a final count of no output beside output
    # that we hold in our hands is no count.
    if facts.output_tokens > usage.output and (usage.output == 0 or not final):
        return replace(usage, output=facts.output_tokens), ("estimated", *flags)
    return usage, flags
