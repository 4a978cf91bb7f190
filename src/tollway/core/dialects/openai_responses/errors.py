"""The Responses API's errors: an upstream's read, ours written, whole and inside a stream."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Fault, FaultKind
from tollway.core.dialects.faults import body_message, kind_by_status, kind_of, redacted
from tollway.core.errors import GatewayError, openai_envelope, sentence

_BY_CODE: Final[dict[str, FaultKind]] = {
    "context_length_exceeded": "context_length",
    "invalid_api_key": "authentication",
    "insufficient_quota": "credits",
    "credit_balance_exhausted": "credits",
    "project_spend_limit_exceeded": "credits",
    "organization_spend_limit_exceeded": "credits",
    "organization_usage_limit_exceeded": "credits",
    "model_not_found": "not_found",
    "previous_response_not_found": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "slow_down": "rate_limit",
    "server_is_overloaded": "overloaded",
    "server_error": "server",
    "invalid_prompt": "invalid_request",
    "vector_store_timeout": "timeout",
}
_BY_TYPE: Final[dict[str, FaultKind]] = {
    "insufficient_quota": "credits",
    "invalid_request_error": "invalid_request",
    "authentication_error": "authentication",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "rate_limit_error": "rate_limit",
    "tokens": "rate_limit",
    "requests": "rate_limit",
    "service_unavailable_error": "overloaded",
    "server_error": "server",
}


def read_error(status: int, body: object) -> Fault:
    """An error body, an error event or the error of a failed response as a Fault; `status` 0 where there was none."""
    error = body.get("error") if type(body) is dict else None
    if type(error) is not dict and type(body) is dict and type(body.get("message")) is str:
        error = body
    if type(error) is not dict:
        return Fault(kind=kind_by_status(status), status=status, message=body_message(body))
    code, type_, param = error.get("code"), error.get("type"), error.get("param")
    word = code if type(code) is str else ""
    kind = _BY_CODE.get(word) or (_BY_TYPE.get(type_) if type(type_) is str else None)
    if kind is None:
        kind = "invalid_request" if word.startswith(("invalid_", "image_")) else kind_by_status(status)
    return Fault(
        kind=kind,
        status=status,
        message=redacted(error.get("message") or "the upstream gave no reason"),
        code=word or (type_ if type(type_) is str else ""),
        param=param if type(param) is str else None,
    )


def write_error(error: GatewayError, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and body a Responses client understands.

    Codex tries again and again after 402, and stops with a clear message after 429 insufficient_quota;
    an unknown model is 400 on this route, as it is upstream.
    """
    body = openai_envelope(error, request_id)
    kind = kind_of(error)
    status = error.status
    if kind == "credits":
        status = 429
        body["error"].update(code="insufficient_quota", type="insufficient_quota", reason=error.code)
    elif error.code == "model_not_found":
        status = 400
    return status, body


def stream_error(error: GatewayError) -> dict[str, Any]:
    """The `error` of a failed response: its code is one of few, so that clients know what to do."""
    codes: dict[FaultKind, str] = {
        "credits": "insufficient_quota",
        "rate_limit": "rate_limit_exceeded",
        "invalid_request": "invalid_prompt",
        "context_length": "context_length_exceeded",
    }
    return {"code": codes.get(kind_of(error), "server_error"), "message": sentence(error.message)}
