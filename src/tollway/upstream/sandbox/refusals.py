"""The models that answer with an error status, as data."""

from __future__ import annotations

from typing import Final

from tollway.upstream.sandbox.ask import Refused

RETRY_SECONDS: Final = 2
_RATE: Final = "Rate limit reached for this model on requests per min (RPM): Limit 3, Used 3, Requested 1."


def _rate(message: str, *headers: tuple[str, str]) -> Refused:
    return Refused(429, message, type="requests", code="rate_limit_exceeded", headers=headers)


OVERLOADED: Final = Refused(
    503, "The engine is currently overloaded.", type="service_unavailable_error", code="server_is_overloaded"
)
QUOTA: Final = Refused(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    type="insufficient_quota",
    code="insufficient_quota",
)

REFUSALS: Final[dict[str, Refused]] = {
    "sandbox-400": Refused(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
    "sandbox-401": Refused(401, "Incorrect API key provided.", code="invalid_api_key"),
    "sandbox-403": Refused(
        403,
        "Your project does not have access to this model.",
        type="permission_error",
        code="model_access_denied",
    ),
    "sandbox-404": Refused(404, "This model does not exist.", code="model_not_found", param="model"),
    "sandbox-413": Refused(413, "The request body is too large.", code="request_too_large"),
    "sandbox-429": _rate(_RATE, ("retry-after", str(RETRY_SECONDS))),
    "sandbox-429-body": _rate(f"{_RATE} Please try again in {RETRY_SECONDS}s."),
    "sandbox-500": Refused(
        500, "The server had an error while processing your request.", type="server_error"
    ),
    "sandbox-503": OVERLOADED,
    "sandbox-quota": QUOTA,
}
