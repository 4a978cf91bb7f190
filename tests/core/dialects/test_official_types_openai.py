"""What we write for OpenAI's clients passes the types of OpenAI's own SDK, in every cell."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.support.dialects import (
    NAMES,
    READING,
    cases,
    events_of,
    golden,
    objects_of,
    read_request,
)

from tollway.core.dialects.base import Bill, Reply
from tollway.core.dialects.registry import DIALECTS

EVENTS = TypeAdapter(ResponseStreamEvent)


def written(client, upstream, case):
    """The same answer whole and streamed, with a bill, as a reply to the client's own request."""
    mine, theirs = golden(client, case), golden(upstream, case)
    request = read_request(client, mine["request"]) if "request" in mine else None
    reply = Reply(token="T0ken", model="public-model", created=1_790_000_000, request=request)
    bill = Bill(cost=1.5)
    response = DIALECTS[upstream].read_response(theirs["response"], READING)
    whole = DIALECTS[client].write_response(response, reply, bill)
    return whole, objects_of(client, events_of(upstream, theirs["stream"], READING), reply, bill)


@pytest.mark.parametrize("upstream", NAMES)
@pytest.mark.parametrize("case", cases("response"))
def test_chat_answers_are_valid(upstream, case):
    whole, objects = written("openai_chat", upstream, case)
    assert ChatCompletion.model_validate(whole).usage.model_extra == {"cost": 1.5}
    for one in objects[:-1]:
        ChatCompletionChunk.model_validate(one)


@pytest.mark.parametrize("upstream", NAMES)
@pytest.mark.parametrize("case", cases("response"))
def test_responses_answers_are_valid(upstream, case):
    whole, objects = written("openai_responses", upstream, case)
    assert Response.model_validate(whole).usage.model_extra == {"cost": 1.5}
    for one in objects:
        EVENTS.validate_python(one)
