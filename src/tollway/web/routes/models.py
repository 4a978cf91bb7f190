"""The list of models, in the dialect of whoever asks: OpenAI's, Anthropic's or Gemini's.

Three dialects share one path. Headers tell them apart, as the roots of one dialect do without.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

from tollway.core.errors import GatewayError
from tollway.core.routing.models import Model
from tollway.flows import catalogue
from tollway.flows.admit import identify
from tollway.web import credentials
from tollway.web.envelopes import GEMINI_ROOTS, OPENAI_ROOTS, Envelope
from tollway.web.pricing import price_view
from tollway.web.registry import Route
from tollway.web.request import Request

Shape = Literal["openai", "anthropic", "gemini"]

_ROOTS: Final[dict[str, Shape | None]] = {
    **dict.fromkeys(OPENAI_ROOTS, None),
    "/openai/v1": "openai",
    "/anthropic/v1": "anthropic",
    **dict.fromkeys((root for root in GEMINI_ROOTS if root not in OPENAI_ROOTS), "gemini"),
}
PAGE_MAX: Final = 1_000
_GEMINI_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")


def shape_of(request: Request) -> Shape:
    """Who asks: the root says so, or a header only one kind of client sends."""
    root = request.path.partition("/models")[0]
    fixed = _ROOTS.get(root)
    if fixed is not None:
        return fixed
    if request.header(b"x-goog-api-key") or request.header(b"x-goog-api-client") or request.query("key"):
        return "gemini"
    return "anthropic" if request.header(b"anthropic-version") else "openai"


async def list_models(request: Request) -> None:
    """GET {root}/models: exactly what this key may call."""
    shape = await _come_in(request)
    models = await _callable(request, shape)
    if shape == "anthropic":
        request.json(_anthropic_page(request, models))
    elif shape == "gemini":
        request.json(_gemini_page(request, models))
    else:
        request.json({"object": "list", "data": [_openai(model) for model in models]})


async def show_model(request: Request) -> None:
    """GET {root}/models/{id}."""
    shape = await _come_in(request)
    # SDKs write the slash of `vendor/model` as %2F; no other escape reaches a route.
    name = request.params["model"].replace("%2F", "/")
    if shape == "gemini":
        name = name.removeprefix("models/")
    for model in await _callable(request, shape):
        if model.id == name or name in model.aliases:
            request.json(_VIEWS[shape](model))
            return
    raise GatewayError(
        "model_not_found", f"There is no model {name[:128]!r} that this key may call.", param="model"
    )


async def _come_in(request: Request) -> Shape:
    shape = shape_of(request)
    request.envelope = _ENVELOPES[shape]
    return shape


async def _callable(request: Request, shape: Shape) -> list[Model]:
    in_query = request.query("key") if shape == "gemini" else None
    secret = credentials.find(request.headers, in_query)
    key = await identify(request.gate, secret, request.ip, request.now)
    return catalogue.callable_models(request.gate, key)


def _openai(model: Model) -> dict[str, Any]:
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
        "parameters": model.parameters,
        "aliases": list(model.aliases),
        "pricing": price_view(model.price),
    }


def _anthropic(model: Model) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.created_at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.description or model.id,
        "created_at": created,
        "max_input_tokens": model.context_window or None,
        "max_tokens": model.output_max or None,
    }


def _gemini(model: Model) -> dict[str, Any]:
    return {
        "name": f"models/{model.id}",
        "baseModelId": model.id,
        "version": "1",
        "displayName": model.id,
        "description": model.description,
        "inputTokenLimit": model.context_window,
        "outputTokenLimit": model.output_max,
        "supportedGenerationMethods": ["embedContent"]
        if model.kind == "embedding"
        else list(_GEMINI_METHODS),
    }


def _anthropic_page(request: Request, models: list[Model]) -> dict[str, Any]:
    limit = _whole_number(request, "limit", 20, PAGE_MAX)
    ids = [model.id for model in models]
    after, before = request.query("after_id"), request.query("before_id")
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(ids)
    if before in ids and after not in ids:
        start = max(0, end - limit)
    page = models[start : min(end, start + limit)]
    return {
        "data": [_anthropic(model) for model in page],
        "has_more": start > 0 if before in ids else start + limit < len(models),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def _gemini_page(request: Request, models: list[Model]) -> dict[str, Any]:
    limit = _whole_number(request, "pageSize", 50, PAGE_MAX)
    token = request.query("pageToken") or "0"
    start = int(token) if token.isascii() and token.isdigit() and len(token) < 10 else 0
    found: dict[str, Any] = {"models": [_gemini(model) for model in models[start : start + limit]]}
    if start + limit < len(models):
        found["nextPageToken"] = str(start + limit)
    return found


def _whole_number(request: Request, name: str, default: int, most: int) -> int:
    told = request.query(name)
    if told is None:
        return default
    if not (told.isascii() and told.isdigit() and 1 <= len(told) <= 9 and int(told) >= 1):
        raise GatewayError("invalid_value", f"{name!r} must be a number from 1 to {most}.", param=name)
    return min(int(told), most)


_VIEWS: Final = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
_ENVELOPES: Final[dict[Shape, Envelope]] = {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini"}

ROUTES = tuple(
    Route(
        method="GET",
        path=f"{root}/models{path}",
        handler=handler,
        summary=summary,
        family="models",
        envelope=_ENVELOPES[shape or "openai"],
    )
    for root, shape in _ROOTS.items()
    for path, handler, summary in (
        ("", list_models, "List the models this key may call"),
        ("/{model:path}", show_model, "Show one model"),
    )
)
