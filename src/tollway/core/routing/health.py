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
"""

from __future__ import annotations

from typing import Final, Literal

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
PROBE_MS: Final = 60_000
"""When a probe that never reported back is given up."""
ENTRIES_MAX: Final = 10_000


class Breaker(Struct, frozen=True, kw_only=True):
    """One breaker. Times are Unix milliseconds; 0 means never.

    Counts are kept in two halves of the window (`*_before` is the older half), so what is counted
    is the last 15 to 30 seconds. `trips` is how often it opened in this illness; `open_until` 0
    is closed; `probe_until` is set while a half-open probe is under way.
    """

    consecutive: int = 0
    half: int = 0
    calls: int = 0
    faults: int = 0
    calls_before: int = 0
    faults_before: int = 0
    trips: int = 0
    open_until: int = 0
    closed_at: int = 0
    probe_until: int = 0
    rest_until: int = 0


def phase(breaker: Breaker, now: int) -> Phase:
    """Where a breaker stands."""
    if not breaker.open_until:
        return "closed"
    return "open" if now < breaker.open_until else "half_open"


def admits(breaker: Breaker, now: int) -> bool:
    """Whether a call may go: not while resting, open, or half-open with its probe under way."""
    if now < breaker.rest_until:
        return False
    if not breaker.open_until:
        return True
    return now >= breaker.open_until and now >= breaker.probe_until


def after_ok(breaker: Breaker, now: int) -> Breaker:
    """The breaker after a success."""
    if breaker.open_until:
        return Breaker(trips=breaker.trips, closed_at=now, rest_until=breaker.rest_until)
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
    return Breaker(trips=trips + 1, open_until=now + span, rest_until=breaker.rest_until)


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

    def _make_room(self, now: int) -> None:
        if len(self._breakers) < self._entries_max:
            return
        for name in [name for name, breaker in self._breakers.items() if idle(breaker, now)]:
            del self._breakers[name]
        while len(self._breakers) >= self._entries_max:
            del self._breakers[next(iter(self._breakers))]
