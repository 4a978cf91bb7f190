"""Counting a request's input tokens ahead of a call, for any model: by its upstream, or by our own estimate.

Nothing is charged. Upstreams that can count are asked; where none can, or none answers, bytes tell.
"""

from __future__ import annotations

import logging
import random
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.billing.pricing import estimate_tokens
from tollway.core.dialects.checked import media_of
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import DialectName, Request
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer
from tollway.core.routing.choose import Candidate, Wish, candidates
from tollway.flows import targets
from tollway.flows.admit import find_model
from tollway.flows.call import Call
from tollway.flows.gate import Gate
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import UpstreamFault

log: Final = logging.getLogger("tollway.count")

ANSWER_MAX: Final = 64 * 1024
MEDIA_TOKENS: Final = 1_500
"""What an image or a page is taken for in an estimate, which need not be a bound."""


async def count(gate: Gate, call: Call, dialect: DialectName, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a counting request of a client's dialect. Raises GatewayError.

    Counting takes a request of the key's rate, and no tokens.
    """
    counting = DIALECTS[dialect].counting
    assert counting is not None, "routes exist only for dialects that count"
    request = counting.read_request(body)
    call.model = await find_model(gate, call.key, request.model)
    taken = await gate.limiter.take(call.key, 0, call.created_at)
    try:
        found = await _by_upstream(gate, call, request)
        if found is None:
            found = estimated(request, body)
        return counting.write_count(found)
    finally:
        gate.give_back(taken, 0)


def estimated(request: Request, body: dict[str, Any]) -> int:
    """Our own count of what a request holds, never 0."""
    size, media = len(encode({**body, "model": ""})), list(media_of(request))
    encoded = sum(len(one.value) for one in media if one.source == "base64")
    return max(1, estimate_tokens(0, size - encoded) + MEDIA_TOKENS * len(media))


async def _by_upstream(gate: Gate, call: Call, request: Request) -> int | None:
    wish = Wish(call.key.group, request.origin)
    found = candidates(
        call.model, gate.catalogue, wish, health=gate.health, now=call.created_at, dice=random.random
    )
    for candidate in found:
        if candidate.probe:
            # That a channel counts says nothing of how it answers: this is no test of it.
            gate.health.release(candidate.channel.id, call.model.id)
    for candidate in found:
        endpoint = gate.endpoints.get(candidate.channel.id)
        if endpoint is not None and DIALECTS[endpoint.dialect].counting is not None:
            return await _ask(gate, call, candidate, endpoint, request)
    return None


async def _ask(
    gate: Gate, call: Call, candidate: Candidate, endpoint: Endpoint, request: Request
) -> int | None:
    counting = DIALECTS[endpoint.dialect].counting
    assert counting is not None, "only endpoints that can count are asked"
    name = candidate.route.upstream_model
    target = targets.target(candidate.channel, candidate.route, call.model, endpoint.scope)
    written = counting.write_request(replace(request, model=name), target)
    upstream = endpoint.count(encode(written.body), call.id, model=name)
    if upstream is None:
        return None
    try:
        if endpoint.authorise is not None:
            upstream = await endpoint.authorise(upstream)
        response = await gate.transport.send(upstream)
        try:
            answer = await response.read_all(ANSWER_MAX)
        finally:
            response.close()
        if response.status == 200:
            return counting.read_count(decode(answer))
    except (UpstreamFault, BadAnswer, ValueError) as error:
        log.info("%s: counting on %s failed: %s", call.id, candidate.channel.name, error)
    return None
