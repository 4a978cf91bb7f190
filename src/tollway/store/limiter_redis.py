"""The limiter shared by all processes of a gateway: the same arithmetic, decided inside Redis or Valkey.

One script takes, one gives back; each runs atomically on the server and by the server's clock, so
that processes with different clocks agree. A call in flight is an entry with a lease, renewed
while its process lives: a dead process loses its places within a minute. Keys carry the hash tag
`{key id}`, so that both keys of a script live on one node of a cluster.

Redis is a help and no dependency. It has 250 ms to answer and is asked once; when it does not,
the call is limited by this process alone, and one call a second looks whether it is back. Places
that may have been left behind in an outage are freed when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from tollway.core.access.keys import Key
from tollway.core.access.limits import State, crowded, rate_headers, refused, verdicts
from tollway.store.limiter import CONCURRENCY_DEFAULT, MemoryLimiter, Taken
from tollway.store.redis_line import AWAY, RedisLine, script

log: Final = logging.getLogger("tollway.limiter")

TIMEOUT: Final = 0.25
"""Seconds; longer than any healthy answer takes, shorter than a caller notices."""
RETRY_AFTER: Final = 1.0
"""Seconds between two looks at a Redis that is away."""
LEASE_MS: Final = 60_000
RENEW_EVERY: Final = 20.0
LOST_MAX: Final = 10_000
"""Places remembered for freeing after an outage; beyond it their leases have to do."""

_CLOCK: Final = """
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local W = 60000
local function keep(s, b, c)
  redis.call('HSET', KEYS[1], 's', s, 'b1', b[1], 'c1', c[1], 'b2', b[2], 'c2', c[2])
  redis.call('PEXPIRE', KEYS[1], 2 * W + 1000)
end
local function turned()
  local h = redis.call('HMGET', KEYS[1], 's', 'b1', 'c1', 'b2', 'c2')
  local s = tonumber(h[1])
  if not s then return now, {0, 0}, {0, 0} end
  local b, c = {tonumber(h[2]), tonumber(h[4])}, {tonumber(h[3]), tonumber(h[5])}
  local e = now - s
  if e < 0 then
    keep(now, b, c)
    return now, b, c
  end
  if e < W then return s, b, c end
  if e < 2 * W then return s + W, c, {0, 0} end
  return now, {0, 0}, {0, 0}
end
"""

# ARGV: now (0: the server's), place, lease ms, cap (-1: none), then limit (-1: none) and cost per window.
_TAKE: Final = script(
    _CLOCK
    + """
local cap = tonumber(ARGV[4])
if cap >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local flying = redis.call('ZCARD', KEYS[2])
  if flying >= cap then return {2, now, flying} end
end
local answer = {1, now}
if #ARGV > 4 then
  local s, b, c = turned()
  local fits, charged = true, {}
  for i = 1, 2 do
    local limit, cost = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
    if limit >= 0 then
      if cost > limit then cost = limit end
      if math.floor(b[i] * (W - 1 - (now - s)) / W) + c[i] + cost > limit then fits = false end
    end
    charged[i] = c[i] + cost
  end
  if fits then
    c = charged
    keep(s, b, c)
  end
  answer = {fits and 1 or 0, now, s, b[1], b[2], c[1], c[2]}
  if not fits then return answer end
end
local lease = tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], now + lease, ARGV[2])
redis.call('PEXPIRE', KEYS[2], lease + 1000)
return answer
"""
)

# ARGV: now (0: the server's), place, the start it was taken under, surplus tokens (0: leave the windows alone).
_GIVE_BACK: Final = script(
    _CLOCK
    + """
redis.call('ZREM', KEYS[2], ARGV[2])
local surplus = tonumber(ARGV[4])
if surplus == 0 or (surplus > 0 and redis.call('EXISTS', KEYS[1]) == 0) then return 0 end
local s, b, c = turned()
local start = tonumber(ARGV[3])
if surplus < 0 or start == s then
  c[2] = math.max(0, c[2] - surplus)
elseif start == s - W then
  b[2] = math.max(0, b[2] - surplus)
end
keep(s, b, c)
return 1
"""
)

# ARGV: now (0: the server's), lease ms, then the places of one process that are still in flight.
_RENEW: Final = script("""
local now = tonumber(ARGV[1])
if now == 0 then now = redis.call('TIME')[1] * 1000 end
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2] + 1000)
return 1
""")


class RedisLimiter:
    """Limits shared among processes; falls back to a local MemoryLimiter while Redis is away.

    `timeout`: seconds Redis has for a batch of scripts. `server_clock` False makes the scripts go
    by the caller's `now`, for tests that need a clock of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int | None = CONCURRENCY_DEFAULT,
        timeout: float = TIMEOUT,
        server_clock: bool = True,
    ) -> None:
        self._line = RedisLine(url, timeout)
        self._concurrency = concurrency
        self._server_clock = server_clock
        self._local = MemoryLimiter(concurrency=concurrency)
        self._owner = secrets.token_hex(8)
        self._places = 0
        self._held: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._away = False
        self._look_at = 0.0
        self._renewal: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether calls are limited by this process alone at the moment."""
        return self._away

    async def open(self) -> None:
        """Start renewing the leases of calls in flight."""
        self._renewal = asyncio.create_task(self._keep_leases())

    async def close(self) -> None:
        """Stop renewing and close the connection; what is still in flight runs out by its lease."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        await self._line.close()

    async def take(self, key: Key, tokens: int, now: int) -> Taken:
        """See Limiter. `now` is used while Redis is away; otherwise Redis has the clock."""
        if self._skip():
            return self._local.take_now(key, tokens, now)
        self._places += 1
        place = f"{self._owner}:{self._places}"
        try:
            taken = await self._take_shared(key, tokens, place, now)
        except asyncio.CancelledError:
            # The script runs all the same; this one runs right after it.
            self._line.ask(_GIVE_BACK, _names(key.id), (0, place, 0, 0))
            raise
        except AWAY as error:
            self._gone(error)
            self._lose(place, key.id)
            return self._local.take_now(key, tokens, now)
        self._held[place] = key.id
        return taken

    async def give_back(self, taken: Taken, actual_tokens: int | None, now: int) -> None:
        """See Limiter. Never raises for a Redis that is away; a cancelled one is done all the same."""
        if not taken.shared:
            self._local.give_back_now(taken, actual_tokens, now)
            return
        if self._held.pop(taken.place, None) is None:
            return
        if self._skip():
            self._lose(taken.place, taken.key_id)
            return
        surplus = 0
        if taken.counted and actual_tokens is not None:
            surplus = taken.reserved - actual_tokens
        args = (self._clock(now), taken.place, taken.start, surplus)
        try:
            await self._line.run(_GIVE_BACK, _names(taken.key_id), args)
        except AWAY as error:
            self._gone(error)
            self._lose(taken.place, taken.key_id)
        else:
            self._back()

    async def renew(self, now: int = 0) -> None:
        """Renew the leases of all calls in flight. Raises one of AWAY; `now` 0 is the server's clock."""
        places: dict[str, list[str]] = {}
        for place, key_id in self._held.items():
            places.setdefault(key_id, []).append(place)
        for key_id, held in places.items():
            await self._line.run(_RENEW, _names(key_id)[1:], (now, LEASE_MS, *held))

    async def _take_shared(self, key: Key, tokens: int, place: str, now: int) -> Taken:
        rpm, tpm = key.rpm, key.tpm
        cap = self._concurrency if key.concurrency is None else key.concurrency
        args: list[str | int] = [self._clock(now), place, LEASE_MS, -1 if cap is None else cap]
        limited = rpm is not None or tpm is not None
        if limited:
            args += (-1 if rpm is None else rpm, 1, -1 if tpm is None else tpm, tokens)
        answer = await self._line.run(_TAKE, _names(key.id), tuple(args))
        self._back()
        if answer[0] == 2:
            raise crowded(key, answer[2], cap or 0)
        if not limited:
            return Taken(None, key.id, b"", 0, 0, False, place)
        there, state = answer[1], State(*answer[2:])
        if answer[0] == 0:
            raise refused(key, verdicts(state, key, tokens, there), tokens, there)
        reserved = tokens if tpm is None else min(tokens, tpm)
        return Taken(None, key.id, rate_headers(state, key, there), state.start, reserved, True, place)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self.renew()
            except AWAY as error:
                self._gone(error)

    def _clock(self, now: int) -> int:
        return 0 if self._server_clock else now

    def _skip(self) -> bool:
        """Whether to leave Redis alone this time; while it is away one call a second has a look."""
        if not self._away:
            return False
        moment = asyncio.get_running_loop().time()
        if moment < self._look_at:
            return True
        self._look_at = moment + RETRY_AFTER
        return False

    def _gone(self, error: BaseException) -> None:
        self._look_at = asyncio.get_running_loop().time() + RETRY_AFTER
        if not self._away:
            self._away = True
            log.warning("limits are per process while Redis is away: %s", str(error) or type(error).__name__)

    def _back(self) -> None:
        if not self._away:
            return
        self._away = False
        log.info("limits are shared again")
        for place, key_id in self._lost.items():
            self._line.ask(_GIVE_BACK, _names(key_id), (0, place, 0, 0))
        self._lost.clear()

    def _lose(self, place: str, key_id: str) -> None:
        if len(self._lost) < LOST_MAX:
            self._lost[place] = key_id


def _names(key_id: str) -> tuple[str, str]:
    return f"tollway:{{{key_id}}}:windows", f"tollway:{{{key_id}}}:calls"
