"""The route registry: every endpoint once, from which requests are dispatched and documents generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from tollway.web.envelopes import Envelope

if TYPE_CHECKING:
    from tollway.web.request import Request

Handler = Callable[["Request"], Coroutine[Any, Any, None]]

ALIKE: Final = 0.7
"""How much of two paths must agree for one to be taken for the other mistyped."""
ASKED_MAX: Final = 100
"""Characters of an unknown path that are compared: whoever sends it need not have a key."""


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
    """What answers a request: a route's handler, and what the placeholders of its path matched."""

    handler: Handler
    envelope: Envelope
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
                self._fixed[route.method, route.path] = _found(route, {})
        told = dict.fromkeys(route.path for route in self.routes if route.public and "{" not in route.path)
        self._told = tuple((path, _pairs(path)) for path in told)

    @property
    def operations(self) -> frozenset[str]:
        """Paths of those who run the gateway: they are answered even when calls are turned away."""
        return frozenset(route.path for route in self.routes if route.family == "operations")

    def find(self, method: str, path: str) -> Found | None:
        """The route for a request, or None."""
        if method == "HEAD":
            method = "GET"
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        for pattern, route in self._patterns:
            if route.method == method and (match := pattern.fullmatch(path)):
                return _found(route, match.groupdict())
        return None

    def methods(self, path: str) -> list[str]:
        """The methods a path answers to, for the Allow header."""
        fixed = {method for method, known in self._fixed if known == path}
        matched = {route.method for pattern, route in self._patterns if pattern.fullmatch(path)}
        return sorted(fixed | matched)

    def nearest(self, path: str) -> str | None:
        """The public path that an unknown one was probably meant to be.

        Compares which pairs of letters occur in both: a fiftieth of the work of comparing them in order,
        so that those who try out paths cannot keep the loop busy.
        """
        asked = _pairs(path[:ASKED_MAX])
        best, found = ALIKE, None
        for known, theirs in self._told:
            alike = 2 * len(asked & theirs) / (len(asked) + len(theirs))
            if alike > best:
                best, found = alike, known
        return found


def _found(route: Route, params: dict[str, str]) -> Found:
    return Found(route.handler, route.envelope, params)


def _pairs(path: str) -> frozenset[str]:
    return frozenset(map(str.__add__, path, path[1:]))


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
