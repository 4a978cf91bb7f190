"""Routes of the Anthropic dialect: messages and the counting of their tokens."""

from __future__ import annotations

from typing import Final

from tollway.core.dialects.checked import ask, parse
from tollway.core.errors import GatewayError
from tollway.flows.count import count
from tollway.web.envelopes import ANTHROPIC_ROOTS
from tollway.web.registry import Route
from tollway.web.request import Request
from tollway.web.routes.texts import admitted, served

VERSIONS: Final = ("2023-06-01", "2026-10-21")
"""The API versions whose clients are understood; a client that names none is taken for the first."""


async def messages(request: Request) -> None:
    """POST /v1/messages."""
    call = await admitted(request)
    version = _version(request)
    asked = ask("anthropic", parse(await request.body()), version=version)
    await served(request, call, asked)


async def count_tokens(request: Request) -> None:
    """POST /v1/messages/count_tokens: free of charge, for any model."""
    call = await admitted(request)
    _version(request)
    request.json(await count(request.gate, call, "anthropic", parse(await request.body())))


def _version(request: Request) -> str:
    told = (request.header(b"anthropic-version") or b"").decode("latin-1").strip()
    if not told:
        return VERSIONS[0]
    if told not in VERSIONS:
        raise GatewayError(
            "invalid_header",
            f"The anthropic-version {told[:40]!r} is not known; send one of {', '.join(VERSIONS)}.",
            param="anthropic-version",
        )
    return told


ROUTES = tuple(
    Route(
        method="POST",
        path=f"{root}/{path}",
        handler=handler,
        summary=summary,
        family="anthropic",
        envelope="anthropic",
    )
    for root in ANTHROPIC_ROOTS
    for path, handler, summary in (
        ("messages", messages, "Answer a conversation"),
        ("messages/count_tokens", count_tokens, "Count the tokens of a conversation"),
    )
)
