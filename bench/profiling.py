"""Where the time goes: one contender under load beneath a profiler, and its top functions."""

from __future__ import annotations

import io
import pstats
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from bench import processes
from bench.contenders import Refused, by_name
from bench.load import Load, Shape, wrong_text
from bench.session import Options, Session, opened

CONNECTIONS: Final = 16
REQUESTS: Final = 6000
STREAMS: Final = 200
CHUNKS: Final = 100
TOP: Final = 45
_WALL: Final = """\
The figures above and below are slowed by the profiler. Below is the main thread alone, and by wall time:
a function that gives up the interpreter's lock, such as os.urandom, is charged with waiting for it."""


def profile(name: str, *, streamed: bool, with_perf: bool) -> str:
    """Load a contender and return the profile as text. cProfile sees Python contenders' main thread; perf sees anything."""
    if with_perf:
        return _by_perf(name, streamed=streamed)
    if name != "tollway":
        raise Refused(f"cProfile is for tollway; use --perf for {name}")
    return _by_cprofile(name, streamed=streamed)


def _by_cprofile(name: str, *, streamed: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="tollway-profile-") as folder:
        file = Path(folder) / "profile"
        options = Options(prefix=(sys.executable, "-m", "cProfile", "-o", str(file)))
        with opened([by_name(name)], options) as session:
            summary = _load(session, name, streamed=streamed)
        if not file.exists():
            raise Refused("the gateway left no profile; did it not end on SIGTERM?")
        text = io.StringIO()
        stats = pstats.Stats(str(file), stream=text)
        stats.sort_stats("tottime").print_stats(TOP)
        stats.sort_stats("cumulative").print_stats("tollway", TOP)
        return f"{summary}\n{_WALL}\n{text.getvalue()}"


def _by_perf(name: str, *, streamed: bool) -> str:
    perf = shutil.which("perf")
    if perf is None:
        raise Refused("perf is not installed; run: apt-get install linux-perf")
    with (
        tempfile.TemporaryDirectory(prefix="tollway-profile-") as folder,
        opened([by_name(name)], Options()) as session,
    ):
        process = session.running[name].process
        assert process is not None
        file = str(Path(folder) / "perf.data")
        pids = ",".join(str(pid) for pid in processes.tree(process.pid))
        recorder = subprocess.Popen(
            [perf, "record", "-q", "-F", "1999", "-o", file, "-p", pids], stderr=subprocess.DEVNULL
        )
        time.sleep(0.5)
        summary = _load(session, name, streamed=streamed)
        recorder.send_signal(signal.SIGINT)
        recorder.wait(30)
        words = [perf, "report", "-i", file, "--stdio", "--sort", "comm,dso,symbol", "--percent-limit", "0.6"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        return f"{summary}\n{done.stdout or done.stderr}"


def _load(session: Session, name: str, *, streamed: bool) -> str:
    running = session.running[name]
    process = running.process
    assert process is not None
    target = running.streamed if streamed else running.whole
    load = Load(target, Shape(chunks=CHUNKS if streamed else 0), CONNECTIONS)

    async def run() -> str:
        try:
            await load.run(CONNECTIONS * 10, 60)
            before = processes.thread_seconds(process.pid)
            outcome = await load.run(STREAMS if streamed else REQUESTS, 60)
        finally:
            await load.close()
        if outcome.wrong.total():
            raise Refused(f"{name} was wrong: {wrong_text(outcome.wrong)}")
        processes.wait_until_quiet(process.pid)
        after = processes.thread_seconds(process.pid)
        used = {one: (after[one] - before.get(one, 0.0)) / outcome.requests * 1e6 for one in after}
        lines = [f"  {micros:8.1f} us  thread {one}" for one, micros in used.items() if micros >= 0.5]
        head = f"{outcome.requests} requests at {CONNECTIONS} connections, {sum(used.values()):.1f} us of CPU each:"
        return "\n".join([head, *sorted(lines, reverse=True)])

    with processes.on_core(session.load_core):
        return uvloop.run(run())
