"""Messages' errors: an upstream's read, ours written."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Fault, FaultKind
from tollway.core.dialects.faults import body_message, kind_by_status, kind_of, redacted
from tollway.core.errors import GatewayError, details, sentence

_BY_TYPE: Final[dict[str, FaultKind]] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "authentication",
    "billing_error": "credits",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "conflict_error": "conflict",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limit",
    "timeout_error": "timeout",
    "api_error": "server",
    "overloaded_error": "overloaded",
}
_WORDS: Final[dict[FaultKind, tuple[int, str]]] = {
    "invalid_request": (400, "invalid_request_error"),
    "context_length": (400, "invalid_request_error"),
    "too_large": (413, "request_too_large"),
    "authentication": (401, "authentication_error"),
    "permission": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "credits": (402, "billing_error"),
    "rate_limit": (429, "rate_limit_error"),
    "conflict": (409, "conflict_error"),
    "overloaded": (529, "overloaded_error"),
    "timeout": (504, "timeout_error"),
    "server": (500, "api_error"),
}
_OWN_CREDIT: Final = ("credit balance is too low", "spend limit")


def read_error(status: int, body: object) -> Fault:
    """An error body (or the payload of an error event) as a Fault; `status` is 0 where there was none."""
    error = body.get("error") if type(body) is dict else None
    if type(error) is not dict:
        return Fault(kind=kind_by_status(status), status=status, message=body_message(body))
    type_ = error.get("type")
    code = type_ if type(type_) is str else ""
    message = redacted(error.get("message") or "the upstream gave no reason")
    kind = _BY_TYPE.get(code) or kind_by_status(status)
    if kind in ("invalid_request", "rate_limit") and any(word in message for word in _OWN_CREDIT):
        kind = "credits"
    elif kind == "invalid_request" and message.startswith("prompt is too long"):
        kind = "context_length"
    return Fault(kind=kind, status=status or _WORDS[kind][0], message=message, code=code)


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The error as a body, which is also what an error event carries."""
    word = _WORDS[kind_of(error)][1]
    more = {"error_code": error.code, **({"param": error.param} if error.param else {})}
    return {
        "type": "error",
        "error": {
            "type": word,
            "message": sentence(error.message),
            "details": {**more, **details(error, request_id)},
        },
        "request_id": request_id,
    }


def write_error(error: GatewayError, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and body an Anthropic client understands."""
    status = _WORDS["overloaded"][0] if kind_of(error) == "overloaded" else error.status
    return status, error_body(error, request_id)
