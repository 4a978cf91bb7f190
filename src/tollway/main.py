"""The composition root: settings become a store, a gate and a server, and everything is let go of in order.

Imports everything and is imported by nothing but `__main__` and the `serve` command.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import uvloop

from tollway.cli.welcome import Welcome, refusal_to_bind, screen
from tollway.config import Settings
from tollway.flows import logs, maintenance
from tollway.flows.admin.access import open_admin
from tollway.flows.admin.bootstrap import Bootstrapped, bootstrap
from tollway.flows.admin.context import Admin
from tollway.flows.admin.control import ControlServer
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.scheduler import Scheduler
from tollway.flows.jobs.work import Tools
from tollway.flows.probe import lister, prober
from tollway.store import accounts
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.leases import Leases
from tollway.store.limiter import Limiter, MemoryLimiter
from tollway.upstream.client import Client
from tollway.upstream.sandbox.server import SandboxServer
from tollway.upstream.transport import Origin
from tollway.web.app import App
from tollway.web.listen import listen
from tollway.web.registry import Registry
from tollway.web.routes import anthropic, gemini, health, hello, internal, models, openai, responses
from tollway.web.routes import credits as money
from tollway.web.server import serve as serve_http
from tollway.web.tls import Certificate
from tollway.web.workers import Worker, supervise

log: Final = logging.getLogger("tollway")


LAST_WORD_S: Final = 30.0
"""Beyond all its timeouts, what a worker may take to end before it is killed."""


def serve(settings: Settings) -> int:
    """Run the gateway until it is told to stop. Returns the process's exit code."""
    logs.configure(settings.log_level)
    if settings.tls_cert:
        Certificate(settings.tls_cert, settings.tls_key)  # before anything is set up
    sockets = listen(settings.host, settings.port)
    worker = None
    if settings.workers > 1:
        outcome = supervise(
            settings.workers,
            sockets,
            patience=settings.accept_grace + settings.drain_timeout + LAST_WORD_S,
            forward_hup=bool(settings.tls_cert),
            on_ready=lambda report: _greet(msgspec.json.decode(report, type=Welcome)),
        )
        if isinstance(outcome, int):
            return outcome
        worker = outcome
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, sockets, worker))


async def _serve(settings: Settings, sockets: list[socket.socket], worker: Worker | None) -> int:
    if worker is not None:
        worker.watch()
    async with contextlib.AsyncExitStack() as stack:
        store = open_store(settings)
        await store.open()
        stack.push_async_callback(store.close)
        await maintenance.sweep(store)
        admin = await open_admin(store, settings, now_ms, actor="system", source="serve")
        if not _is_loopback(settings.host) and not await store.read(accounts.has_admin):
            # Before anything is set up, because a key that is made and not shown is lost.
            sys.stderr.write(refusal_to_bind(settings) + "\n")
            return 5
        found = await bootstrap(admin, with_key=True)
        await stack.enter_async_context(_leases(settings, store))
        gate = await stack.enter_async_context(_gate(settings, admin))
        await stack.enter_async_context(_control(admin, gate))
        await stack.enter_async_context(_bookkeeping(store))
        jobs = await stack.enter_async_context(_jobs(gate))

        def ready(host: str, port: int) -> None:
            _settle_memory()
            welcome = _welcome(settings, found, host, port)
            if worker is None:
                _greet(welcome)
            else:
                worker.ready(msgspec.json.encode(welcome))

        def drain() -> None:
            gate.draining = True

        registry = Registry(
            (
                *openai.ROUTES,
                *responses.ROUTES,
                *anthropic.ROUTES,
                *gemini.ROUTES,
                *models.ROUTES,
                *money.ROUTES,
                *hello.ROUTES,
                *health.ROUTES,
                *internal.routes(jobs),
            )
        )
        return await serve_http(
            App(gate, registry),
            settings,
            sockets,
            exempt=registry.operations,
            on_ready=ready,
            on_drain=drain,
        )


@contextlib.asynccontextmanager
async def _gate(settings: Settings, admin: Admin) -> AsyncIterator[Gate]:
    async with contextlib.AsyncExitStack() as stack:
        # Its inspection pages show the last prompt to whoever is on this machine: they are for tests.
        sandbox = SandboxServer(inspect=False)
        await sandbox.start("127.0.0.1", 0)
        stack.push_async_callback(sandbox.close)
        transport = Client()
        stack.push_async_callback(transport.close)
        limiter = _limiter(settings)
        await limiter.open()
        stack.push_async_callback(limiter.close)
        gate = Gate(
            settings=settings,
            store=admin.store,
            transport=transport,
            limiter=limiter,
            vault=admin.vault,
            sandbox=Origin("http", "127.0.0.1", sandbox.port),
        )
        await gate.open()
        stack.push_async_callback(gate.close)
        await stack.enter_async_context(_shared_health(gate))
        yield gate


@contextlib.asynccontextmanager
async def _leases(settings: Settings, store: Store) -> AsyncIterator[None]:
    """Holding within leases, where this is wanted. Several processes could refuse a call for what another keeps."""
    wanted = settings.credit_leases
    if wanted == "off" or (wanted == "auto" and store.engine != "sqlite"):
        yield
        return
    plain = store.ledger
    store.ledger = leases = Leases(plain)
    try:
        yield
    finally:
        await leases.close()
        store.ledger = plain


def _limiter(settings: Settings) -> Limiter:
    if not settings.redis_url:
        return MemoryLimiter()
    from tollway.store.limiter_redis import RedisLimiter  # redis is imported only where it is used

    return RedisLimiter(settings.redis_url)


@contextlib.asynccontextmanager
async def _shared_health(gate: Gate) -> AsyncIterator[None]:
    """Telling other processes which channels are not well, where there is a Redis to do it through."""
    if not gate.settings.redis_url:
        yield
        return
    from tollway.store.health_redis import SharedHealth  # redis is imported only where it is used

    shared = SharedHealth(gate.settings.redis_url, gate.health, now_ms)
    await shared.open()
    try:
        yield
    finally:
        await shared.close()


@contextlib.asynccontextmanager
async def _control(admin: Admin, gate: Gate) -> AsyncIterator[None]:
    """The door for the command line, where the database cannot be shared with it."""
    if admin.store.engine != "sqlite":
        yield
        return
    control = ControlServer(
        msgspec.structs.replace(admin, probe=prober(gate), lister=lister(gate)), gate.caught_up
    )
    await control.start()
    try:
        yield
    finally:
        await control.close()


@contextlib.asynccontextmanager
async def _bookkeeping(store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(maintenance.keep_books(store))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _jobs(gate: Gate) -> AsyncIterator[Runner]:
    """What runs jobs, with a scheduler over it unless that is left to other processes."""
    tools = Tools(
        store=gate.store, clock=now_ms, settings=gate.settings, probe=prober(gate), health=gate.health
    )
    runner = Runner(tools)
    if not gate.settings.scheduler:
        yield runner
        return
    task = asyncio.create_task(Scheduler(runner).run())
    try:
        yield runner
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _settle_memory() -> None:
    """What was made at the start lives for ever: keep the collector from looking through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _welcome(settings: Settings, found: Bootstrapped, host: str, port: int) -> Welcome:
    scheme = "https" if settings.tls_cert else "http"
    return Welcome(
        base_url=settings.public_url.rstrip("/") or f"{scheme}://{_shown(host)}:{port}",
        key=found.key,
        opening=found.opening,
        data=settings.data,
        provider_keys=tuple(name for name in os.environ if name.endswith("_API_KEY")),
        workers=settings.workers,
        shared=bool(settings.redis_url),
    )


def _greet(welcome: Welcome) -> None:
    sys.stdout.write(screen(welcome) + "\n")
    sys.stdout.flush()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
