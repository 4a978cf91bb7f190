"""A text answer, whole or streamed: admit, hold, send, relay, settle, record.

The one order that matters: the ledger has the settlement before the client has the end of the
answer. Whatever happens in between (an upstream that breaks, a client that leaves, a process told
to stop), the hold is closed exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from tollway.core.billing.money import credits_number, credits_text
from tollway.core.billing.pricing import estimate_tokens
from tollway.core.dialects.asked import Asked
from tollway.core.errors import GatewayError
from tollway.core.relay import BadAnswer, Carrier, Receipt
from tollway.core.routing.faults import scrubbed
from tollway.core.terms import PLAIN
from tollway.flows import fees, holds, translate
from tollway.flows.admit import find_model
from tollway.flows.attempts import ANSWER_MAX, Attempt, attempt_on, go_on, order
from tollway.flows.call import Call
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.holds import Held
from tollway.flows.settle import DELIVERED, INTERRUPTED, Closed, Ending, release, settle
from tollway.store.base import IllegalOperation, LedgerUnavailable, StoreError
from tollway.store.limiter import Taken
from tollway.upstream.transport import UpstreamFault

log: Final = logging.getLogger("tollway.text")

CLIENT_GONE: Final = "client gone"
"""The message of the cancellation by which the server tells that nobody is listening any more."""

DRAIN_S: Final = 60.0
"""Seconds for which a billed answer that nobody waits for is read on."""
DROPPED_MAX: Final = 1_000
"""Characters of the header that names what was dropped."""


class Sink(Protocol):
    """Where an answer goes. `respond` sends one whole; `start`, `write` and `end` send one in pieces.

    `write_framed`: see web.writer.ResponseWriter; only for one that is `chunked`.
    """

    def respond(self, status: int, headers: bytes, body: bytes) -> None: ...
    def start(self, status: int, headers: bytes) -> None: ...
    def write(self, chunk: bytes) -> None: ...
    @property
    def chunked(self) -> bool: ...
    def write_framed(self, chunk: bytes) -> bool: ...
    @property
    def congested(self) -> bool: ...
    async def drain(self) -> None: ...
    def end(self, last: bytes = b"") -> None: ...


async def answer(gate: Gate, call: Call, request: Asked, sink: Sink) -> None:
    """Serve one call whose key is known. Raises GatewayError while nothing has been sent."""
    call.request = request
    call.model = await find_model(gate, call.key, request.model)
    if (call.model.kind == "embedding") != (request.verb == "embed"):
        raise _other_kind(call)
    if request.terms is not PLAIN:
        call.request, call.shed = fees.shed(gate, request, call.model, call.key.group)
    unfit = translate.unfit(gate, call)
    wanted = (request.output_wanted or 0) * request.choices
    likely = estimate_tokens(0, request.input_bound) + wanted
    own = gate.own_limiter
    if own is not None:
        taken = own.take_now(call.key, likely, call.created_at)
    else:
        taken = await gate.limiter.take(call.key, likely, call.created_at)
    used: int | None = 0
    held: Held | None = None
    try:
        try:
            held = await holds.reserve(gate, call)
            found, cap = order(gate, call, unfit), held.estimate.clamped_output
            tried = await attempt_on(gate, call, found[0], cap)
            attempt = tried if isinstance(tried, Attempt) else await go_on(gate, call, found, tried, cap)
        except BaseException as error:
            await _unopened(gate, call, held, error)
            raise
        used = None
        outlet = _Outlet(call, attempt, sink, _head(call, held, attempt, taken))
        try:
            used = await _deliver(gate, call, held, attempt, outlet)
        finally:
            outlet.over()
    finally:
        gate.give_back(taken, used)


def _other_kind(call: Call) -> GatewayError:
    """Vectors are asked of embedding models alone, and nothing else is."""
    embeds = call.model.kind == "embedding"
    wanted = "POST /v1/embeddings" if embeds else "a route for text, such as POST /v1/chat/completions"
    return GatewayError(
        "invalid_value",
        f"The model {call.model.id!r} is of the kind {call.model.kind!r}; use it with {wanted}.",
        param="model",
        scope="model",
    )


async def _unopened(gate: Gate, call: Call, held: Held | None, error: BaseException) -> None:
    """See to the hold of a call that no channel has answered."""
    if held is None:
        if isinstance(error, asyncio.CancelledError):
            # The hold may be on its way to the disk: its release follows it there.
            gate.finish_later(_undo(gate, call, _left(error)))
    elif isinstance(error, GatewayError):
        with contextlib.suppress(LedgerUnavailable):
            await release(gate, call, held, Ending("upstream", error.status, error.code))
    elif isinstance(call.begun, Attempt):
        # Accepted and not yet answered: who left pays for the input, who is stopped for nothing.
        _end_early(gate, call, held, call.begun, error)
    else:
        gate.finish_later(release(gate, call, held, _left(error)))


async def _undo(gate: Gate, call: Call, ending: Ending) -> None:
    # A hold that was refused is none to release.
    with contextlib.suppress(IllegalOperation):
        await release(gate, call, None, ending)


async def _deliver(gate: Gate, call: Call, held: Held, attempt: Attempt, outlet: _Outlet) -> int:
    """Relay an opened attempt to its end, settle it, then say so. Returns the tokens used."""
    fault: Exception | None = None
    try:
        if attempt.relay.streamed:
            try:
                await outlet.relay(gate.settings.stream_keep_alive)
            except (UpstreamFault, BadAnswer) as error:
                fault = error
                attempt.error = error.kind if isinstance(error, UpstreamFault) else "bad_body"
        attempt.close()
        closed = await settle(gate, call, held, attempt, DELIVERED if fault is None else INTERRUPTED)
    except LedgerUnavailable:
        outlet.fail(holds.unavailable())
        return 0
    except asyncio.CancelledError as cancelled:
        attempt.error = attempt.error or "cancelled"
        ending = _end_early(gate, call, held, attempt, cancelled)
        if ending.error_code == "draining":
            outlet.fail(_stopped())
        raise
    except Exception as error:
        log.exception("%s: the answer could not be relayed", call.id)
        _end_early(gate, call, held, attempt, error)
        outlet.fail(_broken(call))
        return 0
    if fault is not None:
        gate.fault(call.model.id, attempt.candidate.channel.id)
        outlet.fail(_interrupted(closed, attempt, fault))
    else:
        # It holds only channels that are not well, or were not.
        if gate.health:
            gate.health.ok(attempt.candidate.channel.id, call.model.id, now_ms())
        last = attempt.relay.close(_receipt(closed))
        if call.keeper is not None and attempt.relay.answer is not None:
            call.scope = attempt.endpoint.scope
            await _keep(gate, call.keeper(attempt.relay.answer))
        outlet.finish(closed, last)
    return closed.usage.input + closed.usage.output if closed.usage else 0


def _receipt(closed: Closed) -> Receipt:
    usage = closed.usage
    cost, estimated = credits_number(closed.settled.charged), "estimated" in closed.flags
    return Receipt(cost, estimated, usage.input, usage.output) if usage else Receipt(cost, estimated, 0, 0)


def _end_early(gate: Gate, call: Call, held: Held, attempt: Attempt, error: BaseException) -> Ending:
    ending = _left(error)
    if attempt.drains and ending.failed_by == "client":
        gate.finish_later(_drain(gate, call, held, attempt, ending))
    else:
        attempt.close()
        gate.finish_later(settle(gate, call, held, attempt, ending))
    return ending


async def _drain(gate: Gate, call: Call, held: Held, attempt: Attempt, ending: Ending) -> None:
    """Read on for a client that left, from an upstream that bills the whole answer all the same."""
    # A process that stops ends the reading, and never the settlement behind it.
    reading = gate.detach(_read_on(call, attempt))
    await asyncio.wait({reading})
    attempt.close()
    await settle(gate, call, held, attempt, ending)


async def _read_on(call: Call, attempt: Attempt) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await attempt.finish()
    except (UpstreamFault, BadAnswer, TimeoutError) as error:
        log.info("%s: reading on for its usage ended early: %s", call.id, error)


async def _keep(gate: Gate, work: Coroutine[Any, Any, None]) -> None:
    """Store an answer before its client may refer to it, even if the client has just left."""
    try:
        await asyncio.shield(gate.finish_later(work))
    except StoreError as error:
        log.error("an answer could not be stored: %s", error)


def _left(error: BaseException) -> Ending:
    """Who ended a call that was cancelled: its client, or the process that is stopping or broken."""
    if isinstance(error, asyncio.CancelledError) and error.args[:1] == (CLIENT_GONE,):
        return Ending("client", 499, None)
    return Ending(
        "gateway", 503, "draining" if isinstance(error, asyncio.CancelledError) else "internal_error"
    )


def _stopped() -> GatewayError:
    return GatewayError(
        "draining",
        "The gateway is being stopped and could not finish this answer. What was generated is charged; the rest is not.",
        scope="gateway",
        retry_after_ms=1000,
    )


def _broken(call: Call) -> GatewayError:
    return GatewayError(
        "internal_error",
        f"The gateway made a mistake and could not finish this answer. Tell the operator the request id {call.id}.",
        scope="gateway",
    )


def _interrupted(closed: Closed, attempt: Attempt, fault: Exception) -> GatewayError:
    charged = credits_text(closed.settled.charged)
    return GatewayError(
        "stream_interrupted",
        f"The upstream broke off its answer ({_how(attempt, fault)}). "
        f"What had arrived is charged with {charged} credits.",
        scope="upstream",
    )


def _how(attempt: Attempt, fault: Exception) -> str:
    """A fault of the transport by its kind alone; a bad answer in its own words, which may be the upstream's."""
    return fault.kind if isinstance(fault, UpstreamFault) else scrubbed(attempt.endpoint.scrub(str(fault)))


class _Outlet:
    """The client's end of one answer: knows what has been sent, and how to end it well or badly."""

    __slots__ = ("_attempt", "_call", "_carrier", "_carries", "_every", "_head", "_pulse", "_quiet", "_sink")

    _every: float
    _quiet: bool
    _carrier: Carrier | None
    _carries: bool

    def __init__(self, call: Call, attempt: Attempt, sink: Sink, head: bytes) -> None:
        self._call = call
        self._attempt = attempt
        self._sink = sink
        self._head = head
        self._pulse: asyncio.TimerHandle | None = None

    async def relay(self, keep_alive_every: float) -> None:
        """Send what has arrived of a stream and all that follows, but not the end. Raises UpstreamFault, BadAnswer."""
        attempt, sink = self._attempt, self._sink
        sink.start(200, self._head)
        if attempt.waiting:
            sink.write(attempt.waiting)
        self._every, self._quiet = keep_alive_every, False
        self._pulse = asyncio.get_running_loop().call_later(keep_alive_every, self._beat)
        # A usual event is whole and holds no seal that was not in the one it was learnt from: nothing for `watch`.
        self._carries = sink.chunked and attempt.unwrap is None
        self._carrier = attempt.relay.carrier if self._carries else None
        while not attempt.ended:
            if attempt.drains:
                self._pass_on(await attempt.more())
            else:
                await attempt.response.pump(self._take, self._carry)
            await sink.drain()
            if attempt.tally.failed is not None:
                raise BadAnswer(attempt.tally.failed.message)

    def _take(self, chunk: bytes) -> bool:
        """Relay a piece as it arrives; whether to stop for the end, a failure or a slow client."""
        attempt, sink = self._attempt, self._sink
        out = attempt.take(chunk)
        if out:
            self._quiet = False
            sink.write(out)
        if self._carries:
            self._carrier = attempt.relay.carrier
        return attempt.ended or attempt.tally.failed is not None or sink.congested

    def _carry(self, segment: bytes) -> bool | None:
        """Relay chunks that came whole and are usual ones; whether to stop for a slow client, None if they are not usual."""
        carrier, attempt = self._carrier, self._attempt
        if carrier is None or attempt.received > ANSWER_MAX:
            return None
        out = carrier.carry(segment, attempt.tally)
        if not out:
            return None
        self._quiet = False
        attempt.received += len(segment)
        return self._sink.write_framed(out)

    def _pass_on(self, out: bytes) -> None:
        if out:
            self._quiet = False
            self._sink.write(out)

    def _beat(self) -> None:
        """While nothing comes, show the client and what lies between that the connection lives.

        That goes on while the end waits for its settlement: a database may hang for longer than a client waits.
        """
        if self._quiet:
            self._sink.write(self._attempt.relay.keep_alive())
        self._quiet = True
        self._pulse = asyncio.get_running_loop().call_later(self._every, self._beat)

    def over(self) -> None:
        """Nothing more will be sent."""
        if self._pulse is not None:
            self._pulse.cancel()

    def finish(self, closed: Closed, last: bytes) -> None:
        """The end of a good answer, with its bill."""
        if self._attempt.relay.streamed:
            self._sink.end(last)
            return
        settled = closed.settled
        cost, balance = credits_text(settled.charged), credits_text(settled.balance.available)
        bill = f"x-tollway-cost: {cost}\r\nx-tollway-balance: {balance}\r\n"
        self._sink.respond(200, self._head + bill.encode(), last)

    def fail(self, error: GatewayError) -> None:
        """The end of an answer that broke: the dialect's own error, and no success terminator."""
        if self._attempt.relay.streamed:
            self._sink.end(self._attempt.relay.fail(error, self._call.id))
        else:
            raise error


def _head(call: Call, held: Held, attempt: Attempt, taken: Taken) -> bytes:
    clamp = held.estimate.clamped_output
    return b"".join(
        (
            b"content-type: ",
            attempt.relay.content_type,
            b"\r\nx-request-id: ",
            call.id.encode(),
            b"\r\ncache-control: private, no-store\r\nx-tollway-model: ",
            call.model.id.encode(),
            b"\r\nx-tollway-attempts: %d\r\n" % attempt.n,
            b"x-tollway-max-tokens: %d\r\n" % clamp if clamp is not None else b"",
            b"x-accel-buffering: no\r\n" if attempt.relay.streamed else b"",
            _dropped(attempt.dropped) if attempt.dropped else b"",
            taken.headers,
        )
    )


def _dropped(losses: tuple[str, ...]) -> bytes:
    """What the upstream was not told, by field; the attempt's record has the reasons."""
    names = ", ".join(dict.fromkeys(loss.partition(":")[0] for loss in losses))
    shown = "".join(char for char in names[:DROPPED_MAX] if char.isascii() and char.isprintable())
    return b"x-tollway-dropped: %b\r\n" % shown.encode()
