"""How long a start takes and what an idle process holds: `python -m bench.startup`.

Nothing is pinned to a core, because a user's start is not either.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench import peers, processes
from bench.contenders import Refused, Site, launch, tollway_environ, wait_ready
from bench.report import IDLE_TARGET, table

READY_TARGET: Final = 1.5
HELP_TARGET: Final = 0.4
_MEGABYTE: Final = 2**20


class Figure(Struct):
    """One thing timed or weighed several times, in one unit, and the most its median may be."""

    what: str
    unit: str
    values: list[float]
    target: float

    def met(self) -> bool:
        return statistics.median(self.values) <= self.target

    def row(self) -> list[str]:
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        verdict = f"{self.target:g} {'met' if self.met() else 'MISSED'}"
        return [self.what, f"{statistics.median(self.values):.2f} {self.unit}", spread, verdict]


class Started(Struct):
    """One start: seconds until /readyz said 200, and the idle process's resident bytes."""

    ready: float
    rss: int


def start_once(folder: Path) -> Started:
    """Start `tollway serve` on FOLDER/data, wait until it is ready and then idle, and stop it. Raises Refused."""
    port = processes.free_port()
    words = ["serve", "--data", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)]
    with contextlib.ExitStack() as stack:
        begun = time.perf_counter()
        process = launch(Site(folder, 0, None), stack, [*peers.tollway_command(), *words], tollway_environ())
        wait_ready(process, port, "/readyz", folder)
        ready = time.perf_counter() - begun
        processes.wait_until_quiet(process.pid)
        return Started(ready, processes.memory(process.pid).rss)


def help_once() -> float:
    """Seconds `tollway --help` takes. Raises Refused."""
    begun = time.perf_counter()
    done = subprocess.run(
        [*peers.tollway_command(), "--help"], capture_output=True, env=tollway_environ(), check=False
    )
    if done.returncode != 0:
        raise Refused(
            f"`tollway --help` ended with code {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
        )
    return time.perf_counter() - begun


def figures(repeats: int) -> list[Figure]:
    """All figures; each start on an empty folder is followed by one on the folder it left.

    One start before them is not counted: it compiles what an installer may have left uncompiled.
    """
    empty: list[Started] = []
    existing: list[Started] = []
    with tempfile.TemporaryDirectory(prefix="tollway-start-", ignore_cleanup_errors=True) as name:
        start_once(Path(name))
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="tollway-start-", ignore_cleanup_errors=True) as name:
            empty.append(start_once(Path(name)))
            existing.append(start_once(Path(name)))
    help_once()
    helps = [help_once() for _ in range(repeats)]
    weights = [one.rss / _MEGABYTE for one in existing]
    return [
        Figure("ready on an empty folder", "s", [one.ready for one in empty], READY_TARGET),
        Figure("ready on an existing folder", "s", [one.ready for one in existing], READY_TARGET),
        Figure("tollway --help", "s", helps, HELP_TARGET),
        Figure("idle RSS", "MB", weights, IDLE_TARGET / _MEGABYTE),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="how often each is done (default %(default)s)")
    parser.add_argument("--gate", action="store_true", help="exit with 3 when a target is missed")
    told = parser.parse_args()
    try:
        found = figures(max(1, told.repeats))
    except Refused as refused:
        print(f"bench: {refused}", file=sys.stderr)
        return 2
    print("\n".join(table(("what", "median", "spread", "target"), [one.row() for one in found])))
    return 3 if told.gate and not all(one.met() for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
