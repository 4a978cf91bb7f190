"""Streams of the well-behaved models follow OpenAI's grammar and say what the whole answer says."""

import pytest
from tests.upstream.sandbox.raw import question
from tests.upstream.sandbox.test_chat_answers import TOOLS

CASES = {
    "text": question("sandbox-chat"),
    "cut": question("sandbox-chat", max_tokens=6),
    "reasoning": question("sandbox-reasoning"),
    "two choices": question("sandbox-chat", n=2),
    "tools": question("sandbox-chat", "weather, time, take note", tools=TOOLS),
    "reasoned tools": question("sandbox-reasoning", "weather", tools=TOOLS),
    "cut tool": question("sandbox-chat", "weather", tools=TOOLS, max_tokens=3),
    "refusal": question("sandbox-refusal"),
    "filter": question("sandbox-filter"),
    "logprobs": question("sandbox-chat", logprobs=True, top_logprobs=2),
    "echo": question("sandbox-echo", "日本 🙂 text"),
    "nothing": question("sandbox-tokens-0"),
    "long": question("sandbox-long"),
}


def fold(chunks):
    """Rebuild the choices of a whole answer from chunks."""
    choices = {}
    for chunk in chunks:
        for part in chunk["choices"]:
            delta = part["delta"]
            choice = choices.setdefault(
                part["index"], {"message": {"calls": {}}, "logprobs": [], "finish_reason": None}
            )
            assert choice["finish_reason"] is None
            choice["finish_reason"] = part["finish_reason"]
            choice["logprobs"] += (part["logprobs"] or {}).get("content") or []
            for name in ("content", "refusal", "reasoning_content"):
                if delta.get(name):
                    choice["message"][name] = choice["message"].get(name, "") + delta[name]
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    assert call["index"] == len(choice["message"]["calls"])
                    choice["message"]["calls"][call["index"]] = call
                else:
                    opened = choice["message"]["calls"][call["index"]]
                    kind, field = (opened["type"], "arguments" if opened["type"] == "function" else "input")
                    opened[kind][field] += call[kind][field]
    return choices


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_a_stream_folds_into_the_whole_answer(sandbox, body):
    whole = sandbox.ask(**ask_of(body)).json()
    answer = sandbox.ask(**ask_of(body), stream=True, stream_options={"include_usage": True})
    assert (answer.status, answer.end) == (200, "complete")
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.payloads()[-1] == "[DONE]" and answer.payloads().count("[DONE]") == 1
    *chunks, last = answer.chunks()
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in chunks)
    assert (
        len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in [*chunks, last]})
        == 1
    )
    streamed = fold(chunks)
    for choice in whole["choices"]:
        same = streamed[choice["index"]]
        said = choice["message"]
        assert same["finish_reason"] == choice["finish_reason"]
        assert same["logprobs"] == ((choice["logprobs"] or {}).get("content") or [])
        for name in ("content", "refusal", "reasoning_content"):
            assert same["message"].get(name, "") == (said.get(name) or "")
        calls = [
            {name: value for name, value in call.items() if name != "index"}
            for call in same["message"]["calls"].values()
        ]
        assert calls == said.get("tool_calls", [])


def ask_of(body):
    fields = {name: value for name, value in body.items() if name != "messages"}
    return {**fields, "text": body["messages"][0]["content"]}


def test_one_token_per_chunk_between_role_and_finish(sandbox):
    answer = sandbox.ask("sandbox-tokens-500", stream=True)
    first, *middle, last = answer.chunks()
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert len(middle) == 500 and all(chunk["choices"][0]["delta"].keys() == {"content"} for chunk in middle)
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")


def test_without_include_usage_there_is_none(sandbox):
    assert all("usage" not in chunk for chunk in sandbox.ask("sandbox-chat", stream=True).chunks())


def test_choices_are_interleaved(sandbox):
    order = [
        chunk["choices"][0]["index"] for chunk in sandbox.ask("sandbox-tokens-3", stream=True, n=2).chunks()
    ]
    assert order == [0, 1] * 5
