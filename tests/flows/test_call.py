"""What is counted of an answer, and what is remembered of a channel between calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tollway.core.exchange import Counted, Event, Finished, Grew, Started, Usage
from tollway.core.routing.models import Channel, Route
from tollway.flows.call import Tally
from tollway.flows.targets import needs_data

SIZES = st.lists(st.integers(1, 100), max_size=8)


@given(SIZES, SIZES)
def test_events_that_came_together_count_as_one_by_one(before, after) -> None:
    def seen(first: list[Event], second: list[Event]) -> tuple[object, ...]:
        tally = Tally()
        for events in ([Started("a", "m"), *first], [Counted(Usage(input=3, output=4))], second):
            tally.see(events)
        tally.see([Finished("stop", "stop")])
        return tally.chunks, tally.size, tally.facts("client", input_tokens=5, complete=False)

    together = [[Grew(sum(sizes), len(sizes))] if sizes else [] for sizes in (before, after)]
    assert seen(*together) == seen([Grew(size) for size in before], [Grew(size) for size in after])


def test_whether_a_channel_loads_urls_is_asked_anew_when_it_has_changed() -> None:
    route = Route(channel_id="c", upstream_model="u")
    old = Channel(
        id="c", name="c", dialect="openai_chat", base_url="http://127.0.0.1", secret=None, secret_hint="",
        groups=("default",), priority=0, weight=1, status="enabled", created_at=0, options={},
    )  # fmt: skip
    new = replace(old, options={"quirks": {"fetches_urls": False}})
    assert [needs_data(one, route) for one in (old, old, new, new, old)] == [False, False, True, True, False]
    assert needs_data(new, replace(route, options={"fetches_urls": True})) is False
