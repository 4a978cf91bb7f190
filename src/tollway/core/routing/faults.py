"""What an attempt's fault means: whose it is, whether another channel may do better, how to tell the caller."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tollway.core.errors import GatewayError

HINT_MAX_MS: Final = 600_000
"""A longer Retry-After is not believed."""
MESSAGE_MAX: Final = 500


class Fault(NamedTuple):
    """The attempt failed at `now` (Unix ms).

    `kind`: a FaultKind of the transport, or "status" (a head that is not 2xx, with `status`),
    "bad_body" (2xx with a body that is not the dialect's), "empty" (no content at all),
    "in_band" (an error as the first event), "seal" (a 400 because of a signature or encrypted
    thoughts that this account did not make) or "unfit" (nothing was sent: the channel's dialect
    cannot say what is asked). `retry_after_ms`: what the upstream asked for.
    `before_first_byte`: nothing of the answer has reached the caller. `code` and `message` are
    the upstream's own words, already `scrubbed`.
    """

    kind: str
    now: int
    status: int = 0
    retry_after_ms: int | None = None
    before_first_byte: bool = True
    code: str | None = None
    message: str | None = None


class Rule(NamedTuple):
    """What a fault means. `elsewhere`: another channel may do better. `blames`: it counts against the channel's health."""

    elsewhere: bool
    blames: bool
    code: str


_CALLER: Final = Rule(False, False, "upstream_rejected")
_CHANNEL: Final = Rule(True, True, "upstream_error")
_TIMEOUT: Final = Rule(True, True, "upstream_timeout")
_BUSY: Final = Rule(True, True, "upstream_rate_limited")

KINDS: Final[dict[str, Rule]] = {
    "dns": _CHANNEL,
    "connect": _CHANNEL,
    "tls": _CHANNEL,
    "connect_timeout": _TIMEOUT,
    "write_timeout": _TIMEOUT,
    "first_byte_timeout": _TIMEOUT,
    "idle_timeout": _TIMEOUT,
    "total_timeout": _TIMEOUT,
    "reset": _CHANNEL,
    "protocol": _CHANNEL,
    "truncated": _CHANNEL,
    "closed": _CHANNEL,
    # The same question has the same long answer elsewhere, and asking again costs again.
    "too_large": Rule(False, False, "upstream_error"),
    "bad_body": _CHANNEL,
    "empty": _CHANNEL,
    "in_band": _CHANNEL,
    # Another account may have made what this one does not know.
    "seal": Rule(True, False, "upstream_rejected"),
    "unfit": Rule(True, False, "unsupported_parameter"),
}
STATUSES: Final[dict[int, Rule]] = {
    # The channel's own credential, balance, address or model name is wrong: not the caller's doing.
    401: _CHANNEL,
    402: _CHANNEL,
    403: _CHANNEL,
    404: _CHANNEL,
    405: _CHANNEL,
    407: _CHANNEL,
    410: _CHANNEL,
    # Transient.
    408: _TIMEOUT,
    409: Rule(True, False, "upstream_error"),
    425: Rule(True, False, "upstream_error"),
    429: _BUSY,
    504: _TIMEOUT,
    529: _BUSY,
}


def rule(fault: Fault) -> Rule:
    """What a fault means. Unlisted 4xx are the caller's; any other status and unknown kinds are the channel's."""
    if fault.status and fault.kind in {"status", "in_band"}:
        known = STATUSES.get(fault.status)
        if known is not None:
            return known
        return _CALLER if 400 <= fault.status < 500 else _CHANNEL
    return KINDS.get(fault.kind, _CHANNEL)


def blames_channel(fault: Fault) -> bool:
    """Whether the fault counts against the health of the channel."""
    return rule(fault).blames


def upstream_error(fault: Fault, attempts: int) -> GatewayError:
    """The default `explain`: one of the upstream codes, with the upstream's own words beside it.

    A 401 or 404 of an upstream is never passed on as such: it speaks of the channel's credential
    and model name, not of the caller's.
    """
    code = rule(fault).code if fault.before_first_byte else "stream_interrupted"
    if code == "upstream_rejected" and fault.code == "context_length_exceeded":
        code = fault.code
    told = {"status": fault.status or None, "code": fault.code, "message": fault.message}
    upstream: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    hint = fault.retry_after_ms
    if hint is None and code == "upstream_rate_limited":
        hint = 1000
    return GatewayError(
        code,
        _sentence(fault, code, attempts),
        scope="upstream",
        retry_after_ms=None if hint is None or code == "upstream_rejected" else min(hint, HINT_MAX_MS),
        status=fault.status if code in {"upstream_rejected", "context_length_exceeded"} else None,
        upstream=upstream or None,
    )


def _sentence(fault: Fault, code: str, attempts: int) -> str:
    tries = "after one attempt" if attempts == 1 else f"after {attempts} attempts"
    says = f": {fault.message}" if fault.message else ""
    match code:
        case "unsupported_parameter":
            return fault.message or "no channel can do what is asked for"
        case "upstream_rejected" | "context_length_exceeded":
            return f"the upstream refused the request with {fault.status}{says}"
        case "upstream_timeout":
            return f"the upstream did not answer in time ({fault.kind}), {tries}; nothing was charged"
        case "stream_interrupted":
            return (
                f"the upstream broke off its answer ({fault.kind}); what had arrived of it is charged{says}"
            )
        case "upstream_rate_limited":
            return f"the upstream is limiting its rate, {tries}{says}"
        case _:
            what = f"status {fault.status}" if fault.status else fault.kind
            return f"the upstream failed ({what}), {tries}; nothing was charged{says}"


_SECRET_SHAPED: Final = re.compile(
    r"(?i)\b(?:sk|pk|rk|xai|gsk|r8|hf|nvapi)[-_][\w*-]{8,}|\bAIza[\w-]{10,}|\bbearer\s+\S{20,}|(?P<word>[\w*-]{32,})"
)


_IDS: Final = ("call_", "chatcmpl-", "fc_", "item_", "msg_", "req_", "resp_", "rs_", "toolu_")


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """An upstream's message fit for the caller: no known secret, nothing shaped like one, no control characters.

    At most 500 characters.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    text = _SECRET_SHAPED.sub(_hidden, text[: 8 * MESSAGE_MAX])
    shown = " ".join("".join([char if char.isprintable() else " " for char in text]).split())
    return shown if len(shown) <= MESSAGE_MAX else shown[: MESSAGE_MAX - 1] + "…"


def _hidden(match: re.Match[str]) -> str:
    # A long word is taken for a secret only if it mixes letters and digits; rulers and names do not,
    # and the ids of what was said say themselves that they are none.
    word: str | None = match["word"]
    if word is not None and word.startswith(_IDS):
        return word
    if word is None or (any(map(str.isdigit, word)) and any(map(str.isalpha, word))):
        return "[secret]"
    return word
