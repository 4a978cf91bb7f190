"""What a run found: ratios first, then the tables, then JSON with every round."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bench.load import wrong_text
from bench.processes import Memory
from bench.rounds import Row, Scenario

RESULTS: Final = Path(__file__).parent / "results"
WHOLE_TARGET: Final = 7.0
"""Most of nginx's CPU per whole call that the gateway may use, at 16 connections."""
STREAM_TARGET: Final = 1.5
"""Most of nginx's CPU per streamed chunk that the gateway may use."""
BUSY: Final = 1.0
"""The load average beyond which a run says that its figures are rough."""
IDLE_TARGET: Final = 120 * 1024 * 1024


class Played(Struct):
    """One scenario and its rows."""

    scenario: Scenario
    rows: list[Row]


class Held(Struct):
    """A contender's memory when idle after its start, and when idle again after the load."""

    idle: Memory
    loaded: Memory


class Report(Struct):
    """A whole run. `problems`: what proves that a contender did not do its work, by contender."""

    machine: dict[str, str]
    options: dict[str, str]
    versions: dict[str, str]
    played: list[Played]
    memory: dict[str, Held]
    problems: dict[str, str]

    def sound(self) -> bool:
        """Whether every answer was right and every contender proved its work."""
        return not self.problems and not any(row.wrong.total() for one in self.played for row in one.rows)


def machine() -> dict[str, str]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[at]) for line in [heads, *rows]) for at in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    yield line(heads)
    yield f"|{'|'.join('-' * (width + 2) if at == 0 else '-' * (width + 1) + ':' for at, width in enumerate(widths))}|"
    for row in rows:
        yield line(row)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


_HEADS: Final = (
    "contender",
    "to nginx",
    "CPU us/req",
    "us/chunk",
    "req/s",
    "p50 ms",
    "p99 ms",
    "added p50",
    "added p99",
    "first byte p50",
    "frames/event",
)


def _row(row: Row) -> list[str]:
    if not row.rounds or row.wrong.total():
        return [row.contender, "wrong", *["-"] * (len(_HEADS) - 2)]
    return [
        row.contender,
        f"{row.ratio:.2f}x" if row.ratio is not None else "-",
        _number(row.cpu),
        _number(row.cpu_per_chunk, 2),
        _number(row.per_second, 0),
        _number(row.p50, 2),
        _number(row.p99, 2),
        _number(row.added_p50, 2),
        _number(row.added_p99, 2),
        _number(row.first_p50, 2),
        _number(row.frames, 2),
    ]


def _title(scenario: Scenario) -> str:
    return f"{scenario.name}, {scenario.shape.body:,} byte request"


def ratios(report: Report) -> Iterator[str]:
    """One line per contender and scenario: how many times nginx's CPU it used."""
    for one in report.played:
        for row in one.rows:
            if row.contender in {"direct", "nginx"}:
                continue
            title = f"{_title(one.scenario)}: {row.contender}"
            problem = report.problems.get(row.contender, "").partition("\n")[0] or wrong_text(row.wrong)
            nginx = next((other for other in one.rows if other.contender == "nginx"), None)
            if problem:
                yield f"{title}: no ratio, it was wrong: {problem}"
            elif nginx is None or row.ratio is None or row.cpu is None:
                yield f"{title}: no ratio, because there is no right nginx figure beside it"
            else:
                chunks = f", {_number(row.cpu_per_chunk, 2)} us a chunk" if row.cpu_per_chunk else ""
                yield f"{title}: {row.ratio:.2f}x nginx ({_number(row.cpu)} us to {_number(nginx.cpu)} us a request{chunks})"


def targets(report: Report) -> Iterator[tuple[bool, str]]:
    """Whether each target for tollway is met, and in which words. Only what was measured is judged."""
    for one in report.played:
        row = next((row for row in one.rows if row.contender == "tollway"), None)
        if row is None:
            continue
        streamed = one.scenario.shape.chunks > 0
        if not streamed and (one.scenario.connections != 16 or one.scenario.shape.body > 1000):
            continue
        limit = STREAM_TARGET if streamed else WHOLE_TARGET
        good = row.ratio is not None and row.ratio <= limit and "tollway" not in report.problems
        yield good, f"{_title(one.scenario)}: at most {limit}x nginx's CPU"
    if (held := report.memory.get("tollway")) is not None:
        size = held.idle.pss if held.idle.pss is not None else held.idle.rss
        yield size <= IDLE_TARGET, f"idle memory at most {IDLE_TARGET // 2**20} MB: {size / 2**20:.0f} MB"


def _memory_rows(memory: Mapping[str, Held]) -> Iterator[list[str]]:
    def megabytes(size: int | None) -> str:
        return "-" if size is None else f"{size / 2**20:.1f}"

    for name, held in memory.items():
        cells = [megabytes(size) for size in (held.idle.rss, held.idle.pss, held.loaded.rss, held.loaded.pss)]
        yield [name, *cells, str(held.loaded.processes)]


def render(report: Report) -> Iterator[str]:
    """The whole report as Markdown lines."""
    if float(report.machine.get("load_before", "0")) > BUSY:
        yield f"The machine was busy before the run (load {report.machine['load_before']}): these figures are rough.\n"
    yield from (f"- {line}" for line in ratios(report))
    yield ""
    yield from (f"- {'met' if good else 'MISSED'}: {text}" for good, text in targets(report))
    for one in report.played:
        yield f"\n### {_title(one.scenario)}\n"
        yield from table(_HEADS, [_row(row) for row in one.rows])
        for row in one.rows:
            if row.wrong.total():
                yield f"\n{row.contender} was wrong: {wrong_text(row.wrong)}"
    if report.memory:
        yield "\n### Memory, MB\n"
        heads = ("contender", "idle RSS", "idle PSS", "after load RSS", "after load PSS", "processes")
        yield from table(heads, list(_memory_rows(report.memory)))
    yield ""
    for name, problem in report.problems.items():
        yield f"{name}: {problem}"
    yield ", ".join(f"{key} {value}" for key, value in {**report.versions, **report.machine}.items())


def save(report: Report) -> Path:
    """Write the report as JSON into bench/results; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{report.machine['at'].replace(':', '').replace('+0000', 'Z')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return file
