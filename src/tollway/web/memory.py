"""How much memory this process has and may have, so that calls are turned away before the kernel ends it."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, Final

SOFT: Final = 0.75
"""The share of the limit beyond which no new calls are taken: those under way need room to finish."""
RELIEF_S: Final = 10.0
"""Seconds between two attempts to give memory back."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def limit_of(root: Path = Path("/")) -> int:
    """Bytes that this process and its like may have together: the container's limit, else the machine's memory."""
    return min([_physical(), *_cgroup_limits(root)])


def _physical() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def _cgroup_limits(root: Path) -> list[int]:
    """The limits of the control groups this process is in, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":  # version 2
            found += _limits_up(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in kinds.split(","):
            found += _limits_up(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return found


def _limits_up(mount: Path, path: str, name: str) -> list[int]:
    """What a file says in a group and all groups around it; inside a container only some of them can be seen."""
    group = mount / path.strip("/")
    found = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            break
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" is none
            found.append(int(text))
    return found


def resident() -> int:
    """Bytes this process has in memory now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - asked every second; a Path costs as much again
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


class Memory:
    """Whether there is room for more. `soft`: bytes beyond which there is not; 0 never asks."""

    def __init__(self, soft: int) -> None:
        self._soft = soft
        self._relief_at = 0.0
        self._libc: Any = None

    def short(self, now: float) -> bool:
        """Whether calls are to be turned away. `now`: seconds of any steady clock.

        What was freed may still be ours: before calls are turned away it is given back, and asked again.
        """
        if not self._soft or resident() <= self._soft:
            return False
        if now >= self._relief_at:
            self._relief_at = now + RELIEF_S
            self._give_back()
            return resident() > self._soft
        return True

    def _give_back(self) -> None:
        import ctypes  # noqa: PLC0415 - a process that has room need not load it

        gc.collect()
        try:
            self._libc = self._libc or ctypes.CDLL(None)
            self._libc.malloc_trim(0)
        except (OSError, AttributeError):
            pass  # not the GNU library
