"""A gate with money in it and a scripted upstream behind it: calls made in the test's own process, where they can be cut anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.admin import do, instance, ready
from tests.support.servers import Script, eventually, serve, whole

from tollway.core.dialects.asked import Asked
from tollway.core.dialects.checked import read_chat
from tollway.core.routing.health import CONSECUTIVE, OPEN_MS
from tollway.flows import text
from tollway.flows.admin.context import Admin
from tollway.flows.admit import identify
from tollway.flows.call import Call
from tollway.flows.clock import new_id, now_ms
from tollway.flows.gate import Gate
from tollway.flows.receipts import ReceiptView, receipt
from tollway.store.limiter import MemoryLimiter
from tollway.store.verify import verify
from tollway.upstream.client import Client

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
SSE = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(payload: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def event(text_: str | None = None, **more: Any) -> bytes:
    """One chunk of a Chat stream, framed."""
    choices = [] if text_ is None else [{"index": 0, "delta": {"content": text_}, "finish_reason": None}]
    found = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices}
    return chunk(b"data: " + json.dumps({**found, **more}).encode() + b"\n\n")


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
END = (event(**STOP), event(usage=USAGE), chunk(b"data: [DONE]\n\n"), chunk(b""))
WHOLE = whole(
    body=json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "up",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
            ],
            "usage": USAGE,
        }
    ).encode(),
    headers=b"content-type: application/json\r\n",
)


class Ear:
    """Where an answer goes: remembers what it was given. `carried`: the chunks that came with their framing.

    `slow_after`: the chunk with which it becomes congested, until it is drained.
    """

    def __init__(self, *, chunked: bool = False, slow_after: int = 0) -> None:
        self.chunked = chunked
        self.carried: list[bytes] = []
        self.slow_after = slow_after
        self.status = 0
        self.headers = b""
        self.body = b""
        self.ended = False
        self.congested = False

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.start(status, headers)
        self.end(body)

    def start(self, status: int, headers: bytes) -> None:
        self.status, self.headers = status, headers

    def write(self, chunk: bytes) -> None:
        self.body += chunk

    def write_framed(self, chunk: bytes) -> bool:
        assert self.chunked and not self.ended and not self.congested
        size, _, rest = chunk.partition(b"\r\n")
        assert len(rest) == int(size, 16) + 2 and rest.endswith(b"\r\n")
        self.carried.append(rest[:-2])
        self.body += rest[:-2]
        self.congested = len(self.carried) == self.slow_after
        return self.congested

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.congested = False

    def end(self, last: bytes = b"") -> None:
        self.body += last
        self.ended = True


class Till:
    """The gate, its administration, and a key."""

    def __init__(self, gate: Gate, admin: Admin, secret: str) -> None:
        self.gate = gate
        self.admin = admin
        self.secret = secret
        self.limiter: MemoryLimiter = gate.limiter  # type: ignore[assignment]

    async def call(self) -> Call:
        now = now_ms()
        found = Call(call_id=new_id("req", now), route="/v1/chat/completions", ip="127.0.0.1", user_agent="", created_at=now)  # fmt: skip
        found.key = await identify(self.gate, self.secret, found.ip, now)
        return found

    def asked(self, **more: Any) -> Asked:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 50, **more}
        return read_chat(json.dumps(body).encode())

    async def ask(self, ear: Ear | None = None, **more: Any) -> tuple[Ear, str]:
        """One call to its end: what was heard, and its id."""
        ear, call = ear or Ear(), await self.call()
        await text.answer(self.gate, call, self.asked(**more), ear)
        return ear, call.id

    async def quiet(self) -> None:
        """Wait until nothing works behind calls any more."""
        await eventually(lambda: not self.gate._tasks, "work behind calls to end")

    def ail(self) -> None:
        """Make the channel one that was at fault, and may now be tested by one call."""
        [channel_id] = [one.channel_id for one in self.gate.catalogue.models["m"].routes]
        then = now_ms() - 2 * OPEN_MS
        for _ in range(CONSECUTIVE):
            self.gate.health.fault(channel_id, "m", then, dice=0.5)
        assert self.gate.health.state(channel_id, "m", now_ms()) == "half_open"

    async def receipt(self, call_id: str) -> ReceiptView:
        key = await identify(self.gate, self.secret, "127.0.0.1", now_ms())
        return await receipt(self.admin.store, key, call_id)

    async def check(self) -> None:
        """Nothing is held, nobody has a place, no channel is being tested, and the books balance."""
        await self.quiet()
        assert (await do(self.admin, "credits.balance", account="main"))["held"] == 0
        known = self.limiter._old | self.limiter._young
        assert not any(standing.in_flight for standing in known.values())
        assert all(not one.probe_until for one in self.gate.health._breakers.values())
        assert (await self.admin.store.read(verify)).ok


@contextlib.asynccontextmanager
async def till(
    folder: Path, script: Script, *, dialect: str = "openai_chat", **options: Any
) -> AsyncIterator[Till]:
    """A till whose model `m` is served by a script over a socket; `options` are the channel's."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(script))
        admin = await stack.enter_async_context(instance(ready(folder), clock=now_ms))  # type: ignore[arg-type]
        url = f"http://127.0.0.1:{server.origin.port}/v1"
        prices = {"input_price": "100", "output_price": "400"}
        await do(
            admin,
            "channel.add",
            name="up",
            dialect=dialect,
            base_url=url,
            models=["m"],
            options=options,
            **prices,
        )
        made = await do(admin, "key.create", name="till")
        await do(admin, "credits.grant", amount=1000, account="main")
        transport = Client()
        stack.push_async_callback(transport.close)
        gate = Gate(
            settings=admin.settings,
            store=admin.store,
            transport=transport,
            limiter=MemoryLimiter(),
            vault=admin.vault,
            sandbox=None,
        )
        await gate.open()
        stack.push_async_callback(gate.close)
        yield Till(gate, admin, made["key"])
