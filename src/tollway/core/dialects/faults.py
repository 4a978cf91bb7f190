"""What an upstream's refusal means for the caller, whichever dialect it was made in.

A refusal of our own account (its key, its credit) is the gateway's trouble, not the caller's: it
becomes an upstream error that says nothing of the account. Messages lose whatever looks like a key
or an account before they are shown.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tollway.core.dialects.base import Fault, FaultKind
from tollway.core.errors import GatewayError
from tollway.core.exchange import Failed

MESSAGE_MAX: Final = 1_000
_SECRETS: Final = re.compile(
    r"\b(?:sk|pk|rk|sess|key)-[A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{10,}"
    r"|\bya29\.[A-Za-z0-9_\-.]+"
    r"|\b(?:org|proj|acct|user|wrkspc)[-_][A-Za-z0-9]{6,}"
    r"|\bprojects/[A-Za-z0-9_\-]+"
    r"|\bBearer\s+[^\s\"']+"
    r"|\bproject_number:\d+",
)

_KINDS: Final[dict[str, FaultKind]] = {
    "invalid_json": "invalid_request",
    "invalid_body": "invalid_request",
    "invalid_value": "invalid_request",
    "missing_field": "invalid_request",
    "unsupported_parameter": "invalid_request",
    "forbidden_field": "invalid_request",
    "invalid_header": "invalid_request",
    "conflicting_credentials": "invalid_request",
    "context_length_exceeded": "context_length",
    "unsupported_media_type": "invalid_request",
    "body_too_large": "too_large",
    "unknown_route": "not_found",
    "method_not_allowed": "invalid_request",
    "missing_api_key": "authentication",
    "invalid_api_key": "authentication",
    "model_not_found": "not_found",
    "model_not_available": "not_found",
    "not_found": "not_found",
    "thread_not_found": "not_found",
    "insufficient_credits": "credits",
    "key_budget_exceeded": "credits",
    "project_budget_exceeded": "credits",
    "call_cap_exceeded": "credits",
    "idempotency_in_progress": "conflict",
    "idempotency_mismatch": "invalid_request",
    "upstream_rejected": "invalid_request",
    "upstream_timeout": "timeout",
    "request_timeout": "timeout",
}
_KINDS_BY_TYPE: Final[dict[str, FaultKind]] = {
    "permission_error": "permission",
    "rate_limit_error": "rate_limit",
    "service_unavailable_error": "overloaded",
    "invalid_request_error": "invalid_request",
}

_CODES: Final[dict[FaultKind, str]] = {
    "invalid_request": "upstream_rejected",
    "context_length": "context_length_exceeded",
    "too_large": "body_too_large",
    "authentication": "upstream_error",
    "permission": "upstream_error",
    "credits": "upstream_error",
    "not_found": "model_not_available",
    "rate_limit": "upstream_rate_limited",
    "conflict": "upstream_error",
    "overloaded": "upstream_error",
    "timeout": "upstream_timeout",
    "server": "upstream_error",
}
_UNSAID: Final = "the upstream failed without saying why"
_OURS: Final[dict[FaultKind, str]] = {
    "authentication": "the upstream refused the gateway's credentials; the operator has to look at the channel",
    "permission": "the upstream does not allow the gateway this call; the operator has to look at the channel",
    "credits": "the gateway's account at the upstream is out of credit; the operator has to look at the channel",
}


def redacted(message: object) -> str:
    """An upstream's message without anything that looks like a key or an account, at most MESSAGE_MAX characters."""
    text = message if type(message) is str else str(message)
    return _SECRETS.sub("[redacted]", text)[:MESSAGE_MAX]


def kind_of(error: GatewayError) -> FaultKind:
    """The kind of refusal a gateway error is, for dialects that name kinds and not codes."""
    return _KINDS.get(error.code) or _KINDS_BY_TYPE.get(error.rule.type, "server")


def fault_error(fault: Fault) -> GatewayError:
    """The error the caller sees for an upstream's refusal."""
    own = _OURS.get(fault.kind)
    return GatewayError(
        _CODES[fault.kind],
        own or redacted(fault.message) or _UNSAID,
        param=None if own else fault.param,
        scope="upstream",
        retry_after_ms=fault.retry_after_ms,
    )


def failed_error(failed: Failed) -> GatewayError:
    """The error that ends a stream in which the upstream reported a failure."""
    code = next((code for kind, code in _CODES.items() if kind == failed.kind), "upstream_error")
    return GatewayError(code, redacted(failed.message) or _UNSAID, scope="upstream")


def failure(fault: Fault) -> Failed:
    """A refusal that arrived inside an answer, as an event."""
    own = _OURS.get(fault.kind)
    message = own or redacted(fault.message) or _UNSAID
    return Failed(fault.kind, message, {"status": fault.status, "code": fault.code[:64], "message": message})


def kind_by_status(status: int) -> FaultKind:
    """What a status alone says."""
    return _BY_STATUS.get(status) or ("server" if status >= 500 or status < 400 else "invalid_request")


_BY_STATUS: Final[dict[int, FaultKind]] = {
    401: "authentication",
    402: "credits",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def body_message(body: object) -> str:
    """The message of a body that is not in its dialect: HTML and the like are not shown."""
    if isinstance(body, dict):
        for name in ("message", "detail", "error_description"):
            value: Any = body.get(name)
            if type(value) is str:
                return redacted(value)
    return "the upstream answered with an error that is not in its dialect"
