"""Cancelling: at once, at any stage, ten thousand times, without a trace."""

import asyncio
import os
import random

import pytest
from tests.support.servers import eventually, serve, whole

from tollway.upstream.client import Client
from tollway.upstream.transport import Deadlines, UpstreamFault

CANCELS = 10_000
AT_ONCE = 200


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def swallow(peer):
    await peer.request()
    await peer.until_gone()


async def half_body(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    await peer.until_gone()


async def never_read(peer):
    await peer.head()
    await asyncio.Event().wait()


@pytest.mark.parametrize(("script", "size"), [(swallow, 2), (half_body, 2), (swallow, 1 << 20)])
async def test_a_cancelled_exchange_closes_the_connection_at_once(client: Client, script, size):
    async def exchange():
        await (await client.send(server.request(body=b"x" * size))).read_all(100)

    async with serve(script) as server:
        task = asyncio.create_task(exchange())
        await eventually(lambda: server.peers)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert client.stats() == {}
        await eventually(server.peers[0].gone.is_set)


async def test_cancelling_while_the_body_is_written_frees_it(client: Client):
    async with serve(never_read) as server:
        task = asyncio.create_task(client.send(server.request(body=bytes(32 << 20))))
        await eventually(lambda: server.peers)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert client.stats() == {}


async def test_a_timeout_around_a_read_cuts_the_connection(client: Client):
    async with serve(half_body) as server:
        response = await client.send(server.request())
        assert await response.read_some() == b"ab"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await response.read_some()
        assert client.stats() == {}
        with pytest.raises(UpstreamFault) as raised:
            await response.read_some()
        assert raised.value.kind == "closed"


async def test_a_cancel_after_the_end_keeps_the_connection(client: Client):
    async def script(peer):
        while True:
            await peer.request()
            await peer.send(whole())

    async with serve(script) as server:
        response = await client.send(server.request())
        reading = asyncio.create_task(response.read_all(100))
        await eventually(lambda: client.stats()[server.origin].idle == 1)
        reading.cancel()
        await asyncio.wait([reading])
        assert client.stats()[server.origin].idle == 1


async def moody(peer):
    """Answers what the target asks for: /whole, /late, /stream, /half, /hang."""
    while True:
        asked = await peer.request()
        mood = asked.line.split()[1]
        if mood == b"/hang":
            return await peer.until_gone()
        for _ in range(5 if mood == b"/late" else 0):
            await asyncio.sleep(0)
        if mood in (b"/whole", b"/late"):
            await peer.send(whole(200, asked.body))
            continue
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(4):
            await peer.send(b"2\r\nab\r\n")
            await asyncio.sleep(0)
        if mood == b"/half":
            return await peer.until_gone()
        await peer.send(b"0\r\n\r\n")


async def test_a_cancel_storm_leaves_no_trace():
    """Cancels at random turns of every stage: queueing, connecting, writing, waiting, reading, just finished."""
    client = Client(connections_max=AT_ONCE // 4)
    dice = random.Random(20240229)
    deadlines = Deadlines(connect=30, first_byte=30, idle=30)
    ended = {"cancelled": 0, "finished": 0}

    async def exchange(target, size):
        response = await client.send(server.request(target, body=b"x" * size, deadlines=deadlines))
        try:
            while await response.read_some():
                pass
        finally:
            response.close()

    async def tormentor(cancels):
        for _ in range(cancels):
            target = dice.choice(("/whole", "/late", "/stream", "/half", "/hang"))
            size = dice.choice((2, 2, 2, 2, 200_000))
            task = asyncio.create_task(exchange(target, size))
            for _ in range(dice.choice((0, 1, 2, 3, 5, 8, 12))):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            ended["cancelled" if task.cancelled() else "finished"] += 1
            if not task.cancelled():
                task.result()

    async with serve(moody) as server:
        await exchange("/whole", 2)
        await client.close()
        await eventually(server.peers[0].writer.is_closing)
        client = Client(connections_max=AT_ONCE // 4)
        tasks, before = len(asyncio.all_tasks()), descriptors()

        await asyncio.gather(*(tormentor(CANCELS // AT_ONCE) for _ in range(AT_ONCE)))
        assert sum(ended.values()) == CANCELS
        assert ended["cancelled"] > CANCELS // 2

        async def healthy(n):
            body = b"%d" % n
            response = await client.send(server.request("/whole", body=body, deadlines=deadlines))
            return await response.read_all(100) == body

        assert await asyncio.gather(*(healthy(n) for n in range(100))) == [True] * 100
        stats = client.stats()[server.origin]
        assert stats.open == stats.idle <= AT_ONCE // 4
        assert stats.waiting == 0
        await client.close()
        assert client.stats() == {}
        await eventually(lambda: descriptors() <= before)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
