"""What a test of a channel found, and what that means in plain language."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from msgspec import Struct

from tollway.core.routing.models import Channel

Capability = Literal["chat", "stream", "tools", "count"]
Finding = Literal[
    "ok",
    "html",
    "unauthorized",
    "forbidden",
    "wrong_path",
    "model_missing",
    "rate_limited",
    "quota_empty",
    "rejected",
    "server_error",
    "bad_json",
    "empty",
    "no_tool_call",
    "broken_off",
    "dns",
    "refused",
    "tls",
    "timeout",
    "unusable",
]

SLOW_MS: Final = 5000
"""A first answer later than this is reported as slow."""


class Check(Struct, frozen=True, kw_only=True):
    """One capability tried on one model. `status`: the upstream's HTTP status, 0 if none came.

    `detail` is the upstream's own words, shortened and without the channel's credential.
    """

    capability: Capability
    finding: Finding
    status: int
    latency_ms: int
    detail: str = ""


class ProbeResult(Struct, frozen=True, kw_only=True):
    """What one model of a channel answered."""

    upstream_model: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether the channel can serve: an upstream that only streams (or never does) passes too.

        Tools and counting are told of, and needed by nobody who does not ask for them.
        """
        return any(check.finding == "ok" and check.capability in ("chat", "stream") for check in self.checks)


Probe = Callable[[Channel, str], Awaitable[ProbeResult]]
"""Sends tiny calls through a channel to one of its upstream models; bills nobody."""

Listing = Callable[[Channel], Awaitable[tuple[str, ...] | str]]
"""Asks a channel's upstream for its models; a text says in plain words why there is no list."""

_MEANINGS: Final[dict[Finding, tuple[str, str]]] = {
    "ok": ("it works", ""),
    "html": (
        "the upstream answered with a web page, not an API answer",
        "The base URL should probably end in /v1, or a proxy or login page intercepts the request",
    ),
    "unauthorized": (
        "the upstream rejected the credential",
        "Give it a valid key: tollway channel rotate NAME --secret-env VARIABLE",
    ),
    "forbidden": (
        "the upstream knows the credential but forbids this: a region, an IP rule or a missing permission",
        "Check the key's permissions and allowed regions at the provider",
    ),
    "wrong_path": (
        "the upstream has no such path",
        "The base URL is probably wrong; most OpenAI-compatible upstreams want it to end in /v1",
    ),
    "model_missing": (
        "the upstream does not know this model",
        "Map the public name to the name the upstream uses: --model public=upstream",
    ),
    "rate_limited": ("the upstream limits the rate of calls", "Wait, or ask the provider for a higher limit"),
    "quota_empty": ("the credential's quota or credit is used up", "Top up the account at the provider"),
    "rejected": ("the upstream refused the request", "Read its own words and check the model's name"),
    "server_error": ("the upstream failed", "Try again later; look at the provider's status page"),
    "bad_json": (
        "the upstream's answer is no JSON of this dialect",
        "Check the dialect and the base URL of the channel",
    ),
    "empty": ("the upstream answered without content", "Try another model of this channel"),
    "no_tool_call": (
        "the upstream answered, but did not call the tool it was told to call",
        "Do not offer this model to agents; local servers often need a tool parser to be switched on",
    ),
    "broken_off": ("the upstream's answer broke off", "Try again; a proxy in between may cut long answers"),
    "dns": ("the host's name does not resolve", "Check the host in the base URL and this machine's DNS"),
    "refused": ("nothing accepts connections there", "Check host and port, and that the upstream is running"),
    "tls": (
        "the encrypted connection failed",
        "Check the certificate, and that the URL's scheme (http or https) fits the port",
    ),
    "timeout": ("the upstream did not answer in time", "Check that it is reachable, or raise its timeouts"),
    "unusable": ("the channel cannot be used as it is configured", "Read the detail and correct the channel"),
}


def meaning(check: Check) -> str:
    """A finding in plain language."""
    words = _MEANINGS[check.finding][0]
    if check.finding == "ok" and check.latency_ms > SLOW_MS:
        return f"it works, but slowly: {check.latency_ms / 1000:.1f} s until the answer"
    return words


def advice(check: Check) -> str:
    """What helps against a finding; "" where nothing is needed."""
    if check.finding == "ok" and check.latency_ms > SLOW_MS:
        return "Lower the channel's priority, or check the upstream's load"
    return _MEANINGS[check.finding][1]
