"""Requests of one turn of the event loop go out in a row: in order, each once, and not after their caller left."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tollway.upstream.outbox import TOGETHER_MAX, Outbox


@asynccontextmanager
async def wire():
    """A transport and the socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    try:
        yield transport, theirs
    finally:
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)  # the turn on which the transport closes its socket


def arrived(sock: socket.socket) -> bytes | None:
    """What has come; None: nothing yet; b"": the other side has closed."""
    try:
        return sock.recv(1000)
    except BlockingIOError:
        return None


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_they_are_written_at_the_end_of_the_turn():
    outbox = Outbox()
    async with wire() as (first, far), wire() as (second, farther):
        outbox.write(first, b"one", wait=True)
        outbox.write(second, b"two", wait=True)
        assert (arrived(far), arrived(farther)) == (None, None)
        await turns()
        assert (arrived(far), arrived(farther)) == (b"one", b"two")
        outbox.write(second, b"three", wait=True)
        await turns()
        assert (arrived(far), arrived(farther)) == (None, b"three")


@pytest.mark.parametrize("leave", ["abort", "close"])
async def test_one_whose_connection_was_given_up_is_not_written(leave):
    outbox = Outbox()
    async with wire() as (first, far), wire() as (second, farther):
        outbox.write(first, b"one", wait=True)
        outbox.write(second, b"two", wait=True)
        getattr(first, leave)()
        await turns()
        assert arrived(far) == b""
        assert arrived(farther) == b"two"


class Broken:
    """A transport that cannot write, which none of ours is: what matters is who else is in the row."""

    def __init__(self):
        self.aborted = False

    def is_closing(self):
        return False

    def write(self, data):
        raise RuntimeError("no")

    def abort(self):
        self.aborted = True


async def test_one_that_cannot_be_written_takes_nobody_with_it():
    outbox, broken = Outbox(), Broken()
    async with wire() as (second, farther):
        outbox.write(broken, b"one", wait=True)
        outbox.write(second, b"two", wait=True)
        await turns()
        assert broken.aborted
        assert arrived(farther) == b"two"


async def test_what_may_not_wait_goes_first():
    outbox = Outbox()
    async with wire() as (first, far), wire() as (second, farther):
        outbox.write(first, b"one", wait=True)
        outbox.write(second, b"two", wait=False)
        assert (arrived(far), arrived(farther)) == (None, b"two")
        await turns()
        assert (arrived(far), arrived(farther)) == (b"one", None)


async def test_the_first_of_many_does_not_wait_for_all():
    outbox = Outbox()
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(wire()) for _ in range(2 * TOGETHER_MAX + 1)]
        for at, (transport, _) in enumerate(wires):
            outbox.write(transport, b"%d" % at, wait=True)
        early = [arrived(far) for _, far in wires]
        assert early == [*(b"%d" % at for at in range(2 * TOGETHER_MAX)), None]
        await turns()
        assert [arrived(far) for _, far in wires] == [None] * (2 * TOGETHER_MAX) + [
            b"%d" % (2 * TOGETHER_MAX)
        ]
