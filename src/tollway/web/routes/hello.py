"""What clients ask before their first call: whether anybody is there."""

from __future__ import annotations

from tollway import __version__
from tollway.web.registry import Route
from tollway.web.request import Request


async def hello(request: Request) -> None:
    """GET or HEAD: a greeting that needs no key."""
    request.json({"name": "tollway", "version": __version__, "status": "ok"})


ROUTES = tuple(
    Route(
        method="GET",
        path=path,
        handler=hello,
        summary="Whether the gateway is there",
        family="operations",
        envelope="gateway",
        public=False,
    )
    for path in ("/", "/api/hello")
)
