"""Testing a channel: a tiny call, whole, streamed, with a tool and counted, and what a failure means. Bills nobody."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tollway.core.dialects.base import Reading, Reply, Written
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.translated import TranslatedStream, TranslatedWhole
from tollway.core.exchange import (
    Event,
    PartStarted,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Turn,
)
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer, Relay
from tollway.core.routing.faults import scrubbed
from tollway.core.routing.models import Channel
from tollway.flows.admin.probes import Capability, Check, Finding, Listing, Probe, ProbeResult
from tollway.flows.call import Tally
from tollway.flows.clock import new_id, now_ms
from tollway.flows.gate import Gate
from tollway.flows.listings import names_in
from tollway.flows.targets import target_by_name
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import Transport, UpstreamFault, UpstreamRequest, UpstreamResponse

OUTPUT_TOKENS: Final = 16
ERROR_BODY_MAX: Final = 64 * 1024
ANSWER_MAX: Final = 4 * 1024 * 1024
PARTS: Final[tuple[Capability, ...]] = ("chat", "stream", "tools", "count")

_Outcome = tuple[Finding, int, str]

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
_TOOL: Final = Tool(
    name="get_time",
    description="The time at a place.",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The place."}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


def prober(gate: Gate) -> Probe:
    """The probe of a running gateway: sends through its transport, whatever a channel's status."""

    async def probe(channel: Channel, model: str) -> ProbeResult:
        try:
            endpoint = gate.endpoint_for(channel)
        except ValueError as error:
            failed = Check(capability="chat", finding="unusable", status=0, latency_ms=0, detail=str(error))
            return ProbeResult(upstream_model=model, checks=(failed,))
        checks: list[Check] = []
        for part in PARTS:
            if part == "tools" and not any(check.finding == "ok" for check in checks):
                # Nobody waits for the same failure four times.
                break
            made = await _try(gate.transport, endpoint, model, part)
            if made is not None:
                checks.append(made)
        return ProbeResult(upstream_model=model, checks=tuple(checks))

    return probe


def lister(gate: Gate) -> Listing:
    """Asks a channel's upstream which models it has. See `Listing`."""

    async def models(channel: Channel) -> tuple[str, ...] | str:
        try:
            endpoint = gate.endpoint_for(channel)
            request = endpoint.models(new_id("probe", now_ms()))
        except ValueError as error:
            return str(error)
        if request is None:
            return "this upstream has no list of models"
        told = await _listed(gate.transport, endpoint, request)
        return scrubbed(endpoint.scrub(told)) if isinstance(told, str) else told

    return models


async def _listed(
    transport: Transport, endpoint: Endpoint, request: UpstreamRequest
) -> tuple[str, ...] | str:
    response: UpstreamResponse | None = None
    try:
        response = await _sent(transport, endpoint, request)
        if response.status != 200:
            finding, status, message = await _refused(response, endpoint)
            return (
                f"its list of models was refused with status {status} ({finding.replace('_', ' ')}) {message}"
            )
        return names_in(endpoint.dialect, _object(await response.read_all(ANSWER_MAX)))
    except UpstreamFault as fault:
        return f"its list of models could not be had: {fault.message}"
    except BadAnswer as error:
        return f"its list of models cannot be read: {error}"
    finally:
        if response is not None:
            response.close()


async def _try(transport: Transport, endpoint: Endpoint, model: str, capability: Capability) -> Check | None:
    """One check; None where the upstream has no such call."""
    began = now_ms()
    written = _question(endpoint, model, capability)
    request = _request(endpoint, model, capability, written)
    if request is None:
        return None
    finding, status, detail = await _outcome(transport, endpoint, request, (capability, written, model))
    return Check(
        capability=capability,
        finding=finding,
        status=status,
        latency_ms=now_ms() - began,
        detail=scrubbed(endpoint.scrub(detail)),
    )


def _question(endpoint: Endpoint, model: str, capability: Capability) -> Written:
    wanted = Request(
        model=model,
        turns=(Turn(role="user", parts=(Text(text="Say OK."),)),),
        origin="",
        sampling=Sampling(max_output_tokens=OUTPUT_TOKENS),
        stream=capability in ("stream", "tools"),
    )
    if capability == "tools":
        asked = Turn(role="user", parts=(Text(text="What time is it in Hanoi? Use the tool."),))
        wanted = replace(
            wanted,
            turns=(asked,),
            tools=(_TOOL,),
            tool_choice=ToolChoice(mode="required"),
            sampling=Sampling(max_output_tokens=OUTPUT_TOKENS * 16),
        )
    dialect = DIALECTS[endpoint.dialect]
    target = target_by_name(endpoint.channel, model, endpoint.scope)
    if capability == "count":
        return dialect.counting.write_request(wanted, target) if dialect.counting else Written({})
    return dialect.write_request(wanted, target)


def _request(
    endpoint: Endpoint, model: str, capability: Capability, written: Written
) -> UpstreamRequest | None:
    call_id, body = new_id("probe", now_ms()), encode(written.body)
    if capability == "count":
        return endpoint.count(body, call_id, model=model)
    return endpoint.text(body, call_id, model=model, stream=capability in ("stream", "tools"))


async def _sent(transport: Transport, endpoint: Endpoint, request: UpstreamRequest) -> UpstreamResponse:
    return await transport.send(request if endpoint.authorise is None else await endpoint.authorise(request))


async def _outcome(
    transport: Transport,
    endpoint: Endpoint,
    request: UpstreamRequest,
    asked: tuple[Capability, Written, str],
) -> _Outcome:
    response: UpstreamResponse | None = None
    try:
        response = await _sent(transport, endpoint, request)
        if response.status != 200:
            return await _refused(response, endpoint)
        if (response.header(b"content-type") or b"").startswith(b"text/html"):
            return "html", response.status, ""
        return await _answer(response, endpoint, *asked)
    except UpstreamFault as fault:
        return _FAULTS.get(fault.kind, "unusable"), response.status if response else 0, fault.message
    except BadAnswer as error:
        return "bad_json", response.status if response else 0, str(error)
    finally:
        if response is not None:
            response.close()


async def _answer(
    response: UpstreamResponse, endpoint: Endpoint, capability: Capability, written: Written, model: str
) -> _Outcome:
    dialect = DIALECTS[endpoint.dialect]
    if capability == "count":
        assert dialect.counting is not None, "there was a call to be made"
        dialect.counting.read_count(_object(await response.read_all(ANSWER_MAX)))
        return "ok", response.status, ""
    reading, reply = Reading(scope=endpoint.scope, token="probe", undo=written.undo), Reply(model=model)  # noqa: S106 - an id
    streamed = capability != "chat"
    relay: Relay = (TranslatedStream if streamed else TranslatedWhole)(
        dialect, DIALECTS["openai_chat"], reading, reply
    )
    tally, called = await _read(response, endpoint, relay)
    if tally.failed is not None:
        return "server_error", response.status, tally.failed.message
    if tally.empty():
        return "empty", response.status, ""
    return ("no_tool_call" if capability == "tools" and not called else "ok"), response.status, ""


async def _read(response: UpstreamResponse, endpoint: Endpoint, relay: Relay) -> tuple[Tally, bool]:
    kind = response.header(b"content-type") or b""
    unwrap = endpoint.unwrapper(kind, stream=relay.streamed)
    tally, called = Tally(), False
    while chunk := await response.read_some():
        events = relay.feed(chunk if unwrap is None else unwrap(chunk)).events
        tally.see(events)
        called = called or _has_call(events)
    events = relay.end().events
    tally.see(events)
    return tally, called or _has_call(events)


def _has_call(events: list[Event]) -> bool:
    return any(isinstance(event, PartStarted) and isinstance(event.part, ToolCall) for event in events)


async def _refused(response: UpstreamResponse, endpoint: Endpoint) -> _Outcome:
    body = await response.read_all(ERROR_BODY_MAX)
    if body.lstrip()[:1] == b"<":
        return "html", response.status, ""
    try:
        told = DIALECTS[endpoint.dialect].read_error(response.status, decode(body))
        code, message, kind = told.code, told.message, told.kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        code, message, kind = "", "", "server"
    words = f"{code} {message}".lower()
    finding = _STATUSES.get(response.status)
    if finding is None:
        finding = "server_error" if response.status >= 500 else "rejected"
    if kind == "credits" or (response.status == 429 and any(word in words for word in _QUOTA_WORDS)):
        finding = "quota_empty"
    elif (response.status in (400, 404) and kind == "not_found" and "model" in words) or (
        response.status == 404 and "model" in words
    ):
        finding = "model_missing"
    elif response.status == 400 and "api key" in words:
        # Google says so of a wrong key.
        finding = "unauthorized"
    return finding, response.status, message


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if type(value) is not dict:
        raise BadAnswer("the answer is not a JSON object")
    return value
