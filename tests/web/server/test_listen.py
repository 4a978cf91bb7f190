"""Listening: every address of a host on one port, and one clear line when it cannot be."""

from __future__ import annotations

import socket

import pytest
from tests.support.raw_http import connect
from tests.web.server.probe import Probe

from tollway.web.limits import Limits
from tollway.web.listen import CannotListen, listen
from tollway.web.server import Server
from tollway.web.shared import Shared


@pytest.fixture
def opened():
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def test_port_0_takes_a_free_port(opened):
    opened += listen("127.0.0.1", 0)
    assert opened[0].getsockname()[1] > 0


def test_a_taken_port_is_one_line(opened):
    opened += listen("127.0.0.1", 0)
    port = opened[0].getsockname()[1]
    with pytest.raises(
        CannotListen, match=rf"^cannot listen on 127\.0\.0\.1:{port}: the port is in use; .*--port$"
    ):
        listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("192.0.2.1", "no such address"),
        ("no.such.host.invalid", "does not resolve"),
        ("a" * 300, "does not resolve"),
    ],
)
def test_an_address_that_is_not_ours_is_one_line(host, why):
    with pytest.raises(CannotListen, match=why) as refused:
        listen(host, 0)
    assert "\n" not in str(refused.value)


async def test_ipv6(opened):
    opened += listen("::1", 0)
    ready = []
    server = Server(
        Probe(),
        Shared(Limits(accept_grace=0.0, drain_timeout=0.0)),
        on_ready=lambda *where: ready.append(where),
    )
    server.begin_drain()
    port = opened[0].getsockname()[1]
    await server.serve(opened)
    assert ready == [("::1", port)]


async def test_a_name_with_two_addresses_has_one_port(opened):
    opened += listen("localhost", 0)
    assert len({sock.getsockname()[1] for sock in opened}) == 1
    async with connect(opened[0].getsockname()[1]):
        pass
