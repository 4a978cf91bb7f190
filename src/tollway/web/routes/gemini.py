"""Routes of the Gemini dialect: a model and a verb in the path, the key in a header or in the query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from tollway.core.dialects.checked import ask, parse
from tollway.core.errors import GatewayError
from tollway.core.media.embeddings import read_gemini
from tollway.flows.call import Call
from tollway.flows.count import count
from tollway.web.envelopes import GEMINI_ROOTS
from tollway.web.registry import Route
from tollway.web.request import Request
from tollway.web.routes.texts import admitted, served


async def model_verb(request: Request) -> None:
    """POST {root}/models/{model}:{verb}."""
    call = await admitted(request, in_query=True)
    model, _, verb = request.params["rest"].rpartition(":")
    handler = _VERBS.get(verb)
    if handler is None or not model:
        known = ", ".join(_VERBS)
        raise GatewayError(
            "unknown_route",
            f"There is no {request.path[:100]}; after the model and a colon comes one of {known}.",
        )
    body = parse(await request.body())
    body["model"] = model.replace("%2F", "/")
    await handler(request, call, body)


async def _generate(request: Request, call: Call, body: dict[str, Any]) -> None:
    body["stream"] = False
    await served(request, call, ask("gemini", body))


async def _stream(request: Request, call: Call, body: dict[str, Any]) -> None:
    body["stream"] = True
    array = request.query("alt") != "sse"
    await served(request, call, ask("gemini", body, array=array))


async def _count(request: Request, call: Call, body: dict[str, Any]) -> None:
    request.json(await count(request.gate, call, "gemini", body))


async def _embed(request: Request, call: Call, body: dict[str, Any]) -> None:
    await served(request, call, read_gemini(body, batch=False))


async def _embed_batch(request: Request, call: Call, body: dict[str, Any]) -> None:
    await served(request, call, read_gemini(body, batch=True))


_VERBS: Final[dict[str, Callable[[Request, Call, dict[str, Any]], Awaitable[None]]]] = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "countTokens": _count,
    "embedContent": _embed,
    "batchEmbedContents": _embed_batch,
}

ROUTES = tuple(
    Route(
        method="POST",
        path=f"{root}/models/{{rest:path}}",
        handler=model_verb,
        summary="Generate content, count tokens, or turn texts into vectors",
        family="gemini",
        envelope="gemini",
    )
    for root in GEMINI_ROOTS
)
