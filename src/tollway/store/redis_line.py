"""Scripts run by Redis in batches over one connection, in the order in which they were asked for.

Whoever asks while a batch is under way goes with the next one, so that under load a script costs
a fraction of a round trip and a process keeps one connection. Nobody's cancellation touches the
connection: what has been asked for is sent and answered, whether or not the asker still waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

BATCH_MAX: Final = 256
AWAY: Final = (RedisError, OSError, TimeoutError)
"""What a script fails with when Redis is away, slow or unwilling."""


class Script(NamedTuple):
    """A Lua script and the digest Redis knows it by."""

    text: str
    sha: str


def script(text: str) -> Script:
    """A script from its text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class _Job(NamedTuple):
    script: Script
    keys: int
    args: tuple[str | int, ...]
    answer: asyncio.Future[Any]


class RedisLine:
    """One connection and its queue. `timeout`: seconds a batch has to be answered, connecting included."""

    def __init__(self, url: str, timeout: float) -> None:
        # The client's own timeout on sending is `wait_for`, which in Python 3.11 may swallow a
        # cancellation. Batches run under `asyncio.timeout` instead, and nothing is sent twice.
        self._redis = Redis.from_url(
            url,
            max_connections=1,
            socket_timeout=None,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._timeout = timeout
        self._waiting: list[_Job] = []
        self._pump: asyncio.Task[None] | None = None

    async def run(self, wanted: Script, keys: tuple[str, ...], args: tuple[str | int, ...]) -> Any:
        """The script's answer. Raises one of AWAY. Cancelling the wait does not recall the script."""
        return await asyncio.shield(self.ask(wanted, keys, args))

    def ask(self, wanted: Script, keys: tuple[str, ...], args: tuple[str | int, ...]) -> asyncio.Future[Any]:
        """Queue a script at once; the future need not be awaited."""
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._waiting.append(_Job(wanted, len(keys), (*keys, *args), answer))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._drain())
        return answer

    async def close(self) -> None:
        """Let what was asked for be answered, then close the connection."""
        if self._pump is not None:
            await self._pump
        await self._redis.aclose()

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            try:
                async with asyncio.timeout(self._timeout):
                    answers = await self._send(batch)
            except AWAY as error:
                # Those who wait behind a batch that failed have waited long enough.
                batch, self._waiting = [*batch, *self._waiting], []
                answers = [error] * len(batch)
            for job, answer in zip(batch, answers, strict=True):
                if isinstance(answer, BaseException):
                    job.answer.set_exception(answer)
                else:
                    job.answer.set_result(answer)

    async def _send(self, batch: list[_Job]) -> list[Any]:
        answers = await self._pipelined(batch)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # A fresh or flushed server. These scripts have not run.
            for text in {batch[at].script.text for at in unknown}:
                await self._redis.script_load(text)
            for at, answer in zip(unknown, await self._pipelined([batch[at] for at in unknown]), strict=True):
                answers[at] = answer
        return answers

    async def _pipelined(self, batch: list[_Job]) -> list[Any]:
        if len(batch) == 1:  # A pipeline of one costs half as much again as the command alone.
            job = batch[0]
            try:
                return [await self._redis.evalsha(job.script.sha, job.keys, *job.args)]
            except ResponseError as error:
                return [error]
        async with self._redis.pipeline(transaction=False) as pipe:
            for job in batch:
                pipe.evalsha(job.script.sha, job.keys, *job.args)
            return await pipe.execute(raise_on_error=False)


def _seen(answer: asyncio.Future[Any]) -> None:
    # Marks an exception as seen, so that one nobody waits for is not reported as forgotten.
    answer.exception()
