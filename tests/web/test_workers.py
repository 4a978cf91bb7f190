"""The supervisor over workers that do what the test says: replaced, ended together, killed when they will not end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import pytest

PATIENCE = 30.0

SCRIPT = """
import asyncio, logging, os, select, signal, socket, sys, time
from tollway.web import workers
from tollway.web.workers import supervise, Worker

logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
count, patience, behaviour = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
listening = socket.create_server(("127.0.0.1", 0))

if sys.argv[3] == "hangs":
    workers.BEAT_S, workers.HANG_S, workers.LAST_WORD_S = 0.05, 1.0, 2.0

def ready(report):
    print("all ready", report.decode(), flush=True)

got = supervise(count, [listening], patience=patience, forward_hup=True, on_ready=ready)
if isinstance(got, int):
    # Sockets are let go of when the end begins, so that nobody waits in a queue that is not served.
    print("exit", got, "listening" if listening.fileno() >= 0 else "let go", flush=True)
    sys.exit(got)

if behaviour == "slow":
    print("starting", flush=True)
    signal.pause()
if behaviour == "hangs":
    async def turn():
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        loop.add_signal_handler(signal.SIGHUP, hang_here)
        got.watch()
        got.ready(b"from %d" % os.getpid())
        await over.wait()
    def hang_here():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        while True:
            time.sleep(100)
    asyncio.run(turn())
    os._exit(0)
wake, mine = socket.socketpair()
mine.setblocking(False)
signal.set_wakeup_fd(mine.fileno())
told = []
def note(number, frame):
    told.append(number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, note)
if behaviour == "fails":
    sys.exit(7)
got.ready(b"from %d" % os.getpid())
if behaviour == "dies":
    sys.exit(3)
def say(text):
    os.write(1, (text + chr(10)).encode())
while True:
    found, _, _ = select.select([wake, got._lifeline], [], [])
    if got._lifeline in found:
        say(f"{os.getpid()} alone")
        os._exit(0)
    wake.recv(64)
    for number in told:
        say(f"{os.getpid()} told {number}")
        if number != signal.SIGHUP and behaviour != "stubborn":
            os._exit(0)
    told.clear()
"""


class Supervised:
    """A supervisor in a process of its own. `lines` are what it and its workers have said."""

    def __init__(self, process):
        self.process = process
        self.lines = []

    async def until(self, pattern):
        """Read on until a line matches; returns the match."""
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, "".join(self.lines)
                self.lines.append(line)
                if found := re.search(pattern, line):
                    return found

    async def end(self):
        async with asyncio.timeout(PATIENCE):
            rest, _ = await self.process.communicate()
        self.lines += rest.decode().splitlines(keepends=True)
        return self.process.returncode

    def children(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path) as file:
            return [int(pid) for pid in file.read().split()]


@pytest.fixture
async def supervised():
    begun = []

    async def start(count, behaviour, patience=60.0):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", SCRIPT, str(count), str(patience), behaviour),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        begun.append(process)
        return Supervised(process)

    yield start
    for process in begun:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_all_start_and_all_are_told_of_the_end_once(supervised):
    it = await supervised(3, "waits")
    first = (await it.until(r"all ready from (\d+)"))[1]
    children = it.children()
    assert len(children) == 3
    assert int(first) in children
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0
    said = sorted(line.split() for line in it.lines if "told" in line)
    assert said == sorted([str(pid), "told", "15"] for pid in children)
    assert it.lines[-1] == "exit 0 let go\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_other_signals_are_passed_on(supervised, number):
    it = await supervised(2, "waits")
    await it.until("all ready")
    it.process.send_signal(number)
    for _ in range(2):
        await it.until(rf"\d+ told {number:d}$")
    if number == signal.SIGHUP:
        assert len(it.children()) == 2
        it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_a_worker_that_is_killed_is_replaced(supervised):
    it = await supervised(2, "waits")
    await it.until("all ready")
    before = set(it.children())
    for victim in sorted(before):
        os.kill(victim, signal.SIGKILL)
        assert (await it.until(r"pid (\d+)\) was killed by signal 9; another starts"))[1] == str(victim)
        await it.until(r"worker \d \(pid \d+\) serves")
    after = set(it.children())
    assert len(after) == 2
    assert not before & after
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_those_who_die_again_and_again_are_replaced_less_and_less_often(supervised):
    it = await supervised(1, "dies")
    waits = [float((await it.until(r"ended with 3; another starts in ([\d.]+) s"))[1]) for _ in range(4)]
    assert waits == [0.25, 0.5, 1.0, 2.0]
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_a_first_start_that_fails_is_the_end_with_its_exit_code(supervised):
    it = await supervised(3, "fails")
    assert await it.end() == 7
    assert it.lines == ["exit 7 let go\n"]


async def test_an_end_during_the_start_is_a_proper_one(supervised):
    it = await supervised(2, "slow")
    await it.until("starting")
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_workers_that_will_not_end_are_killed(supervised):
    it = await supervised(2, "stubborn", 0.2)
    await it.until("all ready")
    children = it.children()
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 128 + signal.SIGKILL
    assert any("are killed" in line for line in it.lines)
    assert {f"{pid} told 15\n" for pid in children} <= set(it.lines)


async def test_a_supervisor_that_is_killed_leaves_nobody_behind(supervised):
    it = await supervised(2, "waits")
    await it.until("all ready")
    children = it.children()
    it.process.kill()
    await it.end()
    assert {f"{pid} alone\n" for pid in children} <= set(it.lines)


async def test_a_worker_that_hangs_says_where_and_is_replaced(supervised):
    it = await supervised(2, "hangs")
    await it.until("all ready")
    well, victim = it.children()
    os.kill(victim, signal.SIGHUP)
    assert (await it.until(r"pid (\d+)\) has not been heard of for 1 s"))[1] == str(victim)
    await it.until(r"File .* in hang_here")
    assert (await it.until(r"pid (\d+)\) was killed by signal 9; another starts"))[1] == str(victim)
    await it.until(r"worker \d \(pid \d+\) serves")
    assert len(it.children()) == 2
    assert well in it.children()
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_a_worker_that_is_stopped_for_good_is_replaced_and_one_that_goes_on_is_not(supervised):
    it = await supervised(2, "hangs")
    await it.until("all ready")
    back, gone = it.children()
    os.kill(back, signal.SIGSTOP)
    assert (await it.until(r"pid (\d+)\) has not been heard of"))[1] == str(back)
    os.kill(back, signal.SIGCONT)
    os.kill(gone, signal.SIGSTOP)
    assert (await it.until(r"pid (\d+)\) was killed by signal 9"))[1] == str(gone)
    await it.until(r"worker \d \(pid \d+\) serves")
    assert back in it.children()
    it.process.send_signal(signal.SIGTERM)
    assert await it.end() == 0


async def test_a_second_signal_reaches_them_too(supervised):
    it = await supervised(1, "stubborn")
    await it.until("all ready")
    for _ in range(2):
        it.process.send_signal(signal.SIGTERM)
        await it.until("told 15")
    (child,) = it.children()
    os.kill(child, signal.SIGKILL)
    assert await it.end() == 128 + signal.SIGKILL
