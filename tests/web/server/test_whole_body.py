"""A body that came whole with its head, next to one that arrived: the same to whoever reads it."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.core.errors import GatewayError
from tollway.web.body import READ_AHEAD, Body
from tollway.web.cycle import Cycle
from tollway.web.writer import ClientGone

ROOM = 1_000_000


class Link:
    """A connection that remembers what it was asked for."""

    transport = None

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


def came(link: Link, data: bytes) -> Cycle:
    return Cycle(link, {}, None, True, data)


def arrived(link: Link, data: bytes) -> Cycle:
    body = Body(link, len(data), READ_AHEAD, False)
    if data:
        body.feed(data)
    body.end()
    return Cycle(link, {}, body, True)


async def told(cycle: Cycle, deed: str, number: int) -> object:
    """What comes of one deed, in words that can be compared."""
    try:
        match deed:
            case "read":
                return await cycle.read_body(number)
            case "some":
                return await cycle.body.read_some()
            case "weigh":
                return cycle.weigh(number)
            case "discard":
                return cycle.body.discard()
            case "until closed":
                return await asyncio.wait_for(cycle.body.until_closed(), 0) if not cycle.gone else "closed"
            case _:
                return cycle.lost("left")
    except GatewayError as error:
        return error.code, str(error)
    except (ClientGone, TimeoutError) as error:
        return type(error).__name__


deeds = st.tuples(
    st.sampled_from(["read", "some", "weigh", "discard", "until closed", "close"]),
    st.sampled_from([0, 8, 100, READ_AHEAD, READ_AHEAD + 1, ROOM, ROOM + 1]),
)


@settings(max_examples=400, deadline=None)
@given(
    size=st.sampled_from([0, 1, 8, 9, 100, READ_AHEAD]),
    done=st.lists(deeds, max_size=5).filter(lambda done: [deed for deed, _ in done].count("read") < 2),
    look=st.booleans(),
)
def test_whatever_is_done_to_it_it_is_as_one_that_arrived(size, done, look):
    async def compare() -> None:
        data = b"x" * size
        ours, theirs = Link(), Link()
        whole, body = came(ours, data), arrived(theirs, data)
        for deed, number in done:
            assert await told(whole, deed, number) == await told(body, deed, number)
            assert (ours.asked, ours.used) == (theirs.asked, theirs.used)
            if look:
                assert (whole.body.more, whole.body.closed) == (body.body.more, body.body.closed)

    asyncio.run(compare())


async def test_nothing_is_kept_of_it_once_it_was_read():
    whole = came(Link(), b"x" * 100)
    assert await whole.read_body(100) == b"x" * 100
    assert whole._came == b""
