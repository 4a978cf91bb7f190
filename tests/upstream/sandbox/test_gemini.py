"""The Gemini mouth: what it refuses, which thoughts must come back, and its chunks."""

import json

import pytest
from tests.upstream.sandbox.dialects import CITY
from tests.upstream.sandbox.raw import post

OPEN = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}
TOOL = {"functionDeclarations": [{"name": "get_weather", "parameters": OPEN}]}
CALL = {"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}}
ANSWER = {"functionResponse": {"name": "get_weather", "response": {"result": "rain"}}}
SKIP = {"thoughtSignature": "skip_thought_signature_validator"}


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def model(*parts):
    return {"role": "model", "parts": list(parts)}


HI = user({"text": "Hello"})


def body(*contents, **fields):
    return {"contents": list(contents) or [HI], **fields}


def declared(**fields):
    return body(tools=[{"functionDeclarations": [{"name": "f", **fields}]}])


def send(sandbox, given, name="sandbox-chat", verb="generateContent"):
    return sandbox.fetch(post(given, f"/v1beta/models/{name}:{verb}"))


REFUSED = {
    "no contents": ({"contents": []}, "contents is not specified"),
    "a field of chat": (body(max_tokens=5), 'Unknown name "max_tokens"'),
    "messages": ({"messages": []}, 'Unknown name "messages"'),
    "a role of others": (body({"role": "assistant", "parts": [{"text": "x"}]}), "valid role"),
    "no parts": (body(user()), "must not be empty"),
    "the model first": (body(model({"text": "x"}), HI), "begins with a user turn"),
    "a part of others": (body(user({"type": "text", "text": "x"})), 'Unknown name "type"'),
    "a part with nothing": (body(user({"thought": True})), "one initialized field"),
    "a part with two things": (body(user({"text": "x", **CALL})), "one initialized field"),
    "args that are text": (body(HI, model({"functionCall": {"name": "f", "args": "{}"}})), "function_call"),
    "a response that is text": (body(HI, model(CALL), user({"functionResponse": {"name": "get_weather", "response": "x"}})), "Struct"),
    "a response without a name": (body(HI, model(CALL), user({"functionResponse": {"response": {}}})), "Name cannot be empty"),
    "calls without responses": (body(HI, model(CALL)), "followed by its function responses"),
    "one response for two calls": (body(HI, model(CALL, CALL), user(ANSWER)), "number of function response parts"),
    "a response for nothing": (body(user(ANSWER)), "number of function response parts"),
    "a response for another": (body(HI, model(CALL), user({"functionResponse": {"name": "other", "response": {}}})), "name the functions"),
    "calls of the user": (body(user(CALL), model({"text": "x"})), "immediately after a user turn"),
    "no responses at once": (body(HI, model(CALL), user({"text": "x"}), model({"text": "y"}), user(ANSWER)), "number of function response parts"),
    "a forged signature": (body(HI, model({**CALL, "thoughtSignature": "AAAA"}), user(ANSWER)), "Thought signature is not valid"),
    "a web address": (body(user({"fileData": {"fileUri": "https://example.com/x.png"}})), "Unsupported file URI"),
    "a function name": (declared(name="get weather"), "Invalid function name"),
    "a name that begins with a digit": (declared(name="1f"), "Invalid function name"),
    "additionalProperties": (declared(parameters={**OPEN, "additionalProperties": False}), 'Unknown name "additionalProperties"'),
    "a $ref within": (declared(parameters={"type": "object", "properties": {"a": {"$ref": "#/x"}}}), 'Unknown name "$ref"'),
    "const in items": (declared(parameters={"type": "object", "properties": {"a": {"type": "array", "items": {"const": 1}}}}), 'Unknown name "const"'),
    "a list of types": (declared(parameters={"type": "object", "properties": {"a": {"type": ["string", "null"]}}}), "not repeating"),
    "an object without properties": (declared(parameters={"type": "object", "properties": {}}), "non-empty for OBJECT"),
    "both schemas": (declared(parameters=OPEN, parametersJsonSchema=CITY), "mutually exclusive"),
    "functions twice": (body(tools=[TOOL, TOOL]), "Duplicate function declaration"),
    "an unknown mode": (body(toolConfig={"functionCallingConfig": {"mode": "REQUIRED"}}), "mode"),
    "names without ANY": (body(toolConfig={"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}}), "allowed_function_names"),
    "six stop sequences": (body(generationConfig={"stopSequences": list("abcdef")}), "stop_sequences"),
    "nine candidates": (body(generationConfig={"candidateCount": 9}), "candidate_count"),
    "many logprobs": (body(generationConfig={"logprobs": 2**70}), "generation_config.logprobs"),
    "a schema without its type": (body(generationConfig={"responseSchema": OPEN}), "mime type"),
    "budget and level": (body(generationConfig={"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}), "thinking budget and thinking level"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(sandbox, given, message):
    answer = send(sandbox, given)
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT" and message in error["message"], error


FINE = {
    "a turn without a role": {"contents": [{"parts": [{"text": "x"}]}]},
    "an object for a list": {"contents": {"parts": {"text": "x"}}},
    "snake case": {"contents": [HI], "system_instruction": {"parts": [{"text": "x"}]}, "generation_config": {"max_output_tokens": 5}},
    "neighbours of one role": body(HI, HI, model({"text": "x"}), model({"text": "y"}), HI),
    "a call among chunks": body(HI, model({"text": "x"}), model(CALL), model({"text": ""}), user(ANSWER)),
    "an empty text": body(HI, model({"text": ""}), HI),
    "a call and its response": body(HI, model(CALL), user(ANSWER)),
    "a stand-in signature": body(HI, model({**CALL, **SKIP}), user(ANSWER)),
    "a sound": body(user({"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}})),
    "an uploaded file": body(user({"fileData": {"fileUri": "gs://a/b.pdf", "mimeType": "application/pdf"}})),
    "unknown fields outside": body(brandNewField=1),
}  # fmt: skip


@pytest.mark.parametrize("given", FINE.values(), ids=FINE)
def test_what_is_accepted(sandbox, given):
    answer = send(sandbox, given)
    assert answer.status == 200, answer.body


def test_a_cached_content_is_never_found(sandbox):
    assert send(sandbox, body(cachedContent="cachedContents/x")).status == 403


def parts(answer):
    return answer.json()["candidates"][0]["content"]["parts"]


@pytest.mark.parametrize("alphabet", ["+/", "-_"])
def test_thoughts_come_back_as_they_were_signed(sandbox, alphabet):
    name = "sandbox-reasoning"
    ask = user({"text": "weather?"})
    [call] = parts(send(sandbox, body(ask, tools=[TOOL]), name))
    answer = user({"functionResponse": {**ANSWER["functionResponse"], "id": call["functionCall"]["id"]}})
    spelt = {**call, "thoughtSignature": call["thoughtSignature"].translate(str.maketrans("+/", alphabet))}

    def sent(*contents):
        found = send(sandbox, body(*contents, tools=[TOOL]), name)
        return found.status, found.json().get("error", {}).get("message", "")

    assert sent(ask, model(spelt), answer) == (200, "")
    bare = {"functionCall": call["functionCall"]}
    assert "missing a thought_signature" in sent(ask, model(bare), answer)[1]
    assert "missing a thought_signature" in sent(ask, model(spelt), answer, model(bare), answer)[1]
    assert sent(ask, model({**bare, **SKIP}), answer) == (200, "")
    assert sent(ask, model(bare), answer, model({"text": "rain"}), HI) == (200, "")
    altered = {**call, "thoughtSignature": "B" + call["thoughtSignature"][1:]}
    assert sent(ask, model(altered), answer)[1] == "Thought signature is not valid."


def test_only_the_first_of_parallel_calls_is_signed(sandbox):
    tools = [
        {
            "functionDeclarations": [
                {"name": f"get_{what}", "parameters": OPEN} for what in ("weather", "time")
            ]
        }
    ]
    for verb in ("generateContent", "streamGenerateContent"):
        answer = send(
            sandbox, body(user({"text": "weather and time"}), tools=tools), "sandbox-reasoning", verb
        )
        found = answer.json() if verb == "streamGenerateContent" else [answer.json()]
        said = [
            part for chunk in found for c in chunk.get("candidates", ()) for part in c["content"]["parts"]
        ]
        calls = [part for part in said if "functionCall" in part]
        assert ["thoughtSignature" in call for call in calls] == [True, False]


def test_models_without_thoughts_sign_and_name_nothing(sandbox):
    [call] = parts(send(sandbox, body(user({"text": "weather"}), tools=[TOOL])))
    assert call == {"functionCall": {"name": "get_weather", "args": {"city": "sample city"}}}


@pytest.mark.parametrize("shown", [False, True])
def test_thoughts_are_shown_only_where_asked_for_and_always_counted(sandbox, shown):
    config = {"thinkingConfig": {"includeThoughts": shown}}
    answer = send(sandbox, body(generationConfig=config), "sandbox-reasoning")
    assert [part.get("thought", False) for part in parts(answer)] == ([True, False] if shown else [False])
    assert "thoughtSignature" in parts(answer)[-1]
    assert answer.json()["usageMetadata"]["thoughtsTokenCount"] == 32
    off = send(sandbox, body(generationConfig={"thinkingConfig": {"thinkingBudget": 0}}), "sandbox-reasoning")
    assert "thoughtsTokenCount" not in off.json()["usageMetadata"]


def test_the_chunks_of_a_stream(sandbox):
    image = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    answer = sandbox.fetch(
        post(
            body(user({"text": "weather"}, image), tools=[TOOL]),
            "/v1/models/sandbox-reasoning:streamGenerateContent?alt=sse",
        )
    )
    assert b"\r\n\r\n" in answer.body and b"\n\n" not in answer.body.replace(b"\r\n", b"\r")
    chunks = answer.chunks()
    prompts = [chunk["usageMetadata"]["promptTokenCount"] for chunk in chunks]
    assert len(set(prompts[:-1])) == 1 and prompts[0] < prompts[-1]
    said = [chunk["usageMetadata"].get("candidatesTokenCount", 0) for chunk in chunks]
    assert said == sorted(said)
    ends = [c["content"]["parts"][0] for c in chunks[-1]["candidates"]]
    assert ends == [{"text": ""}] and chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert "functionCall" in chunks[-2]["candidates"][0]["content"]["parts"][0]
    assert len({chunk["responseId"] for chunk in chunks}) == 1


def test_an_answer_that_made_no_calls_is_signed_alone_at_the_end(sandbox):
    chunks = send(sandbox, body(), "sandbox-reasoning", "streamGenerateContent").json()
    [last] = chunks[-1]["candidates"][0]["content"]["parts"]
    assert last["text"] == "" and last["thoughtSignature"]


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
def test_a_blocked_prompt_has_no_candidate(sandbox, verb):
    found = send(sandbox, body(), "sandbox-refusal", verb).json()
    [response] = found if isinstance(found, list) else [found]
    assert "candidates" not in response and response["promptFeedback"]["blockReason"]
    assert response["usageMetadata"]["totalTokenCount"] == response["usageMetadata"]["promptTokenCount"] == 5


def test_candidates(sandbox):
    given = body(generationConfig={"candidateCount": 2})
    found = send(sandbox, given).json()["candidates"]
    assert [one["index"] for one in found] == [0, 1] and found[0]["content"] != found[1]["content"]
    chunks = send(sandbox, given, verb="streamGenerateContent").json()
    texts = ["", ""]
    for chunk in chunks:
        for one in chunk["candidates"]:
            texts[one["index"]] += one["content"]["parts"][0]["text"]
    assert texts == [one["content"]["parts"][0]["text"] for one in found]


@pytest.mark.parametrize("field", ["responseSchema", "responseJsonSchema"])
def test_structured_output(sandbox, field):
    schema = OPEN if field == "responseSchema" else CITY
    config = {"responseMimeType": "application/json", field: schema}
    [part] = parts(send(sandbox, body(generationConfig=config)))
    assert json.loads(part["text"]) == {"city": "sample city"}


@pytest.mark.parametrize(
    ("kind", "said"), [("application/json", '"b"'), ("text/x.enum", "b")], ids=["JSON", "enum"]
)
def test_a_word_out_of_a_list(sandbox, kind, said):
    schema = {"type": "STRING", "enum": ["b", "a"]}
    config = {"responseMimeType": kind, "responseSchema": schema}
    assert parts(send(sandbox, body(generationConfig=config)))[0]["text"] == said


def test_words_given_as_their_numbers(sandbox):
    """As clients do that are made from the protocol's definition and speak REST."""
    asked = declared(parameters={"type": 6, "properties": {"city": {"type": 1}}, "required": ["city"]})
    forced = {"functionCallingConfig": {"mode": 2}}
    answer = send(sandbox, {**asked, "toolConfig": forced})
    assert parts(answer)[0]["functionCall"]["args"] == {"city": "sample city"}
    config = {"responseMimeType": "application/json", "responseSchema": {"type": 3}}
    assert parts(send(sandbox, body(generationConfig=config)))[0]["text"].isdigit()


def test_forced_functions(sandbox):
    def called(**config):
        tools = [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}]
        given = body(tools=tools, toolConfig={"functionCallingConfig": config})
        return [
            part["functionCall"]["name"] for part in parts(send(sandbox, given)) if "functionCall" in part
        ]

    assert called(mode="ANY") == ["a"]
    assert called(mode="ANY", allowedFunctionNames=["b"]) == ["b"]
    assert called(mode="NONE") == called(mode="AUTO") == []


def test_segments_count_bytes(sandbox):
    [candidate] = send(sandbox, body(), "sandbox-citation").json()["candidates"]
    [support] = candidate["groundingMetadata"]["groundingSupports"]
    text = candidate["content"]["parts"][0]["text"].encode()
    segment = support["segment"]
    assert text[segment["startIndex"] : segment["endIndex"]].decode() == segment["text"]
    assert segment["endIndex"] > len(segment["text"])


def test_logprobs(sandbox):
    config = {"responseLogprobs": True, "logprobs": 2}
    [candidate] = send(sandbox, body(generationConfig=config)).json()["candidates"]
    result = candidate["logprobsResult"]
    assert (
        "".join(one["token"] for one in result["chosenCandidates"])
        == candidate["content"]["parts"][0]["text"]
    )
    assert len(result["topCandidates"][0]["candidates"]) == 2 and candidate["avgLogprobs"] < 0


def test_caching(sandbox):
    counts = [
        send(sandbox, body(), "sandbox-cache").json()["usageMetadata"].get("cachedContentTokenCount")
        for _ in range(2)
    ]
    assert counts == [None, 5]


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
def test_odd_models(sandbox, verb):
    def last(name):
        found = send(sandbox, body(), name, verb).json()
        return found[-1] if isinstance(found, list) else found

    assert "usageMetadata" not in last("sandbox-no-usage")
    assert last("sandbox-bad-usage")["usageMetadata"]["promptTokenCount"] == -7
    assert last("sandbox-bad-usage-absurd")["usageMetadata"]["totalTokenCount"] == 1e30
    assert last("sandbox-wrong-model")["modelVersion"] == "some-other-model"
    assert last("sandbox-malformed-call")["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert "index" not in last("sandbox-tool-index")["candidates"][0]


def test_content_after_the_end(sandbox):
    chunks = send(sandbox, body(), "sandbox-after-finish", "streamGenerateContent").json()
    assert "finishReason" in chunks[-2]["candidates"][0]
    assert chunks[-1]["candidates"][0]["content"]["parts"][0]["text"] == " And one more thing."
