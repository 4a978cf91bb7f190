"""Routes of the OpenAI dialect: chat completions and the list of models."""

from __future__ import annotations

from typing import Any

from tollway.core.errors import GatewayError
from tollway.core.routing.models import Model
from tollway.flows import catalogue, text
from tollway.flows.admit import identify
from tollway.flows.call import Call
from tollway.web import credentials
from tollway.web.envelopes import OPENAI_ROOTS
from tollway.web.idempotency import check_idempotency_key
from tollway.web.pricing import price_view
from tollway.web.registry import Route
from tollway.web.request import Request


async def chat_completions(request: Request) -> None:
    """POST /v1/chat/completions."""
    secret = credentials.find(request.headers)
    check_idempotency_key(request.header(b"idempotency-key"))
    call = Call(
        call_id=request.id,
        route=request.path,
        ip=request.ip,
        user_agent=request.user_agent,
        created_at=request.now,
    )
    call.key = await identify(request.gate, secret, call.ip, call.created_at)
    body = await request.body()
    await text.answer(request.gate, call, body, request.writer)


async def list_models(request: Request) -> None:
    """GET /v1/models: exactly what this key may call."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    models = catalogue.callable_models(request.gate, key)
    request.json({"object": "list", "data": [_view(model) for model in models]})


async def show_model(request: Request) -> None:
    """GET /v1/models/{id}."""
    key = await identify(request.gate, credentials.find(request.headers), request.ip, request.now)
    # SDKs write the slash of `vendor/model` as %2F; no other escape reaches a route.
    name = request.params["model"].replace("%2F", "/")
    for model in catalogue.callable_models(request.gate, key):
        if model.id == name or name in model.aliases:
            request.json(_view(model))
            return
    raise GatewayError(
        "model_not_found", f"There is no model {name[:128]!r} that this key may call.", param="model"
    )


def _view(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created_at // 1000,
        "owned_by": model.provider or "tollway",
        "type": model.kind,
        "description": model.description,
        "context_window": model.context_window or None,
        "max_output_tokens": model.output_max or None,
        "capabilities": list(model.capabilities),
        "aliases": list(model.aliases),
        "pricing": price_view(model.price),
    }


ROUTES = tuple(
    route
    for root in OPENAI_ROOTS
    for route in (
        Route(
            method="POST",
            path=f"{root}/chat/completions",
            handler=chat_completions,
            summary="Answer a conversation",
            family="openai",
            envelope="openai",
        ),
        Route(
            method="GET",
            path=f"{root}/models",
            handler=list_models,
            summary="List the models this key may call",
            family="openai",
            envelope="openai",
        ),
        Route(
            method="GET",
            path=f"{root}/models/{{model:path}}",
            handler=show_model,
            summary="Show one model",
            family="openai",
            envelope="openai",
        ),
    )
)
