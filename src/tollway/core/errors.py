"""Every refusal the gateway can make: one vocabulary of codes, rendered into the caller's envelope.

    GatewayError                 a call that is refused or failed; carries one code of CODES
      (there are no subclasses: the code decides the status, the type and whether to retry)

A code is stable and documented; a message says what happened, which scope or limit with its
numbers, and what to do about it. Envelopes never carry a traceback or an upstream's secret.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

Scope = Literal["key", "project", "account", "user", "model", "channel", "gateway", "upstream"]


class Code(NamedTuple):
    """What a code implies. `status`: HTTP status. `type`: OpenAI's error type. `retryable`: same call may work later."""

    status: int
    type: str
    retryable: bool


_INVALID: Final = "invalid_request_error"

CODES: Final[dict[str, Code]] = {
    # the request itself
    "invalid_json": Code(400, _INVALID, False),
    "invalid_body": Code(400, _INVALID, False),
    "invalid_value": Code(400, _INVALID, False),
    "missing_field": Code(400, _INVALID, False),
    "unsupported_parameter": Code(400, _INVALID, False),
    "unusable_media": Code(400, _INVALID, False),
    "forbidden_field": Code(400, _INVALID, False),
    "invalid_header": Code(400, _INVALID, False),
    "bad_request": Code(400, _INVALID, False),
    "header_too_large": Code(431, _INVALID, False),
    "uri_too_long": Code(414, _INVALID, False),
    "conflicting_credentials": Code(400, _INVALID, False),
    "context_length_exceeded": Code(400, _INVALID, False),
    "unsupported_media_type": Code(415, _INVALID, False),
    "body_too_large": Code(413, _INVALID, False),
    "unknown_route": Code(404, _INVALID, False),
    "method_not_allowed": Code(405, _INVALID, False),
    "websocket_unsupported": Code(426, _INVALID, False),
    # who is asking
    "missing_api_key": Code(401, "authentication_error", False),
    "invalid_api_key": Code(401, "authentication_error", False),
    "invalid_job_secret": Code(401, "authentication_error", False),
    "key_disabled": Code(403, "permission_error", False),
    "key_revoked": Code(403, "permission_error", False),
    "key_expired": Code(403, "permission_error", False),
    "account_suspended": Code(403, "permission_error", False),
    "ip_not_allowed": Code(403, "permission_error", False),
    # what is asked for
    "model_not_found": Code(404, _INVALID, False),
    "model_not_allowed": Code(403, "permission_error", False),
    "model_not_available": Code(404, _INVALID, False),
    "not_found": Code(404, _INVALID, False),
    "previous_response_not_found": Code(400, _INVALID, False),
    "thread_not_found": Code(404, _INVALID, False),
    # money and limits
    "insufficient_credits": Code(402, "insufficient_quota", False),
    "key_budget_exceeded": Code(402, "insufficient_quota", False),
    "project_budget_exceeded": Code(402, "insufficient_quota", False),
    "call_cap_exceeded": Code(402, "insufficient_quota", False),
    "rate_limited": Code(429, "rate_limit_error", True),
    "token_rate_limited": Code(429, "rate_limit_error", True),
    "concurrency_limited": Code(429, "rate_limit_error", True),
    "code_redeemed": Code(409, _INVALID, False),
    "idempotency_in_progress": Code(409, _INVALID, True),
    "idempotency_mismatch": Code(422, _INVALID, False),
    "idempotency_not_replayable": Code(409, _INVALID, False),
    # upstream
    "upstream_rejected": Code(400, _INVALID, False),
    "upstream_error": Code(502, "upstream_error", True),
    "upstream_timeout": Code(504, "upstream_error", True),
    "upstream_rate_limited": Code(429, "rate_limit_error", True),
    "stream_interrupted": Code(502, "upstream_error", True),
    "no_healthy_channel": Code(503, "service_unavailable_error", True),
    # us
    "request_timeout": Code(408, _INVALID, True),
    "overloaded": Code(503, "service_unavailable_error", True),
    "draining": Code(503, "service_unavailable_error", True),
    "ledger_unavailable": Code(503, "service_unavailable_error", True),
    "job_failed": Code(500, "server_error", True),
    "internal_error": Code(500, "server_error", True),
}


class Limit(NamedTuple):
    """The limit that refused. Counts are in the limit's own unit; `resets_at` is Unix milliseconds."""

    name: str
    used: int
    max: int
    resets_at: int | None = None


class GatewayError(Exception):
    """A refused or failed call, ready to be rendered in any dialect.

    `code` is a name in CODES; `status` may differ from the code's own only when an upstream's
    status is passed on. `retry_after_ms` becomes `Retry-After` and `retry-after-ms`.
    """

    def __init__(  # noqa: PLR0913 - the facts of one refusal, all but two by keyword
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        scope: Scope | None = None,
        limit: Limit | None = None,
        retry_after_ms: int | None = None,
        suggestions: tuple[str, ...] = (),
        status: int | None = None,
        upstream: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.rule = CODES[code]
        self.status = status or self.rule.status
        self.message = message
        self.param = param
        self.scope = scope
        self.limit = limit
        self.retry_after_ms = retry_after_ms
        self.suggestions = suggestions
        self.upstream = upstream

    @property
    def retryable(self) -> bool:
        """Whether the same call, unchanged, may succeed later."""
        return self.rule.retryable


def sentence(text: str) -> str:
    """A message as it is shown: it begins with a capital and ends like a sentence."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!", "…")) else text + "."


def details(error: GatewayError, request_id: str, docs_url: str | None = None) -> dict[str, Any]:
    """The fields every envelope carries beside its own: nothing that is unset appears."""
    found: dict[str, Any] = {"retryable": error.retryable, "request_id": request_id}
    if error.scope:
        found["scope"] = error.scope
    if error.limit:
        found["limit"] = error.limit._asdict()
    if error.retry_after_ms is not None:
        found["retry_after"] = error.retry_after_ms / 1000
    if error.suggestions:
        found["suggestions"] = list(error.suggestions)
    if error.upstream:
        found["upstream"] = error.upstream
    if docs_url:
        found["docs_url"] = docs_url
    return found


def openai_envelope(error: GatewayError, request_id: str, docs_url: str | None = None) -> dict[str, Any]:
    """The error body OpenAI's SDKs read: `message`, `type`, `param`, `code` are always present."""
    return {
        "error": {
            "message": sentence(error.message),
            "type": error.rule.type,
            "param": error.param,
            "code": error.code,
            **details(error, request_id, docs_url),
        }
    }


def gateway_envelope(error: GatewayError, request_id: str, docs_url: str | None = None) -> dict[str, Any]:
    """The error body of the gateway's own routes."""
    return {
        "error": {
            "message": sentence(error.message),
            "type": "gateway_error",
            "code": error.code,
            **({"param": error.param} if error.param else {}),
            **details(error, request_id, docs_url),
        }
    }


def headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """The headers SDKs honour: when to try again, and whether to."""
    found = [(b"x-should-retry", b"true" if error.retryable else b"false")]
    if error.retry_after_ms is not None:
        seconds = -(-error.retry_after_ms // 1000)
        found.append((b"retry-after", b"%d" % seconds))
        found.append((b"retry-after-ms", b"%d" % error.retry_after_ms))
    return found
