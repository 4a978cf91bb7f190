"""HTTPS: who speaks it is served, who does not is told, and a renewed certificate is taken up without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import ssl
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.support.authority import Authority
from tests.support.raw_http import PATIENCE, Raw, connect, eventually, exchange
from tests.web.server.probe import Probe

from tollway.web.tls import BadCertificate, Certificate

LIVE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
NAME = x509.DNSName("gateway.test")


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "made").mkdir()
    return Authority(tmp_path / "made")


def issue(authority: Authority, path) -> int:
    """A fresh certificate with its key at `path`; returns its serial number."""
    before = set(authority.folder.iterdir())
    authority.server(NAME)
    (made,) = set(authority.folder.iterdir()) - before
    shutil.move(made, path)
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


@pytest.fixture
def pem(authority, tmp_path):
    path = tmp_path / "server.pem"
    issue(authority, path)
    return path


@contextlib.asynccontextmanager
async def secure(port: int, context: ssl.SSLContext):
    async with asyncio.timeout(PATIENCE):
        streams = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="gateway.test"
        )
    raw = Raw(*streams)
    try:
        yield raw
    finally:
        raw.writer.close()
        with contextlib.suppress(OSError):
            await raw.writer.wait_closed()


def serial_of(raw: Raw) -> int:
    der = raw.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).serial_number


async def test_requests_are_answered_over_tls(serving, authority, pem):
    probe = Probe()
    async with (
        serving(probe, tls=Certificate(str(pem))) as server,
        secure(server.port, authority.trusting()) as raw,
    ):
        await raw.send(LIVE * 3)
        assert [(await raw.response()).status for _ in range(3)] == [200] * 3
        body = b"x" * 300_000
        await raw.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + body)
        assert (await raw.response()).body == body
        await eventually(lambda: probe.scopes)
        assert {scope["scheme"] for scope in probe.scopes} == {"https"}
        assert {scope["client"][0] for scope in probe.scopes} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1_1, None),
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
async def test_versions_before_1_2_are_not_spoken(serving, authority, pem, version, spoken):
    context = authority.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    async with serving(Probe(), tls=Certificate(str(pem))) as server:
        if spoken is None:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                async with secure(server.port, context):
                    pass
        else:
            async with secure(server.port, context) as raw:
                assert raw.writer.get_extra_info("ssl_object").version() == spoken
                assert raw.writer.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")
        assert not server.tasks


async def test_certificate_chain_and_key_in_files_of_their_own(serving, authority, pem, tmp_path):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    text = pem.read_bytes()
    cut = text.index(b"-----BEGIN CERTIFICATE-----")
    key.write_bytes(text[:cut])
    chain.write_bytes(text[cut:] + authority.certificate.public_bytes(serialization.Encoding.PEM))
    async with (
        serving(Probe(), tls=Certificate(str(chain), str(key))) as server,
        secure(server.port, authority.trusting()) as raw,
    ):
        await raw.send(LIVE)
        assert (await raw.response()).status == 200


@pytest.mark.parametrize(
    "said",
    [LIVE, b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, b"G"],
    ids=["get", "upload", "one letter"],
)
async def test_plain_http_is_told_to_speak_https(serving, pem, said):
    probe = Probe()
    async with serving(probe, tls=Certificate(str(pem))) as server, connect(server.port) as raw:
        await raw.send(said)
        answer = await raw.response()
        assert (answer.status, answer.complete) == (400, True)
        assert "https://" in answer.json()["error"]["message"]
        assert await raw.rest() == b""
        assert probe.begun == []


async def test_tls_on_a_plain_port_is_ended_at_once(serving, authority):
    async with serving(Probe()) as server:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            async with secure(server.port, authority.trusting()):
                pass
        assert not server.connections


@pytest.mark.parametrize(
    "said", [b"", b"\x00\x01\x02", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16" + b"A" * 99]
)
async def test_what_is_neither_ends_in_time(serving, pem, said):
    probe = Probe()
    async with (
        serving(probe, tls=Certificate(str(pem)), header_timeout=0.2) as server,
        connect(server.port) as raw,
    ):
        await raw.send(said)
        rest = await raw.rest()
        assert b"HTTP" not in rest
        await eventually(lambda: not server.connections and not server.server.servers[0]._tasks)
    assert probe.begun == []


async def test_those_who_never_finish_their_handshake_are_bounded(serving, authority, pem, monkeypatch):
    monkeypatch.setattr("tollway.web.tls.WAITING_MAX", 2)
    async with serving(Probe(), tls=Certificate(str(pem))) as server, contextlib.AsyncExitStack() as stack:
        door = server.server.servers[0]
        for _ in range(2):
            await stack.enter_async_context(connect(server.port))
        await eventually(lambda: len(door._tasks) == 2)
        async with connect(server.port) as third:
            assert await third.rest() == b""


async def test_a_client_that_leaves_cancels_its_handler(serving, authority, pem):
    probe = Probe()
    async with serving(probe, tls=Certificate(str(pem))) as server:
        async with secure(server.port, authority.trusting()) as raw:
            await raw.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually(lambda: probe.begun)
        await eventually(lambda: probe.ended)
    assert probe.ended == [("/hang", "client gone")]


async def test_a_drain_finishes_streams_and_gives_up_handshakes(serving, authority, pem):
    probe = Probe()
    async with (
        serving(probe, tls=Certificate(str(pem)), drain_timeout=60.0) as server,
        secure(server.port, authority.trusting()) as streaming,
        connect(server.port) as silent,
    ):
        await streaming.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await streaming.head())[0] == 200
        await eventually(lambda: server.server.servers[0]._tasks)
        server.server.begin_drain()
        assert await silent.rest() == b""
        probe.release.set()
        assert await streaming.rest() == b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"


@pytest.mark.parametrize("how", ["looked at", "told"])
async def test_a_renewed_certificate_is_served_to_those_who_come_next(serving, authority, pem, how):
    async with (
        serving(Probe(), tls=Certificate(str(pem)), linger_timeout=0.4) as server,
        secure(server.port, authority.trusting()) as before,
    ):
        await before.send(LIVE)
        assert (await before.response()).status == 200
        first, second = serial_of(before), issue(authority, pem)
        assert second != first
        if how == "told":
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            server.server._look_at = 0.0
        seen = set()
        async with asyncio.timeout(PATIENCE):
            while second not in seen:
                async with secure(server.port, authority.trusting()) as after:
                    seen.add(serial_of(after))
        assert seen <= {first, second}
        await before.send(LIVE)
        assert (await before.response()).status == 200


async def test_a_renewal_that_cannot_be_read_changes_nothing(authority, pem, caplog):
    certificate = Certificate(str(pem))
    old = certificate.context
    assert certificate.renew() is False
    good = pem.read_bytes()
    pem.write_bytes(good[: len(good) // 2])
    assert certificate.renew() is False
    assert certificate.context is old
    assert "the old certificate is served on" in caplog.text
    assert certificate.renew() is False
    assert len(caplog.records) == 1, "said once, not at every look"
    pem.unlink()
    assert certificate.renew() is False
    pem.write_bytes(good)
    assert certificate.renew() is True
    assert certificate.context is not old


def bad(kind: str, authority: Authority, pem, tmp_path) -> tuple[str, str]:
    other = tmp_path / "other.pem"
    if kind == "no such file":
        return str(other), ""
    if kind == "no such key":
        return str(pem), str(other)
    if kind == "another key":
        issue(authority, other)
        return str(pem), str(other)
    if kind == "no PEM":
        other.write_bytes(b"hello")
    elif kind == "no key":
        text = pem.read_bytes()
        other.write_bytes(text[text.index(b"-----BEGIN CERTIFICATE-----") :])
    elif kind == "encrypted":
        key = serialization.load_pem_private_key(pem.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        other.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        )
        return str(pem), str(other)
    return str(other), ""


BAD = {
    "no such file": "No such file",
    "no such key": "No such file",
    "another key": "not that of the certificate",
    "no PEM": "no certificate and key in PEM",
    "no key": "no certificate and key in PEM",
    "encrypted": "encrypted",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_certificate_that_cannot_be_served_says_why(kind, authority, pem, tmp_path):
    cert, key = bad(kind, authority, pem, tmp_path)
    with pytest.raises(BadCertificate) as refused:
        Certificate(cert, key)
    assert BAD[kind] in refused.value.strerror
    assert refused.value.filename == (key or cert)


async def test_a_process_out_of_descriptors_accepts_again_when_there_are_some(
    serving, authority, pem, caplog
):
    context = authority.trusting()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(Probe(), tls=Certificate(str(pem))) as server:
        sock = socket.socket()
        sock.setblocking(False)
        used = [int(name) for name in os.listdir("/proc/self/fd")]
        spare = min(set(range(max(used) + 2)) - set(used))
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
            await eventually(lambda: "no connection can be accepted" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with asyncio.timeout(PATIENCE):
            streams = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="gateway.test")
        raw = Raw(*streams)
        await raw.send(LIVE)
        assert (await raw.response()).status == 200
        raw.close()


async def test_shedding_works_behind_tls(serving, authority, pem):
    async with (
        serving(Probe(), tls=Certificate(str(pem)), calls_max=0) as server,
        secure(server.port, authority.trusting()) as raw,
    ):
        await raw.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
        assert (await raw.response()).status == 503
        assert (await exchange(server.port, LIVE)).status == 400
