"""What is written: the exact bytes of a request, and everything that is refused before a byte is."""

import pytest
from tests.support.servers import serve, whole

from tollway.upstream.client import Client
from tollway.upstream.transport import Origin, Transport, UpstreamRequest
from tollway.upstream.wire import host_lines


async def test_the_bytes_of_a_request(client: Client):
    asked = []

    async def script(peer):
        while True:
            asked.append(await peer.request())
            await peer.send(whole())

    async with serve(script) as server:
        host = b"host: 127.0.0.1:%d\r\naccept-encoding: identity\r\n" % server.origin.port
        requests = [
            server.request(
                "/v1/a?b=%20c", headers=((b"Authorization", b"Bearer k"), (b"x-a", b"")), body=b"{}"
            ),
            server.request("/", method="GET", body=b""),
            server.request("/", method="POST", body=b""),
            server.request("/", method="DELETE", body=b"x"),
        ]
        for request in requests:
            await (await client.send(request)).read_all(10)
        assert [one.head for one in asked] == [
            b"POST /v1/a?b=%20c HTTP/1.1\r\n"
            + host
            + b"Authorization: Bearer k\r\nx-a: \r\ncontent-length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"\r\n",
            b"POST / HTTP/1.1\r\n" + host + b"content-length: 0\r\n\r\n",
            b"DELETE / HTTP/1.1\r\n" + host + b"content-length: 1\r\n\r\n",
        ]
        assert [one.body for one in asked] == [b"{}", b"", b"", b"x"]
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "api.example", 80), b"api.example"),
        (Origin("http", "api.example", 443), b"api.example:443"),
        (Origin("https", "api.example", 443), b"api.example"),
        (Origin("https", "api.example", 80), b"api.example:80"),
        (Origin("http", "::1", 80), b"[::1]"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
        (Origin("http", "fe80::1%eth0", 8080), b"[fe80::1]:8080"),
    ],
)
def test_the_host_of_an_origin(origin, host):
    assert host_lines(origin) == b" HTTP/1.1\r\nhost: " + host + b"\r\naccept-encoding: identity\r\n"


UNSAFE = [
    *(
        {"headers": ((b"x", value),)}
        for value in (b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\r\n\r\nGET / HTTP/1.1")
    ),
    *(
        {"headers": ((name, b"v"),)}
        for name in (b"", b"a b", b"a:", b"a\r\nb", b"a\n", b"a\0", b"\xe9", b"(a)", b" a", b"a\t")
    ),
    *(
        {"headers": ((name, b"v"),)}
        for name in (
            b"Host",
            b"content-length",
            b"Transfer-Encoding",
            b"ACCEPT-ENCODING",
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"upgrade",
            b"expect",
        )
    ),
    *({"method": method} for method in ("", "GET ", "G T", "GET\r\n", "G\0T", "GÉT", "GET/", "CONNECT")),
    *(
        {"target": target}
        for target in (
            "",
            "v1",
            "*",
            "http://other/",
            "/ a",
            "/a b",
            "/a\r\nx: y",
            "/a\nb",
            "/\0",
            "/\t",
            "/é",
            "/\x7f",
            "/a#b",
        )
    ),
    *(
        {"origin": Origin("http", host, 80)}
        for host in ("", "a b", "a/b", "user@a", "a\r\nb", "[::1]", "bücher.example", "a?b", "a#b", "a\0")
    ),
    *({"origin": Origin("http", "127.0.0.1", port)} for port in (0, -1, 65536)),
]


@pytest.mark.parametrize("change", UNSAFE, ids=repr)
async def test_unsafe_requests_are_refused_before_anything_is_written(client: Client, change):
    async def script(peer):
        raise AssertionError("nothing may be sent")

    async with serve(script) as server:
        base = {"origin": server.origin, "method": "POST", "target": "/", "headers": (), "body": b"{}"}
        for _ in range(2):
            with pytest.raises(ValueError):
                await client.send(UpstreamRequest(**{**base, **change}))
        assert server.peers == []
        assert client.stats() == {}


async def test_a_refused_request_leaves_its_neighbours_alone(client: Client):
    async def script(peer):
        while True:
            await peer.request()
            await peer.send(whole())

    async with serve(script) as server:
        for headers in ((), ((b"x", b"\n"),), ()):
            try:
                response = await client.send(server.request(headers=headers))
            except ValueError:
                assert headers
            else:
                assert await response.read_all(10) == b"ok"
        assert len(server.peers) == 1


def test_the_client_is_a_transport():
    transport: Transport = Client()
    assert transport.send
