"""The route registry: every endpoint once, from which requests are dispatched and documents generated."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from tollway.web.envelopes import Envelope

if TYPE_CHECKING:
    from tollway.web.request import Request

Handler = Callable[["Request"], Awaitable[None]]


class Route(Struct, frozen=True, kw_only=True):
    """One endpoint. `path` may hold `{name}` (one segment) or `{name:path}` (the rest).

    `envelope` is the error body its callers expect; `public` whether documents for users show it.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    family: str
    envelope: Envelope
    public: bool = True


class Found(Struct, frozen=True):
    """A route and what its path's placeholders matched."""

    route: Route
    params: dict[str, str]


class Registry:
    """Looks up routes: by dictionary where a path is fixed, by pattern where it is not."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed: dict[tuple[str, str], Found] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in self.routes:
            if "{" in route.path:
                self._patterns.append((_compile(route.path), route))
            else:
                self._fixed[route.method, route.path] = Found(route, {})

    def find(self, method: str, path: str) -> Found | None:
        """The route for a request, or None."""
        if method == "HEAD":
            method = "GET"
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        for pattern, route in self._patterns:
            if route.method == method and (match := pattern.fullmatch(path)):
                return Found(route, match.groupdict())
        return None

    def methods(self, path: str) -> list[str]:
        """The methods a path answers to, for the Allow header."""
        fixed = {method for method, known in self._fixed if known == path}
        matched = {route.method for pattern, route in self._patterns if pattern.fullmatch(path)}
        return sorted(fixed | matched)


def _compile(path: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{[a-z_]+(?::path)?\})", path)
    found = ""
    for piece in pieces:
        if piece.startswith("{"):
            name, _, kind = piece[1:-1].partition(":")
            found += f"(?P<{name}>{'.+' if kind else '[^/]+'})"
        else:
            found += re.escape(piece)
    return re.compile(found)
