"""A file that only takes up room: given up when the disk is full, so that what happened can still be settled.

A settlement records what an upstream has already delivered, so it must be written even where a new
call could be refused. Once the ballast is spent, only settlements use the room it took: holds are
refused until there is room for another one. It is made by a process that has served for some
seconds, so that neither starting nor a short command waits for it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

NAME: Final = "tollway.ballast"
FULL: Final = frozenset({13, 10 | 3 << 8, 10 | 19 << 8})
"""SQLite's codes of a write that found no room: FULL; under a quota or a size limit IOERR_WRITE, IOERR_SHMSIZE."""
PLENTY: Final = 16
"""How many times its size must be free before it is made: 1 GiB for the 64 MiB it has by default."""
ROOM: Final = 4
"""The same once it was spent: less, because calls wait for it."""
BLOCK: Final = 512

log: Final = logging.getLogger("tollway.store")


class Ballast:
    """The ballast of one data folder; `size` in bytes, 0 for none.

    `spent` is read on the event loop, all else runs on threads: `tend` and `give_up` never at the
    same moment as another `tend`.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / NAME
        self._size = size
        self.spent = False
        """Whether the disk was full, and what there is of room is for settlements alone."""

    def give_up(self, error: BaseException) -> bool:
        """Delete the ballast if `error` says that there is no room. Returns whether that made any."""
        if not _means_full(error):
            return False
        try:
            self._path.unlink()
        except OSError:
            return False
        self.spent = True
        log.error(
            "the disk is full: the ballast of %d MiB was deleted so that calls under way can be settled; "
            "new ones are refused until %d MiB are free",
            self._size >> 20,
            ROOM * self._size >> 20,
        )
        return True

    def tend(self) -> None:
        """Make the ballast if it is missing and there is room; remove one of another size. Never raises OSError."""
        try:
            if self._whole():
                return
            self._path.unlink(missing_ok=True)
            needed = self._size * (ROOM if self.spent else PLENTY)
            if self._size and free(self._path.parent) >= needed:
                self._make()
                self._end()
        except OSError as error:
            log.warning("the ballast %s could not be made: %s", self._path, error.strerror)

    def _whole(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return bool(self._size) and found.st_size == self._size and found.st_blocks * BLOCK >= self._size

    def _make(self) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _take_up(file, self._size)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(file)

    def _end(self) -> None:
        if self.spent:
            self.spent = False
            log.warning("there is room on the disk again: new calls are taken")


def free(folder: Path) -> int:
    """Bytes that this process may still write to the folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _take_up(file: int, size: int) -> None:
    """Let a file take up `size` bytes of the disk. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(1 << 20)
    for at in range(0, size, len(zeros)):
        os.pwrite(file, zeros[: size - at], at)


def _means_full(error: BaseException | None) -> bool:
    while error is not None:
        error = getattr(error, "orig", None) or error
        if getattr(error, "sqlite_errorcode", None) in FULL:
            return True
        error = error.__cause__
    return False
