"""The Messages mouth: what it refuses, what it signs, how it counts, and the shapes it writes."""

import asyncio
import copy
import json

import pytest
from tests.upstream.sandbox.dialects import CITY, Anthropic
from tests.upstream.sandbox.raw import Sandbox, post

from tollway.upstream.sandbox.server import SandboxServer

OLD, NEW = "2023-06-01", "2026-10-21"
TOOL = {"name": "get_weather", "input_schema": CITY}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
CACHED = {"type": "ephemeral"}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


def body(*messages, model="sandbox-chat", **fields):
    return {"model": model, "max_tokens": 2000, "messages": list(messages) or [user(text("Hello"))], **fields}


def send(sandbox, given, version=NEW, **headers):
    return sandbox.fetch(post(given, "/v1/messages", {"anthropic-version": version, **headers}))


THINK = {"type": "enabled", "budget_tokens": 1024}
HI = user(text("Hello"))
LONG = {"type": "ephemeral", "ttl": "1h"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": ""}}
REFUSED = {
    "no messages": ({"model": "sandbox-chat", "max_tokens": 5, "messages": []}, "at least one message"),
    "no max_tokens": ({"model": "sandbox-chat", "messages": [HI]}, "max_tokens: Field required"),
    "max_tokens above any model's": (body(max_tokens=256_001), "max_tokens: 256001 > 256000"),
    "no model": ({"max_tokens": 5, "messages": [HI]}, "model: Field required"),
    "temperature too high": (body(temperature=1.5), "temperature"),
    "a field of chat": (body(n=2), "n: Extra inputs are not permitted"),
    "a beta without its header": (body(context_management={}), "context_management: Extra inputs"),
    "a role of chat": (body({"role": "tool", "content": "x"}), "messages.0.role"),
    "assistant first": (body(assistant(text("x")), HI), "first message must use the"),
    "empty content": (body(user(), HI), "must have non-empty content"),
    "empty text": (body(user(text(""))), "text content blocks must be non-empty"),
    "white space": (body(user(text(" \n"))), "non-whitespace text"),
    "trailing space": (body(HI, assistant(text("So "))), "trailing whitespace"),
    "an unknown block": (body(user({"type": "input_text", "text": "x"})), "Input tag 'input_text'"),
    "a block in the wrong place": (body(user(USE)), "Input tag 'tool_use'"),
    "an unknown field of a block": (body(user(text("x", extra=1))), "messages.0.content.0.text.extra: Extra inputs"),
    "an image of another type": (body(user(IMAGE)), "media_type"),
    "a bad tool id": (body(HI, assistant({**USE, "id": "call:1"}), user({**RESULT, "tool_use_id": "call:1"})), "should match pattern"),
    "input that is text": (body(HI, assistant({**USE, "input": "{}"}), user(RESULT)), "valid dictionary"),
    "no result": (body(HI, assistant(USE), user(text("and?"))), "without `tool_result` blocks immediately after"),
    "no message after a use": (body(HI, assistant(USE)), "without `tool_result` blocks"),
    "one of two results": (body(HI, assistant(USE, {**USE, "id": "toolu_2"}), user(RESULT)), "toolu_2"),
    "results apart": (body(HI, assistant(USE, {**USE, "id": "b"}), user(RESULT, text("x"), {**RESULT, "tool_use_id": "b"})), "immediately after"),
    "a result after text": (body(HI, assistant(USE), user(text("x"), RESULT)), "immediately after"),
    "a result for nothing": (body(user(RESULT)), "unexpected `tool_use_id`"),
    "a result twice": (body(HI, assistant(USE), user(RESULT, RESULT)), "single result"),
    "ids twice": (body(HI, assistant(USE, USE), user(RESULT)), "unique"),
    "a forged signature": (body(HI, assistant({"type": "thinking", "thinking": "hm", "signature": "AAAA"}, text("x")), HI), "Invalid `signature`"),
    "no signature": (body(HI, assistant({"type": "thinking", "thinking": "hm"}, text("x")), HI), "Invalid `signature`"),
    "forged redacted thinking": (body(HI, assistant({"type": "redacted_thinking", "data": "AAAA"}, text("x")), HI), "Invalid `data`"),
    "cached thinking": (body(HI, assistant({"type": "thinking", "thinking": "", "signature": "", "cache_control": CACHED}), HI), "thinking.cache_control: Extra"),
    "five marks": (body(user(*(text("x", cache_control=CACHED) for _ in range(5)))), "maximum of 4 blocks"),
    "a short mark before a long one": (body(user(text("x", cache_control=CACHED), text("y", cache_control=LONG))), "ttl='1h'"),
    "an unknown ttl": (body(user(text("x", cache_control={"type": "ephemeral", "ttl": "2h"}))), "cache_control"),
    "a tool of chat": (body(tools=[{"type": "function", "function": {"name": "f"}}]), "Input tag 'function'"),
    "a tool name": (body(tools=[{**TOOL, "name": "get weather"}]), "tools.0.custom.name"),
    "a tool without a schema": (body(tools=[{"name": "f"}]), "input_schema: Field required"),
    "a schema that is no object": (body(tools=[{"name": "f", "input_schema": {}}]), "input_schema.type"),
    "an unknown field of a tool": (body(tools=[{**TOOL, "parameters": {}}]), "tools.0.custom.parameters: Extra"),
    "tools twice": (body(tools=[TOOL, TOOL]), "Tool names must be unique"),
    "a choice of chat": (body(tools=[TOOL], tool_choice="auto"), "tool_choice"),
    "a small budget": (body(thinking={"type": "enabled", "budget_tokens": 1000}), "greater than or equal to 1024"),
    "a budget above max_tokens": (body(max_tokens=1024, thinking=THINK), "must be greater than `thinking.budget_tokens`"),
    "thinking and a forced tool": (body(thinking=THINK, tools=[TOOL], tool_choice={"type": "any"}), "forces tool use"),
    "thinking that is left out": (body(HI, assistant(USE), user(RESULT), model="sandbox-reasoning", thinking=THINK), "Expected `thinking`"),
    "an answer begun for a model that reasons": (body(HI, assistant(text("So")), model="sandbox-reasoning"), "prefill"),
    "a blank stop sequence": (body(stop_sequences=[" "]), "non-whitespace"),
    "an unknown system block": (body(system=[{"type": "text", "text": "x", "extra": 1}]), "Extra inputs"),
    "a forged search result": (body(HI, assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "x"}]}), HI), "encrypted_content"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(sandbox, given, message):
    answer = send(sandbox, given, OLD)
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and message in error["message"], error


NEWER_ONLY = {
    "temperature": body(temperature=1),
    "top_p": body(top_p=0.9),
    "top_k": body(top_k=5),
    "documents from the assistant": body(HI, assistant({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}), HI),
    "citations on a user's text": body(user(text("x", citations=[{"type": "char_location"}]))),
}  # fmt: skip


@pytest.mark.parametrize("given", NEWER_ONLY.values(), ids=NEWER_ONLY)
def test_what_only_the_newer_version_refuses(sandbox, given):
    assert (send(sandbox, given, OLD).status, send(sandbox, given, NEW).status) == (200, 400)


@pytest.mark.parametrize("version", [None, "2024-01-01"])
def test_versions_must_be_known(sandbox, version):
    headers = {"anthropic-version": version} if version else {}
    assert sandbox.fetch(post(body(), "/v1/messages", headers)).status == 400


def test_a_beta_header_makes_its_field_known(sandbox):
    given = body(context_management={"edits": []})
    assert send(sandbox, given, **{"anthropic-beta": "a,context-management-2025-06-27"}).status == 200


FINE = {
    "max_tokens that clients ask for without being told": body(max_tokens=64_000),
    "text content": body({"role": "user", "content": "Hello"}),
    "neighbours of one role": body(HI, HI, assistant(text("x")), assistant(text("y")), HI),
    "a system message in the middle": body(HI, {"role": "system", "content": "Be brief."}, assistant(text("x")), HI),
    "a system message between use and result": body(HI, assistant(USE), {"role": "system", "content": "x"}, user(RESULT)),
    "system blocks": body(system=[text("x", cache_control=LONG), text("y", cache_control=CACHED)]),
    "an answer begun": body(HI, assistant(text("So"))),
    "an empty last answer": body(HI, assistant()),
    "results and more": body(HI, assistant(USE), user(RESULT, text("And now?"))),
    "an image as a result": body(HI, assistant(USE), user({**RESULT, "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}]})),
    "unknown fields outside": body(brand_new_field=1),
    "adaptive thinking without its block": body(HI, assistant(USE), user(RESULT), model="sandbox-reasoning", thinking={"type": "adaptive"}),
    "tools of Anthropic's": body(tools=[{"type": "bash_20250124", "name": "bash"}, {"type": "web_search_20260318", "name": "web_search"}]),
}  # fmt: skip


@pytest.mark.parametrize("given", FINE.values(), ids=FINE)
def test_what_is_accepted(sandbox, given):
    answer = send(sandbox, given)
    assert answer.status == 200, answer.body


def test_results_are_quoted_and_new_questions_answered(sandbox):
    def said(*last):
        return send(sandbox, body(HI, assistant(USE), user(*last), tools=[TOOL])).json()["content"]

    assert said(RESULT) == [{"type": "text", "text": "get_weather returned: rain"}]
    assert said(RESULT, text("And the weather now?"))[0]["type"] == "tool_use"


def thought(sandbox, **fields):
    given = body(user(text("weather?")), model="sandbox-reasoning", tools=[TOOL], thinking=THINK, **fields)
    return given, send(sandbox, given).json()["content"]


@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_thinking_comes_back_as_it_was_signed(sandbox, display):
    given, content = thought(sandbox)
    given["thinking"] = {**THINK, "display": display}
    content = send(sandbox, given).json()["content"]
    assert (content[0]["thinking"] == "") == (display == "omitted") and content[0]["signature"]
    result = user({**RESULT, "tool_use_id": content[1]["id"]})
    given["messages"] += [assistant(*content), result]
    assert send(sandbox, given).status == 200
    for change in ({"thinking": "something else"}, {"signature": content[0]["signature"][:-5] + "AAAA="}):
        altered = copy.deepcopy(given)
        altered["messages"][1]["content"][0] |= change
        assert "Invalid `signature`" in send(sandbox, altered).json()["error"]["message"]


def test_no_thinking_unless_asked(sandbox):
    answer = send(sandbox, body(model="sandbox-reasoning")).json()
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert "output_tokens_details" not in answer["usage"]


@pytest.mark.parametrize("stream", [False, True])
def test_redacted_thinking(sandbox, stream):
    given = body(model="sandbox-redacted", thinking=THINK, stream=stream)
    answer = send(sandbox, given)
    message = Anthropic().fold(Anthropic().events(answer)) if stream else answer.json()
    assert [block["type"] for block in message["content"]] == ["redacted_thinking", "text"]
    assert message["usage"]["output_tokens_details"]["thinking_tokens"] == 16
    again = body(HI, assistant(*message["content"]), HI, model="sandbox-redacted", thinking=THINK)
    assert send(sandbox, again).status == 200


async def test_another_account_does_not_accept_it(sandbox):
    given, content = await asyncio.to_thread(thought, sandbox)
    given["messages"] += [assistant(*content), user({**RESULT, "tool_use_id": content[1]["id"]})]
    other = SandboxServer(account="another")
    await other.start()
    answer = await asyncio.to_thread(send, Sandbox(other.port), given)
    assert "Invalid `signature`" in answer.json()["error"]["message"]
    assert (await asyncio.to_thread(send, sandbox, given)).status == 200
    await other.close()


def test_the_events_of_a_stream(sandbox):
    given, _ = thought(sandbox)
    answer = send(sandbox, {**given, "stream": True})
    events = Anthropic().events(answer)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert deltas.index("signature_delta") == deltas.count("thinking_delta")
    inputs = [event["delta"]["partial_json"] for event in events if "partial_json" in event.get("delta", {})]
    assert inputs[0] == "" and json.loads("".join(inputs)) == {"city": "sample city"}
    assert Anthropic().fold(events)["content"] == send(sandbox, given).json()["content"]
    assert answer.header("request-id") and b"}  " in answer.body


def test_a_call_without_arguments_streams_only_an_empty_fragment(sandbox):
    tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    answer = send(sandbox, body(user(text("weather")), tools=tools, stream=True)).chunks()
    fragments = {
        event["delta"]["partial_json"] for event in answer if "partial_json" in event.get("delta", {})
    }
    assert fragments == {""} and Anthropic().fold(answer)["content"][0]["input"] == {}


@pytest.mark.parametrize("stream", [False, True])
def test_stops(sandbox, stream):
    def ended(**fields):
        answer = send(sandbox, body(stream=stream, **fields))
        message = Anthropic().fold(answer.chunks()) if stream else answer.json()
        return message["stop_reason"], message["stop_sequence"]

    assert ended() == ("end_turn", None)
    assert ended(stop_sequences=["never", "sandbox"]) == ("stop_sequence", "sandbox")
    assert ended(max_tokens=3) == ("max_tokens", None)
    assert ended(model="sandbox-filter") == ("refusal", None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_has_no_content(sandbox, stream):
    answer = send(sandbox, body(model="sandbox-refusal", stream=stream))
    message = Anthropic().fold(answer.chunks()) if stream else answer.json()
    assert message["content"] == [] and message["stop_reason"] == "refusal"
    assert message["stop_details"]["type"] == "refusal" and message["usage"]["output_tokens"] > 1


def test_structured_output(sandbox):
    config = {"format": {"type": "json_schema", "schema": CITY}}
    content = send(sandbox, body(output_config=config)).json()["content"]
    assert json.loads(content[0]["text"]) == {"city": "sample city"}


def test_documents_and_images_are_described(sandbox):
    pdf = {
        "type": "document",
        "title": "a.pdf",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
    }
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    said = send(sandbox, body(user(text("x"), pdf, image))).json()["content"][0]["text"]
    assert "I see 1 image (unknown format). I read 1 file (a.pdf, 3 bytes)." in said


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "place", "source"),
    [
        ("application/pdf", "page_location", "base64"),
        ("text/plain", "char_location", "text"),
    ],
)
def test_citations_of_documents(sandbox, stream, kind, place, source):
    document = {
        "type": "document",
        "source": {"type": source, "media_type": kind, "data": "QUJD"},
        "citations": {"enabled": True},
    }
    answer = send(sandbox, body(user(document, text("x")), model="sandbox-citation", stream=stream))
    message = Anthropic().fold(answer.chunks()) if stream else answer.json()
    cited, rest = message["content"]
    assert [one["type"] for one in cited["citations"]] == [place] and "citations" not in rest


def test_a_web_search_comes_back(sandbox):
    tools = [{"type": "web_search_20260318", "name": "web_search"}]
    message = send(sandbox, body(model="sandbox-citation", tools=tools)).json()
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text", "text"]
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1
    again = body(HI, assistant(*message["content"]), HI, model="sandbox-citation", tools=tools)
    assert send(sandbox, again).status == 200


def test_caching_is_counted_apart(sandbox):
    """Only what is marked is written; only what was written is read; all three add up to the prompt."""

    def counts(*blocks, **fields):
        usage = send(sandbox, body(user(*blocks), model="sandbox-cache", **fields)).json()["usage"]
        split = usage["cache_creation"]
        assert usage["cache_creation_input_tokens"] == sum(split.values())
        return usage["input_tokens"], usage["cache_read_input_tokens"], *split.values()

    system = [text("one two three four", cache_control=LONG)]
    assert counts(text("Hello")) == (5, 0, 0, 0)
    assert counts(text("Hello")) == (5, 0, 0, 0)
    first = counts(text("Hello", cache_control=CACHED), system=system)
    assert first == (0, 0, 5, 9)
    assert counts(text("Hello", cache_control=CACHED), system=system) == (0, 14, 0, 0)
    assert counts(text("Other"), system=system) == (5, 9, 0, 0)
    assert counts(text("Third"), system=system, cache_control=CACHED) == (0, 9, 5, 0)


def test_unknown_models(sandbox):
    answer = send(sandbox, body(model="claude-nonesuch"))
    assert answer.status == 404 and answer.json()["error"]["message"].startswith("model: ")
