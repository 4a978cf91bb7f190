"""An HTTP request as the sandbox's routes see it."""

from __future__ import annotations

from urllib.parse import parse_qsl

from msgspec import Struct

from tollway.upstream.sandbox.ask import Refused


class Request(Struct, kw_only=True):
    """`target` is path and query as sent; header names are lower case, repeated ones joined by commas.

    `fault`: why it could not be read, if it could not; it is then answered with that.
    """

    method: str = ""
    target: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    http11: bool = True
    keep_alive: bool = True
    fault: Refused | None = None

    @property
    def path(self) -> str:
        """The path without the query."""
        return self.target.partition("?")[0]

    def query(self, name: str) -> str:
        """A parameter of the query, or nothing."""
        query = self.target.partition("?")[2]
        return dict(parse_qsl(query)).get(name, "") if query else ""
