"""Several processes behind one listening socket: started, watched, replaced when they end, and ended together.

`supervise` forks. It returns in every worker, which then serves, and in the supervisor when all is
over. The first worker starts alone, because it may have to set up an empty database; the others
follow once it serves. Workers share the socket itself, not only its port (SO_REUSEPORT), so that no
connection waits in the queue of a process that has died.

    a worker ends              another takes its place, later each time it did not live for a minute
    a worker's loop hangs      after a minute it is asked where, killed, and replaced
    SIGTERM or SIGINT          reaches every worker once, and a second time if it comes twice
    SIGHUP                     reaches every worker, where they have use for it
    the supervisor dies        workers see the end of their lifeline and drain
    a worker fails to start    at the first start: the end, with its exit code; later: as above
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

BACKOFF_S: Final = 0.25
BACKOFF_MAX_S: Final = 30.0
WELL_S: Final = 60.0
"""How long a worker lives for its end not to count as one of a series."""
REPORT_MAX: Final = 65_536
BEAT_S: Final = 5.0
"""How often a worker's event loop says that it turns."""
HANG_S: Final = 60.0
"""How long it may say nothing before it is asked to show where it hangs."""
LAST_WORD_S: Final = 5.0
"""How long it has for that before it is killed."""

log: Final = logging.getLogger("tollway.workers")


class Worker:
    """What a worker knows of its supervisor."""

    def __init__(self, lifeline: int, report: int) -> None:
        self._lifeline = lifeline
        self._report = report
        self._loop: AbstractEventLoop | None = None

    def watch(self) -> None:
        """Drain when the supervisor is gone, and be watched by it once ready. Call it on the running loop."""
        self._loop = get_running_loop()
        self._loop.add_reader(self._lifeline, self._orphaned)
        # Written by C, at once and wherever the interpreter is.
        faulthandler.register(signal.SIGUSR1, chain=False)

    def _orphaned(self) -> None:
        get_running_loop().remove_reader(self._lifeline)
        log.error("the supervisor is gone: this worker ends too")
        os.kill(os.getpid(), signal.SIGTERM)

    def ready(self, report: bytes) -> None:
        """Tell the supervisor that requests are answered, and what the first worker has to report."""
        os.write(self._report, report[: REPORT_MAX - 1] + b"\n")
        if self._loop is not None:
            os.set_blocking(self._report, False)
            self._beat(self._loop)

    def _beat(self, loop: AbstractEventLoop) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, or does not listen
            os.write(self._report, b".")
        loop.call_later(BEAT_S, self._beat, loop)


@dataclass
class _Slot:
    """The place of one worker. `pid` 0: nobody is in it; `due`: when somebody will be.

    `hangs`: when it will count as hanging, unless it is heard of before; `asked`: whether it was asked where.
    """

    number: int
    pid: int = 0
    report: int = -1
    began: float = 0.0
    ends: int = 0
    due: float = 0.0
    ready: bool = False
    hangs: float = float("inf")
    asked: bool = False


def supervise(
    count: int,
    sockets: Sequence[socket.socket],
    *,
    patience: float,
    forward_hup: bool,
    on_ready: Callable[[bytes], None],
) -> Worker | int:
    """Keep `count` workers alive until told to stop; returns a Worker in each, the exit code in the supervisor.

    `sockets` are what the workers listen on: the supervisor lets go of them when it is told to stop.
    `patience`: seconds after which a worker that was told to end is killed. `on_ready` gets the
    first worker's report once all of them serve.
    """
    return _Supervisor(count, sockets, patience, on_ready).run(forward_hup=forward_hup)


class _Supervisor:
    def __init__(
        self, count: int, sockets: Sequence[socket.socket], patience: float, on_ready: Callable[[bytes], None]
    ) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._sockets = sockets
        self._patience = patience
        self._on_ready = on_ready
        self._report = b""
        self._all_ready = False
        self._stopping = False
        self._kill_at = float("inf")
        self._exit_code = 0
        self._lifeline = os.pipe()

    def run(self, *, forward_hup: bool) -> Worker | int:
        gc.collect()
        gc.freeze()  # so that collections in workers do not copy what they could share
        with _signals(forward_hup=forward_hup) as wake:
            worker = self._start(self._slots[0], wake)
            while worker is None and any(slot.pid or slot.due for slot in self._slots):
                self._await_news(wake)
                for number in _told(wake):
                    self._tell_all(number)
                self._bury()
                self._end_hung()
                worker = self._start_due(wake)
            if worker is not None:
                return worker
        return self._exit_code

    def _start(self, slot: _Slot, wake: socket.socket) -> Worker | None:
        """Fork; returns a Worker in the child, None here."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that comes between the two would be taken for the supervisor's by the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        pid = os.fork()
        if pid == 0:
            return self._become_worker(reading, writing, wake)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        os.close(writing)
        slot.pid, slot.report, slot.began, slot.due, slot.ready = pid, reading, time.monotonic(), 0.0, False
        slot.hangs = float("inf")
        return None

    def _become_worker(self, reading: int, writing: int, wake: socket.socket) -> Worker:
        signal.set_wakeup_fd(-1)
        for number in (*_FORWARDED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Of its own group, so that Ctrl+C reaches it once, through the supervisor.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        wake.close()
        os.close(reading)
        os.close(self._lifeline[1])
        for slot in self._slots:
            if slot.report >= 0:
                os.close(slot.report)
        return Worker(self._lifeline[0], writing)

    def _start_due(self, wake: socket.socket) -> Worker | None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.due and now >= slot.due and not self._stopping:
                worker = self._start(slot, wake)
                if worker is not None:
                    return worker
        return None

    def _await_news(self, wake: socket.socket) -> None:
        due = min((slot.due for slot in self._slots if slot.due), default=float("inf"))
        hangs = min(slot.hangs for slot in self._slots)
        wait = max(0.0, min(due, hangs, self._kill_at) - time.monotonic())
        waiting = [slot for slot in self._slots if slot.report >= 0]
        heard: list[Any] = [wake, *(slot.report for slot in waiting)]
        found, _, _ = select.select(heard, (), (), None if wait == float("inf") else wait)
        for slot in waiting:
            if slot.report in found:
                self._hear(slot)
        if time.monotonic() >= self._kill_at:
            log.error("workers that did not end in %g seconds are killed", self._patience)
            self._kill_at = float("inf")
            self._tell_all(signal.SIGKILL)

    def _hear(self, slot: _Slot) -> None:
        said = os.read(slot.report, REPORT_MAX)
        if not said:
            os.close(slot.report)
            slot.report = -1
            return  # it ended; SIGCHLD says so too
        if slot.ready:
            slot.hangs, slot.asked = time.monotonic() + HANG_S, False
            return
        report, _, beat = said.partition(b"\n")
        if beat:
            slot.hangs = time.monotonic() + HANG_S
        slot.ready = True
        self._report = self._report or report
        if self._all_ready:
            log.info("worker %d (pid %d) serves", slot.number, slot.pid)
            return
        for other in self._slots:
            if not other.pid and not other.due:
                other.due = time.monotonic()
        if all(one.ready for one in self._slots):
            self._all_ready = True
            self._on_ready(self._report)

    def _tell_all(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        for slot in self._slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.pid, number)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + self._patience
            for slot in self._slots:
                slot.due = 0.0
            # Workers go on accepting for a while; connections must not wait for us after that.
            for sock in self._sockets:
                sock.close()

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(status))

    def _end_hung(self) -> None:
        """Kill workers whose event loop has not turned for long; those that drain are judged by `patience` alone."""
        for slot in self._slots:
            if self._stopping:
                slot.hangs = float("inf")
            elif time.monotonic() < slot.hangs:
                continue
            elif not slot.asked:
                log.error(
                    "worker %d (pid %d) has not been heard of for %g s and will be killed; it hangs here:",
                    slot.number,
                    slot.pid,
                    HANG_S,
                )
                slot.hangs, slot.asked = time.monotonic() + LAST_WORD_S, True
                os.kill(slot.pid, signal.SIGUSR1)
            else:
                slot.hangs = float("inf")
                os.kill(slot.pid, signal.SIGKILL)

    def _ended(self, slot: _Slot, code: int) -> None:
        pid, slot.pid = slot.pid, 0
        slot.hangs, slot.asked = float("inf"), False
        if slot.report >= 0:
            os.close(slot.report)
            slot.report = -1
        if self._stopping:
            # One that had just been started did not know yet how to end properly, and had nothing to end.
            if slot.ready or -code not in (signal.SIGTERM, signal.SIGINT):
                self._exit_code = self._exit_code or _shown(code)
            return
        if not self._all_ready:
            # What went wrong was said by the worker itself.
            self._exit_code = _shown(code) or 1
            self._tell_all(signal.SIGTERM)
            return
        now = time.monotonic()
        slot.ends = 0 if now - slot.began >= WELL_S else slot.ends + 1
        wait = min(BACKOFF_S * 2 ** max(0, slot.ends - 1), BACKOFF_MAX_S)
        slot.due = now + wait
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        log.error("worker %d (pid %d) %s; another starts in %g s", slot.number, pid, how, wait)


_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def _signals(*, forward_hup: bool) -> Iterator[socket.socket]:
    """A socket that signals can be read from, one byte each, in place of what they would do."""
    wake, told = socket.socketpair()
    wake.setblocking(False)
    told.setblocking(False)
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, *([signal.SIGHUP] if forward_hup else [])]
    before = {number: signal.signal(number, _noted) for number in numbers}
    before_fd = signal.set_wakeup_fd(told.fileno())
    mine = os.getpid()
    try:
        yield wake
    finally:
        told.close()
        if os.getpid() == mine:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            wake.close()


def _noted(number: int, frame: object) -> None:
    """A handler, so that the signal does not do what it does by default."""


def _told(wake: socket.socket) -> list[int]:
    try:
        numbers = wake.recv(4096)
    except BlockingIOError:
        return []
    return [number for number in numbers if number != signal.SIGCHLD]


def _shown(code: int) -> int:
    """An exit code as shells show it: 128 and the signal for what was killed."""
    return code if code >= 0 else 128 - code
