"""System calls of a process that a test answers itself: a disk that fails or is full, without root and without a compiler.

Linux lets a process hand chosen system calls to a listener (seccomp with user notification, 5.5 and
later). A thread of the test takes on such a filter and starts a child, which inherits it; from then
on a judge in the test decides about each of the child's calls: let it happen, or fail with an errno.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

NUMBERS = {
    "x86_64": {
        "seccomp": 317, "write": 1, "pwrite64": 18, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "fallocate": 285,
    },
    "aarch64": {
        "seccomp": 277, "write": 64, "pwrite64": 68, "fsync": 82, "fdatasync": 83, "ftruncate": 46, "fallocate": 47,
    },
}  # fmt: skip
SUPPORTED = sys.platform == "linux" and platform.machine() in NUMBERS

NO_NEW_PRIVS, FILTER, NEW_LISTENER, CONTINUE = 38, 1, 8, 1
RECEIVE, SEND = 0xC0502100, 0xC0182101
NOTIFY, ALLOW = 0x7FC00000, 0x7FFF0000
NOTICE = struct.Struct("=QIIiIQ6Q")
ANSWER = struct.Struct("=QqiI")


class Asked(NamedTuple):
    """A system call on a file: `path` is what its descriptor leads to, "" if nobody can say."""

    name: str
    path: str
    args: tuple[int, ...]


Judge = Callable[[Asked], int]
"""Returns the errno a call fails with, or 0 to let it happen."""


class _Rule(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.POINTER(_Rule))]


def _listen(numbers: list[int]) -> int:
    """Put a filter on this thread and all it starts. Returns the listener. Raises OSError."""
    jumps = [_Rule(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    rules = [_Rule(0x20, 0, 0, 0), *jumps, _Rule(6, 0, 0, ALLOW), _Rule(6, 0, 0, NOTIFY)]
    program = _Program(len(rules), (_Rule * len(rules))(*rules))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    number = NUMBERS[platform.machine()]["seccomp"]
    listener = libc.syscall(number, FILTER, NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


@contextlib.contextmanager
def judged(names: tuple[str, ...], judge: Judge, begin: Callable[[], T]) -> Iterator[T]:
    """What `begin` returns; `judge` decides about the named calls of every process it started.

    All of them must have ended when the block does: nobody answers their calls any more.
    """
    known = {NUMBERS[platform.machine()][name]: name for name in names}
    listener: Future[int] = Future()

    def started() -> T:
        listener.set_result(_listen(list(known)))
        return begin()

    # Not begun by the thread that takes on the filter, or it would wait for its own answers.
    thread = threading.Thread(target=_answer, args=(listener, known, judge), daemon=True)
    thread.start()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(started).result()
    try:
        yield found
    finally:
        # The listener hears that nobody is left whose calls it could get.
        thread.join(30)
        assert not thread.is_alive(), "a process whose calls were judged still runs"
        os.close(listener.result())


def _answer(listening: Future[int], known: dict[int, str], judge: Judge) -> None:
    listener = listening.result()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not poll.poll()[0][1] & select.POLLHUP:
        notice = bytearray(NOTICE.size)
        with contextlib.suppress(OSError):  # killed while it asked
            fcntl.ioctl(listener, RECEIVE, notice)
            number, pid, _, call, _, _, *args = NOTICE.unpack(notice)
            failure = judge(Asked(known[call], _path(pid, args[0]), tuple(args)))
            answer = ANSWER.pack(number, 0, -failure, 0 if failure else CONTINUE)
            fcntl.ioctl(listener, SEND, bytearray(answer))


def _path(pid: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor & 0xFFFFFFFF}")
    except OSError:
        return ""


class Failing:
    """A judge: while `ill`, the chosen calls on files whose names end in `suffix` fail with `errno`."""

    def __init__(self, suffix: str, code: int = errno.EIO) -> None:
        self._suffix = suffix
        self._code = code
        self.ill = False
        self.failed = 0

    def __call__(self, asked: Asked) -> int:
        if not (self.ill and asked.path.endswith(self._suffix)):
            return 0
        self.failed += 1
        return self._code


class Quota:
    """A judge: files of a folder may not take up more than `limit` bytes (None: any number).

    Judges pwrite64. While there is a limit fallocate fails, for the file system, which knows nothing of
    it, tells whoever wants a ballast that there is room.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.limit: int | None = None
        self.failed = 0

    def used(self) -> int:
        """Bytes of disk that the folder's files take up."""
        return sum(size for size in map(_blocks, self._folder.iterdir()))

    def __call__(self, asked: Asked) -> int:
        if self.limit is None or Path(asked.path).parent != self._folder:
            return 0
        if asked.name == "pwrite64":
            _, _, count, offset, *_ = asked.args
            # Not by its blocks: those of a file in many pieces include the list of the pieces, and a write
            # that only fills them up would never be found to need one more.
            growth = _rounded(offset + count) - _rounded(_size(Path(asked.path)))
            if growth <= 0 or self.used() + growth <= self.limit:
                return 0
        self.failed += 1
        return errno.ENOSPC


def _blocks(path: Path) -> int:
    return _about(path, lambda found: found.st_blocks * 512)


def _size(path: Path) -> int:
    return _about(path, lambda found: found.st_size)


def _about(path: Path, asked: Callable[[os.stat_result], int]) -> int:
    try:
        return asked(path.stat())
    except FileNotFoundError:
        return 0


def _rounded(size: int, block: int = 4096) -> int:
    return -(-size // block) * block
