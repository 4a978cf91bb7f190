"""What a process tree costs: CPU of threads, children and the dead, and memory; and that a session is ended whole."""

import os
import subprocess
import sys
import time

import pytest

from bench import processes

BURN = "import time\ndef burn(s):\n    while time.process_time() < s: pass\n"
PARENT = (
    BURN
    + """
import subprocess, sys, threading
child = sys.argv[1]
thread = threading.Thread(target=burn, args=(0.1,)); thread.start(); thread.join()
if child == 'dies':
    subprocess.run([sys.executable, '-c', sys.argv[2] + 'burn(0.3)'])
else:
    subprocess.Popen([sys.executable, '-c', sys.argv[2] + 'burn(0.3); time.sleep(60)'])
print('done', flush=True)
sys.stdin.read()
"""
)


def wait_for(condition, limit: float = 20.0):
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.01)
    return found


@pytest.fixture
def started():
    running = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        processes.stop(process)
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize(("child", "living"), [("lives", 2), ("dies", 1)])
def test_the_cpu_of_a_tree_counts_threads_and_children_living_or_dead(started, child, living):
    process = started(sys.executable, "-c", PARENT, child, BURN)
    assert process.stdout.readline() == b"done\n"
    wait_for(lambda: processes.cpu_seconds(process.pid) >= 0.39)
    assert len(processes.tree(process.pid)) == living
    held = processes.memory(process.pid)
    assert held.processes == living
    assert held.rss > living * 2**20
    assert held.pss is None or 0 < held.pss <= held.rss


def test_another_tree_is_not_counted(started):
    idle = started(sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()")
    idle.stdout.readline()
    before = processes.cpu_seconds(idle.pid)
    busy = started(sys.executable, "-c", BURN + "burn(0.2); print('done', flush=True)")
    assert busy.stdout.readline() == b"done\n"
    assert processes.cpu_seconds(idle.pid) - before < 0.1
    assert busy.pid not in processes.tree(idle.pid)


def test_a_process_that_is_gone_costs_nothing(started):
    process = started(sys.executable, "-c", "")
    process.wait()
    assert processes.cpu_seconds(process.pid) == 0.0
    assert processes.memory(process.pid)[0] == 0


def test_waiting_for_quiet_outlasts_the_work(started):
    process = started(sys.executable, "-c", "print('up', flush=True)\n" + BURN + "burn(0.5)\ntime.sleep(60)")
    process.stdout.readline()
    processes.wait_until_quiet(process.pid, 30)
    assert processes.cpu_seconds(process.pid) >= 0.49


def test_stopping_ends_the_children_too(started):
    process = started(sys.executable, "-c", PARENT, "lives", BURN)
    process.stdout.readline()
    (child,) = set(processes.tree(process.pid)) - {process.pid}
    processes.stop(process)
    assert process.returncode is not None
    wait_for(lambda: _ended(child))


def _ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_is_started_on_a_core_stays_there_and_the_caller_comes_back(tmp_path):
    mine = os.sched_getaffinity(0)
    core = min(mine)
    with (tmp_path / "log").open("wb") as log:
        process = processes.start(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0), os.getcwd())"],
            core=core,
            log=log,
            folder=tmp_path,
        )
        assert process.wait(30) == 0
    assert (tmp_path / "log").read_text() == f"{{{core}}} {tmp_path}\n"
    assert os.sched_getaffinity(0) == mine


def test_threads_are_told_apart(started):
    code = (
        BURN
        + "import threading\nburn(0.1)\nthreading.Thread(target=burn, args=(0.4,), daemon=True).start()\n"
    )
    process = started(
        sys.executable, "-c", code + "print('up', flush=True)\nsys = __import__('sys'); sys.stdin.read()"
    )
    process.stdout.readline()
    wait_for(lambda: sum(processes.thread_seconds(process.pid).values()) >= 0.39)
    used = processes.thread_seconds(process.pid)
    assert len(used) == 2
    assert all(seconds >= 0.09 for seconds in used.values())
