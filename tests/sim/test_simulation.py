"""Thousands of worlds with crashes, pauses and doubtful commits: the design survives all, planted mistakes do not.

A failing world is run again by its seed: `python -m tests.sim SEED` (see docs/jobs.md).
"""

from __future__ import annotations

import os

import pytest
from tests.sim.play import NAMES, planted, play

SEEDS = int(os.environ.get("SIM_SEEDS", "2000"))
PARTS = 4
ENOUGH = 400
"""Worlds within which a planted mistake must be found."""


@pytest.mark.slow
@pytest.mark.timeout(300 + SEEDS // 10)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_design_survives_every_world(part: int) -> None:
    failing = {seed: found for seed in range(part, SEEDS, PARTS) if (found := play(seed))}
    assert failing == {}


@pytest.mark.parametrize("mistake", NAMES)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    for seed in range(ENOUGH):
        if play(seed, planted(mistake)):
            return
    pytest.fail(f"{ENOUGH} worlds did not show the mistake: {mistake}")


def test_a_seed_is_the_same_world_every_time() -> None:
    assert [play(seed, planted("no fencing")) for seed in range(30)] == [
        play(seed, planted("no fencing")) for seed in range(30)
    ]
