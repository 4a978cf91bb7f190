"""Routes about money: receipts of calls, balances, the ledger, the key itself, estimates and redemption codes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from tollway.core.access.keys import Key
from tollway.core.dialects.checked import parse
from tollway.core.errors import GatewayError
from tollway.flows import credits as money
from tollway.flows import estimates, own_caps, receipts
from tollway.flows.admin import wire
from tollway.flows.admit import identify, stranger
from tollway.flows.call import Call
from tollway.store.ledger_pages import Asked
from tollway.web import credentials
from tollway.web.envelopes import OPENAI_ROOTS
from tollway.web.registry import Route
from tollway.web.request import Request

PAGE_MAX: Final = 1_000
TIME_MAX: Final = 7_258_118_400_000
"""The year 2200 in Unix milliseconds."""
CODE_MAX: Final = 200
ANONYMOUS_BODY_MAX: Final = 256 * 1024
"""How much of a body is read for callers without a key."""

_CURSOR: Final = re.compile(r"([0-9]{1,18})(?:\.(-?[0-9]{1,18}))?")


async def generation(request: Request) -> None:
    """GET /v1/generations/{request_id}: the receipt of a call."""
    key = await _key(request)
    _show(request, await receipts.receipt(request.gate.store, key, request.params["id"]))


async def generation_by_query(request: Request) -> None:
    """GET /v1/generation?id=: the same under the names OpenRouter's clients read."""
    key = await _key(request)
    wanted = request.query("id")
    if not wanted:
        raise GatewayError("missing_field", "The query parameter 'id' is missing: the call's id.", param="id")
    found = await receipts.receipt(request.gate.store, key, wanted)
    _show(request, receipts.openrouter(found))


async def balance(request: Request) -> None:
    """GET /v1/credits: what the key's account has."""
    key = await _key(request)
    _show(request, await money.overview(request.gate.store, key))


async def ledger(request: Request) -> None:
    """GET /v1/credits/ledger: the account's entries, newest first."""
    key = await _key(request)
    before, known = _cursor(request)
    kinds = tuple(kind for kind in (request.query("kind") or "").split(",") if kind)
    for kind in kinds:
        if kind not in money.KINDS:
            raise GatewayError(
                "invalid_value",
                f"'kind' is one of {', '.join(money.KINDS)}, or several of them.",
                param="kind",
            )
    asked = Asked(
        before=before,
        balance=known,
        kinds=kinds,
        since=_number(request, "since", TIME_MAX),
        until=_number(request, "until", TIME_MAX),
        limit=_limit(request),
    )
    _show(request, await money.ledger(request.gate.store, key, asked))


async def about_key(request: Request) -> None:
    """GET /v1/key: the key that asks, with its limits, its budget and its use."""
    key = await _key(request)
    _show(request, await money.about_key(request.gate.store, key, request.now))


async def redeem(request: Request) -> None:
    """POST /v1/credits/redeem: turn a code into credits; takes a request of the key's rate."""
    key = await _key(request)
    body = parse(await request.body())
    code = body.get("code")
    if type(code) is not str or not 0 < len(code) <= CODE_MAX:
        raise GatewayError("missing_field", "The field 'code' is missing: the code to redeem.", param="code")
    async with _a_request_of(request, key):
        _show(request, await money.redeem(request.gate.store, key, code, request.now))


async def list_caps(request: Request) -> None:
    """GET /v1/caps: what one call of this key may cost, by model."""
    _show(request, await own_caps.listed(request.gate, await _key(request)))


async def put_cap(request: Request) -> None:
    """PUT /v1/caps/{model}: cap every call of this key to a model; takes a request of the key's rate."""
    key = await _key(request)
    told = parse(await request.body()).get("credits")
    async with _a_request_of(request, key):
        _show(request, await own_caps.put(request.gate, key, _model(request), told, request.now))


async def delete_cap(request: Request) -> None:
    """DELETE /v1/caps/{model}: take such a cap away; takes a request of the key's rate."""
    key = await _key(request)
    async with _a_request_of(request, key):
        _show(request, await own_caps.remove(request.gate, key, _model(request), request.now))


@contextlib.asynccontextmanager
async def _a_request_of(request: Request, key: Key) -> AsyncIterator[None]:
    """Take a request of a key's rate while something is done for it. Raises GatewayError (429)."""
    taken = await request.gate.limiter.take(key, 0, request.now)
    try:
        yield
    finally:
        request.gate.give_back(taken, 0)


def _model(request: Request) -> str:
    # SDKs write the slash of `vendor/model` as %2F; no other escape reaches a route.
    return request.params["model"].replace("%2F", "/")


async def estimate(request: Request) -> None:
    """POST /v1/credits/estimate: what a call would cost; by the public price for callers without a key."""
    key = await _key(request) if any(request.header(name) for name in credentials.HEADERS) else None
    if key is None:
        call = _call(request)
        taken = request.gate.strangers.take_now(stranger(request.ip, request.now), 0, request.now)
        try:
            raw = await request.body(ANONYMOUS_BODY_MAX)
            _show(request, await estimates.by_body(request.gate, None, parse(raw), call))
        finally:
            request.gate.strangers.give_back_now(taken, 0, request.now)
        return
    call = _call(request)
    most = request.header(b"x-tollway-max-credits")
    call.max_credits = None if most is None else most.decode("latin-1")
    async with _a_request_of(request, key):
        _show(request, await estimates.by_body(request.gate, key, parse(await request.body()), call))


async def _key(request: Request) -> Key:
    return await identify(request.gate, credentials.find(request.headers), request.ip, request.now)


def _show(request: Request, value: Any, status: int = 200) -> None:
    """Answer with amounts as numbers that have all their digits."""
    request.writer.respond(status, request.head(), wire.encode(value))


def _call(request: Request) -> Call:
    """A call that is never made."""
    return Call(call_id=request.id, route=request.path, ip=request.ip, user_agent="", created_at=request.now)


def _cursor(request: Request) -> tuple[int | None, int | None]:
    told = request.query("before")
    if told is None:
        return None, None
    found = _CURSOR.fullmatch(told)
    if found is None:
        raise GatewayError(
            "invalid_value", "'before' is the 'next' of the page before, or an entry's seq.", param="before"
        )
    return int(found[1]), None if found[2] is None else int(found[2])


def _limit(request: Request) -> int:
    found = _number(request, "limit", PAGE_MAX)
    if found == 0:
        raise GatewayError("invalid_value", f"'limit' is a number from 1 to {PAGE_MAX}.", param="limit")
    return found or 50


def _number(request: Request, name: str, most: int) -> int | None:
    told = request.query(name)
    if told is None:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= 18 and int(told) <= most):
        raise GatewayError("invalid_value", f"{name!r} is a number from 0 to {most}.", param=name)
    return int(told)


_HANDLERS: Final = (
    ("GET", "generations/{id}", generation, "Show the receipt of a call"),
    ("GET", "generation", generation_by_query, "Show the receipt of a call, in OpenRouter's form"),
    ("GET", "credits", balance, "Show the account's credits"),
    ("GET", "credits/ledger", ledger, "List the account's ledger entries"),
    ("GET", "key", about_key, "Show this key, its limits and its use"),
    ("GET", "caps", list_caps, "List what one call of this key may cost"),
    ("PUT", "caps/{model:path}", put_cap, "Limit what one call of this key to a model may cost"),
    ("DELETE", "caps/{model:path}", delete_cap, "Take such a limit away"),
    ("POST", "credits/estimate", estimate, "Say what a call would cost"),
    ("POST", "credits/redeem", redeem, "Turn a redemption code into credits"),
)

ROUTES = tuple(
    Route(
        method=method,
        path=f"{root}/{path}",
        handler=handler,
        summary=summary,
        family="credits",
        envelope="gateway",
    )
    for root in OPENAI_ROOTS
    for method, path, handler, summary in _HANDLERS
)
