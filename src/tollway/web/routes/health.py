"""Liveness and readiness, for those who run the gateway."""

from __future__ import annotations

from tollway.core.errors import GatewayError
from tollway.flows.readiness import unready
from tollway.web.registry import Route
from tollway.web.request import Request


async def livez(request: Request) -> None:
    """The process runs and its loop turns; nothing else is asked."""
    request.json({"status": "ok"})


async def readyz(request: Request) -> None:
    """Calls can be served: the database commits, the books balance, nobody asked us to stop."""
    reasons = await unready(request.gate)
    if reasons:
        raise GatewayError(
            "draining" if request.gate.draining else "ledger_unavailable", "Not ready: " + "; ".join(reasons)
        )
    request.json({"status": "ready"})


ROUTES = tuple(
    Route(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        family="operations",
        envelope="gateway",
        public=False,
    )
    for path, handler, summary in (
        ("/livez", livez, "Whether the process is alive"),
        ("/readyz", readyz, "Whether the gateway can serve"),
    )
)
