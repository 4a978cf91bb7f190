"""Routes of the Responses API: answers, and the state that is kept of them."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from tollway.core.dialects.checked import ask, parse
from tollway.core.errors import GatewayError
from tollway.flows import responses
from tollway.flows.admit import identify
from tollway.flows.count import count
from tollway.web import credentials
from tollway.web.envelopes import OPENAI_ROOTS
from tollway.web.registry import Handler, Route
from tollway.web.request import Request
from tollway.web.routes.texts import admitted, served

NAME: Final = "openai_responses"
LIMIT_MAX: Final = 100
TRUE: Final = ("true", "1")


async def create(request: Request) -> None:
    """POST /v1/responses."""
    call = await admitted(request)
    body = parse(await request.body())
    resolved = await responses.resolve(request.gate, call.key, body, call.created_at)
    call.keeper = responses.keeper(request.gate, call, resolved)
    try:
        asked = ask(NAME, resolved.body, echo=resolved.echo)
    except GatewayError as error:
        raise responses.as_asked(error, resolved) from None
    await served(request, call, asked)


async def input_tokens(request: Request) -> None:
    """POST /v1/responses/input_tokens: free of charge, for any model."""
    call = await admitted(request)
    body = parse(await request.body())
    resolved = await responses.resolve(request.gate, call.key, {**body, "store": False}, call.created_at)
    request.json(await count(request.gate, call, NAME, resolved.body))


async def retrieve(request: Request) -> None:
    """GET /v1/responses/{id}."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    found = await responses.retrieve(
        request.gate, key, request.params["response"], _include(request), request.now
    )
    if (request.query("stream") or "").lower() in TRUE:
        raise GatewayError(
            "invalid_value",
            "Only responses made with background: true can be streamed again, and this gateway makes none. "
            "Ask for it without stream.",
            param="stream",
        )
    request.json(found)


async def remove(request: Request) -> None:
    """DELETE /v1/responses/{id}."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    response_id = request.params["response"]
    await responses.remove(request.gate, key, response_id, request.now)
    request.json({"id": response_id, "object": "response", "deleted": True})


async def cancel(request: Request) -> None:
    """POST /v1/responses/{id}/cancel."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    await responses.cancel(request.gate, key, request.params["response"], request.now)


async def input_items(request: Request) -> None:
    """GET /v1/responses/{id}/input_items."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    wanted = responses.Wanted(
        order=_order(request),
        limit=_limit(request),
        after=request.query("after"),
        before=request.query("before"),
    )
    response_id = request.params["response"]
    request.json(
        await responses.input_items(request.gate, key, response_id, wanted, _include(request), request.now)
    )


async def upgrade(request: Request) -> None:
    """GET /v1/responses: where clients try a WebSocket first, and go on without one after exactly this answer."""
    if (request.header(b"upgrade") or b"").lower() == b"websocket":
        raise GatewayError(
            "websocket_unsupported",
            "Responses are not served over WebSocket. Send the same request as POST, with stream: true for events.",
        )
    error = GatewayError("method_not_allowed", f"{request.path} answers POST, not GET.")
    request.refuse(error, b"allow: POST\r\n")


def _include(request: Request) -> tuple[str, ...]:
    query: bytes = request.scope["query_string"]
    pairs = parse_qsl(query.decode("latin-1"))
    return tuple(value for name, value in pairs if name in ("include", "include[]"))


def _order(request: Request) -> Literal["asc", "desc"]:
    match request.query("order"):
        case None | "desc":
            return "desc"
        case "asc":
            return "asc"
        case _:
            raise GatewayError("invalid_value", "'order' must be asc or desc.", param="order")


def _limit(request: Request) -> int:
    given = request.query("limit")
    if given is None:
        return responses.Wanted().limit
    number = int(given) if given.isascii() and given.isdigit() and len(given) <= 4 else 0
    if not 1 <= number <= LIMIT_MAX:
        raise GatewayError("invalid_value", f"'limit' must be a number from 1 to {LIMIT_MAX}.", param="limit")
    return number


def _route(method: str, path: str, handler: Handler, summary: str, *, public: bool = True) -> dict[str, Any]:
    return {"method": method, "path": path, "handler": handler, "summary": summary, "public": public}


_ROUTES: Final = (
    _route("POST", "/responses", create, "Answer, and keep the answer for the next turn"),
    _route("GET", "/responses", upgrade, "Refuse a WebSocket", public=False),
    _route("POST", "/responses/input_tokens", input_tokens, "Count the tokens of a request"),
    _route("GET", "/responses/{response}", retrieve, "Show a response that was kept"),
    _route("DELETE", "/responses/{response}", remove, "Delete a response that was kept"),
    _route("POST", "/responses/{response}/cancel", cancel, "Cancel a response made in the background"),
    _route("GET", "/responses/{response}/input_items", input_items, "List what a response was made from"),
)

ROUTES: Final = tuple(
    Route(**{**one, "path": root + one["path"]}, family="openai", envelope="responses")
    for root in (*OPENAI_ROOTS, "")
    for one in _ROUTES
)
