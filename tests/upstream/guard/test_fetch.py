"""What a fetch sends, what it accepts, and every limit at which it is cut off."""

import asyncio
import gzip

import pytest
from tests.support.servers import eventually, serve, whole
from tests.upstream.guard.world import PUBLIC

from tollway.upstream.guard import Guard, Limits
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_rules import Rules

LIMITS = Limits(bytes=1000, timeout=10.0)
URL = "http://h.example/a/b.png?c=d"


def answering(*pieces):
    async def script(peer):
        await peer.request()
        await peer.send(*pieces)

    return script


def chunked(*parts):
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in parts
    )


async def fetch(world, script, limits=LIMITS, url=URL):
    async with serve(script) as server:
        world.put("h.example", server)
        return await world.guard().get(url, limits)


async def refused(world, script, limits=LIMITS, url=URL):
    """The fault of a fetch, once the server has seen its connection end."""

    async def until_gone(peer):
        await script(peer)
        await peer.until_gone()

    async with serve(until_gone) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get(url, limits)
        await eventually(
            lambda: all(peer.gone.is_set() for peer in server.peers), "the connection to be closed"
        )
    return caught.value


async def test_a_fetch_asks_plainly_and_for_itself_only(world):
    seen = []

    async def script(peer):
        seen.append(await peer.request())
        await peer.send(whole(200, b"body", headers=b"Content-Type: Image/PNG; x=y\r\nX-A: 1\r\n"))

    found = await fetch(world, script, Limits(bytes=4, timeout=10.0, accept=("image/*", "application/pdf")))
    assert (found.status, found.body, found.cut) == (200, b"body", False)
    assert (found.content_type, found.header(b"x-a"), found.header(b"none")) == ("image/png", b"1", None)
    assert seen[0].line == b"GET /a/b.png?c=d HTTP/1.1"
    assert {name.lower() for name, _ in seen[0].headers} == {
        b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"
    }  # fmt: skip
    assert seen[0].header(b"host") == b"h.example"
    assert seen[0].header(b"accept") == b"image/*, application/pdf"
    assert seen[0].header(b"accept-encoding") == b"identity"
    assert seen[0].header(b"connection") == b"close"
    assert seen[0].header(b"user-agent").startswith(b"tollway/")
    assert world.dialled == [(PUBLIC, 80)]


async def test_nothing_of_the_environment_is_used(world, monkeypatch):
    async def proxy(peer):
        await peer.head()

    async with serve(proxy) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.origin.port}")
        assert (await fetch(world, answering(whole(200, b"direct")))).body == b"direct"
        assert server.peers == []


async def test_each_fetch_has_a_connection_of_its_own(world):
    async def script(peer):
        await peer.request()
        await peer.send(whole(200, b"x"))
        await peer.until_gone()

    async with serve(script) as server:
        world.put("h.example", server)
        guard = world.guard()
        for _ in range(3):
            assert (await guard.get(URL, LIMITS)).body == b"x"
        assert len(server.peers) == 3
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))


@pytest.mark.parametrize(
    "script",
    [
        answering(whole(200, bytes(1000))),
        answering(chunked(bytes(400), bytes(600), b"")),
        answering(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000)),
        answering(b"HTTP/1.0 200 OK\r\n\r\n", bytes(1000)),
        answering(b"HTTP/1.1 103 Hints\r\n\r\n", whole(200, bytes(1000))),
        answering(whole(200, bytes(1000), headers=b"content-encoding: identity\r\n")),
    ],
)
async def test_a_body_up_to_the_limit_arrives_whole(world, script):
    assert (await fetch(world, script)).body == bytes(1000)


async def test_a_body_that_says_it_is_too_large_is_not_read(world):
    fault = await refused(world, answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"))
    assert (fault.kind, fault.message) == ("too_large", "what h.example sends is larger than 1000 bytes")


async def endless(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"100\r\n" + bytes(256) + b"\r\n")


async def endless_until_closed(peer):
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await peer.send(bytes(4096))


@pytest.mark.parametrize("script", [endless, endless_until_closed])
async def test_a_body_that_never_ends_is_cut_at_the_limit(world, script):
    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get(URL, LIMITS)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        chunked(b"no end"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
)
async def test_what_is_no_whole_http_answer_is_refused(world, answer):
    with pytest.raises(FetchFault) as caught:
        await fetch(world, answering(answer))
    assert caught.value.kind == "protocol"


async def test_framing_that_outweighs_the_body_is_cut_off(world):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"1;" + b"x" * 5000 + b"\r\ny\r\n")

    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get(URL, LIMITS)
    assert caught.value.kind == "protocol"


async def test_a_head_dripping_for_ever_ends_with_the_time(world):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")

    fault = await refused(world, script, Limits(bytes=1000, timeout=0.2))
    assert (fault.kind, fault.message) == ("timeout", "h.example took too long to answer")


async def test_a_body_dripping_for_ever_ends_with_the_time(world):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.01)

    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get(URL, Limits(bytes=1000, timeout=0.3))
    assert caught.value.kind == "timeout"


async def test_a_name_that_is_never_resolved_ends_with_the_time(world):
    async def never(_name):
        await asyncio.Event().wait()

    guard = Guard(Rules(connect_timeout=0.1), resolve=never, dial=world.dial)
    with pytest.raises(FetchFault) as caught:
        await guard.get(URL, LIMITS)
    assert caught.value.kind == "forbidden"
    assert world.dialled == []


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 410, 429, 500, 503])
async def test_any_status_but_200_is_told(world, status):
    fault = await refused(
        world,
        answering(
            b"HTTP/1.1 %d X\r\n%b\r\n" % (status, b"content-length: 0\r\n" * (status not in (204, 304)))
        ),
    )
    assert (fault.kind, fault.status) == ("status", status)
    assert fault.message == f"h.example answered with status {status}"


async def test_a_bomb_is_refused_by_its_wrapping(world):
    bomb = gzip.compress(bytes(10_000_000))
    for coding in (b"gzip", b"br", b"identity, gzip", b"x-unheard-of"):
        script = answering(whole(200, bomb, headers=b"content-encoding: " + coding + b"\r\n"))
        assert (await refused(world, script, Limits(bytes=1_000_000, timeout=10.0))).kind == "encoded"


@pytest.mark.parametrize(
    ("told", "fine"),
    [
        ("image/png", True),
        ("IMAGE/WebP; charset=x", True),
        ("application/pdf", True),
        ("application/octet-stream", True),
        ("binary/octet-stream", True),
        ("", True),
        ("text/html; charset=utf-8", False),
        ("application/json", False),
        ("imagery/png", False),
        ("application/pdfx", False),
        ("image", False),
    ],
)
async def test_a_body_of_another_type_is_refused_by_its_head(world, told, fine):
    limits = Limits(bytes=1000, timeout=10.0, accept=("image/*", "application/pdf"))
    script = answering(whole(200, b"x", headers=f"content-type: {told}\r\n".encode() if told else b""))
    if fine:
        assert (await fetch(world, script, limits)).body == b"x"
    else:
        assert (await refused(world, script, limits)).kind == "wrong_type"


async def test_a_type_that_cannot_be_shown_is_not(world):
    limits = Limits(bytes=1000, timeout=10.0, accept=("image/*",))
    script = answering(whole(200, b"x", headers=b"content-type: " + b"a" * 5000 + b"\r\n"))
    fault = await refused(world, script, limits)
    assert fault.message == "h.example answered with something unnamed, where image/* is wanted"


async def test_the_first_address_that_answers_is_taken(world):
    async with serve(answering(whole(200, b"x"))) as server:
        world.names = {"h.example": ["2606:4700::1", "1.1.1.1", "8.8.8.8"]}
        world.routes = {"1.1.1.1": server}
        assert (await world.guard().get(URL, LIMITS)).body == b"x"
    assert world.dialled == [("2606:4700::1", 80), ("1.1.1.1", 80)]


async def test_a_host_where_nobody_answers_is_told_after_a_few_addresses(world):
    world.names = {"h.example": [f"1.1.1.{at}" for at in range(1, 30)]}
    with pytest.raises(FetchFault) as caught:
        await world.guard().get(URL, LIMITS)
    assert (caught.value.kind, caught.value.message) == ("unreachable", "h.example could not be reached")
    assert len(world.dialled) == 4


async def test_a_name_of_the_operators_is_resolved_as_it_stands(world):
    async with serve(answering(whole(200, b"x"))) as server:
        world.put("minio", server, "10.0.0.9")
        guard = world.guard(Rules(hosts=frozenset(("minio",))))
        assert (await guard.get("http://minio:9000/x", LIMITS)).body == b"x"
    assert world.asked == ["minio"]
    assert world.dialled == [("10.0.0.9", 9000)]


async def test_an_address_is_asked_of_nobody(world):
    async with serve(answering(whole(200, b"x"))) as server:
        world.routes = {"8.8.8.8": server, "2606:4700::1": server}
        for url in ("http://8.8.8.8/", "http://[2606:4700::1]/"):
            assert (await world.guard().get(url, LIMITS)).body == b"x"
    assert world.asked == []


async def test_fetches_wait_for_their_turn_and_no_longer_than_their_time(world):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
        await release.wait()
        await peer.send(b"x")

    release = asyncio.Event()
    async with serve(script) as server:
        world.put("h.example", server)
        guard = world.guard(at_once=2)
        running = [asyncio.create_task(guard.get(URL, LIMITS)) for _ in range(3)]
        await eventually(lambda: len(server.peers) == 2)
        with pytest.raises(FetchFault) as caught:
            await guard.get(URL, Limits(bytes=1000, timeout=0.1))
        assert caught.value.kind == "busy"
        release.set()
        assert [one.body for one in await asyncio.gather(*running)] == [b"x"] * 3
        assert len(server.peers) == 3


@pytest.mark.parametrize("stage", ["resolve", "head", "body"])
async def test_a_cancelled_fetch_lets_go_at_once(world, stage):
    reached = asyncio.Event()

    async def script(peer):
        await peer.request()
        if stage == "body":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
        reached.set()
        await peer.until_gone()

    async def resolve(name):
        if stage == "resolve":
            reached.set()
            await asyncio.Event().wait()
        return await world.resolve(name)

    async with serve(script) as server:
        world.put("h.example", server)
        guard = Guard(Rules(), resolve=resolve, dial=world.dial, at_once=1)
        task = asyncio.create_task(guard.get(URL, LIMITS))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        assert len(server.peers) == (0 if stage == "resolve" else 1)
        stage = "done"
        waiting = asyncio.create_task(guard.get(URL, LIMITS))
        await eventually(lambda: len(server.peers) >= 1, "the place to be free again")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_an_opened_body_is_read_piece_by_piece_and_left_at_will(world):
    async with serve(endless) as server:
        world.put("h.example", server)
        async with world.guard().open(URL, LIMITS) as opened:
            assert opened.status == 200
            assert opened.length is None
            assert await opened.read_some() == bytes(256)
            assert await opened.read_some() == bytes(256)
        await eventually(server.peers[0].writer.transport.is_closing)


async def read_and_fail(guard):
    async with guard.open(URL, LIMITS) as opened:
        await opened.read_some()
        raise ZeroDivisionError


async def test_an_open_body_whose_reader_fails_is_closed(world):
    async with serve(endless) as server:
        world.put("h.example", server)
        guard = world.guard(at_once=1)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await read_and_fail(guard)
        await eventually(lambda: all(peer.writer.transport.is_closing() for peer in server.peers))


async def test_the_default_limits_are_the_settings(world):
    async with serve(answering(whole(200, bytes(11)))) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard(Rules(bytes_max=10)).get(URL)
    assert caught.value.kind == "too_large"
