"""A body handed over as it arrives: in order, until its reader stops it, and never to one that has left."""

import asyncio

import pytest
from tests.support.wires import begun

HEADS = {
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "whole": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
}


@pytest.fixture(params=HEADS)
def told(request):
    """A head, and how a part of its body is framed. Chunks that come one by one have a way of their own."""
    chunked = request.param == "chunked"
    return HEADS[request.param], (lambda part: b"%x\r\n%b\r\n" % (len(part), part)) if chunked else bytes


class Reader:
    def __init__(self, stop_at: bytes = b"never") -> None:
        self.found: list[bytes] = []
        self.stop_at = stop_at

    def __call__(self, chunk: bytes) -> bool:
        self.found.append(chunk)
        if chunk == b"bad":
            raise ValueError("the reader cannot")
        return chunk == self.stop_at


async def test_what_arrives_is_handed_over_before_the_next_turn_of_the_loop(told):
    head, framed = told
    async with begun() as (connection, answer, _):
        reader = Reader()
        pump = asyncio.create_task(answer.pump(reader))
        await asyncio.sleep(0)
        connection.data_received(head + framed(b"abc"))
        for part in (b"def", b"ghi"):
            connection.data_received(framed(part))
        assert reader.found[:3] == [b"abc", b"def", b"ghi"]
        if not answer.complete:
            connection.data_received(b"0\r\n\r\n")
        await pump
        assert reader.found[3:] == [b""]


async def test_a_reader_that_stops_gets_the_rest_when_it_comes_back(told):
    head, framed = told
    async with begun() as (connection, answer, _):
        reader = Reader(stop_at=b"def")
        pump = asyncio.create_task(answer.pump(reader))
        await asyncio.sleep(0)
        connection.data_received(head + framed(b"abc"))
        connection.data_received(framed(b"def"))
        connection.data_received(framed(b"gh"))
        assert reader.found == [b"abc", b"def"]
        await pump
        connection.data_received(framed(b"i"))
        assert reader.found == [b"abc", b"def"]
        reader.stop_at = b"ghi"
        await answer.pump(reader)
        assert reader.found == [b"abc", b"def", b"ghi"]


async def test_what_the_reader_raises_is_raised_where_it_waits(told):
    head, framed = told
    async with begun() as (connection, answer, _):
        reader = Reader()
        pump = asyncio.create_task(answer.pump(reader))
        await asyncio.sleep(0)
        connection.data_received(head + framed(b"abc"))
        connection.data_received(framed(b"bad"))
        connection.data_received(framed(b"def"))
        with pytest.raises(ValueError, match="cannot"):
            await pump
        assert reader.found == [b"abc", b"bad"]


async def test_a_reader_that_was_cancelled_gets_nothing_more(told):
    head, framed = told
    async with begun() as (connection, answer, home):
        reader = Reader()
        pump = asyncio.create_task(answer.pump(reader))
        await asyncio.sleep(0)
        connection.data_received(head + framed(b"abc"))
        pump.cancel()
        connection.data_received(framed(b"def"))
        with pytest.raises(asyncio.CancelledError):
            await pump
        assert reader.found == [b"abc"]
        assert home.said == ["lost"]
