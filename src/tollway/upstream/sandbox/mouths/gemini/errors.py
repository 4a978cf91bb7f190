"""Errors as Google writes them: a status by name, and details with types."""

from __future__ import annotations

from typing import Any, Final

from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.refusals import RETRY_SECONDS

_TYPE: Final = "type.googleapis.com/google.rpc."
_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# A wrong key and a body that is too large are invalid arguments here.
_STATUSES: Final = {401: 400, 402: 429, 413: 400, 529: 503}


def status_of(error: Refused) -> int:
    """The HTTP status."""
    return _STATUSES.get(error.status, error.status)


def envelope(error: Refused) -> dict[str, Any]:
    """The error; `error` is the first and only key."""
    status = status_of(error)
    name = _NAMES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    message = error.message
    if error.code == "context_length_exceeded":
        message = f"The input token count exceeds the maximum number of tokens allowed. {message}"
    inner: dict[str, Any] = {"code": status, "message": message, "status": name}
    details = _details(error)
    if details:
        inner["details"] = details
    return {"error": inner}


def _details(error: Refused) -> list[dict[str, Any]]:
    if error.status == 401:
        info = {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        return [{**info, "metadata": {"service": "generativelanguage.googleapis.com"}}]
    if error.status != 429:
        return []
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
    }
    quota = {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}
    if not any(name == "retry-after" for name, _ in error.headers):
        return [quota]
    return [quota, {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{RETRY_SECONDS}s"}]
