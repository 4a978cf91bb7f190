"""Why a guarded fetch failed, in words fit for whoever gave the URL."""

from __future__ import annotations

from typing import Literal

FetchKind = Literal[
    "bad_url",
    "forbidden",
    "unreachable",
    "tls",
    "timeout",
    "protocol",
    "redirect",
    "status",
    "too_large",
    "wrong_type",
    "encoded",
    "busy",
]


class FetchFault(Exception):
    """A fetch that was refused or failed. `status`: the HTTP status, where that is the reason, else 0.

    The message names the host and the reason. It never repeats the URL, which may hold a secret, and
    never says of a host that is not public whether it exists or why it did not answer.
    """

    def __init__(self, kind: FetchKind, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
