"""Testing a channel: a tiny call, whole and streamed, and what its failure means. Bills nobody."""

from __future__ import annotations

from typing import Final

from tollway.core.dialects.openai_chat import check
from tollway.core.dialects.openai_chat.errors_native import error_of
from tollway.core.dialects.openai_chat.native import NativeStream, NativeWhole
from tollway.core.json import encode
from tollway.core.relay import BadAnswer, Relay
from tollway.core.routing.faults import scrubbed
from tollway.core.routing.models import Channel
from tollway.flows.admin.probes import Capability, Check, Finding, Probe, ProbeResult
from tollway.flows.call import Tally
from tollway.flows.clock import new_id, now_ms
from tollway.flows.gate import Gate
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import Transport, UpstreamFault, UpstreamResponse

OUTPUT_TOKENS: Final = 16
ERROR_BODY_MAX: Final = 64 * 1024

_FAULTS: Final[dict[str, Finding]] = {
    "dns": "dns",
    "connect": "refused",
    "tls": "tls",
    "connect_timeout": "timeout",
    "write_timeout": "timeout",
    "first_byte_timeout": "timeout",
    "idle_timeout": "timeout",
    "total_timeout": "timeout",
    "reset": "broken_off",
    "truncated": "broken_off",
    "closed": "broken_off",
    "protocol": "bad_json",
}
_STATUSES: Final[dict[int, Finding]] = {
    401: "unauthorized",
    402: "quota_empty",
    403: "forbidden",
    404: "wrong_path",
    405: "wrong_path",
    429: "rate_limited",
}
_QUOTA_WORDS: Final = ("insufficient_quota", "quota", "billing", "credit")


def prober(gate: Gate) -> Probe:
    """The probe of a running gateway: sends through its transport, whatever a channel's status."""

    async def probe(channel: Channel, model: str) -> ProbeResult:
        try:
            endpoint = gate.endpoint_for(channel)
        except ValueError as error:
            failed = Check(capability="chat", finding="unusable", status=0, latency_ms=0, detail=str(error))
            return ProbeResult(upstream_model=model, checks=(failed,))
        checks = [
            await _try(gate.transport, endpoint, model, capability) for capability in ("chat", "stream")
        ]
        return ProbeResult(upstream_model=model, checks=tuple(checks))

    return probe


async def _try(transport: Transport, endpoint: Endpoint, model: str, capability: Capability) -> Check:
    began = now_ms()
    finding, status, detail = await _send(transport, endpoint, model, streamed=capability == "stream")
    return Check(
        capability=capability,
        finding=finding,
        status=status,
        latency_ms=now_ms() - began,
        detail=scrubbed(endpoint.scrub(detail)),
    )


async def _send(
    transport: Transport, endpoint: Endpoint, model: str, *, streamed: bool
) -> tuple[Finding, int, str]:
    question = {
        "model": "probe",
        "messages": [{"role": "user", "content": "Say OK."}],
        "max_tokens": OUTPUT_TOKENS,
        "stream": streamed,
    }
    request = check.read(encode(question))
    response: UpstreamResponse | None = None
    try:
        call_id = new_id("probe", now_ms())
        response = await transport.send(endpoint.chat(request.body(model, None), call_id, stream=streamed))
        if response.status != 200:
            return await _refused(response)
        if (response.header(b"content-type") or b"").startswith(b"text/html"):
            return "html", response.status, ""
        relay: Relay = NativeStream(model, include_usage=False) if streamed else NativeWhole(model)
        return await _read(response, relay)
    except UpstreamFault as fault:
        return _FAULTS.get(fault.kind, "unusable"), response.status if response else 0, fault.message
    except BadAnswer as error:
        return "bad_json", response.status if response else 0, str(error)
    finally:
        if response is not None:
            response.close()


async def _read(response: UpstreamResponse, relay: Relay) -> tuple[Finding, int, str]:
    tally = Tally()
    while chunk := await response.read_some():
        tally.see(relay.feed(chunk).events)
    tally.see(relay.end().events)
    if tally.failed is not None:
        return "server_error", response.status, tally.failed.message
    return ("empty" if tally.empty() else "ok"), response.status, ""


async def _refused(response: UpstreamResponse) -> tuple[Finding, int, str]:
    body = await response.read_all(ERROR_BODY_MAX)
    code, message = error_of(body)
    words = f"{code or ''} {message or ''}".lower()
    finding = _STATUSES.get(response.status)
    if finding is None:
        finding = "server_error" if response.status >= 500 else "rejected"
    if body.lstrip()[:1] == b"<":
        finding = "html"
    elif response.status == 404 and "model" in words:
        finding = "model_missing"
    elif response.status == 429 and any(word in words for word in _QUOTA_WORDS):
        finding = "quota_empty"
    return finding, response.status, message or ""
