"""Sending a call upstream until one channel answers with content: attempts, failover and health.

An attempt is opened when its first content is here. Until then nothing of it reaches the client,
so that an error, an HTML page or an empty stream can still become another channel's answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tollway.core.billing.meters import meters_of
from tollway.core.billing.pricing import cost
from tollway.core.errors import GatewayError
from tollway.core.relay import BadAnswer, Relay
from tollway.core.routing.choose import Candidate, Wish, candidates
from tollway.core.routing.failover import Ok, Terms, Wait, Waited, failover
from tollway.core.routing.faults import Fault, blames_channel, scrubbed, upstream_error
from tollway.flows import refusals, translate
from tollway.flows.call import Call, Tally
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.flows.makers import Watch
from tollway.flows.translate import Prepared
from tollway.store.base import AttemptRecord
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import UpstreamFault, UpstreamResponse

log: Final = logging.getLogger("tollway.attempts")

HELD_BACK_MS: Final = 10_000
"""How long the beginning of a stream without content is held back, in the hope of failing over."""
HELD_BACK_MAX: Final = 1024 * 1024
"""How many bytes of it are."""
ANSWER_MAX: Final = 256 * 1024 * 1024
"""Bytes of the largest answer: what is told at the end of one is made of all of it, and is kept until then."""
Prepare = Callable[[Gate, Call, Candidate, Endpoint, int | None], Awaitable[Prepared]]

WRONG_KINDS: Final = (b"text/html", b"text/plain", b"application/xml", b"text/xml")


class Attempt:
    """One send to one channel. `waiting` holds bytes for the client that came before the first content."""

    __slots__ = (
        "_reading",
        "began",
        "candidate",
        "drains",
        "dropped",
        "ended",
        "endpoint",
        "error",
        "first_at",
        "n",
        "received",
        "relay",
        "response",
        "status",
        "tally",
        "unwrap",
        "waiting",
        "watch",
    )

    response: UpstreamResponse

    def __init__(self, n: int, candidate: Candidate, endpoint: Endpoint, prepared: Prepared) -> None:
        self.n = n
        self.candidate = candidate
        self.endpoint = endpoint
        self.relay: Relay = prepared.relay
        self.dropped = prepared.dropped
        self.began = now_ms()
        self.watch: Watch | None = None
        self.unwrap: Callable[[bytes], bytes] | None = None
        self.drains = candidate.channel.options.get("bills_after_cancel") == 1
        self._reading: asyncio.Task[bytes] | None = None
        self.received = 0
        self.tally = Tally()
        self.status = 0
        self.error: str | None = None
        self.first_at: int | None = None
        self.ended = False
        self.waiting = b""

    async def more(self) -> bytes:
        """Read on: bytes for the client, after the tally has seen what they meant. Raises UpstreamFault, BadAnswer."""
        chunk = self.response.arrived()
        if chunk is None:
            chunk = await (self._read_shielded() if self.drains else self.response.read_some())
        return self.take(chunk)

    def take(self, chunk: bytes) -> bytes:
        """Bytes for the client that a piece of the answer becomes, b"" being its end. Raises BadAnswer."""
        if chunk:
            self.received += len(chunk)
            if self.received > ANSWER_MAX:
                raise BadAnswer(f"its answer is larger than {ANSWER_MAX} bytes")
            if self.unwrap is not None:
                chunk = self.unwrap(chunk)
            if self.watch is not None:
                self.watch.see(chunk)
            fed = self.relay.feed(chunk)
        else:
            self.ended = True
            fed = self.relay.end()
        if fed.events:
            self.tally.see(fed.events)
        return fed.out

    async def _read_shielded(self) -> bytes:
        """Read so that a client who leaves does not cut the upstream: it is read to its end all the same."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self.response.read_some())
        chunk = await asyncio.shield(self._reading)
        self._reading = None
        return chunk

    async def finish(self) -> None:
        """Read the rest for what it counts. Raises UpstreamFault, BadAnswer."""
        while not (self.ended or self.tally.failed):
            await self.more()

    def close(self) -> None:
        """Let go of the upstream; cuts the connection if the answer is not complete."""
        if self._reading is not None:
            self._reading.cancel()
        if self.status:
            self.response.close()

    def record(self, call_id: str, now: int) -> AttemptRecord:
        """The attempt as it will be remembered. Its cost is known where the upstream reported usage."""
        rates, usage = self.candidate.route.cost, self.tally.usage
        # Before its end an answer may tell what its tools did and nothing of tokens.
        known = rates is not None and usage is not None and (usage.input > 0 or usage.output > 0)
        return AttemptRecord(
            call_id=call_id,
            n=self.n,
            channel_id=self.candidate.channel.id,
            upstream_model=self.candidate.route.upstream_model,
            status=self.status,
            error=self.error,
            latency_ms=now - self.began,
            first_byte_ms=None if self.first_at is None else self.first_at - self.began,
            cost=cost(meters_of(usage, rates), rates) if known and rates and usage else None,
            created_at=self.began,
            dropped=self.dropped,
        )


async def open_attempt(gate: Gate, call: Call, output_cap: int | None, unfit: frozenset[str]) -> Attempt:
    """Try channels until one answers. `unfit`: ids of channels that cannot serve this call.

    Raises GatewayError when none does; the call has a record of each that failed.
    """
    wish = Wish(call.key.group, call.request.native, translate.affinity(gate, call), unfit)
    found = candidates(
        call.model, gate.catalogue, wish, health=gate.health, now=call.created_at, dice=_dice(call)
    )
    gate.retries.called(call.created_at)
    outcome, attempt = await _try(gate, call, found[0], output_cap)
    if attempt is not None:
        return attempt
    # Only now is a plan needed; it begins with what has just been tried.
    plan = failover(found, _terms(gate, call))
    step = next(plan)
    unsigned = None
    while True:
        if unsigned is None and isinstance(outcome, Fault) and outcome.kind == "seal":
            unsigned = step
        try:
            step = plan.send(outcome)
        except StopIteration as end:
            if isinstance(unsigned, Candidate):
                return await _without_seals(gate, call, unsigned, output_cap)
            raise end.value from None
        if isinstance(step, Wait):
            await asyncio.sleep(step.ms / 1000)
            outcome = Waited(now_ms())
        else:
            outcome, attempt = await _try(gate, call, step, output_cap)
            if attempt is not None:
                return attempt


async def _without_seals(gate: Gate, call: Call, candidate: Candidate, output_cap: int | None) -> Attempt:
    """Ask once more, without what no account knows any more, as after a change of account. Raises GatewayError."""
    outcome, attempt = await _try(gate, call, candidate, output_cap, prepare=translate.prepare_unsealed)
    if attempt is None:
        assert isinstance(outcome, Fault), "what is no attempt has failed"
        raise upstream_error(outcome, len(call.attempts))
    return attempt


def _dice(call: Call) -> Callable[[], float]:
    """Dice for the order among equals: the same for all calls of a session, which share a prompt cache."""
    if len(call.model.routes) > 1:
        session = call.session or call.request.session
        if session:
            return random.Random(f"{call.key.id} {session}").random
    return random.random


def _terms(gate: Gate, call: Call) -> Terms:
    return Terms(
        deadline=call.created_at + int(gate.settings.total_timeout * 1000),
        may_retry=gate.retries.may_retry,
        explain=upstream_error,
    )


async def _try(
    gate: Gate,
    call: Call,
    candidate: Candidate,
    output_cap: int | None,
    *,
    prepare: Prepare = translate.prepare,
) -> tuple[Ok | Fault | Waited, Attempt | None]:
    """One attempt: its outcome, and the attempt itself if it opened."""
    endpoint = gate.endpoints.get(candidate.channel.id)
    prepared = None
    try:
        if endpoint is None:
            return Fault("connect", now_ms(), message="the channel's address or credential is unusable"), None
        prepared = await prepare(gate, call, candidate, endpoint, output_cap)
    except GatewayError as error:
        if error.code != "unsupported_parameter":
            raise
        # Found out late, because a channel of the client's own dialect came first.
        return Fault("unfit", now_ms(), message=error.message), None
    finally:
        if prepared is None and candidate.probe:
            # Nothing was sent, so the next call may be the channel's test.
            gate.health.release(candidate.channel.id, call.model.id)
    attempt = Attempt(len(call.attempts) + 1, candidate, endpoint, prepared)
    attempt.tally.generates = call.request.verb != "embed"
    if len(call.model.routes) > 1 and attempt.candidate.channel.dialect == call.request.native:
        attempt.watch = Watch(gate.makers, endpoint.scope)
    outcome = await _run(gate, call, attempt, prepared)
    return outcome, attempt if isinstance(outcome, Ok) else None


async def _run(gate: Gate, call: Call, attempt: Attempt, prepared: Prepared) -> Ok | Fault:
    """Send once, and read until content, the end or a fault."""
    fault: Fault | None = None
    opened = False
    try:
        fault = await _send(gate, call, attempt, prepared)
        opened = fault is None
    except UpstreamFault as error:
        # Its words name hosts and addresses, which are the operator's business and not the caller's.
        log.info("%s: attempt %d on %s failed: %s", call.id, attempt.n, attempt.candidate.channel.name, error)
        fault = Fault(error.kind, now_ms(), attempt.status)
    except BadAnswer as error:
        fault = Fault("bad_body", now_ms(), message=str(error))
    finally:
        # Whatever ends an attempt early, even a client that left, leaves a record and no connection.
        if not opened:
            attempt.error = _label(fault)
            if fault is None:
                gate.health.release(attempt.candidate.channel.id, call.model.id)
            if fault is None and attempt.tally.accepted:
                # The upstream has begun to work for a client that left: that is settled, recorded
                # and closed, or read to its end, there.
                call.begun = attempt
            else:
                attempt.close()
                call.attempts.append(attempt.record(call.id, now_ms()))
    if fault is None:
        return Ok()
    _blame(gate, call, attempt, fault)
    return fault._replace(message=fault.message and _clean(attempt, fault.message))


async def _send(gate: Gate, call: Call, attempt: Attempt, prepared: Prepared) -> Fault | None:
    endpoint, streamed = attempt.endpoint, call.request.stream
    upstream = prepared.request(call, endpoint, attempt.candidate.route.upstream_model)
    if endpoint.authorise is not None:
        upstream = await endpoint.authorise(upstream)
    attempt.response = response = await gate.transport.send(upstream)
    attempt.status = response.status
    attempt.first_at = now_ms()
    if response.status != 200:
        fault = await refusals.read(response, endpoint.dialect)
        # A prompt may speak of signatures too.
        return fault if fault.kind != "seal" or translate.sealed(call) else fault._replace(kind="status")
    attempt.tally.accepted = True
    kind = response.header(b"content-type") or b""
    attempt.unwrap = endpoint.unwrapper(kind, stream=streamed)
    _refuse_wrong_kind(kind, endpoint.dialect, streamed=attempt.relay.streamed)
    tally, waiting = attempt.tally, []
    while not (tally.size or attempt.ended or tally.failed):
        waiting.append(await attempt.more())
        if attempt.relay.streamed and (
            attempt.received > HELD_BACK_MAX or now_ms() - attempt.first_at > HELD_BACK_MS
        ):
            # It thinks where nobody may look. Whoever waits is shown that something is going on.
            break
    if tally.failed:
        return refusals.in_band(tally.failed)
    if attempt.ended and tally.empty():
        return Fault("empty", now_ms(), message="it generated nothing")
    tally.first_at = now_ms()
    attempt.waiting = b"".join(waiting)
    return None


def _refuse_wrong_kind(kind: bytes, dialect: str, *, streamed: bool) -> None:
    if kind.startswith(WRONG_KINDS):
        raise BadAnswer(f"it answered with {kind[:60].decode('latin-1')}, not with {dialect}")
    if streamed and kind.startswith(b"application/json"):
        raise BadAnswer("it answered with one JSON object where a stream was asked for")


def _blame(gate: Gate, call: Call, attempt: Attempt, fault: Fault) -> None:
    if not blames_channel(fault):
        # The channel answered sensibly: the request was at fault.
        gate.health.ok(attempt.candidate.channel.id, call.model.id, fault.now)
    else:
        gate.health.fault(
            attempt.candidate.channel.id,
            call.model.id,
            fault.now,
            dice=random.random(),
            retry_after_ms=fault.retry_after_ms,
        )


def _clean(attempt: Attempt, message: str) -> str:
    return scrubbed(attempt.endpoint.scrub(message))


def _label(fault: Fault | None) -> str:
    if fault is None:
        return "cancelled"
    return f"status {fault.status}" if fault.kind == "status" else fault.kind
