"""Requests bent at random: never a crash, a hang, or an answer that is not HTTP with JSON."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.raw_http import connect
from tests.web.server.conftest import running
from tests.web.server.probe import Probe

SEEDS = [
    b"GET /livez HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\n{ }",
    b"POST /v1/x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n[]\r\n0\r\nT: x\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    b"GET http://a/livez HTTP/1.0\r\nHost: a\r\n\r\n",
]
MORSELS = [
    b"\r\n", b"\n", b"\r", b"\x00", b":", b" ", b"\t", b"%2f", b"%", b"//", b";", b"?", b"#", b"HTTP/1.1", b"0\r\n\r\n",
    b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\xff", b"GET", b"\x16\x03",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


@st.composite
def bent(draw):
    """Pieces to send one after the other: some requests with some bytes changed, cut where it hurts."""
    data = b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 4))
        data = data[:at] + draw(st.sampled_from(MORSELS) | st.binary(max_size=3)) + data[at + gone :]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as found:
        yield found


@pytest.fixture(scope="module")
def server(runner):
    probe = Probe()
    context = running(
        probe, header_timeout=0.1, body_timeout=0.1, keep_alive_timeout=0.05, linger_timeout=0.05
    )
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=bent())
def test_bent_requests_are_answered_in_json_or_closed(runner, server, caplog, pieces):
    runner.run(_exchange(server.port, pieces))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert server.shared.calls == 0


async def _exchange(port: int, pieces: list[bytes]) -> None:
    async with connect(port) as raw:
        for piece in pieces:
            if not raw.writer.is_closing():
                raw.writer.write(piece)
                await asyncio.sleep(0)
        while True:
            try:
                answer = await raw.response()
            except (EOFError, OSError):
                return
            if answer.status >= 400:
                assert answer.header("content-type") == "application/json"
                assert answer.status < 500
                assert answer.complete
                answer.json()
