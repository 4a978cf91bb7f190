"""What the routes of every text dialect do first and last: make a call of the request, and have it answered."""

from __future__ import annotations

from typing import Final

from tollway.core.dialects.asked import Asked
from tollway.flows import idempotency, text
from tollway.flows.admit import identify
from tollway.flows.call import Call
from tollway.upstream.channels import PASSED
from tollway.web import credentials
from tollway.web.idempotency import check_idempotency_key, claim_of
from tollway.web.request import Request

_SESSIONS: Final = (b"x-claude-code-session-id", b"session-id", b"x-session-affinity", b"x-session-id")
"""Headers by which clients name the session a call belongs to."""


async def admitted(request: Request, *, in_query: bool = False) -> Call:
    """A call whose key may speak. `in_query`: whether the key may also be given as `?key=` (Gemini).

    Raises GatewayError (400, 401, 403).
    """
    secret = credentials.find(request.headers, request.query("key") if in_query else None)
    check_idempotency_key(request.header(b"idempotency-key"))
    call = Call(
        call_id=request.id,
        route=request.path,
        ip=request.ip,
        user_agent=request.user_agent,
        created_at=request.now,
    )
    for name in _SESSIONS:
        told = request.header(name)
        if told is not None:
            call.session = told.decode("latin-1")
            break
    most = request.header(b"x-tollway-max-credits")
    if most is not None:
        call.max_credits = most.decode("latin-1")
    call.key = await identify(request.gate, secret, call.ip, call.created_at)
    return call


async def served(request: Request, call: Call, asked: Asked) -> None:
    """Answer a call, once for each idempotency key. Raises GatewayError while nothing has been sent."""
    for name in PASSED[asked.dialect]:
        value = request.header(name)
        if value:
            call.passed = (*call.passed, (name, value))
    gate, claim = request.gate, claim_of(request, call, asked)
    if claim is None:
        await text.answer(gate, call, asked, request.writer)
        return
    await idempotency.answer(
        gate, call, claim, request.writer, lambda sink: text.answer(gate, call, asked, sink)
    )
