"""A session: the fake upstream and the contenders up and answering, each on its core, and all of them gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench import processes
from bench.contenders import Contender, Refused, Running, Site, log_tail
from bench.load import Load, Shape, Target, wrong_text
from bench.processes import Memory

_ROOT: Final = Path(__file__).parent.parent
_ANSWER_SECONDS: Final = 15.0


class Options(Struct, frozen=True):
    """How tollway is set up, and what every contender's command is prefixed with."""

    database_url: str = ""
    renamed: bool = False
    budget: bool = False
    prefix: tuple[str, ...] = ()


class Session(Struct):
    """Everything that is up. `idle`: memory before the first request."""

    upstream: int
    load_core: int | None
    running: dict[str, Running]
    idle: dict[str, Memory]
    folder: Path

    def memory(self, name: str) -> Memory:
        """The contender's memory now, once it is idle."""
        process = self.running[name].process
        assert process is not None
        processes.wait_until_quiet(process.pid)
        return processes.memory(process.pid)

    def versions(self) -> dict[str, str]:
        return {name: one.version for name, one in self.running.items() if one.version}

    def problems(self) -> dict[str, str]:
        """What the contenders' own checks after the load found."""
        found = {name: one.check() for name, one in self.running.items()}
        return {name: problem for name, problem in found.items() if problem is not None}


@contextlib.contextmanager
def upstream_up(core: int | None) -> Iterator[int]:
    """The fake upstream as a process of its own; gives its port."""
    with processes.on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.upstream"],
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Refused("the fake upstream did not start")
        yield int(line)
    finally:
        processes.stop(process)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def opened(contenders: Sequence[Contender], options: Options) -> Iterator[Session]:
    """Start the upstream and the contenders, and wait until each answers rightly. Raises Refused."""
    load_core, gateway_core = processes.cores()
    if gateway_core is None:
        print("bench: only one core; load and gateway share it, so take no figure seriously", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="tollway-bench-", ignore_cleanup_errors=True)
            )
        )
        upstream = stack.enter_context(upstream_up(load_core))
        session = Session(upstream, load_core, {}, {}, folder)
        for contender in contenders:
            own = folder / contender.name
            own.mkdir()
            site = Site(
                own,
                upstream,
                gateway_core,
                options.database_url,
                options.renamed,
                options.budget,
                options.prefix,
            )
            try:
                running = contender.start(site, stack)
            except Refused as refused:
                raise Refused(f"{contender.name}: {refused}") from None
            session.running[contender.name] = running
            if running.process is not None:
                processes.wait_until_quiet(running.process.pid, 10)
                session.idle[contender.name] = processes.memory(running.process.pid)
            for target, shape in ((running.whole, Shape()), (running.streamed, Shape(chunks=100))):
                _wait_right(contender.name, target, shape, own)
        yield session


def _wait_right(name: str, target: Target, shape: Shape, folder: Path) -> None:
    """Ask until one answer is right: a gateway may take a moment to learn of its new channel and key."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while problem := asyncio.run(_ask_once(target, shape)):
        if time.monotonic() > deadline:
            kind = "streamed" if shape.chunks else "whole"
            raise Refused(f"{name}: its {kind} answers are wrong: {problem}\n{log_tail(folder)}")
        time.sleep(0.1)


async def _ask_once(target: Target, shape: Shape) -> str:
    load = Load(target, shape, 1)
    try:
        outcome = await load.run(1, 10)
    except OSError as error:
        return str(error)
    finally:
        await load.close()
    return wrong_text(outcome.wrong)
