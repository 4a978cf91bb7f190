"""One command that measures Tollway beside nginx and its peers in one run: `python -m bench`."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from bench import peers, processes, profiling, report
from bench.contenders import CONTENDERS, Contender, Refused, by_name
from bench.load import Shape
from bench.rounds import Limits, Scenario, play
from bench.session import Options, Session, opened

PEERS: Final = ("litellm", "portkey")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    _who(parser.add_argument_group("who is measured"))
    _load(parser.add_argument_group("the load"))
    _instead(parser.add_argument_group("instead of measuring"))
    return parser.parse_args(words)


def _who(group: argparse._ArgumentGroup) -> None:
    names = [one.name for one in CONTENDERS]
    group.add_argument(
        "--peer", action="append", default=[], choices=PEERS, help="this peer too; may be repeated"
    )
    group.add_argument(
        "--only", action="append", default=[], choices=names, help="only these; may be repeated"
    )
    group.add_argument(
        "--database-url", default="", help="tollway on this PostgreSQL database, which should be empty"
    )
    group.add_argument(
        "--renamed", action="store_true", help="tollway renames the model: public name != upstream's"
    )
    group.add_argument(
        "--budget", action="store_true", help="tollway's key has a budget, so each hold is taken twice"
    )
    group.add_argument("--gate", action="store_true", help="exit with 3 when tollway misses a target")


def _load(group: argparse._ArgumentGroup) -> None:
    def add(flag: str, default: float | str, text: str) -> None:
        group.add_argument(flag, type=type(default), default=default, help=f"{text} (default %(default)s)")

    add("--connections", "1,16,64", "connection counts of the whole-answer loads")
    add("--bodies", "300", "request body sizes in bytes, e.g. 300,10240,102400")
    add(
        "--streams",
        "16:0,64:1,64:5",
        "streamed loads as connections:gap, the gap between chunks in ms; empty for none",
    )
    add("--chunks", 100, "content events of a streamed answer")
    add("--requests", 4000, "whole answers per measurement at most, half of it at one connection")
    add("--stream-requests", 400, "streamed answers per measurement at most")
    add("--seconds", 4.0, "how long one measurement may send")
    add("--rounds", 3, "interleaved rounds; medians are reported")


def _instead(group: argparse._ArgumentGroup) -> None:
    names = [one.name for one in CONTENDERS if one.name != "direct"]
    group.add_argument(
        "--install", action="append", default=[], choices=PEERS, help="install a peer into bench/.scratch"
    )
    group.add_argument(
        "--profile", choices=names, help="load one contender under a profiler; print its top functions"
    )
    group.add_argument(
        "--perf", action="store_true", help="with --profile: by perf, for what happens below Python"
    )
    group.add_argument(
        "--streamed", action="store_true", help="with --profile: streamed answers, not whole ones"
    )


def scenarios(told: argparse.Namespace) -> list[Scenario]:
    """The loads of a run, whole ones first. Raises Refused for what cannot be read."""
    found: list[Scenario] = []
    try:
        for size in (int(word) for word in told.bodies.split(",") if word):
            for connections in (int(word) for word in told.connections.split(",") if word):
                requests = told.requests if connections > 1 else max(1, told.requests // 2)
                found.append(
                    Scenario(f"whole answers, {connections} at a time", connections, requests, Shape(size))
                )
        for connections, gap in (word.split(":") for word in told.streams.split(",") if word):
            pace = f"{float(gap):g} ms apart" if float(gap) else "as fast as they are read"
            name = f"{connections} streams at a time, {told.chunks} chunks {pace}"
            shape = Shape(chunks=told.chunks)
            found.append(Scenario(name, int(connections), told.stream_requests, shape, float(gap) / 1000))
    except ValueError as error:
        raise Refused(f"cannot read the load: {error}") from None
    return found


async def measure_all(told: argparse.Namespace, session: Session) -> list[report.Played]:
    """Play every scenario against every contender, telling on stderr how far it is."""
    gc.freeze()
    limits = Limits(told.rounds, told.seconds)
    played: list[report.Played] = []
    for scenario in scenarios(told):
        print(f"{scenario.name}, {scenario.shape.body} byte request ...", file=sys.stderr, flush=True)
        rows = await play(scenario, session.running, limits, session.upstream)
        played.append(report.Played(scenario, rows))
    return played


def chosen(told: argparse.Namespace) -> list[Contender]:
    """Direct, nginx and tollway, and the peers asked for; or the ones named."""
    names = told.only or ["direct", "nginx", "tollway", *told.peer]
    return [by_name(name) for name in dict.fromkeys(names)]


def bench(told: argparse.Namespace) -> int:
    """Measure, print and save; returns the exit code: 1 for a wrong answer, 3 for a missed target with --gate."""
    machine = report.machine()
    options = {name: str(value) for name, value in vars(told).items()}
    site = Options(database_url=told.database_url, renamed=told.renamed, budget=told.budget)
    with opened(chosen(told), site) as session, processes.on_core(session.load_core):
        played = uvloop.run(measure_all(told, session))
        memory = {name: report.Held(idle, session.memory(name)) for name, idle in session.idle.items()}
        found = report.Report(machine, options, session.versions(), played, memory, session.problems())
    print("\n".join(report.render(found)))
    print(f"saved as {report.save(found)}", file=sys.stderr)
    if not found.sound():
        return 1
    return 3 if told.gate and not all(good for good, _ in report.targets(found)) else 0


def main(words: Sequence[str] | None = None) -> int:
    told = parse(words)
    try:
        for name in told.install:
            peers.install(name)
        if told.install:
            return 0
        if told.profile:
            print(profiling.profile(told.profile, streamed=told.streamed, with_perf=told.perf))
            return 0
        return bench(told)
    except Refused as refused:
        print(f"bench: {refused}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
