"""Who may call now: the limiter's protocol, and the limiter of a single process, in memory.

A limiter is asked before a call and told after it. `take` reserves one request, an estimate of
tokens and a place among the calls in flight, all together or none; `give_back` puts the actual
tokens in place of the estimate and frees the place. Limits protect capacity: no limiter touches
money, and losing one's state costs nobody a credit.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from tollway.core.access.keys import Key
from tollway.core.access.limits import (
    WINDOW_MS,
    State,
    Verdict,
    correct,
    crowded,
    refused,
    take,
    verdicts,
    windows_for,
)

CONCURRENCY_DEFAULT: Final = 100
"""Calls in flight of a key that sets no limit of its own."""
KEYS_MAX: Final = 100_000


class Taken(Struct):
    """What one call has taken. Give it back once; giving it back again does nothing.

    `verdicts` are for the response's headers. `start` and `reserved` (tokens) locate the
    reservation; `place` names the call among those in flight, and `shared` says whether the
    limiter shared among processes or the local one holds it.
    """

    key_id: str
    verdicts: tuple[Verdict, ...]
    start: int
    reserved: int
    counted: bool
    place: str = ""
    shared: bool = False
    open: bool = True


class Limiter(Protocol):
    """Rate and concurrency limits of keys. All times are Unix milliseconds."""

    async def open(self) -> None:
        """Get ready. A limiter whose server is away is ready all the same."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks."""
        ...

    async def take(self, key: Key, tokens: int, now: int) -> Taken:
        """Reserve a call of at most `tokens`. Raises GatewayError: rate_limited, token_rate_limited, concurrency_limited."""
        ...

    async def give_back(self, taken: Taken, actual_tokens: int | None, now: int) -> None:
        """The call is over and used `actual_tokens` (None: unknown, the estimate stands)."""
        ...


class MemoryLimiter:
    """The limiter of one process. `take_now` and `give_back_now` are the same without a coroutine.

    States live in two generations that turn over every two minutes: what was not used for that
    long says nothing any more and is dropped with the older generation. More than `keys_max` keys
    at once turn them over early, which forgets the least recently used ones.
    """

    def __init__(self, *, concurrency: int | None = CONCURRENCY_DEFAULT, keys_max: int = KEYS_MAX) -> None:
        self._concurrency = concurrency
        self._keys_max = max(1, keys_max // 2)
        self._young: dict[str, State] = {}
        self._old: dict[str, State] = {}
        self._turn_at = 0
        self._in_flight: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys something is remembered of."""
        return len(self._young.keys() | self._old.keys() | self._in_flight.keys())

    async def open(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def take(self, key: Key, tokens: int, now: int) -> Taken:
        """See Limiter. Never suspends."""
        return self.take_now(key, tokens, now)

    async def give_back(self, taken: Taken, actual_tokens: int | None, now: int) -> None:
        """See Limiter. Never suspends."""
        self.give_back_now(taken, actual_tokens, now)

    def take_now(self, key: Key, tokens: int, now: int) -> Taken:
        """Take at once, or raise GatewayError."""
        cap = self._concurrency if key.concurrency is None else key.concurrency
        in_flight = self._in_flight.get(key.id, 0)
        if cap is not None and in_flight >= cap:
            raise crowded(key, in_flight, cap)
        windows = windows_for(key, tokens)
        if not windows:
            self._in_flight[key.id] = in_flight + 1
            return Taken(key.id, (), 0, 0, False)
        known = self._state(key.id, now)
        state, fits = take(known, windows, now)
        found = verdicts(state, windows, now, taken=fits)
        if not fits:
            if known is not None and state.start < known.start:
                # The clock was set back. The minute must begin anew once, not with every refusal.
                self._young[key.id] = state
            raise refused(key, found, tokens, now)
        self._young[key.id] = state
        self._in_flight[key.id] = in_flight + 1
        reserved = tokens if key.tpm is None else min(tokens, key.tpm)
        return Taken(key.id, found, state.start, reserved, True)

    def give_back_now(self, taken: Taken, actual_tokens: int | None, now: int) -> None:
        """Give back at once."""
        if not taken.open:
            return
        taken.open = False
        key_id = taken.key_id
        in_flight = self._in_flight.get(key_id, 0)
        if in_flight > 1:
            self._in_flight[key_id] = in_flight - 1
        else:
            self._in_flight.pop(key_id, None)
        if taken.counted and actual_tokens is not None and actual_tokens != taken.reserved:
            surplus = (0, taken.reserved - actual_tokens)
            state = correct(self._state(key_id, now), taken.start, surplus, now)
            if state is not None:
                self._young[key_id] = state

    def _state(self, key_id: str, now: int) -> State | None:
        if now >= self._turn_at or len(self._young) >= self._keys_max:
            self._old = self._young
            self._young = {}
            self._turn_at = now + 2 * WINDOW_MS
        elif now < self._turn_at - 2 * WINDOW_MS:  # The clock was set back.
            self._turn_at = now + 2 * WINDOW_MS
        return self._young.get(key_id) or self._old.get(key_id)
