"""What processes tell each other of their channels' health, through Redis or Valkey, once a second.

One script brings what a process has to tell and takes what all have told; it keeps of each breaker
the mark that is right (core/routing/health.py says which). Each process goes on deciding by
itself: without Redis, or between two exchanges, it merely learns of the others' troubles by its own
calls. A half-open breaker is tried by every process once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from tollway.core.routing.health import MEMORY_MS, NO_MARK, Health, Mark, joined
from tollway.store.redis_line import AWAY, RedisLine, script

log: Final = logging.getLogger("tollway.health")

EVERY_S: Final = 1.0
TIMEOUT: Final = 0.5
KEY: Final = "tollway:breakers"

# ARGV: now, milliseconds to remember a mark, then the name and the five numbers of each mark told.
_EXCHANGE: Final = script("""
local now, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local function numbers(text)
  local found = {}
  for digits in string.gmatch(text, '%d+') do found[#found + 1] = tonumber(digits) end
  return found
end
for i = 3, #ARGV, 6 do
  local told = {}
  for n = 1, 5 do told[n] = tonumber(ARGV[i + n]) end
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if known then
    known = numbers(known)
    local rest = math.max(told[5], known[5])
    for n = 1, 4 do
      if known[n] ~= told[n] then
        if known[n] > told[n] then told = known end
        break
      end
    end
    told[5] = rest
  end
  local text = string.format('%.0f:%.0f:%.0f:%.0f:%.0f', told[1], told[2], told[3], told[4], told[5])
  redis.call('HSET', KEYS[1], ARGV[i], text)
end
local all, left = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local mark = numbers(all[i + 1])
  if math.max(mark[2], mark[3], mark[5]) + keep < now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    left[#left + 1] = all[i]
    left[#left + 1] = all[i + 1]
  end
end
redis.call('PEXPIRE', KEYS[1], 2 * keep)
return left
""")


class SharedHealth:
    """Exchanges the marks of one process's breakers with those of all others. `clock`: Unix milliseconds."""

    def __init__(
        self, url: str, health: Health, clock: Callable[[], int], *, timeout: float = TIMEOUT
    ) -> None:
        self._line = RedisLine(url, timeout)
        self._health = health
        self._clock = clock
        self._known: dict[str, Mark] = {}
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Exchange once a second from now on."""
        self._task = asyncio.create_task(self._keep_on())

    async def close(self) -> None:
        """Stop, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._line.close()

    async def exchange(self) -> None:
        """Tell what others have not told, and hear what they have. Raises one of redis_line.AWAY."""
        now = self._clock()
        args: list[str | int] = [now, MEMORY_MS]
        for (channel, model), mark in self._health.marks():
            name = f"{channel} {model}"
            known = self._known.get(name, NO_MARK)
            if joined(known, mark) != known:
                args += (name, *mark)
        answer = await self._line.run(_EXCHANGE, (KEY,), tuple(args))
        self._known = dict(_marks(answer))
        for name, mark in self._known.items():
            channel, _, model = name.partition(" ")
            self._health.hear(channel, model, mark, now)

    async def _keep_on(self) -> None:
        while True:
            try:
                await self.exchange()
            except AWAY as error:
                self._note(away=True, why=str(error) or type(error).__name__)
            except Exception:
                log.exception("the health of channels could not be exchanged")
            else:
                self._note(away=False, why="")
            await asyncio.sleep(EVERY_S)

    def _note(self, *, away: bool, why: str) -> None:
        if away is self._away:
            return
        self._away = away
        if away:
            # What was told may be forgotten over there: tell it all again.
            self._known = {}
            log.warning("each process judges channels alone while Redis is away: %s", why)
        else:
            log.info("processes tell each other of channels again")


def _marks(answer: list[Any]) -> list[tuple[str, Mark]]:
    """Name and mark by turns; what is not a mark, as of a later version, is left out."""
    found = []
    for name, text in zip(answer[::2], answer[1::2], strict=True):
        numbers = text.decode().split(":")
        if len(numbers) == len(NO_MARK) and all(one.isdigit() for one in numbers):
            found.append((name.decode(), Mark(*map(int, numbers))))
    return found
