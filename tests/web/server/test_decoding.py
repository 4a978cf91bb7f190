"""Compressed bodies: unpacked whole, refused early where they are bombs, counted by what they become."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from tests.support.raw_http import connect, eventually, exchange

from tollway.core.errors import GatewayError
from tollway.web.decoding import RATIO, SMALL, STEP, coding, unpacked
from tollway.web.writer import writer_of

TEXT = b'{"model": "m", "messages": "' + b"Hello! " * 9 + b'"}'
ZSTD = bytes.fromhex(
    "28b52ffd245d5d010014027b226d6f64656c223a20226d222c20226d657373616765"
    "7348656c6c6f2120227d0200553903ad730cdbf06de4"
)
LIMIT = 4 << 20


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": (b"gzip", gzip.compress),
    "old name": (b"X-GZIP", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "deflate without a head": (b"deflate", bare),
    "identity": (b" Identity ", bytes),
    "nothing": (b"", bytes),
}
PACK = pytest.mark.parametrize(("name", "pack"), PACKED.values(), ids=PACKED)
REAL = {name: PACKED[name] for name in ("gzip", "deflate", "deflate without a head")}


class App:
    """Answers with the size of the body it was sent, unpacked, and remembers the body."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.weights: list[int] = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": kind + ".complete"})
                if kind == "lifespan.shutdown":
                    return
        writer = writer_of(scope)
        how = coding(dict(scope["headers"]).get(b"content-encoding", b""))
        body = await (writer.read_body(LIMIT) if how is None else unpacked(writer, how, LIMIT))
        self.bodies.append(body)
        self.weights.append(writer._link.shared.body_bytes)
        writer.respond(200, b"", b"%d" % len(body))


def post(name: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        name,
        len(body),
        body,
    )


@PACK
@pytest.mark.parametrize("size", [1, STEP - 1, STEP, STEP + 1, LIMIT])
async def test_a_body_is_what_it_was_before(serving, name, pack, size):
    app = App()
    body = random.Random(size).randbytes(size)
    async with serving(app) as server:
        packed = pack(body)
        answer = await exchange(server.port, post(name, packed))
        assert server.shared.body_bytes == 0
    if len(packed) > LIMIT:
        assert answer.status == 413
    else:
        assert (answer.status, app.bodies) == (200, [body])


@pytest.mark.parametrize(("name", "pack"), REAL.values(), ids=REAL)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed + b"x",
        lambda packed: packed * 2,
        lambda packed: b"\xff" + packed[1:],
    ],
    ids=["no end", "half", "more", "twice", "another head"],
)
async def test_what_cannot_be_unpacked_is_refused(serving, name, pack, spoil):
    async with serving(App()) as server:
        answer = await exchange(server.port, post(name, spoil(pack(TEXT))))
    assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_request")
    assert name.decode() in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", [b"br", b"compress", b"gzip, gzip", b"gzip;q=1", b"\xff"])
def test_other_codings_are_named_and_refused(name):
    with pytest.raises(GatewayError, match="gzip, deflate") as refused:
        coding(name)
    assert refused.value.code == "unsupported_media_type"


async def test_an_empty_body_stays_empty(serving):
    app = App()
    async with serving(app) as server:
        assert (await exchange(server.port, post(b"gzip", b""))).status == 200
    assert app.bodies == [b""]


async def test_a_bomb_is_refused_before_it_goes_off(serving):
    """A gigabyte of zeros in a megabyte: refused by its size, having cost little more than the limit."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    async with serving(App()) as server:
        tracemalloc.start()
        try:
            answer = await exchange(server.port, post(b"gzip", bomb))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert most < LIMIT + 4 * len(bomb) + 8 * STEP


async def test_a_small_bomb_is_refused_by_its_ratio(serving):
    bomb = gzip.compress(bytes(3 << 20))
    assert len(bomb) * RATIO < SMALL
    async with serving(App()) as server:
        answer = await exchange(server.port, post(b"gzip", bomb))
    assert answer.status == 413
    assert f"{RATIO} times" in answer.json()["error"]["message"]


async def test_bodies_count_by_what_they_become(serving):
    app = App()
    noise = bytes(n * n % 251 for n in range(65536))
    body = b"".join(bytes((n,)) + noise for n in range(14))
    packed = gzip.compress(body)
    async with serving(app, bodies_max=len(body)) as server:
        assert (await exchange(server.port, post(b"gzip", packed))).status == 200
        assert app.weights == [len(body)]
        assert server.shared.body_bytes == 0
    async with serving(App(), bodies_max=len(body) // 2) as server:
        answer = await exchange(server.port, post(b"gzip", packed))
        assert (answer.status, answer.json()["error"]["code"]) == (503, "overloaded")
        assert server.shared.body_bytes == 0


async def test_a_client_that_leaves_while_its_body_is_unpacked_leaves_nothing_behind(serving):
    body = gzip.compress(bytes(n * n % 251 for n in range(65536)) * 16 + TEXT, 1)
    async with serving(App()) as server:
        async with connect(server.port) as raw:
            await raw.send(post(b"gzip", body))
            raw.reset()
        await eventually(lambda: not server.connections and not server.tasks)
        assert server.shared.body_bytes == 0


async def test_zstd_is_read(serving):
    app = App()
    async with serving(app) as server:
        assert (await exchange(server.port, post(b"zstd", ZSTD))).status == 200
        assert (await exchange(server.port, post(b"zstd", ZSTD[:-1]))).status == 400
        assert (await exchange(server.port, post(b"zstd", ZSTD + b"x"))).status == 400
    assert app.bodies == [TEXT]
