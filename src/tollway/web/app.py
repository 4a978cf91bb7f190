"""The ASGI application: finds the route, runs its handler, and lets no exception out undressed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tollway.core.errors import GatewayError
from tollway.flows import holds
from tollway.flows.gate import Gate
from tollway.store.base import StoreError
from tollway.web.envelopes import OPENAI_ROOTS, envelope_for
from tollway.web.registry import Registry
from tollway.web.request import Request
from tollway.web.writer import ClientGone, writer_of

log: Final = logging.getLogger("tollway.web")

Message = dict[str, Any]


class App:
    """What the server calls for each request."""

    def __init__(self, gate: Gate, registry: Registry) -> None:
        self._gate = gate
        self._registry = registry

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await _lifespan(receive, send)
            return
        request = Request(self._gate, scope, writer_of(scope))
        found = self._registry.find(scope["method"], request.path)
        try:
            if found is None:
                request.envelope = envelope_for(request.path)
                self._unknown(request, scope["method"])
            else:
                request.params, request.envelope = found.params, found.route.envelope
                await found.route.handler(request)
        except GatewayError as error:
            request.refuse(error)
        except ClientGone:
            log.debug("%s: the client left before its request was complete", request.id)
        except StoreError as error:
            log.error("%s: the database failed: %s", request.id, error)
            request.refuse(holds.unavailable())
        except Exception:
            log.exception("%s: a handler failed", request.id)
            if request.writer.started:
                request.writer.abort()
            else:
                request.refuse(_internal(request.id))

    def _unknown(self, request: Request, method: str) -> None:
        allowed = self._registry.methods(request.path)
        if allowed:
            error = GatewayError(
                "method_not_allowed", f"{request.path} answers {', '.join(allowed)}, not {method}."
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
