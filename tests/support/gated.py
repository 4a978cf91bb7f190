"""An upstream whose answers go on when the test says so, and a gateway's calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from tests.support import raw_http
from tests.support.gateway import Gateway
from tests.support.servers import Peer, serve
from tests.support.till import END, SSE, STOP, USAGE, event

PRICE = ("--input-price", "0", "--output-price", "1000")
TOKENS = 5
"""What an answer is billed: 5 tokens out, as `till.USAGE` says, at 0.001 credits each."""
COST = TOKENS / 1000


PIECES = (SSE, event("one"), event("two"), event(**STOP), event(usage=USAGE), *END[2:])
NOTHING, HEADERS, ONE, TWO, BILL, ALL = 0, 1, 2, 3, 5, len(PIECES)
"""How many pieces are let through."""


class Gated:
    """Streams two words and a bill, as far as the test lets it: to its first word at first. `url` is its base URL."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.sent = 0
        """Pieces of the latest answer that have been handed to the kernel, which on one machine is to the gateway."""
        self.most = ONE
        self._more = asyncio.Condition()

    async def let(self, most: int) -> None:
        """Let that many pieces of every answer through."""
        async with self._more:
            self.most = most
            self._more.notify_all()

    async def script(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.asked += 1
            self.sent = 0
            for n, piece in enumerate(PIECES):
                async with self._more:
                    await self._more.wait_for(lambda n=n: n < self.most)
                await peer.send(piece)
                self.sent = n + 1


@contextlib.asynccontextmanager
async def gated() -> AsyncIterator[Gated]:
    found = Gated()
    async with serve(found.script) as server:
        found.url = f"http://127.0.0.1:{server.origin.port}/v1"
        yield found


async def connected(gateway: Gateway, upstream: Gated, *options: str) -> str:
    """A key of a new account with 1,000 credits, which may call the model `gated`."""
    words = ("--name", "gated", "--dialect", "openai_chat", "--base-url", upstream.url, "--model", "gated")
    await told(gateway, "channel", "add", *words, *PRICE, *options)
    await told(gateway, "account", "create", "caller")
    await told(gateway, "credits", "grant", "1000", "--account", "caller")
    return (await told(gateway, "key", "create", "--name", "caller", "--account", "caller"))["key"]


async def told(gateway: Gateway, *words: str) -> Any:
    """A command against the gateway, while the test's own servers go on."""
    return await asyncio.to_thread(gateway.cli, *words)


async def balance(gateway: Gateway) -> tuple[float, float]:
    """What the caller spent and what is held of theirs."""
    found = await told(gateway, "credits", "balance", "--account", "caller")
    return float(found["spent"]), float(found["held"])


def request(key: str) -> bytes:
    """A streamed call of `gated`, as bytes."""
    body = {"model": "gated", "stream": True, "max_tokens": 50, "messages": [{"role": "user", "content": "go"}]}  # fmt: skip
    raw = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


async def ask(gateway: Gateway, key: str) -> raw_http.Response:
    """One call to its end."""
    return await raw_http.exchange(gateway.port, request(key))


async def begun(client: raw_http.Raw, key: str) -> None:
    """Begin a call and read until its first word."""
    await client.send(request(key))
    status, _ = await client.head()
    assert status == 200
    while b'"one"' not in (await client.chunk() or b"end"):
        pass


async def ended(client: raw_http.Raw) -> bool:
    """Whether the rest of a begun call ends as it should."""
    rest = b""
    while chunk := await client.chunk():
        rest += chunk
    return chunk == b"" and b"[DONE]" in rest


async def until(condition: Any, what: str) -> Any:
    """The first true result of an async condition, within the patience of a test."""
    async with asyncio.timeout(30):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    assert found, what
    return found


def kill(gateway: Gateway) -> None:
    """End a gateway with kill -9."""
    if gateway.process.poll() is None:
        os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait(30)
    gateway.process.stdout.close()  # type: ignore[union-attr]
