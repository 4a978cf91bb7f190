"""Legacy completions: a prompt becomes a conversation, its answer a completion."""

from __future__ import annotations

import pytest

from tollway.core.dialects.base import DONE, Bill, Reply
from tollway.core.dialects.checked import read_completion
from tollway.core.dialects.openai_chat import completions
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Counted,
    Finished,
    PartEnded,
    PartGrew,
    PartStarted,
    Response,
    Started,
    Text,
    Usage,
)

REPLY = Reply(token="T", model="public", created=5)
BILL = Bill(cost=2)


def test_a_prompt_is_asked_as_the_words_of_a_user():
    asked = read_completion(
        b'{"model":"m","prompt":["Once"],"max_tokens":9,"stop":"x","temperature":0.5,"n":1,"logprobs":null,"echo":false}'
    )
    request = asked.exchange()
    assert [part.text for part in request.turns[0].parts] == ["Once"]
    assert (request.sampling.max_output_tokens, request.sampling.stop) == (9, ("x",))
    assert (asked.verb, asked.native, asked.output_wanted) == ("complete", None, 9)
    assert asked.input_bound >= len("Once")


def test_what_is_not_said_is_what_this_api_always_assumed():
    assert read_completion(b'{"model":"m","prompt":"a"}').output_wanted == 16


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"m"}', "prompt"),
        (b'{"model":"m","prompt":""}', "prompt"),
        (b'{"model":"m","prompt":["a","b"]}', "prompt"),
        (b'{"model":"m","prompt":[1,2]}', "prompt"),
        (b'{"model":"m","prompt":"a","n":2}', "n"),
        (b'{"model":"m","prompt":"a","echo":true}', "echo"),
        (b'{"model":"m","prompt":"a","suffix":"z"}', "suffix"),
        (b'{"model":"m","prompt":"a","logprobs":3}', "logprobs"),
        (b'{"model":"m","prompt":"a","api_base":"http://x"}', "api_base"),
        (b'{"prompt":"a"}', "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body, param):
    with pytest.raises(GatewayError) as caught:
        read_completion(body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_whole_answer_is_a_completion_with_its_cost():
    response = Response(
        id="r",
        model="m",
        parts=(Text(text="Hi"),),
        finish=Finished("stop", "stop"),
        usage=Usage(input=1, output=2),
    )
    found = completions.write_response(response, REPLY, BILL)
    assert (found["id"], found["object"], found["model"]) == ("cmpl-T", "text_completion", "public")
    assert found["choices"] == [{"text": "Hi", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert (found["usage"]["completion_tokens"], found["usage"]["cost"]) == (2, 2)


def test_a_stream_is_pieces_of_text_and_then_the_usage():
    writer = completions.dialect(DIALECTS["openai_chat"]).writer(REPLY)
    objects = []
    for event in (
        Started("r", "m"),
        PartStarted(0, Text(text="")),
        PartGrew(0, "Once "),
        PartGrew(0, "more"),
        PartEnded(0),
        Counted(Usage(input=1, output=2)),
        Finished("length", "length"),
    ):
        objects += writer.send(event)
    objects += writer.close(BILL)
    assert objects[-1] == DONE
    assert objects[-2]["choices"] == []
    assert objects[-2]["usage"]["cost"] == 2
    chunks = objects[:-2]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Once more"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert all("delta" not in chunk["choices"][0] for chunk in chunks)
