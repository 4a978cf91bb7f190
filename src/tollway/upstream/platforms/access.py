"""Access tokens that are fetched for a credential: kept until shortly before they end, one fetch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from tollway.core.json import decode
from tollway.upstream.transport import Deadlines, Transport, UpstreamFault, UpstreamRequest, UpstreamResponse

EARLY_MS: Final = 5 * 60_000
"""How long before its end a token is replaced."""
KEPT_MAX: Final = 1024
ANSWER_MAX: Final = 64 * 1024
PATIENCE: Final = Deadlines(connect=5, first_byte=10, idle=10, total=20)


class AccessToken(Struct, frozen=True):
    """A token, and the Unix milliseconds at which it stops being valid."""

    value: str
    ends: int

    def __repr__(self) -> str:
        return f"AccessToken(ends={self.ends})"


class AccessTokens:
    """The tokens of one process. They outlive the endpoints that use them, which a new catalogue replaces.

    `now`: the clock, in Unix milliseconds.
    """

    def __init__(self, transport: Transport, now: Callable[[], int]) -> None:
        self.now = now
        self._transport = transport
        self._kept: dict[str, AccessToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, account: str, ask: Callable[[int], Awaitable[UpstreamRequest]]) -> str:
        """The token of an account; `ask` makes the request for a new one, given the time. Raises UpstreamFault.

        A token that is still valid serves while its replacement cannot be had.
        """
        found = self._kept.get(account)
        if found is not None and found.ends - self.now() > EARLY_MS:
            return found.value
        if len(self._locks) >= KEPT_MAX:
            self._locks.clear()
            self._kept.clear()
        async with self._locks.setdefault(account, asyncio.Lock()):
            found = self._kept.get(account)
            if found is not None and found.ends - self.now() > EARLY_MS:
                return found.value
            try:
                fresh = await self._fetch(await ask(self.now()))
            except UpstreamFault:
                if found is not None and found.ends > self.now():
                    return found.value
                raise
            self._kept[account] = fresh
            return fresh.value

    async def _fetch(self, request: UpstreamRequest) -> AccessToken:
        asked = self.now()
        response = await self._transport.send(request)
        try:
            body = await response.read_all(ANSWER_MAX)
        finally:
            response.close()
        try:
            answer: Any = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            answer = None
        if response.status != 200 or type(answer) is not dict:
            word = answer.get("error") if type(answer) is dict else None
            told = f": {word}" if type(word) is str and word.isidentifier() else ""
            raise UpstreamFault(
                "connect",
                f"the token endpoint refused the credential (status {response.status}{told})",
                sent=False,
            )
        value, seconds = answer.get("access_token"), answer.get("expires_in")
        if not (type(value) is str and value and value.isascii() and value.isprintable()):
            raise UpstreamFault("connect", "the token endpoint answered without an access token", sent=False)
        lasting = seconds if type(seconds) is int and 0 < seconds < 1_000_000 else 3600
        return AccessToken(value, asked + lasting * 1000)


class Nowhere:
    """A transport that sends nothing, for endpoints that are only looked at."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Raises UpstreamFault."""
        raise UpstreamFault("closed", f"nothing is sent to {request.origin.host} from here", sent=False)

    async def close(self) -> None:
        """There is nothing to close."""
