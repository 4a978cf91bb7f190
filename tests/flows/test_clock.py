"""Ids: sorted by time, and never the same twice, whoever draws them."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tollway.flows.clock import new_id

NOW = 1_795_787_000_000
_FORK = """
import os
from tollway.flows.clock import new_id

new_id("req", 1)  # There is a stock to inherit.
child = os.fork()
if child:
    os.waitpid(child, 0)  # Its output comes first, whole.
print(*(new_id("req", 1) for _ in range(100)), flush=True)
if not child:
    os._exit(0)
"""


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
    # In a process of its own, because one with threads, as a test runner is, had better not be forked.
    found = subprocess.run(
        [sys.executable, "-c", _FORK], capture_output=True, text=True, check=True, timeout=60
    )
    ids = found.stdout.split()
    assert len(ids) == len(set(ids)) == 200
