"""Clients that do not read: they cost bounded memory, and not for long."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.raw_http import connect, eventually
from tests.web.server.probe import Probe


async def test_a_client_that_does_not_read_is_not_poured_over(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port, receive_buffer=4096, read_limit=1024) as raw:
        raw.writer.transport.pause_reading()
        await raw.send(b"GET /pour HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: server.connections and next(iter(server.connections)).write_paused)
        (connection,) = server.connections
        assert connection.transport.get_write_buffer_size() <= 128 * 1024
        poured = probe.poured
        for _ in range(50):
            await asyncio.sleep(0)
        assert probe.poured == poured
        # Our buffer, what the kernel may hold unsent, and what is in flight to a small window.
        assert poured <= 1 << 20
        raw.writer.transport.abort()


@pytest.mark.parametrize("path", ["/pour", "/big"])
async def test_a_client_that_does_not_read_is_cut_off(serving, path):
    probe = Probe()
    async with (
        serving(probe, write_timeout=0.1) as server,
        connect(server.port, receive_buffer=4096, read_limit=1024) as raw,
    ):
        raw.writer.transport.pause_reading()
        await raw.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await eventually(lambda: probe.begun)
        await eventually(lambda: not server.connections and not server.tasks)
        assert probe.ended == [(path, "client gone" if path == "/pour" else "done")]
        raw.writer.transport.abort()


async def test_a_client_that_reads_slowly_but_reads_is_served(serving):
    """The test is the clock: what was read since the last look decides, and nothing else."""
    async with (
        serving(Probe(), write_timeout=60.0) as server,
        connect(server.port, receive_buffer=65536, read_limit=1024) as raw,
    ):
        await raw.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        await raw.head()
        (connection,) = server.connections
        for _ in range(10):
            left = connection.transport.get_write_buffer_size()
            assert left > 0
            while connection.transport.get_write_buffer_size() > left - 60 * 1024:
                assert await raw.reader.read(4096)
            connection.check_stall(connection.stall_deadline)
            assert not connection.transport.is_closing()
        connection.check_stall(connection.stall_deadline)
        await eventually(lambda: not server.connections)


async def test_drain_returns_when_the_client_reads_on(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port, receive_buffer=4096, read_limit=1024) as raw:
        raw.writer.transport.pause_reading()
        await raw.send(b"GET /pour HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: server.connections and next(iter(server.connections)).write_paused)
        poured = probe.poured
        raw.writer.transport.resume_reading()
        await raw.head()
        while probe.poured < poured + 1_000_000:
            assert await raw.chunk()
