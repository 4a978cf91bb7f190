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
KEPT_MS: Final = 2 * WINDOW_MS
"""How long what was taken may count: the rest of its own minute, and the whole of the next."""
_BACK: Final = -WINDOW_MS
REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
CONCURRENCY_RETRY_MS: Final = 1000
"""When to try again after too many calls at once: nobody knows when one ends, so soon."""


class Verdict(Struct, frozen=True, gc=False):
    """What one window says to a call it has no room for. `reset_ms`: until the whole limit is free again.

    `retry_after_ms` is the exact wait until this call fits; 0 if it does, and another window refused it.
    """

    name: str
    limit: int
    remaining: int
    reset_ms: int
    retry_after_ms: int


class State(Struct, frozen=True, gc=False):
    """A key's two buckets. `start`: Unix ms at which the current minute began.

    `requests` and `tokens` were taken in this minute, the others in the one before. Both are
    counted as soon as one is limited, so that a state keeps its shape when its key's limits change.
    """

    start: int
    requests_before: int = 0
    tokens_before: int = 0
    requests: int = 0
    tokens: int = 0


CLEAN: Final = State(-KEPT_MS)
"""The state of a key that has taken nothing: its first minute begins when it is first asked."""


def take(state: State, key: Key, tokens: int, now: int) -> State | None:
    """The state after one request of `tokens` (at most the key's limit), or None if a window has no room for it.

    `verdicts` tells why there is none.
    """
    elapsed = now - state.start
    if not 0 <= elapsed < WINDOW_MS:
        state = turned(state, now)
        elapsed = now - state.start
    # The sums of `used`, spelled out because every call comes past here.
    left = WINDOW_MS - 1 - elapsed
    requests, limit = state.requests + 1, key.rpm
    if limit is not None and state.requests_before * left // WINDOW_MS + requests > limit:
        return None
    tokens, limit = state.tokens + tokens, key.tpm
    if limit is not None and state.tokens_before * left // WINDOW_MS + tokens > limit:
        return None
    return State(state.start, state.requests_before, state.tokens_before, requests, tokens)


def take_told(state: State, key: Key, tokens: int, now: int) -> tuple[State, bytes] | None:
    """The state after `take`, and its `rate_headers`; None if a window has no room."""
    rpm, tpm = key.rpm, key.tpm
    if rpm is None or tpm is None or tokens < 1:
        taken = take(state, key, tokens, now)
        return None if taken is None else (taken, rate_headers(taken, key, now))
    # Both at once for a key that limits both, as most do that have limits: what is asked for is what is told.
    elapsed = now - state.start
    if not 0 <= elapsed < WINDOW_MS:
        state = turned(state, now)
        elapsed = now - state.start
    left = WINDOW_MS - 1 - elapsed
    requests_before, tokens_before = state.requests_before, state.tokens_before
    requests, tokens = state.requests + 1, state.tokens + tokens
    requests_free = rpm - requests_before * left // WINDOW_MS - requests
    tokens_free = tpm - tokens_before * left // WINDOW_MS - tokens
    if requests_free < 0 or tokens_free < 0:
        return None
    until = KEPT_MS - elapsed
    reset_requests, reset_tokens = (
        go_duration(until + _BACK // requests),
        go_duration(until + _BACK // tokens),
    )
    told = _BOTH_LINES % (rpm, requests_free, reset_requests, tpm, tokens_free, reset_tokens)
    return State(state.start, requests_before, tokens_before, requests, tokens), told


def turned(state: State, now: int) -> State:
    """The state as it stands at `now`: minutes that have passed are turned over or forgotten."""
    elapsed = now - state.start
    if elapsed < 0:  # The clock was set back; counting on from here beats waiting for it to catch up.
        return State(now, state.requests_before, state.tokens_before, state.requests, state.tokens)
    if elapsed < WINDOW_MS:
        return state
    if elapsed < KEPT_MS:
        return State(state.start + WINDOW_MS, state.requests, state.tokens)
    return State(now)


def used(before: int, current: int, elapsed: int) -> int:
    """What counts against a limit, `elapsed` ms into the current minute (0 <= elapsed < 60000).

    The share of the minute before is rounded down, and it never is a full minute: so a place
    comes free in the very millisecond a minute turns, and nobody who has used up a limit of
    requests waits for longer than 60 s, which is as long as the common SDKs are willing to wait.
    """
    return before * (WINDOW_MS - 1 - elapsed) // WINDOW_MS + current


def verdicts(state: State, key: Key, tokens: int, now: int) -> tuple[Verdict, ...]:
    """How the limited windows stand at `now` for a call of `tokens`; windows without a limit have no verdict."""
    elapsed = now - state.start
    found = []
    for name, limit, cost, before, current in (
        (REQUESTS, key.rpm, 1, state.requests_before, state.requests),
        (TOKENS, key.tpm, tokens, state.tokens_before, state.tokens),
    ):
        if limit is None:
            continue
        free = max(limit - used(before, current, elapsed), 0)
        retry = wait(limit, min(cost, limit), before, current, elapsed)
        found.append(Verdict(name, limit, free, reset(before, current, elapsed), retry))
    return tuple(found)


def reset(before: int, current: int, elapsed: int) -> int:
    """Milliseconds until nothing counts any more if nothing else is taken: `wait` for the whole of any limit."""
    if current:
        return KEPT_MS - elapsed + _BACK // current
    return max(0, _until(before, 0) - elapsed)


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


def correct(state: State, start: int, surplus: int, now: int) -> State:
    """Put the actual tokens in place of the reserved ones. `surplus`: reserved minus actual.

    `start` is the `State.start` the reservation was taken under. A positive surplus is given back
    where it lies (this minute or the one before; older ones no longer count); a negative one is
    taken now.
    """
    if not 0 <= now - state.start < WINDOW_MS:
        state = turned(state, now)
    begun, before, tokens = state.start, state.tokens_before, state.tokens
    if start == begun or surplus < 0:
        tokens = tokens - surplus if tokens > surplus else 0
    elif start == begun - WINDOW_MS:
        before = before - surplus if before > surplus else 0
    return State(begun, state.requests_before, before, state.requests, tokens)


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


def rate_headers(state: State, key: Key, now: int) -> bytes:
    """OpenAI's rate limit headers as a block of `name: value` lines, each ended by CRLF; `state` is after the take."""
    elapsed, block = now - state.start, b""
    if key.rpm is not None:
        block = _lines(_REQUEST_LINES, key.rpm, state.requests_before, state.requests, elapsed)
    if key.tpm is not None:
        block += _lines(_TOKEN_LINES, key.tpm, state.tokens_before, state.tokens, elapsed)
    return block


def _lines(form: bytes, limit: int, before: int, current: int, elapsed: int) -> bytes:
    free = max(limit - used(before, current, elapsed), 0)
    return form % (limit, free, go_duration(reset(before, current, elapsed)))


def _form(name: str) -> bytes:
    wanted = (("limit", "%d"), ("remaining", "%d"), ("reset", "%b"))
    return "".join([f"x-ratelimit-{what}-{name}: {form}\r\n" for what, form in wanted]).encode()


_REQUEST_LINES: Final = _form(REQUESTS)
_TOKEN_LINES: Final = _form(TOKENS)
_BOTH_LINES: Final = _REQUEST_LINES + _TOKEN_LINES


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
    if 1000 <= ms <= KEPT_MS:
        return _WHOLE[ms // 1000] + _FRACTIONS[ms % 1000]
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    return _whole(ms // 1000) + _FRACTIONS[ms % 1000]


def _whole(seconds: int) -> bytes:
    return b"%dm%d" % divmod(seconds, 60) if seconds >= 60 else b"%d" % seconds


_WHOLE: Final = tuple([_whole(seconds) for seconds in range(KEPT_MS // 1000 + 1)])
"""How a duration begins, by its seconds; two minutes are the longest a window takes to be free."""
_FRACTIONS: Final = (b"s", *[(b".%03d" % ms).rstrip(b"0") + b"s" for ms in range(1, 1000)])
"""How it ends, by its milliseconds."""
