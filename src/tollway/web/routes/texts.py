"""What the routes of every text dialect do first and last: make a call of the request, and have it answered."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from tollway.core.access.scopes import key_denied
from tollway.core.dialects.asked import Asked
from tollway.core.exchange import DialectName
from tollway.flows import idempotency, text
from tollway.flows.admit import identify
from tollway.flows.call import Call
from tollway.upstream.channels import PASSED
from tollway.web import credentials
from tollway.web.idempotency import HEADER, check_idempotency_key, claim_of
from tollway.web.request import Request

_SESSIONS: Final = (b"x-claude-code-session-id", b"session-id", b"x-session-affinity", b"x-session-id")
"""Headers by which clients name the session a call belongs to."""


async def admitted(request: Request, *, in_query: bool = False) -> Call:
    """A call whose key may speak. `in_query`: whether the key may also be given as `?key=` (Gemini).

    Raises GatewayError (400, 401, 403).
    """
    secret, digest, ip, user_agent, session, max_credits = request.once(
        _asker_in_query if in_query else _asker
    )
    now = request.now
    call = Call(request.id, request.scope["path"], ip, user_agent, now)
    call.session = session
    call.max_credits = max_credits
    key = request.gate.keyring.cached(digest)
    if key is None or key_denied(key, ip, now) is not None:
        key = await identify(request.gate, secret, ip, now, digest)
    call.key = key
    return call


class _Asker(NamedTuple):
    """What the head of a request says of who asks, and for how much."""

    secret: str
    digest: bytes
    ip: str
    user_agent: str
    session: str
    max_credits: str | None


def _asker(request: Request, in_query: str | None = None) -> _Asker:
    found = credentials.find(request.headers, in_query)
    check_idempotency_key(request.header(b"idempotency-key"))
    told = next((value for name in _SESSIONS if (value := request.header(name)) is not None), b"")
    most = request.header(b"x-tollway-max-credits")
    return _Asker(
        secret=found,
        digest=request.gate.keyring.digest(found),
        ip=request.ip,
        user_agent=request.user_agent,
        session=told.decode("latin-1"),
        max_credits=None if most is None else most.decode("latin-1"),
    )


def _asker_in_query(request: Request) -> _Asker:
    return _asker(request, request.query("key"))


class _Told(NamedTuple):
    """What the head of a request says for later: what each dialect's upstreams may be sent of it, and whether it names a claim."""

    passed: dict[DialectName, tuple[tuple[bytes, bytes], ...]]
    claims: bool


def _told(request: Request) -> _Told:
    passed = {
        dialect: tuple((name, value) for name in sorted(names) if (value := request.header(name)))
        for dialect, names in PASSED.items()
    }
    return _Told(passed, request.header(HEADER) is not None)


def served(request: Request, call: Call, asked: Asked) -> Coroutine[Any, Any, None]:
    """Answer a call, once for each idempotency key. Raises GatewayError while nothing has been sent."""
    passed, claims = request.once(_told)
    call.passed = passed[asked.dialect]
    gate, sink = request.gate, request.writer
    if claims and (claim := claim_of(request, call, asked)) is not None:
        return idempotency.answer(gate, call, claim, sink, lambda sink: text.answer(gate, call, asked, sink))
    return text.answer(gate, call, asked, sink)
