"""What native relays send is what the makers' own SDKs read: their stream decoders, their types."""

from __future__ import annotations

import copy
import json

import pytest
from anthropic._streaming import SSEDecoder as AnthropicDecoder
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai._streaming import SSEDecoder as OpenAIDecoder
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.core.dialects.native.relays import (
    ESTIMATED,
    RECEIPT,
    golden_wire,
    run,
    stream_of,
    whole_of,
    wire,
)
from tests.core.dialects.native.test_golden_streams import unmetered
from tests.support.dialects import cases, golden

from tollway.core.errors import GatewayError

ANSWERS = cases("response")
MESSAGE_EVENTS = TypeAdapter(RawMessageStreamEvent)
RESPONSE_EVENTS = TypeAdapter(ResponseStreamEvent)


def streamed(dialect, case, **options):
    """The bytes of a good answer, of an estimated one, and of one that broke."""
    objects = golden(dialect, case)["stream"]
    good, _ = run(stream_of(dialect, **options), golden_wire(dialect, case))
    estimated, _ = run(stream_of(dialect, **options), wire(dialect, unmetered(objects)), receipt=ESTIMATED)
    broken = stream_of(dialect, **options)
    start = broken.feed(wire(dialect, objects[:-2])).out
    return good, estimated, start + broken.fail(GatewayError("stream_interrupted", "It broke."), "req_1")


def whole(dialect, case):
    relay = whole_of(dialect)
    relay.feed(json.dumps(golden(dialect, case)["response"]).encode())
    relay.end()
    return json.loads(relay.close(RECEIPT))


@pytest.mark.parametrize("case", ANSWERS)
def test_anthropics_client_reads_every_event(case):
    good, estimated, broken = streamed("anthropic", case)
    for data in (good, estimated, broken):
        events = list(AnthropicDecoder().iter_bytes(iter([data])))
        assert None not in [one.event for one in events]
        for one in events:
            if one.event not in ("ping", "error"):
                MESSAGE_EVENTS.validate_python(one.json())
    assert events[-1].event == "error"
    assert Message.model_validate(whole("anthropic", case)).usage.model_extra["cost"] == RECEIPT.cost


@pytest.mark.parametrize("case", ANSWERS)
def test_openais_client_reads_every_event(case):
    good, estimated, broken = streamed("openai_responses", case)
    for data in (good, estimated, broken):
        events = list(OpenAIDecoder().iter_bytes(iter([data])))
        for one in events:
            if one.event != "error":
                RESPONSE_EVENTS.validate_python(one.json())
                assert one.event == one.json()["type"]
    assert [one.event for one in events[-2:]] == ["error", "response.failed"]
    assert Response.model_validate(whole("openai_responses", case)).usage.model_extra["cost"] == RECEIPT.cost


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("case", ANSWERS)
def test_googles_client_reads_every_chunk(case, array):
    for data in streamed("gemini", case, array=array):
        # Its own decoder takes nothing but these lines.
        lines = [line for line in data.decode().split("\r\n") if line] if not array else []
        assert all(line.startswith("data: {") for line in lines)
        for one in json.loads(data) if array else [json.loads(line[6:]) for line in lines]:
            if "error" not in one:
                GenerateContentResponse._from_response(response=copy.deepcopy(one), kwargs={})
    GenerateContentResponse._from_response(response=whole("gemini", case), kwargs={})
