"""Properties that hold for any values: no cell fails, no writer says what is illegal, nothing unknown is lost."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import stream_rules
from tests.support.dialects import (
    NAMES,
    REPLY,
    answer_meaning,
    cases,
    events_of,
    golden,
    read_request,
    wire,
    write_request,
)

from tollway.core.dialects.base import IllegalEvent, Reading, Reply, Target
from tollway.core.dialects.naming import object_of
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import (
    Citation,
    Counted,
    Failed,
    Finished,
    Logprob,
    Media,
    Opaque,
    OutputFormat,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    ReasoningWish,
    Refusal,
    Request,
    Response,
    Sampling,
    Seal,
    Started,
    StillAlive,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
)
from tollway.core.fold import fold, unfold

slow = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

words = st.text(max_size=12)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True) | st.text(min_size=1, max_size=8)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True) | st.text(min_size=1, max_size=50)
ttls = st.none() | st.sampled_from(["", "5m", "1h"])
seals = st.none() | st.builds(
    Seal,
    st.sampled_from(NAMES),
    st.text(min_size=1, max_size=12),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "redacted", "next", "prev", "rs_1.a%"]),
)
flat = st.dictionaries(names, st.integers(0, 9) | words | st.booleans(), max_size=3)
arguments = flat.map(json.dumps) | st.sampled_from(["", "{", "not json", "[1]"])
citations = st.builds(
    Citation,
    kind=st.sampled_from(["url", "document"]),
    url=words,
    title=words,
    cited_text=words,
    start=st.none() | st.integers(0, 4),
    end=st.none() | st.integers(4, 9),
)
tokens = st.builds(Logprob, words, st.floats(-9, 0))
texts = st.builds(
    Text,
    words,
    st.lists(citations, max_size=2).map(tuple),
    st.lists(tokens, max_size=2).map(tuple),
    seal=seals,
    cache_ttl=ttls,
)
media = st.builds(
    Media,
    st.sampled_from(["image/png", "image/*", "audio/wav", "video/mp4", "application/pdf", "text/plain"]),
    st.sampled_from(["base64", "url", "file", "text"]),
    st.sampled_from(["AAAA", "https://example.com/x", "file-1"]),
    words,
    seal=seals,
)
opaque = st.builds(Opaque, st.sampled_from(NAMES), st.just({"type": "x_block", "id": "x_1"}))
thoughts = st.builds(Reasoning, words, st.sampled_from(["full", "summary", "withheld"]), seal=seals)
calls = st.builds(
    ToolCall, ids, names, arguments, st.sampled_from(["function", "custom", "search"]), seal=seals
)
results = st.builds(ToolResult, ids, st.lists(texts | media, max_size=2).map(tuple), names, st.booleans())
spoken = texts | thoughts | calls | media | opaque | st.builds(Refusal, words)
turns = (
    st.builds(Turn, role=st.just("system"), parts=st.lists(texts, max_size=2).map(tuple))
    | st.builds(
        Turn, role=st.just("user"), parts=st.lists(texts | media | results | opaque, max_size=3).map(tuple)
    )
    | st.builds(Turn, role=st.just("assistant"), parts=st.lists(spoken, max_size=4).map(tuple))
)
schemas = st.none() | st.just(
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}
)
tools = st.builds(
    Tool,
    name=names,
    kind=st.sampled_from(["function", "custom", "search"]),
    namespace=st.sampled_from(["", "ns"]),
    description=words,
    schema=schemas,
    strict=st.none() | st.booleans(),
    cache_ttl=ttls,
)
requests = st.builds(
    Request,
    model=st.just("m"),
    turns=st.lists(turns, max_size=6).map(tuple),
    origin=st.sampled_from(NAMES),
    tools=st.lists(tools, max_size=3).map(tuple),
    tool_choice=st.none()
    | st.builds(
        ToolChoice,
        mode=st.sampled_from(["auto", "none", "required"]),
        names=st.lists(names, max_size=2).map(tuple),
    ),
    parallel_tools=st.none() | st.booleans(),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | st.floats(0, 2),
        top_p=st.none() | st.floats(0, 1),
        top_k=st.none() | st.integers(1, 50),
        seed=st.none() | st.integers(0, 9),
        stop=st.lists(words, max_size=6).map(tuple),
        max_output_tokens=st.none() | st.integers(1, 99_999),
    ),
    reasoning=st.none()
    | st.builds(
        ReasoningWish,
        effort=st.none() | st.sampled_from(["none", "low", "high", "max"]),
        budget_tokens=st.none() | st.integers(-1, 9_999),
        show=st.none() | st.sampled_from(["none", "summary", "full"]),
    ),
    output=st.none()
    | st.builds(OutputFormat, kind=st.sampled_from(["text", "json", "json_schema"]), schema=schemas),
    stream=st.booleans(),
    candidates=st.integers(1, 2),
    logprobs=st.none() | st.integers(0, 3),
)
targets = st.builds(
    Target,
    scope=st.sampled_from(["", "a"]),
    max_output_tokens=st.none() | st.integers(1, 99_999),
    sampling=st.booleans(),
    thinking=st.sampled_from(["effort", "budget", "none"]),
    json_schema=st.booleans(),
    fetches_urls=st.none() | st.booleans(),
    keeps_reasoning=st.booleans(),
    custom_tools=st.booleans(),
    cache_marks=st.booleans(),
    mid_system=st.booleans(),
)
usages = st.builds(
    Usage,
    input=st.integers(0, 99),
    output=st.integers(0, 99),
    cache_read=st.integers(0, 9),
    reasoning=st.integers(0, 9),
)
finishes = st.builds(
    Finished,
    st.sampled_from(["stop", "length", "tool_calls", "content_filter", "pause", "error", "other"]),
    st.sampled_from(["", "stop", "end_turn", "STOP", "weird"]),
)
responses = st.builds(
    Response,
    id=ids,
    model=st.just("m"),
    parts=st.lists(spoken, max_size=5).map(tuple),
    finish=finishes,
    usage=st.none() | usages,
)


@pytest.mark.parametrize("upstream", NAMES)
@given(request_=requests, target=targets)
@slow
def test_any_request_can_be_written_for_any_upstream(upstream, request_, target):
    written = DIALECTS[upstream].write_request(request_, target)
    json.dumps(written.body)
    counting = DIALECTS[upstream].counting
    if counting is not None:
        counting.write_request(request_, target)
    parts = [part for turn in request_.turns for part in turn.parts]
    if request_.origin == upstream or any(
        isinstance(part, Opaque) and part.origin == upstream for part in parts
    ):
        return
    # What was written for an upstream is a request of its dialect.
    again = read_request(upstream, wire(upstream, request_, written.body))
    results_ = [part.call_id for turn in again.turns for part in turn.parts if isinstance(part, ToolResult)]
    asked = [part.id for turn in again.turns for part in turn.parts if isinstance(part, ToolCall)]
    assert set(results_) <= set(asked), "every result answers a call"


@pytest.mark.parametrize("client", NAMES)
@given(response=responses)
@slow
def test_any_answer_can_be_written_whole_and_streamed(client, response):
    body = DIALECTS[client].write_response(response, REPLY, None)
    json.dumps(body)
    writer = DIALECTS[client].writer(REPLY)
    objects = [one for event in unfold(response) for one in writer.send(event)] + writer.close()
    stream_rules.check(client, objects)
    whole = DIALECTS[client].read_response(body, Reading())
    streamed = fold(events_of(client, objects))
    if all(object_of(part.arguments) is not None for part in response.parts if isinstance(part, ToolCall)):
        assert loose_meaning(whole) == loose_meaning(streamed)


def loose_meaning(response: Response) -> Any:
    found = answer_meaning(response)
    # Chat has one place for words, one for thoughts and one for refusals: their order is not kept.
    joined: dict[str, Any] = {}
    for kind, *rest in found["parts"]:
        if kind in ("text", "reasoning", "refusal"):
            joined[kind] = joined.get(kind, "") + rest[0]
        elif kind == "call":
            joined.setdefault(kind, []).append(rest[1:])
    return {name: value for name, value in joined.items() if value}, found["reason"], found["usage"]


@st.composite
def legal_events(draw) -> list[Any]:
    events: list[Any] = [Started("u1", "m")]
    opened: list[int] = []
    count = 0
    kinds: dict[int, Any] = {}
    for _ in range(draw(st.integers(0, 25))):
        step = draw(st.sampled_from(["start", "grow", "grow", "end", "count", "alive"]))
        if step == "start":
            part = draw(spoken)
            if isinstance(part, ToolCall):
                part = ToolCall(f"call_{count}", "f", "", part.kind, seal=part.seal)
            events.append(PartStarted(count, part))
            kinds[count] = part
            opened.append(count)
            count += 1
        elif step == "count":
            events.append(Counted(draw(usages)))
        elif step == "alive":
            events.append(StillAlive())
        elif opened:
            index = draw(st.sampled_from(opened))
            if step == "grow":
                events.append(_growth(draw, index, kinds[index]))
            else:
                opened.remove(index)
                events.append(PartEnded(index))
    events.extend(PartEnded(index) for index in opened)
    events.append(draw(finishes))
    if draw(st.booleans()):
        events.append(Counted(draw(usages)))
    return events


def _growth(draw, index: int, part: Any) -> PartGrew:
    if isinstance(part, Media | Opaque):
        return PartGrew(index)
    if isinstance(part, Text):
        return PartGrew(
            index,
            draw(words),
            draw(st.none() | citations),
            draw(seals),
            draw(st.lists(tokens, max_size=1).map(tuple)),
        )
    return PartGrew(index, draw(words), None, draw(seals))


@pytest.mark.parametrize("client", NAMES)
@given(events=legal_events())
@slow
def test_writers_say_only_what_is_legal(client, events):
    writer = DIALECTS[client].writer(REPLY)
    objects = [one for event in events for one in writer.send(event)] + writer.close()
    stream_rules.check(client, objects)
    assert fold(events_of(client, objects)).finish is not None
    with pytest.raises(IllegalEvent):
        writer.send(StillAlive())


any_event = (
    st.builds(Started, ids, ids)
    | st.builds(PartStarted, st.integers(0, 3), spoken)
    | st.builds(PartGrew, st.integers(0, 3), words, st.none() | citations, seals)
    | st.builds(PartEnded, st.integers(0, 3))
    | st.builds(Counted, usages)
    | finishes
    | st.builds(Failed, words, words)
    | st.just(StillAlive())
)


@pytest.mark.parametrize("client", NAMES)
@given(events=st.lists(any_event, max_size=25))
@slow
def test_illegal_events_are_refused_and_change_nothing(client, events):
    writer, careful = DIALECTS[client].writer(REPLY), DIALECTS[client].writer(REPLY)
    objects: list[Any] = []
    accepted: list[Any] = []
    for event in events:
        try:
            objects += writer.send(event)
        except IllegalEvent:
            continue
        accepted.append(event)
    stream_rules.check(client, objects, complete=False)
    assert objects == [one for event in accepted for one in careful.send(event)]
    try:
        objects += writer.close()
    except IllegalEvent:
        return
    stream_rules.check(client, objects)


def _places(dialect: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a request whose unknown members must survive."""
    found = [body]
    where = {
        "openai_chat": "messages",
        "openai_responses": "input",
        "anthropic": "messages",
        "gemini": "contents",
    }[dialect]
    turns_ = body[where]
    for turn in turns_ if type(turns_) is list else ():
        found.append(turn)
        for name in ("content", "parts", "output", "tool_calls"):
            inner = turn.get(name)
            found += [part for part in inner if type(part) is dict] if type(inner) is list else []
    for part in list(found):
        found += [
            part[name]
            for name in ("image_url", "file", "source", "inlineData", "functionCall", "function")
            if type(part.get(name)) is dict
        ]
    for tool in body.get("tools", ()):
        found += tool.get("functionDeclarations", [tool])
        found += [tool["function"]] if "function" in tool else []
    return found


unknown = st.dictionaries(
    st.from_regex(r"x_[a-z]{1,6}", fullmatch=True),
    st.none() | st.integers() | words | st.lists(words, max_size=2) | flat,
    max_size=2,
)


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", cases("request"))
@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_unknown_request_fields_go_home(dialect, case, data):
    body = copy.deepcopy(golden(dialect, case)["request"])
    for place in _places(dialect, body):
        place.update(data.draw(unknown))
    written = write_request(dialect, read_request(dialect, copy.deepcopy(body)))
    written.body.pop("stream_options", None)
    expected = {
        name: value for name, value in body.items() if dialect != "gemini" or name not in ("model", "stream")
    }
    assert written.body == expected


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("case", cases("response"))
@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_unknown_answer_fields_go_home(dialect, case, data):
    body = copy.deepcopy(golden(dialect, case)["response"])
    for place in _answer_places(dialect, body):
        place.update(data.draw(unknown))
    spoken_ = DIALECTS[dialect]
    assert (
        spoken_.write_response(spoken_.read_response(copy.deepcopy(body), Reading()), Reply(), None) == body
    )


def _answer_places(dialect: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    found = [body]
    if dialect == "openai_chat":
        choice = body["choices"][0]
        found += [choice, choice["message"], body["usage"], *choice["message"].get("tool_calls", ())]
    elif dialect == "openai_responses":
        found += [body["usage"], *body["output"]]
        found += [part for item in body["output"] for part in item.get("content", ())]
    elif dialect == "anthropic":
        found += [body["usage"], *body["content"]]
    else:
        found.append(body["usageMetadata"])
        for candidate in body.get("candidates", ()):
            found += [candidate, *candidate["content"]["parts"]]
    return found


@given(response=responses)
@slow
def test_unfolding_and_folding_is_the_same_answer(response):
    again = fold(unfold(response))
    for before, after in zip(response.parts, again.parts, strict=True):
        if isinstance(before, ToolCall) and not before.arguments.strip():
            continue  # No arguments are written as an empty object.
        assert after == before
    assert (again.id, again.finish, again.usage) == (response.id, response.finish, response.usage)
