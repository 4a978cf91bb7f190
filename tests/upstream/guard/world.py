"""A pretended internet: names resolve as the test says, and public addresses lead to servers on loopback.

Whatever is not routed is noted and refused, so that no test sends a packet to anywhere else.
"""

from __future__ import annotations

import httpcore
from tests.support.servers import Server

from tollway.upstream import guard_dial
from tollway.upstream.guard import Guard
from tollway.upstream.guard_rules import Rules

PUBLIC = "93.184.215.14"


class World:
    """`asked` are the names resolved, `dialled` the addresses and ports connected to, in order."""

    def __init__(self) -> None:
        self.names: dict[str, list[str] | list[list[str]]] = {}
        self.routes: dict[str, Server] = {}
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []

    def put(self, name: str, server: Server, address: str = PUBLIC) -> None:
        """Let a name resolve to an address, and let the address be that server, whatever the port."""
        self.names[name] = [address]
        self.routes[address] = server

    async def resolve(self, name: str) -> list[str]:
        self.asked.append(name)
        found = self.names.get(name.removesuffix("."))
        if found is None:
            raise OSError(f"no address for {name}")
        if found and isinstance(found[0], list):
            return found.pop(0) if len(found) > 1 else found[0]
        return list(found)

    async def dial(self, address: str, port: int, seconds: float) -> httpcore.AsyncNetworkStream:
        self.dialled.append((address, port))
        server = self.routes.get(address)
        if server is None:
            raise httpcore.ConnectError("nobody is there")
        return await guard_dial.dial(server.origin.host, server.origin.port, seconds)

    def guard(self, rules: Rules | None = None, **options) -> Guard:
        return Guard(rules or Rules(), resolve=self.resolve, dial=self.dial, **options)
