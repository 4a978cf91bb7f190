"""Redirects: few, each judged as if a user had written it."""

import pytest
from tests.support.servers import serve, whole
from tests.upstream.guard.world import PUBLIC

from tollway.config import Settings
from tollway.upstream.guard import Guard, Limits
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_rules import Rules

LIMITS = Limits(bytes=1000, timeout=10.0)


def pointing(*locations, status=302):
    """A server that redirects to each location in turn and then answers."""
    left = list(locations)
    lines = []

    async def script(peer):
        asked = await peer.request()
        lines.append((asked.line, asked.header(b"host"), asked.header(b"cookie")))
        if left:
            head = b"location: " + left.pop(0).encode() + b"\r\nset-cookie: a=b\r\n"
            await peer.send(whole(status, b"elsewhere", headers=head))
        else:
            await peer.send(whole(200, b"there"))

    script.lines = lines
    return script


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_without_memory(world, status):
    script = pointing("/second?x", "//other.example/third", "http://h.example:80/last", status=status)
    async with serve(script) as server:
        world.put("h.example", server)
        world.put("other.example", server, "1.1.1.1")
        assert (await world.guard().get("http://h.example/first", LIMITS)).body == b"there"
    assert script.lines == [
        (b"GET /first HTTP/1.1", b"h.example", None),
        (b"GET /second?x HTTP/1.1", b"h.example", None),
        (b"GET /third HTTP/1.1", b"other.example", None),
        (b"GET /last HTTP/1.1", b"h.example", None),
    ]
    assert world.asked == ["h.example.", "h.example.", "other.example.", "h.example."]


async def test_the_fourth_redirect_is_one_too_many(world):
    script = pointing(*["/again"] * 4)
    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get("http://h.example/", LIMITS)
        assert len(server.peers) == 4
    assert caught.value.kind == "redirect"


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://127.0.0.1/", "forbidden"),
        ("http://169.254.169.254/latest/meta-data/", "forbidden"),
        ("http://[::ffff:10.0.0.1]/", "forbidden"),
        ("http://localhost/", "forbidden"),
        ("http://inside.example/", "forbidden"),
        ("//inside.example/", "forbidden"),
        ("http://h.example:6379/", "forbidden"),
        ("http://2130706433/", "bad_url"),
        ("http://user:hush@h.example/", "bad_url"),
        ("http://h.example\\@127.0.0.1/", "bad_url"),
        ("file:///etc/passwd", "bad_url"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "bad_url"),
        ("data:image/png;base64,AAAA", "bad_url"),
        ("http://[::1", "redirect"),
    ],
)
async def test_a_redirect_inside_is_refused(world, location, kind):
    async with serve(pointing(location)) as server:
        world.put("h.example", server)
        world.names["inside.example"] = ["10.0.0.1"]
        with pytest.raises(FetchFault) as caught:
            await world.guard().get("http://h.example/", LIMITS)
    assert caught.value.kind == kind
    assert "hush" not in caught.value.message
    assert world.dialled == [(PUBLIC, 80)]


async def test_a_redirect_to_nowhere_is_told(world):
    async def script(peer):
        await peer.request()
        await peer.send(whole(302, b""))

    async with serve(script) as server:
        world.put("h.example", server)
        with pytest.raises(FetchFault) as caught:
            await world.guard().get("http://h.example/", LIMITS)
    assert (caught.value.kind, caught.value.message) == (
        "redirect",
        "h.example redirects without saying where",
    )


async def test_redirects_on_loopback_are_followed_where_the_operator_allows_it():
    async with serve(pointing()) as last:
        async with serve(pointing(f"http://localhost:{last.origin.port}/last")) as first:
            guard = Guard.of(Settings(fetch_allow="127.0.0.1, localhost"))
            found = await guard.get(f"http://127.0.0.1:{first.origin.port}/", LIMITS)
            assert found.body == b"there"
        async with serve(pointing(f"http://localhost:{last.origin.port}/last")) as first:
            guard = Guard.of(Settings(fetch_allow="127.0.0.1"))
            with pytest.raises(FetchFault) as caught:
                await guard.get(f"http://127.0.0.1:{first.origin.port}/", LIMITS)
            assert caught.value.kind == "forbidden"
        assert len(last.peers) == 1


async def test_an_answer_that_redirects_says_nothing_of_types_and_sizes(world):
    async def script(peer):
        asked = await peer.request()
        if b"first" in asked.line:
            await peer.send(
                b"HTTP/1.1 302 X\r\nlocation: /second\r\ncontent-type: text/html\r\ncontent-length: 99999\r\n\r\n"
            )
        else:
            await peer.send(whole(200, b"x", headers=b"content-type: image/png\r\n"))

    async with serve(script) as server:
        world.put("h.example", server)
        limits = Limits(bytes=1000, timeout=10.0, accept=("image/*",))
        assert (await world.guard(Rules()).get("http://h.example/first", limits)).body == b"x"
