"""What compatible providers do to Chat Completions, one model each."""

import json

import pytest
from tests.upstream.sandbox.dialects import CITY, DIALECTS, ask, said
from tests.upstream.sandbox.raw import post, question

TOOLS = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in ("one", "two")]
USAGE = {"include_usage": True}


def stream(sandbox, model, **fields):
    answer = sandbox.ask(model, stream=True, **fields)
    assert (answer.status, answer.end, answer.payloads()[-1]) == (200, "complete", "[DONE]")
    return answer.chunks()


def deltas(chunks):
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def fragments(sandbox, model):
    return [
        call for delta in deltas(stream(sandbox, model, tools=TOOLS)) for call in delta.get("tool_calls", ())
    ]


def whole_calls(sandbox, model):
    return sandbox.ask(model, tools=TOOLS).json()["choices"][0]["message"]["tool_calls"]


def test_calls_counted_from_one(sandbox):
    assert {call["index"] for call in fragments(sandbox, "sandbox-tool-index-one")} == {1, 2}


def test_calls_without_an_id(sandbox):
    assert [call["id"] for call in fragments(sandbox, "sandbox-tool-no-id") if "id" in call] == ["", ""]
    assert [call["id"] for call in whole_calls(sandbox, "sandbox-tool-no-id")] == ["", ""]


def test_ids_and_names_repeated(sandbox):
    found = fragments(sandbox, "sandbox-tool-repeat")
    assert len(found) > 4 and all(call["id"] and call["function"]["name"] for call in found)


def test_names_in_two_deltas(sandbox):
    names = [
        call["function"]["name"]
        for call in fragments(sandbox, "sandbox-tool-split-name")
        if "name" in call["function"]
    ]
    assert names == ["o", "ne", "t", "wo"]


def test_calls_in_one_delta(sandbox):
    found = fragments(sandbox, "sandbox-tool-whole")
    assert [json.loads(call["function"]["arguments"]) for call in found] == [{"city": "sample city"}] * 2


def test_arguments_as_an_object(sandbox):
    for found in (fragments(sandbox, "sandbox-tool-object"), whole_calls(sandbox, "sandbox-tool-object")):
        assert [call["function"]["arguments"] for call in found] == [{"city": "sample city"}] * 2


def test_no_arguments_at_all(sandbox):
    for found in (
        fragments(sandbox, "sandbox-tool-no-arguments"),
        whole_calls(sandbox, "sandbox-tool-no-arguments"),
    ):
        assert [call["function"]["arguments"] for call in found] == ["", ""]


def test_calls_that_finish_with_stop(sandbox):
    chunks = stream(sandbox, "sandbox-tool-stop", tools=TOOLS)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert sandbox.ask("sandbox-tool-stop", tools=TOOLS).json()["choices"][0]["finish_reason"] == "stop"


def test_fragments_taking_turns(sandbox):
    found = deltas(stream(sandbox, "sandbox-interleaved", tools=TOOLS))
    kinds = ["text" if "content" in delta else delta["tool_calls"][0]["index"] for delta in found[1:-1]]
    assert kinds[:6] == ["text", 0, 1, "text", 0, 1]
    given = ["", ""]
    for delta in found:
        for call in delta.get("tool_calls", ()):
            given[call["index"]] += call["function"]["arguments"]
    assert [json.loads(one) for one in given] == [{"city": "sample city"}] * 2


def test_no_finish(sandbox):
    chunks = stream(sandbox, "sandbox-no-finish")
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    assert sandbox.ask("sandbox-no-finish").json()["choices"][0]["finish_reason"] is None


def test_nulls(sandbox):
    unused = {"reasoning_content": None, "tool_calls": None, "function_call": None}
    for delta in deltas(stream(sandbox, "sandbox-null-content")):
        assert unused.items() <= delta.items()
    assert unused.items() <= sandbox.ask("sandbox-null-content").json()["choices"][0]["message"].items()


def test_azure(sandbox):
    first, *rest = stream(sandbox, "sandbox-azure")
    assert (first["choices"], first["id"], first["model"]) == ([], "", "") and first["prompt_filter_results"]
    assert all("content_filter_results" in chunk["choices"][0] for chunk in rest)
    assert sandbox.ask("sandbox-azure").json()["prompt_filter_results"]


def test_a_chunk_after_the_usage(sandbox):
    chunks = stream(sandbox, "sandbox-moderation", stream_options=USAGE)
    assert chunks[-2]["usage"]["total_tokens"] and chunks[-1]["usage"] is None and chunks[-1]["moderation"]


def test_reasoning_in_other_fields(sandbox):
    first, *found = deltas(stream(sandbox, "sandbox-reasoning-field"))
    text = "".join(delta.get("reasoning", "") for delta in found)
    details = "".join(one["text"] for delta in found for one in delta.get("reasoning_details", ()))
    message = sandbox.ask("sandbox-reasoning-field").json()["choices"][0]["message"]
    assert text == details == message["reasoning"] and "reasoning_content" not in message


def test_reasoning_in_tags(sandbox):
    text = "".join(delta.get("content") or "" for delta in deltas(stream(sandbox, "sandbox-think-tags")))
    assert text == sandbox.ask("sandbox-think-tags").json()["choices"][0]["message"]["content"]
    assert text.startswith("<think>The ") and "</think>\n\nYou said:" in text and text.count("think>") == 2


def test_the_first_event_twice(sandbox):
    first, second, *_ = stream(sandbox, "sandbox-double-start")
    assert first == second
    events = ask(sandbox, DIALECTS[2], "sandbox-double-start", stream=True).chunks()
    assert events[0] == events[1] and events[0]["type"] == "message_start"


def test_a_message_inside_a_message(sandbox):
    events = ask(sandbox, DIALECTS[2], "sandbox-spliced", stream=True).chunks()
    starts = [at for at, event in enumerate(events) if event["type"] == "message_start"]
    assert len(starts) == 2 and events[starts[1] - 1]["type"] == "content_block_delta"
    DIALECTS[2].fold(events[starts[1] :])


def test_usage_with_the_finish_reason(sandbox):
    chunks = stream(sandbox, "sandbox-usage-finish")
    assert chunks[-1]["choices"][0]["finish_reason"] and chunks[-1]["usage"]["total_tokens"]
    assert not any(chunk.get("usage") for chunk in chunks[:-1])


def test_usage_of_groq(sandbox):
    chunks = stream(sandbox, "sandbox-usage-groq", stream_options=USAGE)
    assert chunks[-1]["x_groq"]["usage"]["total_tokens"] and not any(chunk.get("usage") for chunk in chunks)


def test_usage_without_counts(sandbox):
    assert stream(sandbox, "sandbox-usage-empty", stream_options=USAGE)[-1]["usage"] == {}
    assert sandbox.ask("sandbox-usage-empty").json()["usage"] == {}


def test_usage_that_is_right_only_at_the_end(sandbox):
    events = ask(sandbox, DIALECTS[2], "sandbox-late-usage", stream=True).chunks()
    assert events[0]["message"]["usage"] == {"input_tokens": 5, "output_tokens": 0}
    assert events[-2]["usage"]["output_tokens"] == said(sandbox, DIALECTS[2], "sandbox-late-usage").output


def test_usage_of_messages(sandbox):
    def usages(model):
        events = ask(sandbox, DIALECTS[2], model, stream=True).chunks()
        return (
            events[0]["message"].get("usage"),
            events[-2].get("usage"),
            ask(sandbox, DIALECTS[2], model).json().get("usage"),
        )

    assert usages("sandbox-no-usage") == (None, None, None)
    assert usages("sandbox-bad-usage")[2]["input_tokens"] == -7
    assert usages("sandbox-bad-usage-absurd")[1]["input_tokens"] == 2**63


def test_other_odd_messages(sandbox):
    anthropic = DIALECTS[2]
    kinds = [event["type"] for event in ask(sandbox, anthropic, "sandbox-after-finish", stream=True).chunks()]
    assert kinds[kinds.index("message_delta") + 1] == "content_block_start"
    kinds = [event["type"] for event in ask(sandbox, anthropic, "sandbox-double-usage", stream=True).chunks()]
    assert kinds.count("message_delta") == 2
    kinds = [event["type"] for event in ask(sandbox, anthropic, "sandbox-no-done", stream=True).chunks()]
    assert kinds[-1] == "message_delta"
    assert ask(sandbox, anthropic, "sandbox-wrong-model").json()["model"] == "some-other-model"


@pytest.mark.parametrize("field", ["temperature", "top_p", "max_tokens", "stop"])
def test_a_picky_model(sandbox, field):
    answer = sandbox.ask("sandbox-picky", **{field: 1 if field != "stop" else "x"})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", field)
    assert sandbox.ask("sandbox-picky", max_completion_tokens=50).status == 200


def test_citations_of_chat(sandbox):
    message = sandbox.ask("sandbox-citation").json()["choices"][0]["message"]
    [cited] = message["annotations"]
    place = cited["url_citation"]
    assert message["content"][place["start_index"] : place["end_index"]].endswith("”.")
    streamed = [
        one for delta in deltas(stream(sandbox, "sandbox-citation")) for one in delta.get("annotations", ())
    ]
    assert streamed == [cited]


def test_redacted_reasoning_of_chat(sandbox):
    body = sandbox.ask("sandbox-redacted").json()
    assert "reasoning_content" not in body["choices"][0]["message"]
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 32
    assert not any("reasoning_content" in delta for delta in deltas(stream(sandbox, "sandbox-redacted")))


EMBEDDED = {
    "a text": ("one two", 1, 2),
    "texts": (["one", "two"], 2, 2),
    "tokens": ([1, 2, 3], 1, 3),
    "lists of tokens": ([[1, 2], [3]], 2, 3),
}


@pytest.mark.parametrize(("given", "vectors", "tokens"), EMBEDDED.values(), ids=EMBEDDED)
def test_inputs_of_embeddings(sandbox, given, vectors, tokens):
    body = {"model": "sandbox-embed", "input": given, "dimensions": 3}
    answer = sandbox.fetch(post(body, "/v1/embeddings")).json()
    assert [len(one["embedding"]) for one in answer["data"]] == [3] * vectors
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert isinstance(
        sandbox.fetch(post({**body, "encoding_format": "base64"}, "/v1/embeddings")).json()["data"][0][
            "embedding"
        ],
        str,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": ["x", 1]},
        {"input": "x", "dimensions": 0},
        {"input": ["x"] * 2000, "dimensions": 3072},
        {"input": "x", "encoding_format": "int8"},
        {},
    ],
)
def test_bad_embeddings(sandbox, fields):
    assert sandbox.fetch(post({"model": "sandbox-embed", **fields}, "/v1/embeddings")).status == 400


def test_embeddings_misbehave_too(sandbox):
    def sent(model):
        return sandbox.fetch(post({"model": model, "input": "x"}, "/v1/embeddings"))

    assert sent("sandbox-429").status == 429 and sent("sandbox-cut").end == "eof"
    assert "usage" not in sent("sandbox-no-usage").json()
    assert sent("sandbox-bad-usage").json()["usage"] == {"prompt_tokens": -7, "total_tokens": "12"}


GEMINI_EMBEDDED = [
    ({"content": {}}, "embedContent"),
    ({"requests": []}, "batchEmbedContents"),
    (
        {
            "requests": [
                {
                    "model": "models/sandbox-embed",
                    "content": {"parts": [{"text": "x"}]},
                    "outputDimensionality": 3072,
                }
            ]
            * 400
        },
        "batchEmbedContents",
    ),
    ({"requests": [{"content": {"parts": [{"text": "x"}]}}]}, "batchEmbedContents"),
    ({"content": {"parts": [{"text": "x"}]}, "outputDimensionality": 0}, "embedContent"),
]


@pytest.mark.parametrize(("given", "verb"), GEMINI_EMBEDDED)
def test_bad_embeddings_of_gemini(sandbox, given, verb):
    assert sandbox.fetch(post(given, f"/v1beta/models/sandbox-embed:{verb}")).status == 400


def test_one_embedding_of_gemini(sandbox):
    given = {"content": {"parts": [{"text": "x"}]}}
    answer = sandbox.fetch(post(given, "/v1beta/models/sandbox-embed:embedContent")).json()
    assert len(answer["embedding"]["values"]) == 256


def test_cached_counts_do_not_come_from_counting(sandbox):
    for _ in range(2):
        sandbox.fetch(post({"model": "sandbox-cache", "input": "Hello"}, "/v1/responses/input_tokens"))
    usage = sandbox.fetch(post(question("sandbox-cache"))).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
