"""A body that came whole with its head, next to one that arrived: the same to whoever reads it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.core.errors import GatewayError
from tollway.web.body import READ_AHEAD, Body, WholeBody
from tollway.web.writer import ClientGone

ROOM = 1_000_000


class Source:
    """Remembers what it was asked for."""

    def __init__(self):
        self.asked: list[str] = []
        self.used = 0

    def hold_input(self):
        self.asked.append("hold")

    def want_input(self):
        self.asked.append("want")

    def send_continue(self):
        self.asked.append("continue")

    def make_room(self, size):
        if size > 0 and self.used + size > ROOM:
            return False
        self.used += size
        return True


def arrived(source: Source, data: bytes) -> Body:
    body = Body(source, len(data), READ_AHEAD, False)
    if data:
        body.feed(data)
    body.end()
    return body


async def told(body: Body | WholeBody, deed: str, number: int) -> object:
    """What comes of one deed, in words that can be compared."""
    try:
        match deed:
            case "read":
                return await body.read(number)
            case "some":
                return await body.read_some()
            case "weigh":
                return body.weigh(number)
            case "discard":
                return body.discard()
            case "until closed":
                return await asyncio.wait_for(body.until_closed(), 0) if not body.closed else "closed"
            case _:
                return body.close()
    except GatewayError as error:
        return error.code, str(error)
    except (ClientGone, TimeoutError) as error:
        return type(error).__name__


deeds = st.tuples(
    st.sampled_from(["read", "some", "weigh", "discard", "until closed", "close"]),
    st.sampled_from([0, 8, 100, READ_AHEAD, READ_AHEAD + 1, ROOM, ROOM + 1]),
)


@settings(max_examples=300, deadline=None)
@given(size=st.sampled_from([0, 1, 8, 9, 100, READ_AHEAD]), done=st.lists(deeds, max_size=5))
def test_whatever_is_done_to_it_it_is_as_one_that_arrived(size, done):
    async def compare() -> None:
        data = b"x" * size
        ours, theirs = Source(), Source()
        whole, body = WholeBody(ours, data), arrived(theirs, data)
        for deed, number in done:
            assert await told(whole, deed, number) == await told(body, deed, number)
            assert (whole.more, whole.closed, ours.asked, ours.used) == (
                body.more,
                body.closed,
                theirs.asked,
                theirs.used,
            )

    asyncio.run(compare())


@pytest.mark.parametrize("end", ["read", "close"])
async def test_it_keeps_nothing_once_it_was_read_or_nobody_will(end):
    data = b"x" * 100
    whole = WholeBody(Source(), data)
    await told(whole, end, 100)
    assert whole._data == b""
