"""A text answer, whole or streamed: admit, hold, send, relay, settle, record.

The one order that matters: the ledger has the settlement before the client has the end of the
answer. Whatever happens in between (an upstream that breaks, a client that leaves, a process told
to stop), the hold is closed exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from tollway.core.access.limits import rate_headers
from tollway.core.billing.money import credits_number, credits_text
from tollway.core.billing.pricing import estimate_tokens
from tollway.core.dialects.openai_chat import check
from tollway.core.errors import GatewayError
from tollway.core.relay import BadAnswer, Receipt
from tollway.core.routing.faults import scrubbed
from tollway.flows import holds
from tollway.flows.admit import find_model
from tollway.flows.attempts import Attempt, open_attempt
from tollway.flows.call import Call
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.holds import Held
from tollway.flows.settle import Closed, Ending, release, settle
from tollway.store.base import IllegalOperation, LedgerUnavailable
from tollway.store.limiter import Taken
from tollway.upstream.transport import UpstreamFault

CLIENT_GONE: Final = "client gone"
"""The message of the cancellation by which the server tells that nobody is listening any more."""


class Sink(Protocol):
    """Where an answer goes. `respond` sends one whole; `start`, `write` and `end` send one in pieces."""

    def respond(self, status: int, headers: bytes, body: bytes) -> None: ...
    def start(self, status: int, headers: bytes) -> None: ...
    def write(self, chunk: bytes) -> None: ...
    async def drain(self) -> None: ...
    def end(self, last: bytes = b"") -> None: ...


async def answer(gate: Gate, call: Call, body: bytes, sink: Sink) -> None:
    """Serve one call whose key is known. Raises GatewayError while nothing has been sent."""
    request = call.request = check.read(body)
    call.model = await find_model(gate, call.key, request.model)
    wanted = (request.output_wanted or 0) * request.choices
    likely = estimate_tokens(0, request.input_bound) + wanted
    taken = await gate.limiter.take(call.key, likely, call.created_at)
    used: int | None = 0
    try:
        held = await _hold(gate, call)
        attempt = await _open(gate, call, held)
        used = None
        used = await _deliver(gate, call, held, attempt, _Outlet(call, held, attempt, sink, taken))
    finally:
        gate.give_back(taken, used)


async def _hold(gate: Gate, call: Call) -> Held:
    try:
        return await holds.reserve(gate, call)
    except asyncio.CancelledError as cancelled:
        # The hold may be on its way to the disk: its release follows it there.
        gate.finish_later(_undo(gate, call, _left(cancelled)))
        raise


async def _undo(gate: Gate, call: Call, ending: Ending) -> None:
    # A hold that was refused is none to release.
    with contextlib.suppress(IllegalOperation):
        await release(gate, call, None, ending)


async def _open(gate: Gate, call: Call, held: Held) -> Attempt:
    try:
        return await open_attempt(gate, call, held.estimate.clamped_output)
    except GatewayError as error:
        with contextlib.suppress(LedgerUnavailable):
            await release(gate, call, held, Ending("upstream", error.status, error.code))
        raise
    except BaseException as error:
        gate.finish_later(release(gate, call, held, _left(error)))
        raise


async def _deliver(gate: Gate, call: Call, held: Held, attempt: Attempt, outlet: _Outlet) -> int:
    """Relay an opened attempt to its end, settle it, then say so. Returns the tokens used."""
    fault: Exception | None = None
    try:
        try:
            await outlet.relay(gate.settings.stream_keep_alive)
        except (UpstreamFault, BadAnswer) as error:
            fault = error
            attempt.error = error.kind if isinstance(error, UpstreamFault) else "bad_body"
        attempt.close()
        ending = Ending("upstream", 502, "stream_interrupted") if fault else Ending("none", 200)
        closed = await settle(gate, call, held, attempt, ending)
    except LedgerUnavailable:
        outlet.fail(holds.unavailable())
        return 0
    except BaseException as error:
        attempt.error = attempt.error or "cancelled"
        attempt.close()
        ending = _left(error)
        gate.finish_later(settle(gate, call, held, attempt, ending))
        if ending.error_code == "draining":
            outlet.fail(_stopped())
        # A mistake of ours goes on to where it is logged; it must not pass for a stop.
        raise
    if fault is not None:
        gate.fault(call.model.id, attempt.candidate.channel.id)
        outlet.fail(_interrupted(closed, attempt, fault))
    else:
        gate.health.ok(attempt.candidate.channel.id, call.model.id, now_ms())
        outlet.finish(closed)
    return closed.usage.input + closed.usage.output if closed.usage else 0


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

    __slots__ = ("_attempt", "_call", "_every", "_head", "_pulse", "_quiet", "_sink")

    def __init__(self, call: Call, held: Held, attempt: Attempt, sink: Sink, taken: Taken) -> None:
        self._call = call
        self._attempt = attempt
        self._sink = sink
        self._head = _head(call, held, attempt, taken)
        self._pulse: asyncio.TimerHandle | None = None
        self._quiet = False
        self._every = 0.0

    async def relay(self, keep_alive_every: float) -> None:
        """Send what has arrived and all that follows, up to but without the end. Raises UpstreamFault, BadAnswer."""
        attempt, sink = self._attempt, self._sink
        if not attempt.relay.streamed:
            return
        sink.start(200, self._head)
        if attempt.waiting:
            sink.write(attempt.waiting)
        self._every = keep_alive_every
        self._pulse = asyncio.get_running_loop().call_later(keep_alive_every, self._beat)
        try:
            while not attempt.ended:
                out = await attempt.more()
                if out:
                    self._quiet = False
                    sink.write(out)
                    await sink.drain()
                if attempt.tally.failed is not None:
                    raise BadAnswer(attempt.tally.failed.message)
        finally:
            self._pulse.cancel()

    def _beat(self) -> None:
        """While nothing comes, show the client and what lies between that the connection lives."""
        if self._quiet:
            self._sink.write(self._attempt.relay.keep_alive())
        self._quiet = True
        self._pulse = asyncio.get_running_loop().call_later(self._every, self._beat)

    def finish(self, closed: Closed) -> None:
        """The end of a good answer, with its bill."""
        settled, usage = closed.settled, closed.usage
        receipt = Receipt(
            cost=credits_number(settled.charged),
            estimated="estimated" in closed.flags,
            input=usage.input if usage else 0,
            output=usage.output if usage else 0,
        )
        last = self._attempt.relay.close(receipt)
        if self._attempt.relay.streamed:
            self._sink.end(last)
            return
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
            rate_headers(taken.verdicts) if taken.verdicts else b"",
        )
    )
