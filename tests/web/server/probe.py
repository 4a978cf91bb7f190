"""A small app for server tests that records what becomes of its handlers."""

from __future__ import annotations

import asyncio
from collections import Counter

from tollway.web.writer import writer_of

JSON = b"content-type: application/json\r\n"


class Probe:
    """Call it as an ASGI app. `begun` and `ended` tell how handlers fared, by path."""

    def __init__(self):
        self.begun: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.scopes: list[dict] = []
        self.lifespan: list[str] = []
        self.release = asyncio.Event()
        self.poured = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        path = scope["path"]
        self.begun.append(path)
        self.scopes.append(scope)
        try:
            await getattr(self, path.split("/")[1].replace("-", "_"), self.missing)(scope, receive, send)
        except asyncio.CancelledError as cancelled:
            self.ended.append((path, *cancelled.args))
            raise
        except Exception as error:
            self.ended.append((path, type(error).__name__))
            raise
        self.ended.append((path, "done"))

    @property
    def tally(self) -> Counter:
        return Counter(self.ended)

    async def _lifespan(self, receive, send):
        while True:
            kind = (await receive())["type"]
            self.lifespan.append(kind)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return

    async def missing(self, scope, receive, send):
        writer_of(scope).respond(404, JSON, b"{}")

    async def echo(self, scope, receive, send):
        writer = writer_of(scope)
        writer.respond(200, JSON, await writer.read_body(1 << 20))

    v1 = echo

    async def path(self, scope, receive, send):
        writer_of(scope).respond(200, b"", scope["path"].encode())

    async def livez(self, scope, receive, send):
        writer_of(scope).respond(200, JSON, b'{"status":"ok"}')

    readyz = livez

    async def small(self, scope, receive, send):
        writer = writer_of(scope)
        writer.respond(200, b"", await writer.read_body(8))

    async def unread(self, scope, receive, send):
        writer_of(scope).respond(401, JSON, b"{}")

    async def hang(self, scope, receive, send):
        await self.release.wait()
        writer_of(scope).respond(200, b"", b"released")

    async def late(self, scope, receive, send):
        """Reads its body only when it is released."""
        await self.release.wait()
        writer = writer_of(scope)
        writer.respond(200, b"", b"%d" % len(await writer.read_body(10_000_000)))

    async def stream(self, scope, receive, send):
        writer = writer_of(scope)
        writer.start(200, b"content-type: text/event-stream\r\n")
        writer.write(b"first")
        await self.release.wait()
        writer.end(b"last")

    async def careful(self, scope, receive, send):
        """Ends its stream in band when it is told to stop, as relays do."""
        writer = writer_of(scope)
        writer.start(200, b"")
        writer.write(b"first")
        try:
            await self.release.wait()
        except asyncio.CancelledError as cancelled:
            writer.end(b"error: %b" % str(cancelled.args[0]).encode())
            raise

    async def slow_settle(self, scope, receive, send):
        """Does something after its client left, which must not be cut short."""
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            for _ in range(20):
                await asyncio.sleep(0)
            self.ended.append((scope["path"], "settled"))
            raise

    async def pour(self, scope, receive, send):
        writer = writer_of(scope)
        writer.start(200, b"")
        chunk = b"x" * 16384
        while True:
            writer.write(chunk)
            self.poured += len(chunk)
            await writer.drain()

    async def big(self, scope, receive, send):
        writer_of(scope).respond(200, b"", b"y" * (16 << 20))

    async def boom(self, scope, receive, send):
        raise ValueError("sk-secret-in-a-traceback")

    async def boom_midway(self, scope, receive, send):
        writer = writer_of(scope)
        writer.start(200, b"")
        writer.write(b"part")
        raise ValueError("midway")

    async def silent(self, scope, receive, send):
        """Returns without answering."""

    async def unfinished(self, scope, receive, send):
        writer_of(scope).start(200, b"")
