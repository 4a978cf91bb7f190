"""TLS asks for the name whatever is dialled; a callback is posted once, and no redirect moves it."""

import asyncio
import threading

import pytest
from cryptography import x509
from tests.support.authority import Authority
from tests.support.servers import PATIENCE, Peer, eventually, serve, whole
from tests.upstream.guard.world import PUBLIC

from tollway.config import Settings
from tollway.upstream.guard import Guard, Limits
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_names import Names
from tollway.upstream.guard_rules import Rules

LIMITS = Limits(bytes=1000, timeout=10.0)
SECURE = Limits(bytes=10, timeout=10.0, secure=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


async def answer(peer):
    await peer.request()
    await peer.send(whole(200, b"x"))


async def test_the_certificate_and_the_handshake_are_the_names(world, authority):
    tls = authority.server(x509.DNSName("h.example"))
    asked = []
    tls.sni_callback = lambda _, name, __: asked.append(name)
    async with serve(answer, tls=tls) as server:
        world.put("h.example", server)
        guard = world.guard(tls=authority.trusting())
        assert (await guard.get("https://h.example/", LIMITS)).body == b"x"
        spoken = server.peers[0].writer.get_extra_info("ssl_object")
        assert spoken.selected_alpn_protocol() == "http/1.1"
    assert asked == ["h.example"]
    assert world.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize("flaw", ["wrong name", "expired", "untrusted"])
async def test_a_certificate_that_is_not_the_names_is_refused(world, authority, flaw):
    name = "other.example" if flaw == "wrong name" else "h.example"
    tls = authority.server(x509.DNSName(name), days=-1 if flaw == "expired" else 1)
    trust = None if flaw == "untrusted" else authority.trusting()
    asked = []

    async def script(peer):
        asked.append(await peer.request())

    async with serve(script, tls=tls) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard(tls=trust).get("https://h.example/", LIMITS)
    assert caught.value.kind == "tls"
    assert caught.value.message.startswith(
        "no secure connection to h.example: its certificate is not accepted"
    )
    assert asked == []


async def test_a_host_without_tls_is_told(world):
    async def script(peer):
        await peer.send(b"HTTP/1.1 400 Plain\r\n\r\n")

    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get("https://h.example/", LIMITS)
    assert caught.value.kind == "tls"


async def test_https_is_never_left_by_a_redirect(world, authority):
    async def script(peer):
        await peer.request()
        await peer.send(whole(302, b"", headers=b"location: http://h.example/\r\n"))

    async with serve(script, tls=authority.server(x509.DNSName("h.example"))) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard(tls=authority.trusting()).get("https://h.example/", LIMITS)
        assert len(server.peers) == 1
    assert (caught.value.kind, caught.value.message) == ("redirect", "h.example redirects from https to http")


async def test_a_callback_is_posted_as_it_is_and_its_answer_cut(world, authority):
    seen = []

    async def script(peer):
        seen.append(await peer.request())
        await peer.send(whole(503, b"0123456789and more", headers=b"Retry-After: 7\r\n"))

    async with serve(script, tls=authority.server(x509.DNSName("h.example"))) as server:
        world.put("h.example", server)
        guard = world.guard(tls=authority.trusting())
        headers = ((b"content-type", b"application/json"), (b"user-agent", b"Tollway-Webhooks/1"))
        found = await guard.post("https://h.example/hook", headers, b'{"a":1}', SECURE)
    assert (found.status, found.body, found.cut) == (503, b"0123456789", True)
    assert found.header(b"retry-after") == b"7"
    assert seen[0].line == b"POST /hook HTTP/1.1"
    assert seen[0].body == b'{"a":1}'
    assert [value for name, value in seen[0].headers if name.lower() == b"user-agent"] == [
        b"Tollway-Webhooks/1"
    ]


async def test_an_empty_callback_says_how_long_it_is(world):
    seen = []

    async def script(peer):
        seen.append(await peer.request())
        await peer.send(b"HTTP/1.1 204 X\r\n\r\n")

    async with serve(script) as server:
        world.put("h.example", server)
        found = await world.guard().post("http://h.example/", (), b"", LIMITS)
    assert (found.status, found.body, found.cut) == (204, b"", False)
    assert seen[0].header(b"content-length") == b"0"


@pytest.mark.parametrize("ending", ["broken", "silent"])
async def test_a_callback_is_delivered_though_its_answer_breaks_off(world, ending):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        if ending == "silent":
            await peer.until_gone()

    async with serve(script) as server:
        world.put("h.example", server)
        limits = Limits(bytes=1000, timeout=1.0 if ending == "silent" else PATIENCE)
        found = await world.guard().post("http://h.example/", (), b"{}", limits)
    assert (found.status, found.body, found.cut) == (200, b"half", True)


async def test_a_callback_is_not_redirected(world):
    async def script(peer):
        await peer.request()
        await peer.send(whole(307, b"", headers=b"location: http://other.example/\r\n"))

    async with serve(script) as server:
        world.put("h.example", server)
        assert (await world.guard().post("http://h.example/", (), b"{}", LIMITS)).status == 307
        assert len(server.peers) == 1


async def test_a_callback_goes_by_https_only_unless_the_operator_trusts_the_host(world):
    async with serve(answer) as server:
        world.put("hooks.lan", server, "10.0.0.5")
        world.put("h.example", server)
        guard = world.guard(Rules(hosts=frozenset(("hooks.lan",))))
        with pytest.raises(FetchFault) as caught:
            await guard.post("http://h.example/", (), b"{}", SECURE)
        assert (caught.value.kind, caught.value.message) == ("bad_url", "the URL must begin with https://")
        assert server.peers == []
        assert (await guard.post("http://hooks.lan/", (), b"{}", SECURE)).status == 200


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Transfer-Encoding", b"connection"])
async def test_the_framing_is_not_the_callers(world, name):
    with pytest.raises(ValueError, match="header"):
        await world.guard().post("https://h.example/", ((name, b"x"),), b"{}", LIMITS)
    assert world.asked == []


@pytest.mark.parametrize("header", [(b"x-a", b"1\r\nhost: inside"), (b"x a", b"1"), (b"", b"1")])
async def test_a_header_that_breaks_out_is_never_written(world, header):
    seen = []

    async def script(peer):
        seen.append(await peer.reader.read(65536))

    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault):
            await world.guard().post("http://h.example/", (header,), b"{}", LIMITS)
    assert seen in ([], [b""])


async def test_names_are_resolved_on_threads_of_their_own():
    names = Names(threads_max=1)
    for _ in range(3):
        assert "127.0.0.1" in await names.addresses("localhost")
        # Too long for a name: refused before any server is asked.
        with pytest.raises(OSError):
            await names.addresses("a" * 64 + ".example")


async def test_an_abandoned_look_up_disturbs_nobody_and_keeps_its_thread():
    release, entered = threading.Event(), threading.Semaphore(0)

    def look_up(name):
        entered.release()
        release.wait(PATIENCE)
        if name == "bad":
            raise UnicodeError("no name")
        return [name]

    names = Names(threads_max=2, look_up=look_up)
    tasks = [asyncio.create_task(names.addresses(name)) for name in ("a", "b", "c")]
    for _ in range(2):
        await asyncio.to_thread(entered.acquire, timeout=PATIENCE)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert not entered.acquire(blocking=False)
    release.set()
    assert [await task for task in tasks[1:]] == [["b"], ["c"]]
    with pytest.raises(OSError, match="no name"):
        await names.addresses("bad")


def test_a_look_up_that_outlives_its_loop_is_silent():
    release, ended = threading.Event(), threading.Event()

    def look_up(name):
        release.wait(PATIENCE)
        threading.Timer(0, ended.set).start()
        return [name]

    async def abandon():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await Names(look_up=look_up).addresses("a")

    asyncio.run(abandon())
    (thread,) = [one for one in threading.enumerate() if one.name == "tollway-names"]
    release.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert ended.wait(PATIENCE)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("ending", ["time", "cancellation"])
async def test_a_host_that_accepts_and_says_nothing_is_left(world, scheme, ending):
    async with serve(Peer.until_gone) as server:
        world.put("h.example", server)
        limits = Limits(bytes=1, timeout=0.1 if ending == "time" else PATIENCE)
        task = asyncio.create_task(world.guard().get(f"{scheme}://h.example/", limits))
        if ending == "cancellation":
            await eventually(lambda: server.peers)
            task.cancel()
        with pytest.raises(FetchFault if ending == "time" else asyncio.CancelledError):
            await task
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))


async def test_the_guard_of_the_settings_fetches_over_the_real_network():
    async with serve(answer) as server:
        url = f"http://localhost:{server.origin.port}/"
        assert (await Guard.of(Settings(fetch_allow="localhost")).get(url, LIMITS)).body == b"x"
        with pytest.raises(FetchFault):
            await Guard.of(Settings()).get(url, LIMITS)
        assert len(server.peers) == 1
