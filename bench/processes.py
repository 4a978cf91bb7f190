"""Processes under test: starting them on a chosen core, and what their whole tree costs in CPU and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS: Final = 15.0


class Memory(NamedTuple):
    """Bytes held by a tree. `pss` counts shared pages once; None where the kernel does not tell."""

    rss: int
    pss: int | None
    processes: int


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state onwards: [0] state, [1] parent, [11..14] CPU times, [21] pages."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def _own_seconds(pid: int, fields: Sequence[str]) -> float:
    """User and system time of all threads of one process, those that ended included.

    The kernel's clock of another process counts the same time as utime + stime, in nanoseconds
    instead of ticks of 10 ms, which lets a round be short.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return (int(fields[11]) + int(fields[12])) / _TICK


def cpu_seconds(root: int) -> float:
    """User and system seconds the tree of `root` has used, children that ended and were reaped included."""
    total = 0.0
    for pid in tree(root):
        fields = _stat(pid)
        if fields is not None:
            total += _own_seconds(pid, fields) + (int(fields[13]) + int(fields[14])) / _TICK
    return total


def thread_seconds(pid: int) -> dict[str, float]:
    """User and system seconds of each living thread of one process, by "name tid"."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text(encoding="utf-8", errors="replace").strip()
            ran = (task / "schedstat").read_text(encoding="ascii").split()[0]
            found[f"{name} {task.name}"] = int(ran) / 1e9
    return found


def memory(root: int) -> Memory:
    """Resident and proportional memory of the tree of `root`."""
    rss = processes = 0
    pss: int | None = 0
    for pid in tree(root):
        fields = _stat(pid)
        if fields is None:
            continue
        processes += 1
        rss += int(fields[21]) * _PAGE
        own = _pss(pid)
        pss = None if own is None or pss is None else pss + own
    return Memory(rss, pss, processes)


def _pss(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def wait_until_quiet(root: int, limit: float = 3.0) -> None:
    """Return when the tree has stopped working, so that work put off until after the answer is counted too."""
    deadline = time.monotonic() + limit
    before = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = cpu_seconds(root)
        if now - before < 0.002:
            return
        before = now


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cores() -> tuple[int | None, int | None]:
    """The core for load and upstream, and the core for the gateway; (None, None) when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run the block on one core; processes and threads started in it stay there."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(
    command: Sequence[str],
    *,
    core: int | None,
    log: IO[bytes],
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` on `core` in a session of its own, its output going to `log`."""
    with on_core(core):
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if environ is None else dict(environ),
            cwd=folder,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to end, then end its whole session; returns its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
