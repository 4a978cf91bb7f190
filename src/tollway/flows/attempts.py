"""Sending a call upstream until one channel answers with content: attempts, failover and health.

An attempt is opened when its first content is here. Until then nothing of it reaches the client,
so that an error, an HTML page or an empty stream can still become another channel's answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tollway.core.billing.meters import meters_of
from tollway.core.billing.pricing import cost
from tollway.core.errors import GatewayError
from tollway.core.exchange import Usage
from tollway.core.relay import BadAnswer, Relay
from tollway.core.routing.choose import NO_CHANNELS, Candidate, Wish, candidates
from tollway.core.routing.failover import Terms, Wait, Waited, failover
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
        "prepared",
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
        self.prepared = prepared
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
            chunk = await self.next_piece()
        return self.take(chunk)

    def next_piece(self) -> Coroutine[Any, Any, bytes]:
        """Wait for what comes next of the answer, b"" being its end. Raises UpstreamFault."""
        return self._read_shielded() if self.drains else self.response.read_some()

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

    def held_back_enough(self) -> bool:
        """Whether the beginning of a stream without content has been held back for as long as it may be.

        It thinks where nobody may look. Whoever waits is shown that something is going on.
        """
        if not self.received or self.first_at is None:
            return False
        return self.received > HELD_BACK_MAX or now_ms() - self.first_at > HELD_BACK_MS

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
        route, began, first_at = self.candidate.route, self.began, self.first_at
        # In the order of the fields: see HoldRequest.
        return AttemptRecord(
            call_id,
            self.n,
            route.channel_id,
            route.upstream_model,
            self.status,
            self.error,
            now - began,
            None if first_at is None else first_at - began,
            _cost(self.tally.usage, route.cost) if route.cost else None,
            began,
            self.dropped,
        )


def _cost(usage: Usage | None, rates: dict[str, int]) -> int | None:
    # Before its end an answer may tell what its tools did and nothing of tokens.
    if usage is None or not (usage.input or usage.output):
        return None
    return cost(meters_of(usage, rates), rates)


def order(gate: Gate, call: Call, unfit: frozenset[str]) -> list[Candidate]:
    """The channels to try, best first; never empty. `unfit`: ids of channels that cannot serve this call.

    Raises GatewayError where there is none.
    """
    model, native, now = call.model, call.request.native, call.created_at
    # Of one channel there is no order.
    near, dice = NO_CHANNELS, random.random
    if len(model.routes) > 1 or native is None:
        near, dice = translate.affinity(gate, call), _dice(call)
    wish = Wish(call.key.group, native, near, unfit)
    found = candidates(model, gate.catalogue, wish, health=gate.health, now=now, dice=dice)
    gate.retries.called(now)
    return found


async def go_on(
    gate: Gate, call: Call, found: list[Candidate], outcome: Fault | Waited, output_cap: int | None
) -> Attempt:
    """Try channels until one answers, the first having failed: only now is a plan needed.

    Raises GatewayError when none does; the call has a record of each that failed.
    """
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
            continue
        tried = await attempt_on(gate, call, step, output_cap)
        if isinstance(tried, Attempt):
            return tried
        outcome = tried


async def _without_seals(gate: Gate, call: Call, candidate: Candidate, output_cap: int | None) -> Attempt:
    """Ask once more, without what no account knows any more, as after a change of account. Raises GatewayError."""
    tried = await attempt_on(gate, call, candidate, output_cap, prepare=translate.prepare_unsealed)
    if isinstance(tried, Fault):
        raise upstream_error(tried, len(call.attempts))
    return tried


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


async def attempt_on(
    gate: Gate, call: Call, candidate: Candidate, output_cap: int | None, *, prepare: Prepare | None = None
) -> Attempt | Fault:
    """One attempt: it, if it opened, with a record of it if it did not."""
    attempt = _at_home(gate, call, candidate, output_cap) if prepare is None else None
    if attempt is None:
        found = await _made(gate, call, candidate, output_cap, prepare or translate.prepare)
        if isinstance(found, Fault):
            return found
        attempt = found
    # One coroutine from here to the transport: each that lies between is run through whenever something arrives.
    try:
        upstream = attempt.prepared.request(call, attempt.endpoint, candidate.route.upstream_model)
        if attempt.endpoint.authorise is not None:
            upstream = await attempt.endpoint.authorise(upstream)
        attempt.response = response = await gate.transport.send(upstream)
        attempt.status = response.status
        attempt.first_at = arrived_at = now_ms()
        if response.status == 200:
            _accept(attempt, response, streamed=call.request.stream)
            tally, waiting, streamed = attempt.tally, [], attempt.relay.streamed
            while True:
                chunk = response.arrived()
                if chunk is None:
                    chunk = await attempt.next_piece()
                    arrived_at = now_ms()
                waiting.append(attempt.take(chunk))
                if tally.size or attempt.ended or tally.failed or (streamed and attempt.held_back_enough()):
                    break
            fault = _begin(attempt, waiting, arrived_at)
        else:
            fault = await _refusal(call, attempt)
    except (UpstreamFault, BadAnswer) as error:
        fault = _fault(call, attempt, error)
    except BaseException:
        _cut(gate, call, attempt)
        raise
    return attempt if fault is None else _failed(gate, call, attempt, fault)


def _at_home(gate: Gate, call: Call, candidate: Candidate, output_cap: int | None) -> Attempt | None:
    """An attempt to make at once, as most are; None where `_made` has more to think about."""
    endpoint = gate.endpoints.get(candidate.channel.id)
    if endpoint is None or candidate.probe:
        return None
    prepared = translate.at_home(call, candidate, output_cap)
    return None if prepared is None else _ready(gate, call, candidate, endpoint, prepared)


async def _made(
    gate: Gate, call: Call, candidate: Candidate, output_cap: int | None, prepare: Prepare
) -> Attempt | Fault:
    """An attempt to make, whatever it takes to say the call to the channel. Raises GatewayError."""
    endpoint = gate.endpoints.get(candidate.channel.id)
    prepared = None
    try:
        if endpoint is None:
            return Fault("connect", now_ms(), message="the channel's address or credential is unusable")
        prepared = await prepare(gate, call, candidate, endpoint, output_cap)
    except GatewayError as error:
        if error.code != "unsupported_parameter":
            raise
        # Found out late, because a channel of the client's own dialect came first.
        return Fault("unfit", now_ms(), message=error.message)
    finally:
        if prepared is None and candidate.probe:
            # Nothing was sent, so the next call may be the channel's test.
            gate.health.release(candidate.channel.id, call.model.id)
    return _ready(gate, call, candidate, endpoint, prepared)


def _ready(gate: Gate, call: Call, candidate: Candidate, endpoint: Endpoint, prepared: Prepared) -> Attempt:
    attempt = Attempt(len(call.attempts) + 1, candidate, endpoint, prepared)
    if call.request.verb == "embed":
        attempt.tally.generates = False
    if len(call.model.routes) > 1 and candidate.channel.dialect == call.request.native:
        attempt.watch = Watch(gate.makers, endpoint.scope)
    return attempt


def _fault(call: Call, attempt: Attempt, error: UpstreamFault | BadAnswer) -> Fault:
    if isinstance(error, BadAnswer):
        return Fault("bad_body", now_ms(), message=str(error))
    # Its words name hosts and addresses, which are the operator's business and not the caller's.
    name = attempt.candidate.channel.name
    log.info("%s: attempt %d on %s failed: %s", call.id, attempt.n, name, error)
    return Fault(error.kind, now_ms(), attempt.status)


async def _refusal(call: Call, attempt: Attempt) -> Fault:
    fault = await refusals.read(attempt.response, attempt.endpoint.dialect)
    # A prompt may speak of signatures too.
    return fault if fault.kind != "seal" or translate.sealed(call) else fault._replace(kind="status")


def _accept(attempt: Attempt, response: UpstreamResponse, *, streamed: bool) -> None:
    """An upstream has taken the call on. Raises BadAnswer where what it sends cannot be its answer."""
    attempt.tally.accepted = True
    endpoint = attempt.endpoint
    kind = response.header(b"content-type") or b""
    if streamed:
        attempt.unwrap = endpoint.unwrapper(kind, stream=True)
    if kind.startswith(WRONG_KINDS):
        raise BadAnswer(f"it answered with {kind[:60].decode('latin-1')}, not with {endpoint.dialect}")
    if attempt.relay.streamed and kind.startswith(b"application/json"):
        raise BadAnswer("it answered with one JSON object where a stream was asked for")


def _begin(attempt: Attempt, waiting: list[bytes], arrived_at: int) -> Fault | None:
    """What is wrong with the beginning of an answer, all of which is here since `arrived_at`; None if nothing is."""
    tally = attempt.tally
    if tally.failed:
        return refusals.in_band(tally.failed)
    if attempt.ended and not tally.size and tally.empty():
        return Fault("empty", now_ms(), message="it generated nothing")
    tally.first_at = arrived_at
    attempt.waiting = b"".join(waiting)
    return None


def _cut(gate: Gate, call: Call, attempt: Attempt) -> None:
    """Whatever ends an attempt early, even a client that left, leaves a record and no connection."""
    attempt.error = "cancelled"
    gate.health.release(attempt.candidate.channel.id, call.model.id)
    if attempt.tally.accepted:
        # The upstream has begun to work for a client that left: that is settled, recorded
        # and closed, or read to its end, there.
        call.begun = attempt
    else:
        attempt.close()
        call.attempts.append(attempt.record(call.id, now_ms()))


def _failed(gate: Gate, call: Call, attempt: Attempt, fault: Fault) -> Fault:
    """Record and close an attempt that failed. Returns its fault, in words for the caller."""
    attempt.error = f"status {fault.status}" if fault.kind == "status" else fault.kind
    attempt.close()
    call.attempts.append(attempt.record(call.id, now_ms()))
    _blame(gate, call, attempt, fault)
    return fault._replace(message=fault.message and _clean(attempt, fault.message))


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
