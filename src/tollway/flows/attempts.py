"""Sending a call upstream until one channel answers with content: attempts, failover and health.

An attempt is opened when its first content is here. Until then nothing of it reaches the client,
so that an error, an HTML page or an empty stream can still become another channel's answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from email.utils import parsedate_to_datetime
from typing import Final

from tollway.core.billing.meters import meters_of
from tollway.core.billing.pricing import cost
from tollway.core.dialects.openai_chat.errors_native import error_of, retry_hint
from tollway.core.dialects.openai_chat.native import NativeStream, NativeWhole
from tollway.core.exchange import Failed
from tollway.core.relay import BadAnswer, Relay
from tollway.core.routing.choose import Candidate, Wish, candidates
from tollway.core.routing.failover import Ok, Terms, Wait, Waited, failover
from tollway.core.routing.faults import Fault, blames_channel, scrubbed, upstream_error
from tollway.flows.call import DIALECT, Call, Tally
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.store.base import AttemptRecord
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import UpstreamFault, UpstreamResponse

log: Final = logging.getLogger("tollway.attempts")

ERROR_BODY_MAX: Final = 64 * 1024
WRONG_KINDS: Final = (b"text/html", b"text/plain", b"application/xml", b"text/xml")


class Attempt:
    """One send to one channel. `waiting` holds bytes for the client that came before the first content."""

    __slots__ = (
        "began",
        "candidate",
        "ended",
        "endpoint",
        "error",
        "first_at",
        "n",
        "relay",
        "response",
        "status",
        "tally",
        "waiting",
    )

    response: UpstreamResponse

    def __init__(self, n: int, candidate: Candidate, endpoint: Endpoint, relay: Relay, began: int) -> None:
        self.n = n
        self.candidate = candidate
        self.endpoint = endpoint
        self.relay = relay
        self.began = began
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
            chunk = await self.response.read_some()
        if chunk:
            fed = self.relay.feed(chunk)
        else:
            self.ended = True
            fed = self.relay.end()
        if fed.events:
            self.tally.see(fed.events)
        return fed.out

    def close(self) -> None:
        """Let go of the upstream; cuts the connection if the answer is not complete."""
        if self.status:
            self.response.close()

    def record(self, call_id: str, now: int) -> AttemptRecord:
        """The attempt as it will be remembered. Its cost is known where the upstream reported usage."""
        rates, usage = self.candidate.route.cost, self.tally.usage
        known = rates is not None and usage is not None
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
        )


async def open_attempt(gate: Gate, call: Call, output_cap: int | None) -> Attempt:
    """Try channels until one answers. Raises GatewayError when none does; the call has a record of each that failed."""
    wish = Wish(call.key.group, DIALECT)
    found = candidates(
        call.model, gate.catalogue, wish, health=gate.health, now=call.created_at, dice=random.random
    )
    gate.retries.called(call.created_at)
    outcome, attempt = await _try(gate, call, found[0], output_cap)
    if attempt is not None:
        return attempt
    # Only now is a plan needed; it begins with what has just been tried.
    plan = failover(found, _terms(gate, call))
    step = next(plan)
    while True:
        try:
            step = plan.send(outcome)
        except StopIteration as end:
            raise end.value from None
        if isinstance(step, Wait):
            await asyncio.sleep(step.ms / 1000)
            outcome = Waited(now_ms())
        else:
            outcome, attempt = await _try(gate, call, step, output_cap)
            if attempt is not None:
                return attempt


def _terms(gate: Gate, call: Call) -> Terms:
    return Terms(
        deadline=call.created_at + int(gate.settings.total_timeout * 1000),
        may_retry=gate.retries.may_retry,
        explain=upstream_error,
    )


async def _try(
    gate: Gate, call: Call, candidate: Candidate, output_cap: int | None
) -> tuple[Ok | Fault | Waited, Attempt | None]:
    """One attempt: its outcome, and the attempt itself if it opened."""
    endpoint = gate.endpoints.get(candidate.channel.id)
    if endpoint is None:
        return Fault("connect", now_ms(), message="the channel's address or credential is unusable"), None
    attempt = _prepare(call, candidate, endpoint)
    outcome = await _run(gate, call, attempt, output_cap)
    return outcome, attempt if isinstance(outcome, Ok) else None


def _prepare(call: Call, candidate: Candidate, endpoint: Endpoint) -> Attempt:
    request, name = call.request, call.model.id
    relay: Relay = (
        NativeStream(name, include_usage=request.include_usage) if request.stream else NativeWhole(name)
    )
    return Attempt(len(call.attempts) + 1, candidate, endpoint, relay, now_ms())


async def _run(gate: Gate, call: Call, attempt: Attempt, output_cap: int | None) -> Ok | Fault:
    """Send once, and read until content, the end or a fault."""
    fault: Fault | None = None
    opened = False
    try:
        fault = await _send(gate, call, attempt, output_cap)
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
            attempt.close()
            attempt.error = _label(fault)
            call.attempts.append(attempt.record(call.id, now_ms()))
            if fault is None:
                gate.health.release(attempt.candidate.channel.id, call.model.id)
    if fault is None:
        return Ok()
    _blame(gate, call, attempt, fault)
    return fault._replace(message=fault.message and _clean(attempt, fault.message))


async def _send(gate: Gate, call: Call, attempt: Attempt, output_cap: int | None) -> Fault | None:
    request = call.request
    body = request.body(attempt.candidate.route.upstream_model, output_cap)
    upstream = attempt.endpoint.chat(body, call.id, stream=request.stream)
    attempt.response = response = await gate.transport.send(upstream)
    attempt.status = response.status
    attempt.first_at = now_ms()
    if response.status != 200:
        return await _refusal(attempt)
    attempt.tally.accepted = True
    kind = response.header(b"content-type") or b""
    if kind.startswith(WRONG_KINDS):
        raise BadAnswer(f"it answered with {kind[:60].decode('latin-1')}, not with {DIALECT}")
    if attempt.relay.streamed and kind.startswith(b"application/json"):
        raise BadAnswer("it answered with one JSON object where a stream was asked for")
    tally, waiting = attempt.tally, []
    while not (tally.size or attempt.ended or tally.failed):
        waiting.append(await attempt.more())
    if tally.failed:
        return _in_band(tally.failed)
    if attempt.ended and tally.empty():
        return Fault("empty", now_ms(), message="it generated nothing")
    tally.first_at = now_ms()
    attempt.waiting = b"".join(waiting)
    return None


async def _refusal(attempt: Attempt) -> Fault:
    """What an upstream's non-200 means: its own words, and when it wants to be asked again."""
    response = attempt.response
    body = await response.read_all(ERROR_BODY_MAX)
    code, message = error_of(body)
    now = now_ms()
    hint = _retry_after(response.header(b"retry-after-ms"), response.header(b"retry-after"), now)
    return Fault(
        "status",
        now,
        response.status,
        retry_after_ms=retry_hint(body) if hint is None else hint,
        code=code,
        message=message,
    )


def _in_band(failed: Failed) -> Fault:
    code = failed.kind
    status = int(code) if code.isascii() and code.isdigit() and 400 <= int(code) < 600 else 0
    return Fault("in_band", now_ms(), status, code=code, message=failed.message)


def _retry_after(milliseconds: bytes | None, header: bytes | None, now: int) -> int | None:
    """`retry-after-ms`, else `Retry-After` in seconds or as a date, in milliseconds."""
    for text, scale in ((milliseconds, 1), (header, 1000)):
        if text is not None and text.strip().replace(b".", b"", 1).isdigit():
            return int(float(text) * scale)
    if header is None:
        return None
    try:
        return max(0, int(parsedate_to_datetime(header.decode("latin-1")).timestamp() * 1000) - now)
    except (ValueError, OverflowError):
        return None


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
