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
    CLEAN,
    KEPT_MS,
    correct,
    crowded,
    refused,
    take_told,
    turned,
    verdicts,
)
from tollway.core.errors import GatewayError

CONCURRENCY_DEFAULT: Final = 100
"""Calls in flight of a key that sets no limit of its own."""
KEYS_MAX: Final = 100_000


class Standing:
    """What a limiter knows of one key: its calls in flight, and its windows."""

    __slots__ = ("in_flight", "state")

    def __init__(self) -> None:
        self.in_flight = 0
        self.state = CLEAN


class Taken(Struct, gc=False):
    """What one call has taken. Give it back once; giving it back again does nothing.

    `standing` is the key's in the limiter of this process, None once it was given back; a call
    that the limiter shared among processes counts has a `place` of that name instead. `headers`
    are lines for the response, b"" of a key without limits. `start` and `reserved` (tokens) locate
    the reservation, if the windows `counted` it.
    """

    standing: Standing | None
    key_id: str
    headers: bytes
    start: int
    reserved: int
    counted: bool
    place: str = ""

    @property
    def shared(self) -> bool:
        """Whether the limiter shared among processes holds it."""
        return bool(self.place)


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

    Keys live in two generations that turn over every two minutes: what was not used for that
    long says nothing any more and is dropped with the older generation, unless a call is in
    flight. More than `keys_max` keys at once turn them over early, which forgets the least
    recently used ones.
    """

    def __init__(self, *, concurrency: int | None = CONCURRENCY_DEFAULT, keys_max: int = KEYS_MAX) -> None:
        self._concurrency = concurrency
        self._keys_max = max(1, keys_max // 2)
        self._young: dict[str, Standing] = {}
        self._old: dict[str, Standing] = {}
        self._turned_at = 0

    def __len__(self) -> int:
        """How many keys something is remembered of."""
        return len(self._young.keys() | self._old.keys())

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
        if not 0 <= now - self._turned_at < KEPT_MS:
            self._turn(now)
        key_id = key.id
        standing = self._young.get(key_id) or self._standing(key_id, now)
        in_flight, cap = standing.in_flight, key.concurrency
        if cap is None:
            cap = self._concurrency
        if cap is not None and in_flight >= cap:
            raise crowded(key, in_flight, cap)
        tpm = key.tpm
        if tpm is None and key.rpm is None:
            standing.in_flight = in_flight + 1
            return Taken(standing, key_id, b"", 0, 0, False)
        reserved = tokens if tpm is None or tokens < tpm else tpm
        told = take_told(standing.state, key, reserved, now)
        if told is None:
            raise _refused(standing, key, tokens, now)
        standing.state, headers = told
        standing.in_flight = in_flight + 1
        return Taken(standing, key_id, headers, told[0].start, reserved, True)

    def give_back_now(self, taken: Taken, actual_tokens: int | None, now: int) -> None:
        """Give back at once."""
        standing = taken.standing
        if standing is None:
            return
        taken.standing = None
        standing.in_flight -= 1
        if actual_tokens is not None and taken.counted and actual_tokens != taken.reserved:
            standing.state = correct(standing.state, taken.start, taken.reserved - actual_tokens, now)
            self._young[taken.key_id] = standing

    def _standing(self, key_id: str, now: int) -> Standing:
        """What is known of a key that was not used since the last turn."""
        if len(self._young) >= self._keys_max:
            self._turn(now)
        found = self._young[key_id] = self._old.get(key_id) or Standing()
        return found

    def _turn(self, now: int) -> None:
        """Begin a new generation, or only its time anew if the clock was set back."""
        if now >= self._turned_at or len(self._young) >= self._keys_max:
            busy = {key_id: one for key_id, one in self._old.items() if one.in_flight}
            self._old, self._young = self._young, {}
            self._old.update(busy)
        self._turned_at = now


def _refused(standing: Standing, key: Key, tokens: int, now: int) -> GatewayError:
    known = standing.state
    state = turned(known, now)
    if state.start < known.start:
        # The clock was set back. The minute must begin anew once, not with every refusal.
        standing.state = state
    return refused(key, verdicts(state, key, tokens, now), tokens, now)
