"""Chat Completions' errors: an upstream's read, ours written."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Fault, FaultKind
from tollway.core.dialects.faults import body_message, kind_by_status, redacted
from tollway.core.errors import GatewayError, openai_envelope

_BY_CODE: Final[dict[str, FaultKind]] = {
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "invalid_api_key": "authentication",
    "invalid_organization": "authentication",
    "insufficient_quota": "credits",
    "credit_balance_exhausted": "credits",
    "billing_hard_limit_reached": "credits",
    "project_spend_limit_exceeded": "credits",
    "organization_spend_limit_exceeded": "credits",
    "organization_usage_limit_exceeded": "credits",
    "model_not_found": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "slow_down": "rate_limit",
    "server_is_overloaded": "overloaded",
    "server_error": "server",
}
_BY_TYPE: Final[dict[str, FaultKind]] = {
    "authentication_error": "authentication",
    "insufficient_quota": "credits",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "rate_limit_error": "rate_limit",
    "requests": "rate_limit",
    "tokens": "rate_limit",
    "service_unavailable_error": "overloaded",
    "overloaded_error": "overloaded",
    "server_error": "server",
    "api_error": "server",
    "invalid_request_error": "invalid_request",
}


def read_error(status: int, body: object) -> Fault:
    """An error body (or the error object of a stream) as a Fault; `status` is 0 where there was none."""
    error = body.get("error") if type(body) is dict else None
    if type(error) is str:
        error = {"message": error}
    if type(error) is not dict:
        kind = kind_by_status(status)
        return Fault(kind=kind, status=status, message=body_message(body))
    code, type_ = _word(error.get("code")), _word(error.get("type"))
    if not status:
        status = _status_in(error)
    param = error.get("param")
    return Fault(
        kind=_kind(status, code, type_),
        status=status,
        message=redacted(error.get("message") or "the upstream gave no reason"),
        code=code or type_,
        param=param if type(param) is str else None,
    )


def _word(value: object) -> str:
    return value if type(value) is str else ""


def _status_in(error: dict[str, Any]) -> int:
    """Routers put the HTTP status of a failed stream into `code`."""
    for name in ("status", "code"):
        value = error.get(name)
        if type(value) is int and 400 <= value < 600:
            return value
    return 0


def _kind(status: int, code: str, type_: str) -> FaultKind:
    found = _BY_CODE.get(code)
    if found is not None:
        return found
    by_status = kind_by_status(status) if status else None
    if by_status is None or (by_status == "invalid_request" and status != 400):
        return _BY_TYPE.get(type_) or by_status or "server"
    if status in (400, 429):
        by_type = _BY_TYPE.get(type_, by_status)
        return by_type if by_type in ("credits", "overloaded", "not_found") else by_status
    return by_status


def write_error(error: GatewayError, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and body a Chat Completions client understands."""
    return error.status, openai_envelope(error, request_id)
