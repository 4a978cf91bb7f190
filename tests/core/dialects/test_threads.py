"""Messages' threads: begun without one being kept, so that continuing one asks for the conversation again."""

from __future__ import annotations

import json

import pytest

from tollway.core.dialects.anthropic.errors import write_error
from tollway.core.dialects.checked import ask
from tollway.core.errors import GatewayError

BODY = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello!"}]}
CONTINUE = {"type": "continue", "previous_message_id": "msg_1"}


@pytest.mark.parametrize("thread", [None, {"type": "create"}])
def test_no_upstream_is_asked_to_keep_a_thread(thread):
    found = ask("anthropic", {**BODY, "thread": thread})
    assert json.loads(found.body("m", None)) == BODY
    assert found.exchange().extras == {}


@pytest.mark.parametrize("messages", [BODY["messages"], []])
def test_a_thread_is_never_found_as_the_sdks_know_it(messages):
    with pytest.raises(GatewayError) as caught:
        ask("anthropic", {**BODY, "messages": messages, "thread": CONTINUE})
    status, body = write_error(caught.value, "req_1")
    assert (status, body["error"]["type"]) == (404, "not_found_error")
    assert body["error"]["details"]["error_code"] == "thread_not_found"


@pytest.mark.parametrize(
    ("thread", "param"), [("new", "thread"), ({"type": "fork"}, "thread.type"), ([], "thread")]
)
def test_other_threads_are_nonsense(thread, param):
    with pytest.raises(GatewayError) as caught:
        ask("anthropic", {**BODY, "thread": thread})
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
