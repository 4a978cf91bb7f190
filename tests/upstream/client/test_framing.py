"""Which responses are understood, which are refused, whatever segments they arrive in."""

import pytest
from tests.support.servers import eventually, serve, whole
from tests.support.wires import Heard, hear

from tollway.upstream.client import Client
from tollway.upstream.transport import UpstreamFault
from tollway.upstream.wire import HEAD_MAX

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

# name: method, bytes, status, body, whether the connection lives on
UNDERSTOOD = {
    "content-length": ("POST", OK + b"content-length: 3\r\n\r\nabc", 200, b"abc", True),
    "content-length zero": ("POST", OK + b"content-length: 0\r\n\r\n", 200, b"", True),
    "no reason phrase": ("POST", b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na", 200, b"a", True),
    "empty and padded values": (
        "POST",
        OK + b"A:\r\nB: \t b \t \r\nContent-Length:3 \r\n\r\nabc",
        200,
        b"abc",
        True,
    ),
    "chunked": ("POST", CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde", True),
    "chunked, empty": ("POST", CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunk extension and trailers": (
        "POST",
        CHUNKED + b"3;a=b\r\nabc\r\n0\r\nx: y\r\nz: \r\n\r\n",
        200,
        b"abc",
        True,
    ),
    "upper-case coding name": (
        "POST",
        OK + b"Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        200,
        b"a",
        True,
    ),
    "upper-case chunk size": ("POST", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789", True),
    "connection close": (
        "POST",
        OK + b"connection: close\r\ncontent-length: 3\r\n\r\nabc",
        200,
        b"abc",
        False,
    ),
    "connection close, chunked": (
        "POST",
        OK + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        200,
        b"a",
        False,
    ),
    "ended by close": ("POST", OK + b"\r\nabc", 200, b"abc", False),
    "ended by close, empty": ("POST", OK + b"connection: close\r\n\r\n", 200, b"", False),
    "HTTP/1.0": ("POST", b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, b"abc", False),
    "HTTP/1.0 ended by close": ("POST", b"HTTP/1.0 200 OK\r\n\r\nabc", 200, b"abc", False),
    "HTTP/1.0 kept alive": (
        "POST",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
        200,
        b"abc",
        True,
    ),
    "100 and 103 first": (
        "POST",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + whole(201, b"abc"),
        201,
        b"abc",
        True,
    ),
    "204": ("POST", b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", 204, b"", True),
    "304 with a length": ("POST", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", 304, b"", True),
    "HEAD": ("HEAD", OK + b"content-length: 3\r\n\r\n", 200, b"", False),
    "HEAD, chunked": ("HEAD", CHUNKED, 200, b"", False),
    "error status": ("POST", whole(429, b"slow down"), 429, b"slow down", True),
    "redirect": ("POST", whole(302, b"", headers=b"location: /x\r\n"), 302, b"", True),
    "upgrade offered": (
        "POST",
        OK + b"upgrade: h2c\r\nconnection: upgrade, keep-alive\r\ncontent-length: 1\r\n\r\na",
        200,
        b"a",
        True,
    ),
    "identity coding": (
        "POST",
        OK + b"content-encoding: identity\r\ncontent-length: 1\r\n\r\na",
        200,
        b"a",
        True,
    ),
    "coding of nothing": (
        "POST",
        OK + b"content-encoding: gzip\r\ncontent-length: 0\r\n\r\n",
        200,
        b"",
        True,
    ),
    "coding of a failure": (
        "POST",
        whole(503, b"\x1f\x8b", headers=b"content-encoding: gzip\r\n"),
        503,
        b"\x1f\x8b",
        True,
    ),
    "bytes that are not text": (
        "POST",
        b"HTTP/1.1 200 \xff\r\nx: \xe9\r\ncontent-length: 1\r\n\r\n\xff",
        200,
        b"\xff",
        True,
    ),
    "two hundred headers": ("POST", OK + b"a: b\r\n" * 199 + b"content-length: 1\r\n\r\na", 200, b"a", True),
    "garbage after the end": ("POST", whole(200, b"abc") + b"garbage", 200, b"abc", False),
    "a second response": ("POST", whole(200, b"abc") + whole(200, b"def"), 200, b"abc", False),
    "bytes after connection close": (
        "POST",
        OK + b"connection: close\r\ncontent-length: 1\r\n\r\nabc",
        200,
        b"a",
        False,
    ),
    "204 with a body": ("POST", b"HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\nabc", 204, b"", False),
}

# name: bytes, kind of the fault, body bytes delivered before it
REFUSED = {
    "nothing": (b"", "reset", b""),
    "half a status line": (b"HTTP/1.", "truncated", b""),
    "half a head": (OK + b"content-le", "truncated", b""),
    "only informational": (b"HTTP/1.1 100 Continue\r\n\r\n", "truncated", b""),
    "body cut": (OK + b"content-length: 4\r\n\r\nabc", "truncated", b"abc"),
    "body missing": (OK + b"content-length: 4\r\n\r\n", "truncated", b""),
    "chunk cut": (CHUNKED + b"3\r\nab", "truncated", b"ab"),
    "cut between chunks": (CHUNKED + b"3\r\nabc\r\n", "truncated", b"abc"),
    "last chunk without its end": (CHUNKED + b"3\r\nabc\r\n0\r\n", "truncated", b"abc"),
    "cut in a trailer": (CHUNKED + b"3\r\nabc\r\n0\r\nx: y\r\n", "truncated", b"abc"),
    "length and chunked": (OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", "protocol", b""),
    "chunked and length": (OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", "protocol", b""),
    "two lengths": (OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc", "protocol", b""),
    "the same length twice": (OK + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", "protocol", b""),
    "list of lengths": (OK + b"content-length: 3, 3\r\n\r\nabc", "protocol", b""),
    "length with sign": (OK + b"content-length: +3\r\n\r\nabc", "protocol", b""),
    "negative length": (OK + b"content-length: -3\r\n\r\nabc", "protocol", b""),
    "length in hex": (OK + b"content-length: 0x3\r\n\r\nabc", "protocol", b""),
    "length beyond 64 bits": (OK + b"content-length: 99999999999999999999\r\n\r\nabc", "protocol", b""),
    "empty length": (OK + b"content-length:\r\n\r\nabc", "protocol", b""),
    "unknown coding": (OK + b"transfer-encoding: gzip\r\n\r\nabc", "protocol", b""),
    "gzip then chunked": (OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "protocol", b""),
    "chunked twice": (
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "protocol",
        b"",
    ),
    "chunked in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "protocol",
        b"",
    ),
    "chunk size not hex": (CHUNKED + b"zz\r\n", "protocol", b""),
    "chunk size negative": (CHUNKED + b"-1\r\n", "protocol", b""),
    "chunk size too large": (CHUNKED + b"fffffffffffffffff\r\n", "protocol", b""),
    "chunk size with blank": (CHUNKED + b"3 \r\nabc\r\n", "protocol", b""),
    "chunk longer than said": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", "protocol", b"abc"),
    "chunk lines without CR": (CHUNKED + b"3\nabc\n0\n\n", "protocol", b""),
    "head lines without CR": (b"HTTP/1.1 200 OK\ncontent-length: 3\n\nabc", "protocol", b""),
    "folded header": (OK + b"a: b\r\n c\r\ncontent-length: 3\r\n\r\nabc", "protocol", b""),
    "blank before the colon": (OK + b"content-length : 3\r\n\r\nabc", "protocol", b""),
    "blank in a name": (OK + b"a b: c\r\ncontent-length: 3\r\n\r\nabc", "protocol", b""),
    "NUL in a value": (OK + b"a: b\0c\r\ncontent-length: 3\r\n\r\nabc", "protocol", b""),
    "bare CR in a value": (OK + b"a: b\rc\r\ncontent-length: 3\r\n\r\nabc", "protocol", b""),
    "switching protocols": (
        b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "protocol",
        b"",
    ),
    "bare 101": (b"HTTP/1.1 101 S\r\n\r\nxx", "protocol", b""),
    "status below 100": (b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n", "protocol", b""),
    "status of two digits": (b"HTTP/1.1 20 X\r\ncontent-length: 0\r\n\r\n", "protocol", b""),
    "status of four digits": (b"HTTP/1.1 2000 X\r\ncontent-length: 0\r\n\r\n", "protocol", b""),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", "protocol", b""),
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n", "protocol", b""),
    "no HTTP at all": (b"<html>hello</html>", "protocol", b""),
    "TLS alert": (b"\x15\x03\x03\x00\x02\x02\x28", "protocol", b""),
    "HTTP/2 preface": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "protocol", b""),
    "coding of a success": (
        OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",
        "protocol",
        b"",
    ),
    "endless informational": (b"HTTP/1.1 100 Continue\r\n\r\n" * 17, "protocol", b""),
    "too many headers": (OK + b"a: b\r\n" * 201 + b"\r\n", "too_large", b""),
}


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("name", UNDERSTOOD)
async def test_understood_in_every_segmentation(name):
    method, data, status, body, reused = UNDERSTOOD[name]
    once = await hear([data], method=method)
    assert (once.status, once.body, once.fault, once.reused) == (status, body, None, reused)
    # Bytes after the end that arrive separately find the connection idle: it is lost after its
    # release rather than never released, which only the segmentation decides.
    ends_cleanly = not name.startswith(("garbage", "a second", "bytes after", "204 with"))
    splits = [pieces(data, 1), pieces(data, 7)]
    if len(data) < 300:
        splits += [[data[:at], data[at:]] for at in range(1, len(data))]
    for split in splits:
        heard = await hear(split, method=method)
        assert heard[:4] == once[:4], split
        assert heard.reused is reused or not ends_cleanly, split


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_in_every_segmentation(name):
    data, fault, body = REFUSED[name]
    once = await hear([data] if data else [])
    assert (once.fault, once.body, once.reused) == (fault, body, False)
    splits = [pieces(data, 1), pieces(data, 7)]
    if len(data) < 300:
        splits += [[data[:at], data[at:]] for at in range(1, len(data))]
    for split in splits:
        heard = await hear(split)
        assert (heard.fault, heard.body, heard.reused) == (fault, body, False), split


@pytest.mark.parametrize("name", [name for name, case in UNDERSTOOD.items() if case[4]])
async def test_cut_at_every_offset_is_never_an_end(name):
    method, data, _, body, _ = UNDERSTOOD[name]
    if len(data) > 300:
        data = data.replace(b"a: b\r\n" * 199, b"a: b\r\n")
    for at in range(len(data)):
        for reset in (False, True):
            heard = await hear([data[:at]] if at else [], method=method, reset=reset)
            assert heard.fault == ("truncated" if at else "reset"), at
            assert body.startswith(heard.body)


async def test_reset_does_not_end_a_body_that_close_would():
    assert (await hear([OK + b"\r\nabc"], reset=True)) == Heard(200, [], b"abc", "truncated", False)


async def test_headers_keep_order_duplicates_and_bytes_but_lower_names():
    heard = await hear([OK + b"Set-Cookie: a\r\nX-\xc3: no\r\n\r\n"])
    assert heard.fault == "protocol"
    heard = await hear(
        [OK + b"Set-Cookie: a=1\r\nSET-COOKIE: b\r\nX: \xc3\xa9 z\r\nContent-Length: 0\r\n\r\n"]
    )
    assert heard.headers == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b"),
        (b"x", b"\xc3\xa9 z"),
        (b"content-length", b"0"),
    ]


async def test_trailers_are_not_headers():
    heard = await hear([CHUNKED + b"3\r\nabc\r\n0\r\nx: y\r\n\r\n"])
    assert heard.headers == [(b"transfer-encoding", b"chunked")]


BIG = b"x" * (HEAD_MAX + 1)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"a: " + BIG + b"\r\ncontent-length: 0\r\n\r\n",
        OK + BIG + b": a\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + BIG,
        OK + b"".join(b"a%d: %b\r\n" % (i, b"y" * 700) for i in range(100)) + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nx: "
        + b"y" * 33_000
        + b"\r\n\r\n"
        + OK
        + b"x: "
        + b"y" * 33_000
        + b"\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\nx: " + BIG * 2,
        CHUNKED + b"3;x=" + BIG * 2,
    ],
    ids=["value", "name", "reason", "sum", "informational", "trailer", "chunk extension"],
)
@pytest.mark.parametrize("size", [1000, 65536])
async def test_oversized_heads_are_refused(data, size):
    heard = await hear(pieces(data, size), eof=False)
    assert heard.fault == "too_large"


async def test_a_head_of_just_under_the_limit_is_read():
    data = OK + b"a: " + b"x" * (HEAD_MAX - 100) + b"\r\ncontent-length: 2\r\n\r\nok"
    assert (await hear([data])).body == b"ok"
    assert (await hear(pieces(data, 4096))).body == b"ok"


async def test_a_large_body_in_the_segment_of_the_head_is_no_oversized_head():
    body = b"z" * 200_000
    assert (await hear([whole(200, body)])).body == body


@pytest.mark.parametrize("name", UNDERSTOOD)
async def test_understood_over_a_socket(client: Client, name):
    method, data, status, body, reused = UNDERSTOOD[name]

    async def script(peer):
        await peer.request()
        await peer.send(data)
        if not reused:
            peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        response = await client.send(server.request(method=method))
        assert response.status == status
        assert await response.read_all(1 << 20) == body
        response.close()
        await eventually(lambda: [pool.open for pool in client.stats().values()] == ([1] if reused else []))


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_over_a_socket(client: Client, name):
    data, fault, _ = REFUSED[name]

    async def script(peer):
        await peer.request()
        await peer.send(data)
        peer.eof()
        await peer.until_gone()

    async with serve(script) as server:
        with pytest.raises(UpstreamFault) as raised:
            await (await client.send(server.request())).read_all(1 << 20)
        assert raised.value.kind == fault
        assert raised.value.sent
        assert client.stats() == {}
        await eventually(server.peers[0].gone.is_set)
