"""The contenders: one entry each, saying how it is started and how it is asked.

Adding one is adding a function that starts it and a line to CONTENDERS.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench import peers, processes
from bench.load import Target
from bench.nginx import nginx_command
from bench.upstream import MODEL
from tollway.core.json import decode

LIMITS: Final = ("--rpm", "1000000000", "--tpm", "1000000000000", "--concurrency", "10000")
"""Tollway's key has every rate limit, out of reach, so that checking them is part of what is measured."""
READY_SECONDS: Final = 120.0
COMMAND_SECONDS: Final = 120.0
_FOREIGN: Final = ("TOLLWAY_", "PYTHONDONTWRITEBYTECODE")
CHAT: Final = "/v1/chat/completions"


class Refused(Exception):
    """A contender cannot be measured here; the message says what to do about it."""


class Site(Struct, frozen=True):
    """What a contender is given: a folder of its own, the upstream, and the core to stay on."""

    folder: Path
    upstream: int
    core: int | None
    database_url: str = ""
    renamed: bool = False
    budget: bool = False
    prefix: tuple[str, ...] = ()
    """Put before the command, for example a profiler."""


class Running(Struct):
    """A started contender. `check` proves after the load that it did its work; it returns what is wrong."""

    whole: Target
    streamed: Target
    process: subprocess.Popen[bytes] | None = None
    version: str = ""
    check: Callable[[], str | None] = lambda: None


class Contender(Struct, frozen=True):
    """One line of the table."""

    name: str
    what: str
    start: Callable[[Site, contextlib.ExitStack], Running]


def launch(
    site: Site, stack: contextlib.ExitStack, command: list[str], environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command that is stopped when `stack` closes; its output is in FOLDER/log."""
    log = stack.enter_context((site.folder / "log").open("ab"))
    full = [*site.prefix, *command]
    process = processes.start(full, core=site.core, log=log, environ=environ, folder=site.folder)
    stack.callback(processes.stop, process)
    return process


def log_tail(folder: Path, lines: int = 6) -> str:
    """The last lines a contender printed."""
    with contextlib.suppress(OSError):
        return "\n".join((folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return ""


def get(port: int, path: str, timeout: float = 2.0) -> int:
    """The status of a GET on 127.0.0.1. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def wait_ready(process: subprocess.Popen[bytes], port: int, path: str, folder: Path) -> None:
    """Poll `path` until it answers 200. Raises Refused if the process ends or stays silent."""
    deadline = time.monotonic() + READY_SECONDS
    for _ in _until(deadline, 0.005):
        if process.poll() is not None:
            raise Refused(f"it ended with code {process.returncode} before it was ready:\n{log_tail(folder)}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(port, path) == 200:
                return
    raise Refused(f"no 200 from {path} within {READY_SECONDS:.0f} s:\n{log_tail(folder)}")


def _until(deadline: float, pause: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)


def start_direct(site: Site, _stack: contextlib.ExitStack) -> Running:
    target = Target(site.upstream, CHAT, MODEL)
    return Running(target, target)


def start_nginx(site: Site, stack: contextlib.ExitStack) -> Running:
    port = processes.free_port()
    found = nginx_command(site.folder, port, site.upstream)
    if found is None:
        raise Refused("nginx is not installed; run: apt-get install nginx-light")
    process = launch(site, stack, found.words)
    wait_ready(process, port, "/v1/models", site.folder)
    return Running(Target(port, CHAT, MODEL), Target(port, "/streamed" + CHAT, MODEL), process, found.version)


def tollway_environ() -> dict[str, str]:
    """The environment for tollway: none of the caller's settings or provider keys, and credits enough for any load.

    Byte code is kept, as in every installation, even where the caller's environment forbids writing it.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and not name.endswith("_API_KEY")
    }
    cache = str(peers.SCRATCH / "bytecode")
    return {**kept, "TOLLWAY_OPENING_CREDITS": "1000000000", "NO_COLOR": "1", "PYTHONPYCACHEPREFIX": cache}


def tollway_run(site: Site, *words: str) -> bytes:
    """Run one tollway command to its end; returns its stdout. Raises Refused with its messages."""
    command = [*peers.tollway_command(), *words, *_where(site)]
    environ = tollway_environ()
    try:
        done = subprocess.run(
            command, capture_output=True, env=environ, timeout=COMMAND_SECONDS, check=False, cwd=site.folder
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"`tollway {' '.join(words)}` did not end within {COMMAND_SECONDS:.0f} s") from None
    if done.returncode != 0:
        text = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Refused(f"`tollway {' '.join(words)}` ended with code {done.returncode}:\n{text[-1500:]}")
    return done.stdout


def _where(site: Site) -> list[str]:
    data = ["--data", str(site.folder / "data")]
    return [*data, "--database-url", site.database_url] if site.database_url else data


def start_tollway(site: Site, stack: contextlib.ExitStack) -> Running:
    port = processes.free_port()
    serve = ["serve", "--host", "127.0.0.1", "--port", str(port), *_where(site)]
    process = launch(site, stack, [*peers.tollway_command(), *serve], tollway_environ())
    wait_ready(process, port, "/readyz", site.folder)
    model = "bench-public" if site.renamed else MODEL
    base = f"http://127.0.0.1:{site.upstream}/v1"
    channel = ("channel", "add", "--name", "bench", "--dialect", "openai_chat", "--base-url", base)
    tollway_run(site, *channel, "--model", f"{model}={MODEL}", "-o", "json")
    budget = ("--budget", "100000000") if site.budget else ()
    made = decode(tollway_run(site, "key", "create", "--name", "bench", *LIMITS, *budget, "-o", "json"))
    target = Target(port, CHAT, model, {"Authorization": f"Bearer {made['key']}"})

    def check() -> str | None:
        try:
            tollway_run(site, "credits", "verify")
        except Refused as refused:
            return f"its books were not proved: {refused}\n{log_tail(site.folder)}"
        return None

    return Running(target, target, process, peers.tollway_version(), check)


def start_litellm(site: Site, stack: contextlib.ExitStack) -> Running:
    port = processes.free_port()
    command = peers.litellm_command(site.folder, port, site.upstream)
    if command is None:
        raise Refused("litellm is not installed; run: python -m bench --install litellm")
    environ = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    process = launch(site, stack, command.words, environ)
    wait_ready(process, port, "/health/liveliness", site.folder)
    target = Target(port, CHAT, MODEL, {"Authorization": f"Bearer {peers.LITELLM_KEY}"})
    return Running(target, target, process, command.version)


def start_portkey(site: Site, stack: contextlib.ExitStack) -> Running:
    port = processes.free_port()
    command = peers.portkey_command(port)
    if command is None:
        raise Refused("portkey is not installed; run: python -m bench --install portkey")
    process = launch(
        site, stack, command.words, {**os.environ, "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    )
    wait_ready(process, port, "/", site.folder)
    base = f"http://127.0.0.1:{site.upstream}/v1"
    headers = {"Authorization": "Bearer bench", "x-portkey-provider": "openai", "x-portkey-custom-host": base}
    target = Target(port, CHAT, MODEL, headers)
    return Running(target, target, process, command.version)


CONTENDERS: Final = (
    Contender("direct", "the load generator against the fake upstream, nothing between", start_direct),
    Contender("nginx", "a plain reverse proxy: one worker, kept-alive upstream connections", start_nginx),
    Contender("tollway", "key check, limits, durable hold and settle, call record", start_tollway),
    Contender("litellm", "LiteLLM proxy from PyPI: one worker, master key, no database", start_litellm),
    Contender("portkey", "Portkey AI gateway from npm: no key check, no records", start_portkey),
)


def by_name(name: str) -> Contender:
    """The contender of that name. Raises Refused naming those there are."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender
    raise Refused(f"no contender {name!r}; there are {', '.join(one.name for one in CONTENDERS)}")
