"""Answering a call that carries an idempotency key: once, and the same again to whoever asks again.

A wrapper around a flow and its sink, so that neither knows of it. The key is taken in the
transaction of the call's hold (`store/idempotency.py`). The end of the answer is held back until
the whole of it is stored, and a client that leaves does not end its call: it may come back for the
answer, which it pays in full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from tollway.core.errors import GatewayError
from tollway.flows.call import Call
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.text import CLIENT_GONE, Sink
from tollway.store import idempotency as stored
from tollway.store.base import Books, Claim, ClaimTaken, Store, StoreError
from tollway.store.idempotency import BODY_MAX, Answer, Standing

log: Final = logging.getLogger("tollway.idempotency")

KEEP_MS: Final = 24 * 3600 * 1000
"""How long an answer is kept for those who ask again."""
RETRY_MS: Final = 1_000
EXPIRE_BATCH: Final = 500
REPLAYED: Final = b"idempotent-replayed: true\r\nidempotency-replayed: true\r\n"
"""Two names for one thing: clients of other services look for either."""

_KEPT: Final = (
    b"content-type:",
    b"cache-control:",
    b"x-request-id:",
    b"request-id:",
    b"x-accel-",
    b"x-tollway-",
)
_STALE: Final = b"x-tollway-balance:"

Serve = Callable[[Sink], Coroutine[Any, Any, None]]
"""A flow that answers a call through the sink it is given."""


async def answer(gate: Gate, call: Call, claim: Claim, sink: Sink, serve: Serve) -> None:
    """Serve a call under an idempotency key, or replay what it answered. Raises GatewayError."""
    found = await gate.store.read(partial(stored.find, claim=claim, now=call.created_at))
    if found is not None and found.state not in ("free", "lost"):
        _again(found, sink)
        return
    call.claim = claim
    recorder = Recorder(sink)
    task = gate.detach(_run(gate, call, claim, recorder, serve))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError as cancelled:
        # Whoever leaves call after call must not pile up more of them than clients could keep waiting.
        if cancelled.args[:1] == (CLIENT_GONE,) and not gate.crowded:
            recorder.leave()
        else:
            task.cancel(*cancelled.args)
            await asyncio.wait({task})
        raise
    error = task.result()
    if isinstance(error, ClaimTaken):
        await _lost_race(gate, claim, sink)
    elif error is not None:
        raise error


async def _run(gate: Gate, call: Call, claim: Claim, recorder: Recorder, serve: Serve) -> Exception | None:
    """Serve and store. Never raises but when cancelled: nobody may be waiting."""
    try:
        await serve(recorder)
        await _keep(gate.store, call, claim, recorder)
    except Exception as error:
        if recorder.left and not isinstance(error, GatewayError):
            log.error("%s: a call whose client had left failed", call.id, exc_info=error)
        return error
    finally:
        recorder.release()
    return None


async def _keep(store: Store, call: Call, claim: Claim, recorder: Recorder) -> None:
    found = recorder.answer()
    if found is None:
        return
    try:
        await store.write(partial(stored.store, claim=claim, call_id=call.id, answer=found, now=now_ms()))
    except StoreError as error:
        # The client has paid for its answer and gets it; only asking again will not find it.
        log.error("%s: the answer to an idempotency key could not be stored: %s", call.id, error)


async def _lost_race(gate: Gate, claim: Claim, sink: Sink) -> None:
    found = await gate.store.read(partial(stored.find, claim=claim, now=now_ms()))
    _again(found or Standing(state="running", call_id=""), sink)


def _again(found: Standing, sink: Sink) -> None:
    if found.state == "other":
        raise GatewayError(
            "idempotency_mismatch",
            "This Idempotency-Key was used for another request. Use a new key for a new request.",
            param="Idempotency-Key",
        )
    if found.answer is None:
        raise GatewayError(
            "idempotency_in_progress",
            "The call with this Idempotency-Key is still running. Ask again in a moment for its answer.",
            param="Idempotency-Key",
            retry_after_ms=RETRY_MS,
        )
    kept = found.answer
    if kept.body is None:
        raise GatewayError(
            "idempotency_not_replayable",
            f"The call with this Idempotency-Key was answered, but the answer exceeds {BODY_MAX} bytes and was not kept. "
            f"GET /v1/generations/{found.call_id} shows what it cost; use a new key to run it again.",
            param="Idempotency-Key",
        )
    sink.respond(kept.status, kept.headers + REPLAYED, kept.body)


class Recorder:
    """A sink that passes an answer on, remembers it, and holds back its end until `release`."""

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self._draining: asyncio.Future[None] | None = None
        self._status = 0
        self._headers = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._last: bytes | None = None
        self._streamed = False

    @property
    def left(self) -> bool:
        """Whether the client has gone."""
        return self._sink is None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self._status, self._headers = status, headers
        self._hold_back(body)

    def start(self, status: int, headers: bytes) -> None:
        self._status, self._headers, self._streamed = status, headers, True
        if self._sink is not None:
            self._sink.start(status, headers)

    def write(self, chunk: bytes) -> None:
        self._remember(chunk)
        if self._sink is not None:
            self._sink.write(chunk)

    @property
    def chunked(self) -> bool:
        # What is remembered has no framing.
        return False

    def write_framed(self, chunk: bytes) -> bool:  # noqa: ARG002
        raise RuntimeError("a chunk with its framing was given to an answer that is remembered without")

    @property
    def congested(self) -> bool:
        return self._sink is not None and self._sink.congested

    async def drain(self) -> None:
        if self._sink is None:
            return
        self._draining = asyncio.ensure_future(self._sink.drain())
        try:
            # Whoever leaves while we wait for them never becomes writable again.
            await asyncio.wait({self._draining})
        finally:
            self._draining.cancel()
            self._draining = None

    def end(self, last: bytes = b"") -> None:
        self._hold_back(last)

    def leave(self) -> None:
        """The client has gone: go on without it."""
        self._sink = None
        if self._draining is not None:
            self._draining.cancel()

    def release(self) -> None:
        """Send the end, if there is one and somebody to send it to."""
        sink, last, self._last = self._sink, self._last, None
        if sink is None or last is None:
            return
        if self._streamed:
            sink.end(last)
        else:
            sink.respond(self._status, self._headers, last)

    def answer(self) -> Answer | None:
        """The whole answer, None if it has no end."""
        if self._last is None:
            return None
        body = b"".join(self._parts) if self._size <= BODY_MAX else None
        return Answer(status=self._status, headers=kept_headers(self._headers), body=body)

    def _hold_back(self, last: bytes) -> None:
        self._remember(last)
        self._last = last

    def _remember(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= BODY_MAX:
            self._parts.append(chunk)
        else:
            self._parts.clear()


def kept_headers(block: bytes) -> bytes:
    """The lines of a header block that are still true when an answer is sent again."""
    lines = block.split(b"\r\n")
    return b"".join(
        line + b"\r\n"
        for line in lines
        if line.lower().startswith(_KEPT) and not line.lower().startswith(_STALE)
    )


async def expire(books: Books, now: int) -> int:
    """Forget keys whose time is over, in small transactions. Returns how many."""
    total = 0
    while True:
        gone = await books.write(partial(stored.expire, now=now, limit=EXPIRE_BATCH))
        total += gone
        if gone < EXPIRE_BATCH:
            return total
