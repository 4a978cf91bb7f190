"""What we write for Anthropic's and Google's clients passes the types of their own SDKs, in every cell."""

from __future__ import annotations

import copy

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from pydantic import TypeAdapter
from tests.support.dialects import NAMES, READING, cases, events_of, golden, objects_of

from tollway.core.dialects.base import Bill, Reply
from tollway.core.dialects.registry import DIALECTS

EVENTS = TypeAdapter(RawMessageStreamEvent)
REPLY = Reply(token="T0ken", model="public-model", created=1_790_000_000)


def written(client, upstream, case):
    theirs = golden(upstream, case)
    bill = Bill(cost=1.5)
    response = DIALECTS[upstream].read_response(theirs["response"], READING)
    whole = DIALECTS[client].write_response(response, REPLY, bill)
    return whole, objects_of(client, events_of(upstream, theirs["stream"], READING), REPLY, bill)


@pytest.mark.parametrize("upstream", NAMES)
@pytest.mark.parametrize("case", cases("response"))
def test_messages_answers_are_valid(upstream, case):
    whole, objects = written("anthropic", upstream, case)
    assert Message.model_validate(whole).usage.model_extra["cost"] == 1.5
    for one in objects:
        if one["type"] != "ping":
            EVENTS.validate_python(one)


@pytest.mark.parametrize("upstream", NAMES)
@pytest.mark.parametrize("case", cases("response"))
def test_gemini_answers_are_valid(upstream, case):
    whole, objects = written("gemini", upstream, case)
    for one in [whole, *objects]:
        # The SDK drops the members it does not know, such as the cost, and is strict with the rest.
        GenerateContentResponse._from_response(response=copy.deepcopy(one), kwargs={})
