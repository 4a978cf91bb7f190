"""A conversation in its own dialect whose seals another account made: each writer goes on without them."""

from __future__ import annotations

from tests.support.dialects import read_request, write_request

from tollway.core import seals
from tollway.core.dialects.gemini.parts import SENTINEL
from tollway.core.dialects.openai_chat.reasoning import all_thoughts
from tollway.core.exchange import Reasoning, Seal

SEAL = "c2lnbmVkIGJ5IGFub3RoZXIgYWNjb3VudA=="


def rewritten(dialect, body):
    request = read_request(dialect, {"model": "m", **body})
    assert list(seals.unclaimed(request)) == [SEAL]
    written = write_request(dialect, seals.disowned(request))
    assert SEAL not in str(written.body)
    assert written.losses
    return written.body


def test_messages_go_on_without_thinking_amid_their_tool_calls():
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    thought = {"type": "thinking", "thinking": "why", "signature": SEAL}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    body = {
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "unknown": {"kept": True},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [result]},
        ],
    }
    found = rewritten("anthropic", body)
    assert found["thinking"] == {"type": "disabled"}
    assert found["unknown"] == {"kept": True}
    assert found["messages"][1]["content"] == [call]


def test_responses_lose_the_ids_that_tie_items_to_a_lost_thought():
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SEAL},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
    ]
    found = rewritten("openai_responses", {"input": items})["input"]
    assert [item["type"] for item in found] == ["message", "function_call", "function_call_output"]
    assert "id" not in found[1]
    assert found[1]["call_id"] == found[2]["call_id"] == "call_1"


def test_gemini_is_told_not_to_look_for_a_signature():
    call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SEAL}
    contents = [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "x"}}}]},
    ]
    found = rewritten("gemini", {"contents": contents})["contents"]
    assert found[1]["parts"][0]["thoughtSignature"] == SENTINEL


def test_thoughts_told_between_signed_ones_keep_their_place():
    signed = Reasoning("0", seal=Seal("openai_chat", "0"))
    assert all_thoughts("010", {}, [signed, signed]) == [signed, Reasoning("1"), signed]
    assert all_thoughts("abc", {}, [signed]) == [signed]
