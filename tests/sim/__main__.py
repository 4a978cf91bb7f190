"""`python -m tests.sim SEED [MISTAKE]` shows one world; `python -m tests.sim --seeds N` plays many and counts."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.play import NAMES, planted, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("mistake", nargs="?", choices=NAMES)
    parser.add_argument("--seeds", type=int, default=0)
    told = parser.parse_args()
    if told.seed is not None:
        found = play(told.seed, planted(told.mistake) if told.mistake else None)
        print("\n".join(found) or "all is well")
        return 1 if found else 0
    bad = 0
    for mistake in (None, *NAMES):
        began = time.monotonic()
        failing = [seed for seed in range(told.seeds) if play(seed, planted(mistake) if mistake else None)]
        rate = told.seeds / (time.monotonic() - began)
        print(
            f"{mistake or 'the design'}: {len(failing)} of {told.seeds} worlds fail ({rate:.0f} a second) {failing[:5]}"
        )
        bad += len(failing) if mistake is None else not failing
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
