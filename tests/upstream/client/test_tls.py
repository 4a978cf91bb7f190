"""TLS: who is trusted, what is offered, and that a failed handshake is told and leaks nothing."""

import asyncio
import ipaddress
import math
import os
import socket
import ssl

import pytest
from cryptography import x509
from tests.support.authority import Authority
from tests.support.servers import eventually, serve, whole

from tollway.upstream.client import Client
from tollway.upstream.dial import Dialler, default_tls
from tollway.upstream.transport import Deadlines, UpstreamFault

LOCAL = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def client(authority):
    found = Client(tls=authority.trusting())
    yield found
    await found.close()


async def echo(peer):
    while True:
        asked = await peer.request()
        await peer.send(whole(200, asked.body))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
async def test_a_trusted_server(client, authority, host):
    tls = authority.server(*LOCAL)
    asked_names = []
    tls.sni_callback = lambda _, name, __: asked_names.append(name)
    async with serve(echo, host=host, tls=tls) as server:
        for body in (b"{}", bytes(5_000_000), b"x"):
            response = await client.send(server.request(body=body))
            assert await response.read_all(1 << 24) == body
        assert len(server.peers) == 1
        spoken = server.peers[0].writer.get_extra_info("ssl_object")
        assert spoken.selected_alpn_protocol() == "http/1.1"
        assert asked_names == ["localhost" if host == "localhost" else None]


@pytest.mark.parametrize("fault", ["untrusted", "wrong name", "wrong address", "expired"])
async def test_a_server_that_is_not_who_it_should_be(authority, client, fault):
    names = {
        "wrong name": (x509.DNSName("other.test"),),
        "wrong address": (x509.DNSName("localhost"),),
    }.get(fault, LOCAL)
    tls = authority.server(*names, days=-1 if fault == "expired" else 1)
    one = Client() if fault == "untrusted" else client
    async with serve(echo, tls=tls) as server:
        with pytest.raises(UpstreamFault) as raised:
            await one.send(server.request())
        assert (raised.value.kind, raised.value.sent) == ("tls", False)
        assert "certificate" in raised.value.message
        assert one.stats() == {}
    await one.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"", None]
)
async def test_a_server_that_fails_the_handshake(client, answer):
    async def script(peer):
        await peer.reader.read(1)
        if answer is None:
            peer.reset()
        elif answer:
            await peer.send(answer)
        else:
            peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        origin = type(server.origin)("https", server.origin.host, server.origin.port)
        server.origin = origin
        with pytest.raises(UpstreamFault) as raised:
            await client.send(server.request())
        assert (raised.value.kind, raised.value.sent) == ("tls", False)
        assert client.stats() == {}


async def test_plain_text_to_a_tls_port_is_no_success(client, authority):
    async with serve(echo, tls=authority.server(*LOCAL)) as server:
        server.origin = type(server.origin)("http", server.origin.host, server.origin.port)
        with pytest.raises(UpstreamFault) as raised:
            await client.send(server.request())
        assert raised.value.kind in ("reset", "protocol", "truncated")
        assert raised.value.sent


async def test_distrust_is_not_cured_by_another_address(authority):
    async with serve(silent, tls=authority.server(*LOCAL)) as one:
        dialler = Dialler(one.origin, default_tls)
        address = (socket.AF_INET, ("127.0.0.1", one.origin.port))
        dialler._addresses = [address, address]
        dialler._believed_until = math.inf
        tried = []
        opening = dialler._open
        dialler._open = lambda *args: tried.append(args) or opening(*args)
        with pytest.raises(UpstreamFault) as raised:
            await dialler.connect(asyncio.Protocol, asyncio.get_running_loop().time() + 5)
        assert (raised.value.kind, len(tried)) == ("tls", 1)


async def silent(peer):
    await peer.until_gone()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_a_handshake_that_hangs_or_is_cancelled_leaks_nothing(client):
    async with serve(silent) as server:
        server.origin = type(server.origin)("https", server.origin.host, server.origin.port)
        with pytest.raises(UpstreamFault) as raised:
            await client.send(server.request(deadlines=Deadlines(connect=0.03)))
        assert (raised.value.kind, raised.value.sent) == ("connect_timeout", False)
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        before = descriptors()
        for _ in range(20):
            count = len(server.peers)
            sending = asyncio.create_task(client.send(server.request()))
            await eventually(lambda count=count: len(server.peers) > count)
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        await eventually(lambda: descriptors() <= before + 1)
        assert client.stats() == {}


@pytest.mark.parametrize("ending", ["eof", "reset"])
async def test_a_cut_body_over_tls_is_told(client, authority, ending):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        if ending == "reset":
            peer.reset()
        else:
            peer.writer.close()

    async with serve(script, tls=authority.server(*LOCAL)) as server:
        response = await client.send(server.request())
        with pytest.raises(UpstreamFault) as raised:
            await response.read_all(100)
        assert (raised.value.kind, raised.value.sent) == ("truncated", True)
        assert client.stats() == {}


async def test_closing_in_the_middle_over_tls_cuts_at_once(client, authority):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        await peer.until_gone()

    async with serve(script, tls=authority.server(*LOCAL)) as server:
        response = await client.send(server.request())
        assert await response.read_some() == b"ab"
        response.close()
        await eventually(server.peers[0].gone.is_set)


async def test_backpressure_over_tls(client, authority):
    total = 20 << 20

    async def script(peer):
        await peer.request()
        await peer.send(whole(200, bytes(total)))
        await peer.until_gone()

    async with serve(script, tls=authority.server(*LOCAL)) as server:
        response = await client.send(server.request())
        size = most = 0
        while True:
            most = max(most, response.held)
            data = await response.read_some()
            if not data:
                break
            size += len(data)
            for _ in range(3):
                await asyncio.sleep(0)
        assert size == total
        assert most <= 768 * 1024


def test_the_default_context_verifies():
    context = default_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
