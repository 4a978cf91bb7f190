"""Ids: sorted by time, and never the same twice, whoever draws them."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

from tollway.flows.clock import new_id

NOW = 1_795_787_000_000


def test_an_id_says_when_it_was_made():
    assert re.fullmatch(r"req_[0-9a-f]{31}", new_id("req", NOW))
    assert new_id("req", NOW) < new_id("req", NOW + 1)


def test_no_two_are_alike_whatever_thread_draws_them():
    def draw(_):
        return [new_id("req", NOW) for _ in range(5_000)]

    with ThreadPoolExecutor(4) as threads:
        found = [one for batch in threads.map(draw, range(4)) for one in batch]
    assert len(set(found)) == len(found) == 20_000


def test_a_forked_child_draws_its_own():
    new_id("req", NOW)  # There is a stock to inherit.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, " ".join(new_id("req", NOW) for _ in range(100)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split(" ")
    assert len(theirs) == 100
    assert not {new_id("req", NOW) for _ in range(1_000)} & set(theirs)
