"""Rate limits as arithmetic: requests and tokens per minute, all windows taken together or none.

Each window is a sliding one made of two buckets: what was taken in the current minute, plus what
was taken in the minute before, weighted by how much of that minute still lies within the last 60
seconds. Minutes are counted from a key's first call, not from the clock's full minute.

Why this and not a token bucket: a token bucket of 60 a minute lets 120 through in the first
minute, and its "remaining" is a number nobody can check against their own count. Here the first
minute admits exactly the limit, a refusal can say "60/60", and after that the allowance slides
without a burst at the turn of the minute. The weighting assumes that the minute before was busy
evenly; a caller who knows that can time two bursts within 60 seconds, never more than twice the
limit together. The state is five integers per key, and when a call will fit is exact to the
millisecond, because nothing but time changes the sum.

A call that reserves more tokens than the whole limit is counted as the limit: it gets through
when the window is empty, instead of never. Afterwards `correct` puts the actual tokens in place
of the reserved ones, wherever the reservation lies by then.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError, Limit

WINDOW_MS: Final = 60_000
REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
CONCURRENCY_RETRY_MS: Final = 1000
"""When to try again after too many calls at once: nobody knows when one ends, so soon."""


class Window(Struct, frozen=True, gc=False):
    """One limit per minute, and what this call takes of it. `limit` is positive; None counts and never refuses."""

    name: str
    limit: int | None
    cost: int


class Verdict(Struct, frozen=True, gc=False):
    """What one window says. `remaining` is after the take; `reset_ms` until the whole limit is free again.

    `retry_after_ms` is 0 when allowed, else the exact wait until this call fits.
    """

    allowed: bool
    name: str
    limit: int
    remaining: int
    reset_ms: int
    retry_after_ms: int


class State(Struct, frozen=True, gc=False):
    """A key's two buckets. `start`: Unix ms at which the current minute began.

    `before` and `current` hold what was taken in the minute before and in this one, a number per
    window in the order of the windows.
    """

    start: int
    before: tuple[int, ...]
    current: tuple[int, ...]


def windows_for(key: Key, tokens: int) -> tuple[Window, ...]:
    """The windows of a key for one call that reserves `tokens`: requests, then tokens.

    Both are there as soon as one is limited, so that a key's state keeps its shape when its
    limits change; a key without any has none.
    """
    if key.rpm is None and key.tpm is None:
        return ()
    return (Window(REQUESTS, key.rpm, 1), Window(TOKENS, key.tpm, tokens))


def take(state: State | None, windows: tuple[Window, ...], now: int) -> tuple[State, bool]:
    """Take every window's cost, or nothing at all. Returns the state and whether it was taken.

    `state` None is a clean one. `verdicts` tells how the windows of the returned state stand.
    """
    if state is None or not 0 <= now - state.start < WINDOW_MS:
        state = turned(state, len(windows), now)
    left = WINDOW_MS - 1 - now + state.start
    charged = []
    for window, before, current in zip(windows, state.before, state.current, strict=True):
        cost, limit = window.cost, window.limit
        if limit is not None:
            cost = min(cost, limit)
            # The same sum as `used`, spelled out because every call comes past here.
            if before * left // WINDOW_MS + current + cost > limit:
                return state, False
        charged.append(current + cost)
    return State(state.start, state.before, tuple(charged)), True


def turned(state: State | None, width: int, now: int) -> State:
    """The state as it stands at `now`: minutes that have passed are turned over or forgotten."""
    if state is None:
        return State(now, (0,) * width, (0,) * width)
    elapsed = now - state.start
    if elapsed < 0:  # The clock was set back; counting on from here beats waiting for it to catch up.
        return State(now, state.before, state.current)
    if elapsed < WINDOW_MS:
        return state
    if elapsed < 2 * WINDOW_MS:
        return State(state.start + WINDOW_MS, state.current, (0,) * width)
    return State(now, (0,) * width, (0,) * width)


def used(before: int, current: int, elapsed: int) -> int:
    """What counts against a limit, `elapsed` ms into the current minute (0 <= elapsed < 60000).

    The share of the minute before is rounded down, and it never is a full minute: so a place
    comes free in the very millisecond a minute turns, and nobody who has used up a limit of
    requests waits for longer than 60 s, which is as long as the common SDKs are willing to wait.
    """
    return before * (WINDOW_MS - 1 - elapsed) // WINDOW_MS + current


def verdicts(state: State, windows: tuple[Window, ...], now: int, *, taken: bool) -> tuple[Verdict, ...]:
    """How the limited windows stand at `now`, by what `take` returned; windows without a limit have no verdict."""
    elapsed = now - state.start
    found = []
    for window, before, current in zip(windows, state.before, state.current, strict=True):
        limit = window.limit
        if limit is None:
            continue
        free = limit - used(before, current, elapsed)
        reset = wait(limit, limit, before, current, elapsed)
        retry = 0 if taken else wait(limit, min(window.cost, limit), before, current, elapsed)
        found.append(Verdict(retry == 0, window.name, limit, max(free, 0), reset, retry))
    return tuple(found)


def wait(limit: int, cost: int, before: int, current: int, elapsed: int) -> int:
    """Milliseconds until `cost` (at most `limit`) fits if nothing else is taken; exact, at most two minutes."""
    room = limit - cost - current
    if room >= 0:
        return max(0, _until(before, room) - elapsed)
    return WINDOW_MS - elapsed + _until(current, limit - cost)


def _until(before: int, room: int) -> int:
    """How far into a minute the weight of `before` has shrunk to `room`."""
    if before <= room:
        return 0
    return WINDOW_MS + -(room + 1) * WINDOW_MS // before


def correct(state: State | None, start: int, surplus: tuple[int, ...], now: int) -> State | None:
    """Put actual costs in place of reserved ones. `surplus` per window: reserved minus actual.

    `start` is the `State.start` the reservation was taken under. A positive surplus is given back
    where it lies (this minute or the one before; older ones no longer count); a negative one is
    taken now, even of a key that was forgotten while the call ran. None: nothing to remember.
    """
    if state is None and min(surplus) >= 0:
        return None
    if state is None or not 0 <= now - state.start < WINDOW_MS:
        state = turned(state, len(surplus), now)
    here, earlier = start == state.start, start == state.start - WINDOW_MS
    before, current = [], []
    for excess, old, new in zip(surplus, state.before, state.current, strict=True):
        if excess < 0 or here:
            new = new - excess if new > excess else 0
        elif earlier:
            old = old - excess if old > excess else 0
        before.append(old)
        current.append(new)
    return State(state.start, tuple(before), tuple(current))


def refused(key: Key, found: tuple[Verdict, ...], tokens: int, now: int) -> GatewayError:
    """The 429 for the window that makes this call wait longest."""
    worst = max(found, key=lambda verdict: verdict.retry_after_ms)
    code, reserves = "rate_limited", ""
    if worst.name == TOKENS:
        code, reserves = "token_rate_limited", f", and this call reserves {tokens}"
    count = worst.limit - worst.remaining
    seconds = -(-worst.retry_after_ms // 1000)
    return GatewayError(
        code,
        f"{worst.name} per minute: {count}/{worst.limit} on key {key.name!r}{reserves}; retry in {seconds} s",
        scope="key",
        limit=Limit(f"{worst.name}_per_minute", count, worst.limit, now + worst.reset_ms),
        retry_after_ms=worst.retry_after_ms,
    )


def crowded(key: Key, in_flight: int, limit: int) -> GatewayError:
    """The 429 for a key that has as many calls in flight as it may."""
    return GatewayError(
        "concurrency_limited",
        f"calls in flight: {in_flight}/{limit} on key {key.name!r}; retry when one of them has finished",
        scope="key",
        limit=Limit("concurrency", in_flight, limit),
        retry_after_ms=CONCURRENCY_RETRY_MS,
    )


def rate_headers(found: tuple[Verdict, ...]) -> bytes:
    """OpenAI's rate limit headers as a block of `name: value` lines, each ended by CRLF."""
    block = b""
    for one in found:
        template = _REQUEST_LINES if one.name == REQUESTS else _TOKEN_LINES
        block += template % (one.limit, one.remaining, go_duration(one.reset_ms))
    return block


def _lines(name: str) -> bytes:
    wanted = (("limit", "%d"), ("remaining", "%d"), ("reset", "%b"))
    return "".join([f"x-ratelimit-{what}-{name}: {form}\r\n" for what, form in wanted]).encode()


_REQUEST_LINES: Final = _lines(REQUESTS)
_TOKEN_LINES: Final = _lines(TOKENS)


def refusal_headers(error: GatewayError, now: int) -> list[tuple[bytes, bytes]]:
    """The same headers for the limit a refusal names; none if it names no rate limit."""
    limit = error.limit
    if limit is None or limit.resets_at is None or not limit.name.endswith("_per_minute"):
        return []
    name = limit.name.removesuffix("_per_minute").encode()
    return [
        (b"x-ratelimit-limit-" + name, b"%d" % limit.max),
        (b"x-ratelimit-remaining-" + name, b"%d" % max(0, limit.max - limit.used)),
        (b"x-ratelimit-reset-" + name, go_duration(max(0, limit.resets_at - now))),
    ]


def go_duration(ms: int) -> bytes:
    """Milliseconds as Go writes a duration, which is how OpenAI writes them: 6m0s, 1.5s, 120ms, 0s."""
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, rest = divmod(ms, 60_000)
    seconds, rest = divmod(rest, 1000)
    fraction = (b".%03d" % rest).rstrip(b"0") if rest else b""
    return b"%dm%d%bs" % (minutes, seconds, fraction) if minutes else b"%d%bs" % (seconds, fraction)
