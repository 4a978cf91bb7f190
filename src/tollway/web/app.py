"""The application: finds the route, runs its handler, and lets no exception out undressed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tollway.core.errors import GatewayError
from tollway.flows import holds
from tollway.flows.clock import new_id, now_ms
from tollway.flows.gate import Gate
from tollway.store.base import StoreError
from tollway.web.cycle import Cycle
from tollway.web.envelopes import OPENAI_ROOTS, envelope_for
from tollway.web.recall import MEMO
from tollway.web.registry import Found, Registry
from tollway.web.request import Request
from tollway.web.writer import ClientGone

log: Final = logging.getLogger("tollway.web")

Message = dict[str, Any]


class App:
    """What the server calls for each request: a cycle.Handling. By ASGI it is told of its life alone."""

    shares_scopes = True

    def __init__(self, gate: Gate, registry: Registry) -> None:
        self._gate = gate
        self._registry = registry

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)

    def begin(self, cycle: Cycle) -> Coroutine[Any, Any, None]:
        """The handler of a request, about to run."""
        scope = cycle.scope
        memo = scope[MEMO]
        found: Found | None = memo.get(self)
        if found is None:
            found = memo[self] = self._found(scope["method"], scope["path"])
        now = now_ms()
        cycle.request = request = Request(
            self._gate, cycle, scope, found.params, found.envelope, now, new_id("req", now)
        )
        return found.handler(request)

    def _found(self, method: str, path: str) -> Found:
        return self._registry.find(method, path) or Found(self._unknown, envelope_for(path), {})

    def failed(self, cycle: Cycle, error: BaseException) -> None:
        """Answer for a handler that raised."""
        request: Request = cycle.request
        if isinstance(error, GatewayError):
            request.refuse(error)
        elif isinstance(error, ClientGone):
            log.debug("%s: the client left before its request was complete", request.id)
        elif isinstance(error, StoreError):
            log.error("%s: the database failed: %s", request.id, error)
            request.refuse(holds.unavailable())
        else:
            log.error("%s: a handler failed", request.id, exc_info=error)
            if cycle.started:
                cycle.abort()
            else:
                request.refuse(_internal(request.id))

    async def _unknown(self, request: Request) -> None:
        allowed = self._registry.methods(request.path)
        if allowed:
            error = GatewayError(
                "method_not_allowed",
                f"{request.path} answers {', '.join(allowed)}, not {request.scope['method']}.",
            )
            request.refuse(error, b"allow: " + ", ".join(allowed).encode() + b"\r\n")
            return
        request.refuse(GatewayError("unknown_route", _no_route(request.path, self._registry)))


def _internal(request_id: str) -> GatewayError:
    return GatewayError(
        "internal_error",
        f"The gateway made a mistake and logged it. Tell the operator the request id {request_id}.",
        scope="gateway",
    )


def _no_route(path: str, registry: Registry) -> str:
    shown = path[:100]
    for root in OPENAI_ROOTS:
        if path.startswith(f"{root}/v1/"):
            return f"There is no {shown}: the base URL holds /v1 twice. Set it to the part before the second /v1."
    bare = [route.path for route in registry.routes if route.path == f"/v1{path}"]
    if bare:
        return f"There is no {shown}; the base URL lacks /v1. Call {bare[0]}."
    near = registry.nearest(shown)
    return f"There is no {shown}. " + (
        f"Did you mean {near}?" if near else "See the list of routes in the documentation."
    )


async def _lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    # Parts are opened and closed by main.py, around the server; nothing is left to do here.
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
