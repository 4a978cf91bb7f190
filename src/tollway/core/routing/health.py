"""Which channels are well: a circuit breaker for every (channel, model), as values and a table.

    phase       ok                          fault
    closed      counted                     counted; 5 in a row, or half of at least 20 within 30 s: open
    open        closed                      ignored: a call that began before it opened says nothing new
    half-open   closed                      of the probe: open, twice as long; of others: ignored

An open breaker is half-open once its time is over (30 s, then twice as long each time up to ten
minutes, give or take a tenth); half-open lets one call through at a time. Two trips within ten
minutes of each other count as one illness, so that a channel that flaps is left alone for longer.

An upstream that says when to come back (Retry-After) rests until then, whatever its breaker says;
the latest hint never shortens an earlier one.

Who tells: a shell reports `ok` for every answer that is not the channel's fault, refusals of a
bad request included, `fault` for those that are, and `release` when a probe ended in neither,
because its caller left.

Successes are counted only from the first fault on: a channel that is well costs nothing, neither
memory nor time.

Several processes may tell each other by marks: of two marks the later trip is right, and of one
trip its end. Whoever hears a mark opens or closes as if it had seen it itself. What each counts
stays its own, so that a process that hears nothing decides as well as one that is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

Phase = Literal["closed", "open", "half_open"]

CONSECUTIVE: Final = 5
RATIO_CALLS: Final = 20
WINDOW_MS: Final = 30_000
OPEN_MS: Final = 30_000
OPEN_MAX_MS: Final = 600_000
MEMORY_MS: Final = 600_000
"""How long a trip is remembered after the breaker closed."""
_LONGEST_MS: Final = OPEN_MAX_MS * 11 // 10
"""The longest a breaker opens for, with the spread of its dice."""
PROBE_MS: Final = 60_000
"""When a probe that never reported back is given up."""
ENTRIES_MAX: Final = 10_000
SKEW_MS: Final = 60_000
"""How far ahead another process's clock may be for its marks to be believed."""


class Breaker(Struct, frozen=True, kw_only=True):
    """One breaker. Times are Unix milliseconds; 0 means never.

    Counts are kept in two halves of the window (`*_before` is the older half), so what is counted
    is the last 15 to 30 seconds. `trips` is how often it opened in this illness; `open_until` 0
    is closed; `probe_until` is set while a half-open probe is under way. `tripped_at` names the
    last trip, open or over: it only grows, even where the clock does not.
    """

    consecutive: int = 0
    half: int = 0
    calls: int = 0
    faults: int = 0
    calls_before: int = 0
    faults_before: int = 0
    trips: int = 0
    tripped_at: int = 0
    open_until: int = 0
    closed_at: int = 0
    probe_until: int = 0
    rest_until: int = 0


def phase(breaker: Breaker, now: int) -> Phase:
    """Where a breaker stands."""
    if not breaker.open_until:
        return "closed"
    return "open" if _waits(breaker.open_until, now, _LONGEST_MS) else "half_open"


def admits(breaker: Breaker, now: int) -> bool:
    """Whether a call may go: not while resting, open, or half-open with its probe under way."""
    if _waits(breaker.rest_until, now, OPEN_MAX_MS):
        return False
    if not breaker.open_until:
        return True
    return not (_waits(breaker.open_until, now, _LONGEST_MS) or _waits(breaker.probe_until, now, PROBE_MS))


def _waits(until: int, now: int, longest: int) -> bool:
    """Whether `until` is still to come. What lies further ahead than was ever set is from before the clock was set back."""
    return now < until <= now + longest


def after_ok(breaker: Breaker, now: int) -> Breaker:
    """The breaker after a success."""
    if breaker.open_until:
        return Breaker(
            trips=breaker.trips,
            tripped_at=breaker.tripped_at,
            closed_at=max(1, now),
            rest_until=breaker.rest_until,
        )
    counted = _rolled(breaker, now)
    return replace(counted, consecutive=0, calls=counted.calls + 1)


def after_fault(breaker: Breaker, now: int, *, dice: float, retry_after_ms: int | None = None) -> Breaker:
    """The breaker after a fault. `dice` in [0, 1) spreads reopening; `retry_after_ms` is the upstream's wish."""
    if retry_after_ms:
        rest = max(breaker.rest_until, now + min(retry_after_ms, OPEN_MAX_MS))
        breaker = replace(breaker, rest_until=rest)
    where = phase(breaker, now)
    if where == "open":
        return breaker
    if where == "half_open":
        return _tripped(breaker, now, dice) if breaker.probe_until else breaker
    counted = _rolled(breaker, now)
    counted = replace(
        counted,
        consecutive=counted.consecutive + 1,
        calls=counted.calls + 1,
        faults=counted.faults + 1,
    )
    calls = counted.calls + counted.calls_before
    faults = counted.faults + counted.faults_before
    if counted.consecutive >= CONSECUTIVE or (calls >= RATIO_CALLS and 2 * faults >= calls):
        return _tripped(counted, now, dice)
    return counted


def idle(breaker: Breaker, now: int) -> bool:
    """Whether the breaker has nothing left to say and may be forgotten."""
    return (
        not breaker.open_until
        and now >= breaker.rest_until
        and now >= breaker.half + WINDOW_MS
        and (not breaker.trips or now >= breaker.closed_at + MEMORY_MS)
    )


def _tripped(breaker: Breaker, now: int, dice: float) -> Breaker:
    fresh = breaker.open_until == 0 and now >= breaker.closed_at + MEMORY_MS
    trips = 0 if fresh else breaker.trips
    span = min(OPEN_MS << min(trips, 10), OPEN_MAX_MS)
    span = span * (900 + int(dice * 200)) // 1000
    return Breaker(
        trips=trips + 1,
        tripped_at=max(now, breaker.tripped_at + 1),
        open_until=now + span,
        rest_until=breaker.rest_until,
    )


def _rolled(breaker: Breaker, now: int) -> Breaker:
    half = WINDOW_MS // 2
    if now < breaker.half + half:
        return breaker
    recent = now < breaker.half + 2 * half
    return replace(
        breaker,
        half=now,
        calls=0,
        faults=0,
        calls_before=breaker.calls if recent else 0,
        faults_before=breaker.faults if recent else 0,
    )


class Mark(NamedTuple):
    """What one process tells others of a breaker: its last trip, how that ended, and until when it rests."""

    tripped_at: int
    closed_at: int
    open_until: int
    trips: int
    rest_until: int


NO_MARK: Final = Mark(0, 0, 0, 0, 0)


def mark_of(breaker: Breaker) -> Mark:
    """What there is to tell of a breaker; NO_MARK if it never tripped and does not rest."""
    closed_at = breaker.closed_at if breaker.tripped_at and not breaker.open_until else 0
    return Mark(breaker.tripped_at, closed_at, breaker.open_until, breaker.trips, breaker.rest_until)


def joined(one: Mark, other: Mark) -> Mark:
    """What two marks say together, in whatever order and however often they are heard."""
    later = max(one[:4], other[:4])
    return Mark(*later, max(one.rest_until, other.rest_until))


def after_mark(breaker: Breaker, mark: Mark, now: int) -> Breaker:
    """The breaker after another process told of it. What no clock of ours could have made is not believed."""
    if mark.tripped_at > now + SKEW_MS:
        return breaker
    open_until = min(mark.open_until, mark.tripped_at + _LONGEST_MS)
    rest_until = max(breaker.rest_until, min(mark.rest_until, now + OPEN_MAX_MS))
    if mark[:4] <= mark_of(breaker)[:4]:
        return breaker if rest_until == breaker.rest_until else replace(breaker, rest_until=rest_until)
    if not mark.closed_at:
        return Breaker(
            trips=mark.trips, tripped_at=mark.tripped_at, open_until=open_until, rest_until=rest_until
        )
    if breaker.open_until:
        breaker = Breaker()
    return replace(
        breaker,
        trips=mark.trips,
        tripped_at=mark.tripped_at,
        closed_at=mark.closed_at,
        rest_until=rest_until,
    )


class Health:
    """The breakers of all channels, by channel and model. Remembers only what is or was not well.

    A channel that was never at fault has no entry. At most `entries_max` are kept: the forgettable
    go first, then the oldest.
    """

    def __init__(self, *, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def ok(self, channel: str, model: str, now: int) -> None:
        """An attempt succeeded."""
        if not self._breakers:
            return
        known = self._breakers.get((channel, model))
        if known is None:
            return
        if idle(known, now):
            del self._breakers[channel, model]
        else:
            self._breakers[channel, model] = after_ok(known, now)

    def fault(
        self, channel: str, model: str, now: int, *, dice: float, retry_after_ms: int | None = None
    ) -> None:
        """An attempt failed through the channel's fault."""
        known = self._breakers.get((channel, model))
        if known is None:
            self._make_room(now)
            known = Breaker(half=now)
        self._breakers[channel, model] = after_fault(known, now, dice=dice, retry_after_ms=retry_after_ms)

    def state(self, channel: str, model: str, now: int) -> Phase:
        """Where a breaker stands."""
        known = self._breakers.get((channel, model))
        return "closed" if known is None else phase(known, now)

    def untroubled(self, channel: str, model: str) -> bool:
        """Whether nothing is known against a channel: it is available, and its breaker has no probe to claim."""
        return not self._breakers or (channel, model) not in self._breakers

    def available(self, channel: str, model: str, now: int) -> bool:
        """Whether a call may go to this channel for this model."""
        if not self._breakers:
            return True
        known = self._breakers.get((channel, model))
        return known is None or admits(known, now)

    def available_at(self, channel: str, model: str, now: int) -> int:
        """When a call may go there again (Unix ms); `now` if it may already."""
        known = self._breakers.get((channel, model))
        if known is None or admits(known, now):
            return now
        return max(known.open_until, known.probe_until, known.rest_until)

    def claim(self, channel: str, model: str, now: int) -> bool:
        """Take the one probe of a half-open breaker. False if the breaker is not half-open or its probe is taken.

        The claim ends with the next `ok`, `fault` or `release`, or after a minute.
        """
        known = self._breakers.get((channel, model))
        if known is None or not known.open_until or not admits(known, now):
            return False
        self._breakers[channel, model] = replace(known, probe_until=now + PROBE_MS)
        return True

    def release(self, channel: str, model: str) -> None:
        """Give up a claimed probe that ended without a verdict. Harmless where none is claimed."""
        known = self._breakers.get((channel, model))
        if known is not None and known.probe_until:
            self._breakers[channel, model] = replace(known, probe_until=0)

    def marks(self) -> Iterator[tuple[tuple[str, str], Mark]]:
        """What there is to tell other processes, by channel and model."""
        for name, breaker in self._breakers.items():
            mark = mark_of(breaker)
            if mark != NO_MARK:
                yield name, mark

    def hear(self, channel: str, model: str, mark: Mark, now: int) -> None:
        """Another process tells of a breaker."""
        known = self._breakers.get((channel, model))
        found = after_mark(known or Breaker(half=now), mark, now)
        if known is None:
            if idle(found, now):
                return
            self._make_room(now)
        self._breakers[channel, model] = found

    def _make_room(self, now: int) -> None:
        if len(self._breakers) < self._entries_max:
            return
        for name in [name for name, breaker in self._breakers.items() if idle(breaker, now)]:
            del self._breakers[name]
        while len(self._breakers) >= self._entries_max:
            del self._breakers[next(iter(self._breakers))]
