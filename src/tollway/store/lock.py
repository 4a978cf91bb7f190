"""The lock that lets one process at a time have a data folder, and tells an unclean stop from a clean one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from tollway.store.base import DatabaseInUse

NAME: Final = "tollway.lock"


class FolderLock:
    """An flock on `<folder>/tollway.lock`. The file holds the holder's pid until it stops cleanly."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None
        self.unclean = False
        """Whether the last holder left without `release`; known after `take`."""

    def take(self) -> None:
        """Raises DatabaseInUse."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(file, 32)
            os.close(file)
            raise DatabaseInUse(str(self._path.parent), int(pid) if pid.isdigit() else 0) from None
        self.unclean = os.fstat(file).st_size > 0
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d" % os.getpid(), 0)
        self._file = file

    def release(self, *, clean: bool) -> None:
        """Let go. `clean` False leaves the mark that makes the next holder check the database."""
        if self._file is None:
            return
        if clean:
            os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file = None
