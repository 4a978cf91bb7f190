"""The list of models, in the form of whoever asks: OpenAI's, Anthropic's or Gemini's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tollway.upstream.sandbox import models
from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.request import Request

EPOCH: Final = 1_735_689_600
"""Where invented times start: 1 January 2025, UTC."""
_DATE: Final = "2025-01-01T00:00:00Z"


def answer(request: Request, name: str) -> dict[str, Any]:
    """All models, or the one of that name. Raises Refused if there is none."""
    form = _form(request)
    if not name:
        return form.several([form.one(model) for model in models.MODELS])
    found = models.find(name)
    if found is None:
        raise Refused(404, f"The model '{name[:128]}' does not exist.", code="model_not_found", param="model")
    return form.one(found.model)


class _Form(NamedTuple):
    """How a dialect describes one model, and how it lists several."""

    one: Callable[[models.SandboxModel], dict[str, Any]]
    several: Callable[[list[dict[str, Any]]], dict[str, Any]]


def _form(request: Request) -> _Form:
    headers = request.headers
    by_google = "x-goog-api-key" in headers or "x-goog-api-client" in headers or request.query("key")
    if by_google or "/v1beta/" in request.path:
        return _Form(_gemini, lambda listed: {"models": listed})
    if "anthropic-version" in headers:
        return _Form(_anthropic, _anthropic_page)
    return _Form(_openai, lambda listed: {"object": "list", "data": listed})


def _openai(model: models.SandboxModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": EPOCH, "owned_by": "tollway-sandbox"}


def _anthropic(model: models.SandboxModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": _DATE,
        "lifecycle": "active",
        "max_input_tokens": model.context,
        "max_tokens": model.output_max,
    }


def _anthropic_page(listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {"data": listed, "has_more": False, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]}


def _gemini(model: models.SandboxModel) -> dict[str, Any]:
    chat = ["generateContent", "streamGenerateContent", "countTokens"]
    return {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.id,
        "description": model.description,
        "inputTokenLimit": model.context,
        "outputTokenLimit": model.output_max,
        "supportedGenerationMethods": chat if model.kind == "chat" else ["embedContent"],
        "thinking": "reasoning" in model.capabilities,
    }
