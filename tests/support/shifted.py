"""A gateway whose clock the test sets: `CLOCK_FILE=PATH python -m tests.support.shifted serve ...`.

Wall time is the host's plus what the file says; monotonic time goes on, as it does when an
administrator or NTP sets a clock.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path

from tests.support.patient import patient

from tollway.__main__ import run

VARIABLE = "CLOCK_FILE"
SHIFT = struct.Struct("=q")


class Clock:
    """The test's side: `path` for the gateway's environment, `set` moves it from one moment to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, milliseconds: int) -> None:
        """Let the gateway's wall time be so far from the host's."""
        raw = SHIFT.pack(milliseconds * 1_000_000)
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(raw)


def main() -> None:
    with Path(os.environ.pop(VARIABLE)).open("rb") as file:
        shared = mmap.mmap(file.fileno(), SHIFT.size, access=mmap.ACCESS_READ)
    real = time.time_ns

    def time_ns() -> int:
        return real() + int(SHIFT.unpack_from(shared)[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    patient()
    run()


if __name__ == "__main__":
    sys.exit(main())
