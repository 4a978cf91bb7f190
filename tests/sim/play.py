"""One world from its seed to its verdict."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from tests.sim.actors import Books, Design, count, gateway, maintain, recovery, worker, wrong
from tests.sim.world import World

STEPS = (45, 30)
"""Things that happen in a world of jobs, and in one of calls."""

NAMES = {
    "no fencing": "fenced",
    "settling in two transactions": "one_transaction",
    "settling that is not idempotent": "idempotent",
    "deleting in two transactions": "moved_together",
}
"""The mistakes that can be planted, and what they switch off."""


def planted(mistake: str) -> Design:
    """A design with one mistake."""
    design = Design()
    setattr(design, NAMES[mistake], False)
    return design


def play(seed: int, design: Design | None = None) -> list[str]:
    """Everything that is wrong at the end of the world of a seed: odd ones are of calls, even ones of jobs."""
    design = design or Design()
    world = World(seed)
    try:
        return _played(world, seed, design)
    except DBAPIError as refused:
        return [f"the database refused: {refused.orig}"]
    finally:
        world.undo()


def _played(world: World, seed: int, design: Design) -> list[str]:
    books = Books()
    world.start("recovery", recovery())
    world.start("alpha", gateway(design, books))
    if seed % 2:
        world.start("beta", gateway(design, books))
    else:
        for name in ("gamma", "delta"):
            world.start(f"{name}-counts", worker(design, books, "count", count))
            world.start(f"{name}-maintains", worker(design, books, "maintain", maintain(design)))
    world.run(STEPS[seed % 2])
    return wrong(world, books)
