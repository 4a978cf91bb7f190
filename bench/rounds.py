"""One measurement, and the rounds that interleave the contenders so that the machine's noise falls on all alike."""

from __future__ import annotations

import http.client
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct, field

from bench import processes
from bench.contenders import Running
from bench.load import Load, Shape

EVENTS_BESIDE: Final = 3
"""Events of a stream beside its content: the finish, the usage and [DONE]."""


class Scenario(Struct, frozen=True):
    """A load all contenders get. `gap`: seconds between a stream's chunks, 0 for the next turn of the upstream's loop."""

    name: str
    connections: int
    requests: int
    shape: Shape = Shape()
    gap: float = 0.0


class Limits(Struct, frozen=True):
    """What bounds the whole run: rounds, and seconds one measurement may send for."""

    rounds: int = 3
    seconds: float = 4.0


class Measured(Struct):
    """One contender in one round. CPU in microseconds per request, latencies in milliseconds, HTTP chunks per answer."""

    requests: int
    per_second: float
    cpu: float | None
    p50: float
    p99: float
    first_p50: float
    frames: float
    wrong: dict[str, int]
    reconnects: int = 0


class Row(Struct):
    """A contender's medians over its rounds in one scenario.

    `added_*`: beyond the direct medians of the same run. `frames`: HTTP chunks that reached the
    client per event of a stream; below 1 the contender, or its sockets, merged some.
    """

    contender: str
    rounds: list[Measured] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    per_second: float = 0.0
    cpu: float | None = None
    cpu_per_chunk: float | None = None
    p50: float = 0.0
    p99: float = 0.0
    first_p50: float = 0.0
    frames: float | None = None
    added_p50: float | None = None
    added_p99: float | None = None
    ratio: float | None = None


def ask_upstream(port: int, told: dict[str, float] | None = None) -> int:
    """Set the upstream's pace if `told`; returns how many completions it has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST" if told else "GET", "/bench", json.dumps(told) if told else None)
        answer: dict[str, int] = json.loads(connection.getresponse().read())
        return answer["completions"]
    finally:
        connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` of all values at or below it; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


async def measure(running: Running, scenario: Scenario, limits: Limits, upstream: int) -> Measured:
    """Open the connections with two requests each, then load the contender and account for what it used."""
    target = running.streamed if scenario.shape.chunks else running.whole
    load = Load(target, scenario.shape, scenario.connections)
    root = running.process.pid if running.process else None
    try:
        warm = await load.run(scenario.connections * 2, limits.seconds)
        wrong = Counter(warm.wrong)
        before = ask_upstream(upstream)
        if root is not None:
            processes.wait_until_quiet(root)
        used = processes.cpu_seconds(root) if root is not None else 0.0
        outcome = await load.run(scenario.requests, limits.seconds)
    finally:
        await load.close()
    if root is not None:
        processes.wait_until_quiet(root)
        used = processes.cpu_seconds(root) - used
    wrong.update(outcome.wrong)
    if (asked := ask_upstream(upstream) - before) != outcome.requests:
        wrong[f"the upstream was asked {asked} times for {outcome.requests} requests"] += 1
    done = max(1, outcome.requests)
    return Measured(
        requests=outcome.requests,
        per_second=outcome.requests / outcome.seconds if outcome.seconds else 0.0,
        cpu=None if root is None else used / done * 1e6,
        p50=percentile(outcome.latencies, 0.5) * 1000,
        p99=percentile(outcome.latencies, 0.99) * 1000,
        first_p50=percentile(outcome.firsts, 0.5) * 1000,
        frames=outcome.frames / done,
        wrong=dict(wrong),
        reconnects=outcome.reconnects,
    )


def order(names: Sequence[str], round_number: int) -> Iterator[str]:
    """Every other round goes backwards, so that a drift of the machine favours nobody."""
    return iter(names) if round_number % 2 == 0 else reversed(names)


async def play(scenario: Scenario, running: dict[str, Running], limits: Limits, upstream: int) -> list[Row]:
    """All rounds of one scenario; returns one row per contender, in the order of `running`.

    Round 0 warms caches and just-in-time compilers; of it only wrong answers are kept.
    """
    ask_upstream(upstream, {"chunks": max(1, scenario.shape.chunks), "gap": scenario.gap})
    rows = {name: Row(name) for name in running}
    for number in range(limits.rounds + 1):
        for name in order(list(running), number):
            try:
                found = await measure(running[name], scenario, limits, upstream)
            except OSError as error:
                rows[name].wrong[f"cannot be reached: {error}"] += 1
                continue
            if number > 0:
                rows[name].rounds.append(found)
            else:
                rows[name].wrong.update(found.wrong)
    for row in rows.values():
        summarise(row, scenario)
    compare(rows)
    return list(rows.values())


def summarise(row: Row, scenario: Scenario) -> None:
    """Fill a row's medians from its rounds."""
    for one in row.rounds:
        row.wrong.update(one.wrong)
    if not row.rounds:
        return
    row.per_second = statistics.median(one.per_second for one in row.rounds)
    row.p50 = statistics.median(one.p50 for one in row.rounds)
    row.p99 = statistics.median(one.p99 for one in row.rounds)
    row.first_p50 = statistics.median(one.first_p50 for one in row.rounds)
    if scenario.shape.chunks:
        events = scenario.shape.chunks + EVENTS_BESIDE
        row.frames = statistics.median(one.frames - 1 for one in row.rounds) / events
    used = [one.cpu for one in row.rounds if one.cpu is not None]
    if used:
        row.cpu = statistics.median(used)
        if scenario.shape.chunks:
            row.cpu_per_chunk = row.cpu / scenario.shape.chunks


def compare(rows: dict[str, Row]) -> None:
    """Fill in added latency and the ratio to nginx; a row with a wrong answer, or beside one, gets neither."""
    direct, nginx = rows.get("direct"), rows.get("nginx")
    for row in rows.values():
        if row.wrong.total():
            continue
        if direct is not None and row is not direct and not direct.wrong.total():
            row.added_p50 = row.p50 - direct.p50
            row.added_p99 = row.p99 - direct.p99
        if nginx is not None and not nginx.wrong.total() and nginx.cpu and row.cpu is not None:
            row.ratio = row.cpu / nginx.cpu
