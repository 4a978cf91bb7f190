"""Gemini's errors: an upstream's read, ours written."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Fault, FaultKind
from tollway.core.dialects.faults import body_message, kind_by_status, kind_of, redacted
from tollway.core.errors import GatewayError, details, sentence

_BY_WORD: Final[dict[str, FaultKind]] = {
    "INVALID_ARGUMENT": "invalid_request",
    "FAILED_PRECONDITION": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "UNAUTHENTICATED": "authentication",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limit",
    "ABORTED": "conflict",
    "ALREADY_EXISTS": "conflict",
    "CANCELLED": "server",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
    "INTERNAL": "server",
    "UNKNOWN": "server",
}
_WORDS: Final[dict[FaultKind, tuple[int, str]]] = {
    "invalid_request": (400, "INVALID_ARGUMENT"),
    "context_length": (400, "INVALID_ARGUMENT"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "authentication": (401, "UNAUTHENTICATED"),
    "permission": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "credits": (402, "RESOURCE_EXHAUSTED"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "conflict": (409, "ABORTED"),
    "overloaded": (503, "UNAVAILABLE"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
    "server": (500, "INTERNAL"),
}
_TYPE: Final = "type.googleapis.com/google.rpc."


def read_error(status: int, body: object) -> Fault:
    """An error body (or an error chunk) as a Fault; `status` is 0 where there was none."""
    if type(body) is list and body:
        # The JSON-array form of a stream wraps its error too.
        body = body[0]
    error = body.get("error") if type(body) is dict else None
    if type(error) is not dict:
        return Fault(kind=kind_by_status(status), status=status, message=body_message(body))
    code = error.get("code")
    if not status and type(code) is int:
        status = code
    word = error.get("status")
    name = word if type(word) is str else ""
    message = redacted(error.get("message") or "the upstream gave no reason")
    listed = error.get("details")
    told = [one for one in listed if type(one) is dict] if type(listed) is list else []
    kind = _BY_WORD.get(name) or kind_by_status(status)
    if any(one.get("reason") in ("API_KEY_INVALID", "API_KEY_EXPIRED") for one in told):
        kind = "authentication"
    elif status == 402:
        kind = "credits"
    elif kind == "invalid_request" and "exceeds the maximum number of tokens" in message:
        kind = "context_length"
    return Fault(kind=kind, status=status, message=message, code=name, retry_after_ms=_delay(told))


def _delay(told: list[dict[str, Any]]) -> int | None:
    """RetryInfo's delay, written like "34.4s", in milliseconds."""
    for one in told:
        delay = one.get("retryDelay")
        if type(delay) is str and delay.endswith("s"):
            try:
                seconds = float(delay[:-1])
            except ValueError:
                return None
            return int(seconds * 1000) if 0 <= seconds < 10**6 else None
    return None


def error_body(error: GatewayError, request_id: str, status: int) -> dict[str, Any]:
    """The error as a body, which is also what an error chunk holds; `error` is its first member."""
    _, word = _WORDS[kind_of(error)]
    told: list[dict[str, Any]] = [
        {
            "@type": f"{_TYPE}ErrorInfo",
            "reason": error.code.upper(),
            "domain": "tollway",
            "metadata": {"request_id": request_id, **({"scope": error.scope} if error.scope else {})},
        }
    ]
    if error.param:
        violation = {"field": error.param, "description": error.message}
        told.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after_ms is not None:
        told.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after_ms / 1000:g}s"})
    found = {"code": status, "message": sentence(error.message), "status": word, "details": told}
    return {"error": found, "tollway": details(error, request_id)}


def write_error(error: GatewayError, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and body a Gemini client understands."""
    return error.status, error_body(error, request_id, error.status)
