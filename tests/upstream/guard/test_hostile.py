"""Whatever a hostile user writes: nothing inside is ever dialled, and a canary on loopback hears nothing."""

import contextlib

import pytest
from tests.support.servers import serve, whole
from tests.upstream.guard.world import PUBLIC

from tollway.upstream import guard_dial
from tollway.upstream.guard import Guard
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_rules import Rules


async def canary(peer):
    await peer.head()
    await peer.send(whole(200, b"the secret of the inside"))


def refused(caught):
    return (caught.value.kind, caught.value.message)


LOOPBACK = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@h.example/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://localhost.localdomain:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.127.127.127:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://00000.0.0.0:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::ffff:0:127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[::1%251]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://h.example@127.0.0.1:{port}/",
    "http://h.example:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@h.example/",
    "http://h.example#@127.0.0.1:{port}/",
    "http://h.example\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@h.example/",
    "http://h.example\r\nHost:127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\n/",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "dict://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "file://127.0.0.1:{port}/etc/passwd",
    "http+unix://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}/!/",
    "url:http://127.0.0.1:{port}/",
]


@pytest.mark.parametrize("url", LOOPBACK)
async def test_a_url_to_loopback_reaches_nobody(world, url):
    async with contextlib.AsyncExitStack() as stack:
        four = await stack.enter_async_context(serve(canary))
        port = four.origin.port
        # Loopback is the real one: only the guard stands between the URL and the canary.
        dialled = []

        async def dial(address, port, seconds):
            dialled.append(address)
            assert address.startswith("127.")
            return await guard_dial.dial(address, port, seconds)

        guard = Guard(Rules(ports=frozenset((80, port))), resolve=world.resolve, dial=dial)
        world.names = {name: ["127.0.0.1"] for name in ("localhost", "localhost.localdomain", "h.example")}
        for attempt in (guard.get, lambda url: guard.post(url, (), b"{}")):
            with pytest.raises(FetchFault) as caught:
                await attempt(url.format(port=port))
            assert caught.value.kind in ("bad_url", "forbidden")
        assert (four.peers, dialled) == ([], [])


ELSEWHERE = [
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://metadata/computeMetadata/v1/",
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://192.0.0.192/latest/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[2001::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://kubernetes.default.svc.cluster.local/",
    "http://consul.service.consul.internal:8500/",
    "http://redis:6379/",
    "http://h.example:22/",
    "http://h.example:6379/",
    "http://h.example:25/",
    "https://gw.example/v1/chat/completions",
]


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_a_url_to_the_inside_dials_nobody(world, url):
    world.names = {"h.example": [PUBLIC], "gw.example": [PUBLIC]}
    guard = world.guard(Rules(own_hosts=frozenset(("gw.example",))))
    with pytest.raises(FetchFault) as caught:
        await guard.get(url)
    assert caught.value.kind in ("bad_url", "forbidden")
    with pytest.raises(FetchFault):
        guard.check(url)
    assert (world.asked, world.dialled) == ([], [])


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"],
        ["fe80::1%eth0"],
        [PUBLIC, "127.0.0.1"],
        ["192.168.0.1", PUBLIC],
        ["2606:4700::1", "fd00::1"],
        ["not an address"],
        [],
    ],
)
async def test_a_name_that_leads_inside_dials_nobody(world, addresses):
    world.names = {"h.example": addresses}
    with pytest.raises(FetchFault) as inside:
        await world.guard().get("https://h.example/")
    assert world.asked == ["h.example."]
    assert world.dialled == []
    world.names = {}
    with pytest.raises(FetchFault) as nowhere:
        await world.guard().get("https://h.example/")
    assert refused(inside) == refused(nowhere)


async def test_a_name_that_changes_its_mind_is_asked_once_per_connection(world):
    async def answer(peer):
        await peer.request()
        await peer.send(whole(200, b"outside"))

    async with serve(answer) as outside, serve(canary) as inside:
        world.routes = {PUBLIC: outside, "127.0.0.1": inside}
        world.names = {"h.example": [[PUBLIC], ["127.0.0.1"]]}
        guard = world.guard()
        assert (await guard.get("http://h.example/")).body == b"outside"
        assert (world.asked, world.dialled) == (["h.example."], [(PUBLIC, 80)])
        with pytest.raises(FetchFault) as caught:
            await guard.get("http://h.example/")
        assert caught.value.kind == "forbidden"
        assert world.dialled == [(PUBLIC, 80)]
        assert inside.peers == []


async def test_what_goes_wrong_inside_looks_the_same_whatever_it_is(world):
    async def hang_up(peer):
        peer.reset()

    async def stammer(peer):
        await peer.request()
        await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")

    async def silence(peer):
        await peer.until_gone()

    told = set()
    rules = Rules(hosts=frozenset(("files.lan",)), timeout=0.3)
    for script in (hang_up, stammer, silence):
        async with serve(script) as server:
            world.put("files.lan", server, "10.0.0.5")
            for scheme in ("http", "https"):
                with pytest.raises(FetchFault) as caught:
                    await world.guard(rules).get(f"{scheme}://files.lan/")
                told.add(refused(caught))
    world.routes = {}
    with pytest.raises(FetchFault) as caught:
        await world.guard(rules).get("http://files.lan/")
    told.add(refused(caught))
    assert told == {("unreachable", "files.lan could not be reached")}


async def test_a_refusal_never_repeats_the_url(world):
    world.names = {"h.example": ["10.0.0.1"]}
    for url in ("https://h.example/?signature=hush", "https://hush@h.example/", "https://h.example:22/hush"):
        with pytest.raises(FetchFault) as caught:
            await world.guard().get(url)
        assert "hush" not in caught.value.message
        assert "10.0.0.1" not in caught.value.message
