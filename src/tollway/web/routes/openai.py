"""Routes of the OpenAI dialect for text: chat completions, legacy completions and embeddings."""

from __future__ import annotations

from tollway.core.dialects.checked import parse, read_chat, read_completion
from tollway.core.media.embeddings import read_openai
from tollway.web.envelopes import OPENAI_ROOTS
from tollway.web.registry import Route
from tollway.web.request import Request
from tollway.web.routes.texts import admitted, served


async def chat_completions(request: Request) -> None:
    """POST /v1/chat/completions."""
    call = await admitted(request)
    asked = read_chat(await request.body())
    await served(request, call, asked)


async def completions(request: Request) -> None:
    """POST /v1/completions."""
    call = await admitted(request)
    asked = read_completion(await request.body())
    await served(request, call, asked)


async def embeddings(request: Request) -> None:
    """POST /v1/embeddings."""
    call = await admitted(request)
    asked = read_openai(parse(await request.body()))
    await served(request, call, asked)


ROUTES = tuple(
    Route(
        method="POST",
        path=f"{root}/{path}",
        handler=handler,
        summary=summary,
        family="openai",
        envelope="openai",
    )
    # A base URL without /v1 works too.
    for root in (*OPENAI_ROOTS, "")
    for path, handler, summary in (
        ("chat/completions", chat_completions, "Answer a conversation"),
        ("completions", completions, "Continue a prompt (legacy)"),
        ("embeddings", embeddings, "Turn texts into vectors"),
    )
)
