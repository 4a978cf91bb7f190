"""Memory runs short: calls are turned away before their bodies, health is told, and it passes."""

from __future__ import annotations

import mmap

import pytest
from tests.support.raw_http import connect, eventually, exchange
from tests.web.server.probe import Probe
from tests.web.server.test_shedding import HANG, LIVE, UPLOAD, shed

from tollway.config import Settings
from tollway.web import memory
from tollway.web.limits import from_settings

MIB = 1 << 20


async def test_calls_are_shed_before_their_bodies_and_health_is_not(serving, caplog):
    async with serving(Probe(), memory_soft=1) as server:
        assert shed(await exchange(server.port, UPLOAD))
        assert shed(await exchange(server.port, HANG))
        assert (await exchange(server.port, LIVE)).status == 200
    assert [record.getMessage() for record in caplog.records] == ["memory is short: calls are shed"]


async def test_it_passes_and_what_was_begun_goes_on(serving, caplog):
    probe = Probe()
    room = 64 * MIB
    async with (
        serving(probe, memory_soft=memory.resident() + room, linger_timeout=0.4) as server,
        connect(server.port) as begun,
    ):
        await begun.send(HANG)
        await eventually(lambda: probe.begun)
        with mmap.mmap(-1, 2 * room) as much:
            much.write(b"x" * len(much))
            await eventually(lambda: server.shared.short_of_memory)
            assert shed(await exchange(server.port, UPLOAD))
        await eventually(lambda: not server.shared.short_of_memory)
        probe.release.set()
        assert (await begun.response()).body == b"released"
        assert (await exchange(server.port, b"GET /path/x HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    said = [record.getMessage() for record in caplog.records]
    assert said == ["memory is short: calls are shed", "calls are served again"]


async def test_there_is_no_limit_unless_one_is_given(serving):
    async with serving(Probe()) as server:
        assert not server.shared.short_of_memory
        assert (await exchange(server.port, LIVE)).status == 200


def test_what_was_freed_is_given_back_before_calls_are_turned_away():
    """A heap that was large once stays ours until somebody trims it."""
    pieces = [bytearray(8000) for _ in range(16_000)]
    fence = bytearray(8000)  # on top, so that freeing alone gives nothing back
    soft = memory.resident() - 60 * MIB
    asked = memory.Memory(soft)
    assert asked.short(0.0)
    pieces.clear()
    assert memory.resident() > soft
    assert asked.short(1.0)  # too early to try again
    assert not asked.short(memory.RELIEF_S)
    assert fence


V2 = {"proc/self/cgroup": "0::/a/b\n"}
TREES = {
    "no control groups": ({}, []),
    "version 2, no limit": (V2 | {"sys/fs/cgroup/a/b/memory.max": "max\n"}, []),
    "version 2": (V2 | {"sys/fs/cgroup/a/b/memory.max": "4096\n"}, [4096]),
    "the group around it": (
        V2 | {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "8192\n"},
        [8192],
    ),
    "both": (
        V2 | {"sys/fs/cgroup/a/b/memory.max": "4096\n", "sys/fs/cgroup/memory.max": "2048\n"},
        [4096, 2048],
    ),
    "seen from inside a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"},
        [1_000_000],
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "12345\n",
        },
        [12_345],
    ),
    "version 1, path of the host": (
        {
            "proc/self/cgroup": "4:hugetlb,memory:/docker/0123\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "12345\n",
        },
        [12_345],
    ),
}


@pytest.mark.parametrize(("files", "limits"), TREES.values(), ids=TREES)
def test_the_limit_is_the_smallest_around_this_process(tmp_path, files, limits):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = memory.limit_of(tmp_path / "none")
    assert memory.limit_of(tmp_path) == min([machine, *limits])
    assert machine >= 64 * MIB


def test_a_setting_beats_what_is_found_and_workers_share_it():
    assert from_settings(Settings(memory_max=1000, workers=4)).memory_soft == 750
    alone, shared = (from_settings(Settings(workers=workers)).memory_soft for workers in (1, 4))
    assert alone == int(0.75 * memory.limit_of())
    assert 0 <= alone - 4 * shared < 8
