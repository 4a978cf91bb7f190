"""The Responses mouth: what it refuses, what it seals, and the ladder of its events."""

import json

import pytest
from tests.upstream.sandbox.dialects import CITY
from tests.upstream.sandbox.raw import post

TOOL = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": False}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
HI = {"role": "user", "content": "Hello"}
SEALED = "reasoning.encrypted_content"


def body(*items, **fields):
    return {"model": "sandbox-chat", "input": list(items) or "Hello", **fields}


def send(sandbox, given, key="one"):
    return sandbox.fetch(post(given, "/v1/responses", {"authorization": f"Bearer {key}"}))


def message(*parts, role="user"):
    return {"type": "message", "role": role, "content": list(parts)}


# What is sent, the status, the code, the parameter and a piece of the message.
REFUSED = {
    "no input": ({"model": "sandbox-chat"}, 400, "missing_required_parameter", "input"),
    "no model": ({"input": "x"}, 400, "missing_required_parameter", "model"),
    "an empty list": ({"model": "sandbox-chat", "input": []}, 400, "invalid_value", "input"),
    "messages": (body(messages=[]), 400, "unsupported_parameter", "messages"),
    "max_tokens": (body(max_tokens=5), 400, "unsupported_parameter", "max_tokens"),
    "response_format": (body(response_format={}), 400, "unsupported_parameter", "response_format"),
    "stored state": (body(previous_response_id="resp_1"), 400, "previous_response_not_found", "previous_response_id"),
    "a stored item": (body({"type": "item_reference", "id": "msg_1"}), 404, None, "input"),
    "in the background": (body(background=True), 400, "invalid_value", "background"),
    "few tokens": (body(max_output_tokens=15), 400, "integer_below_min_value", "max_output_tokens"),
    "a role of chat": (body({"role": "tool", "content": "x"}), 400, "invalid_value", "input[0].role"),
    "a part of chat": (body(message({"type": "text", "text": "x"})), 400, "invalid_value", "input[0].content[0].type"),
    "an item without a type": (body({"content": "x"}), 400, "missing_required_parameter", "input[0].type"),
    "an id of another kind": (body({**HI, "type": "message", "id": "fc_1"}), 400, "invalid_value", "input[0].id"),
    "no call_id": (body({**CALL, "call_id": ""}), 400, "missing_required_parameter", "input[0].call_id"),
    "a long call_id": (body({**CALL, "call_id": "x" * 65}), 400, "string_above_max_length", "input[0].call_id"),
    "no arguments": (body({"type": "function_call", "call_id": "c", "name": "f"}), 400, "missing_required_parameter", "input[0].arguments"),
    "no output": (body(CALL, {"type": "function_call_output", "call_id": "call_1"}), 400, "missing_required_parameter", "input[1].output"),
    "a call without output": (body(HI, CALL), 400, "invalid_value", "input"),
    "output without a call": (body(HI, OUTPUT), 400, "invalid_value", "input"),
    "output of the other kind": (body(CALL, {**OUTPUT, "type": "custom_tool_call_output"}), 400, "invalid_value", "input"),
    "reasoning that was not kept": (body(HI, {"type": "reasoning", "id": "rs_1", "summary": []}, CALL, OUTPUT), 404, None, "input"),
    "forged reasoning": (body(HI, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"}, CALL, OUTPUT), 400, "invalid_encrypted_content", "input"),
    "a tool of chat": (body(tools=[{"type": "function", "function": {"name": "f"}}]), 400, "missing_required_parameter", "tools[0].name"),
    "a tool without a type": (body(tools=[{"name": "f"}]), 400, "missing_required_parameter", "tools[0].type"),
    "a loose schema": (body(tools=[{**TOOL, "strict": True}]), 400, "invalid_function_parameters", "tools[0].parameters"),
    "a choice of chat": (body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}}), 400, "missing_required_parameter", "tool_choice.name"),
    "a format of chat": (body(text={"format": {"type": "json_schema", "json_schema": {}}}), 400, "missing_required_parameter", "text.format.name"),
    "an unknown model": ({"model": "gpt-nonesuch", "input": "x"}, 400, "model_not_found", "model"),
    "a picky model": ({"model": "sandbox-picky", "input": "x", "temperature": 1}, 400, "unsupported_parameter", "temperature"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "status", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(sandbox, given, status, code, param):
    answer = send(sandbox, given)
    assert answer.status == status, answer.body
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")


FINE = {
    "items": body({"role": "developer", "content": "x"}, HI, {"role": "assistant", "content": "y"}, HI),
    "parts": body(message({"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "https://example.com/x.png"})),
    "an output of parts": body(HI, CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "x"}]}),
    "a hosted tool": body(tools=[{"type": "web_search"}]),
    "hosted items": body(HI, {"type": "web_search_call", "id": "ws_1", "status": "completed"}, HI),
    "unknown fields": body(client_metadata={"x": "y"}),
    "a strict schema": body(tools=[{**TOOL, "strict": True, "parameters": {**CITY, "additionalProperties": False}}]),
    "nothing kept": body(store=False),
}  # fmt: skip


@pytest.mark.parametrize("given", FINE.values(), ids=FINE)
def test_what_is_accepted(sandbox, given):
    answer = send(sandbox, given)
    assert answer.status == 200, answer.body


def reasoned(sandbox, **fields):
    given = body({"role": "user", "content": "weather?"}, tools=[TOOL], include=[SEALED], **fields)
    given["model"] = "sandbox-reasoning"
    return given, send(sandbox, given).json()["output"]


def test_reasoning_comes_back_sealed(sandbox):
    given, (reasoning, call) = reasoned(sandbox)
    output = {**OUTPUT, "call_id": call["call_id"]}
    start = given["input"]

    def sent(*items, key="one"):
        answer = send(sandbox, {**given, "input": [*start, *items]}, key)
        return answer.status, (answer.json()["error"] or {}).get("message", "")

    assert sent(reasoning, call, output) == (200, "")
    altered = {**reasoning, "encrypted_content": reasoning["encrypted_content"][:-6] + "AAAAA="}
    assert "could not be verified" in sent(altered, call, output)[1]
    assert "could not be verified" in sent(reasoning, call, output, key="two")[1]
    assert "without its required following item" in sent(reasoning)[1]
    assert "without its required 'reasoning' item" in sent(call, output)[1]
    free = {name: value for name, value in call.items() if name != "id"}
    assert sent(free, output) == (200, "")


def test_reasoning_is_sealed_and_summarised_only_where_asked_for(sandbox):
    _, (reasoning, _) = reasoned(sandbox)
    assert reasoning["summary"] == [] and reasoning["encrypted_content"]
    _, (shown, _) = reasoned(sandbox, reasoning={"summary": "auto"})
    assert shown["summary"][0]["text"]
    plain = send(sandbox, {"model": "sandbox-reasoning", "input": "x"}).json()
    assert "encrypted_content" not in plain["output"][0]
    assert plain["usage"]["output_tokens_details"]["reasoning_tokens"] == 32


LADDERS = {
    "text": (body(), ["message"]),
    "a call": (body({"role": "user", "content": "weather"}, tools=[TOOL]), ["function_call"]),
    "a custom call": (body({"role": "user", "content": "note it"}, tools=[{"type": "custom", "name": "note"}]), ["custom_tool_call"]),
    "reasoning": ({"model": "sandbox-reasoning", "input": "x", "reasoning": {"summary": "auto"}}, ["reasoning", "message"]),
    "hidden reasoning": ({"model": "sandbox-reasoning", "input": "x"}, ["reasoning", "message"]),
    "a refusal": ({"model": "sandbox-refusal", "input": "x"}, ["message"]),
    "a citation": ({"model": "sandbox-citation", "input": "x"}, ["message"]),
    "length": (body(max_output_tokens=16), ["message"]),
    "nothing": ({"model": "sandbox-empty-choice", "input": "x"}, []),
    "logprobs": (body(include=["message.output_text.logprobs"], top_logprobs=2), ["message"]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "kinds"), LADDERS.values(), ids=LADDERS)
def test_the_ladder_of_events(sandbox, given, kinds):
    answer = send(sandbox, {**given, "stream": True})
    names = [line[7:] for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    events = answer.chunks()
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert names[:2] == ["response.created", "response.in_progress"]
    final = events[-1]["response"]
    assert names[-1] == f"response.{final['status']}" and "[DONE]" not in answer.payloads()
    assert [item["type"] for item in final["output"]] == kinds
    whole = send(sandbox, given).json()
    assert shape(whole) == shape(final)
    rebuilt = climb(events[2:-1])
    assert rebuilt == final["output"]


def shape(response):
    """Without what names the answer: the two requests differ by `stream`."""
    found = json.loads(json.dumps(response).replace(response["id"][5:], "ID"))
    for name in ("created_at", "completed_at"):
        del found[name]
    return found


def climb(events):
    """The items, rebuilt from deltas; every rung must fit the one before."""
    done, item, text = [], None, {}
    for event in events:
        kind = event["type"].removeprefix("response.")
        assert event["output_index"] == len(done)
        if kind == "output_item.added":
            assert item is None
            item, text = event["item"], {}
            continue
        assert event.get("item_id", item["id"]) == item["id"]
        if kind == "output_item.done":
            assert event["item"]["id"] == item["id"]
            for name, value in text.items():
                assert value in json.dumps(event["item"], ensure_ascii=False) or json.dumps(value)[
                    1:-1
                ] in json.dumps(event["item"]), name
            done.append(event["item"])
            item = None
        elif kind.endswith(".delta"):
            name = kind.removesuffix(".delta")
            text[name] = text.get(name, "") + event["delta"]
        elif kind.endswith("_part.added"):
            assert not (event["part"].get("text") or event["part"].get("refusal"))
        elif kind.endswith(".done") and not kind.endswith("_part.done"):
            name = kind.removesuffix(".done")
            assert text.get(name, "") in event.values()
    assert item is None
    return done


def test_namespaced_tools(sandbox):
    tools = [
        {
            "type": "namespace",
            "name": "office",
            "tools": [{"type": "function", "name": "get_weather", "parameters": CITY}],
        }
    ]
    [call] = send(sandbox, body({"role": "user", "content": "weather"}, tools=tools)).json()["output"]
    assert (call["namespace"], call["name"]) == ("office", "get_weather")


def test_structured_output(sandbox):
    form = {"type": "json_schema", "name": "place", "schema": CITY}
    answer = send(sandbox, body(text={"format": form})).json()
    assert json.loads(answer["output"][0]["content"][0]["text"]) == {"city": "sample city"}
    assert answer["text"]["format"]["schema"] == CITY


def test_caching(sandbox):
    def counts():
        usage = send(sandbox, {"model": "sandbox-cache", "input": "Hello"}).json()["usage"]
        return usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]

    assert [counts(), counts()] == [(5, 0), (5, 5)]


@pytest.mark.parametrize("stream", [False, True])
def test_odd_models(sandbox, stream):
    def response(model):
        answer = send(
            sandbox, {"model": model, "input": "x", "stream": stream, "reasoning": {"summary": "auto"}}
        )
        return answer.chunks()[-1]["response"] if stream else answer.json()

    assert response("sandbox-no-usage")["usage"] is None
    assert response("sandbox-bad-usage")["usage"]["input_tokens"] == -7
    assert response("sandbox-wrong-model")["model"] == "some-other-model"
    raw = response("sandbox-reasoning-field")["output"][0]
    assert raw["summary"] == [] and raw["content"][0]["type"] == "reasoning_text"


def test_odd_streams(sandbox):
    def sent(model):
        return send(sandbox, {"model": model, "input": "x", "stream": True, "reasoning": {"summary": "auto"}})

    assert sent("sandbox-done-marker").payloads()[-1] == "[DONE]"
    assert sent("sandbox-no-done").chunks()[-1]["type"] == "response.output_item.done"
    assert sent("sandbox-after-finish").chunks()[-2]["type"] == "response.completed"
    ids = [event["item_id"] for event in sent("sandbox-rotating-ids").chunks() if "item_id" in event]
    assert len(set(ids)) == len(ids)
    kinds = {event["type"] for event in sent("sandbox-reasoning-field").chunks()}
    assert {"response.reasoning_text.delta", "response.reasoning_text.done"} <= kinds
    assert not any("summary" in kind for kind in kinds)
