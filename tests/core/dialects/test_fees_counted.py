"""What upstreams' own tools did and the tier that served a call, counted alike whichever relay carries the answer."""

from __future__ import annotations

import json

import pytest
from tests.support import searched
from tests.support.dialects import NAMES, READING, REPLY

from tollway.core.dialects.natives import NATIVES
from tollway.core.dialects.openai_chat import native as chat
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.translated import TranslatedStream, TranslatedWhole
from tollway.core.exchange import Answered, Counted, Grew

WAYS = ("native", "openai_chat", "openai_responses", "anthropic", "gemini")


def relay(dialect, way, *, stream):
    """The native relay of a dialect's answer, or its translation for a client of another dialect."""
    if way != "native":
        kind = TranslatedStream if stream else TranslatedWhole
        return kind(DIALECTS[dialect], DIALECTS[way], READING, REPLY)
    if dialect == "openai_chat":
        return chat.NativeStream("m", include_usage=True) if stream else chat.NativeWhole("m")
    makers = NATIVES[dialect]
    return makers.stream("m", "t") if stream else makers.whole("m", "t")


def framed(dialect, objects):
    return b"".join(DIALECTS[dialect].frame(one) for one in objects)


def counted(events):
    return [one.usage for one in events if isinstance(one, Answered | Counted)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("stream", [False, True])
def test_fees_and_tiers_are_counted_alike_by_every_relay(dialect, way, stream):
    found = relay(dialect, way, stream=stream)
    if stream:
        data = framed(dialect, searched.stream(dialect))
    else:
        data = json.dumps(searched.whole(dialect)).encode()
    events = [*found.feed(data).events, *found.end().events]
    usage = counted(events)[-1]
    assert (usage.input, usage.output) == (searched.INPUT, searched.OUTPUT)
    assert usage.tools == searched.TOOLS[dialect]
    assert usage.tier == searched.TIERS[dialect]
    assert not usage.anomalous


@pytest.mark.parametrize("way", ["native", "openai_chat"])
@pytest.mark.parametrize("dialect", ["openai_responses", "anthropic", "gemini"])
def test_what_tools_did_is_known_before_the_end(dialect, way):
    found = relay(dialect, way, stream=True)
    objects = searched.stream(dialect)
    # Everything but what carries the final usage, and the words of the answer.
    early = [
        one for one in objects if "delta" not in str(one.get("type")) and one.get("type") != "message_stop"
    ]
    early = early[:-1] if dialect == "openai_responses" else early
    events = found.feed(framed(dialect, early)).events
    usage = counted(events)[-1]
    assert usage.tools == searched.TOOLS[dialect]
    if dialect != "gemini":
        # Tokens are counted at the end: what was said of them before would pass for all of them.
        assert usage.output == 0


def test_a_response_that_ends_without_its_items_is_counted_by_those_that_came():
    objects = searched.stream("openai_responses")
    objects[-1] = {**objects[-1], "response": {**objects[-1]["response"], "output": []}}
    for way in ("native", "anthropic"):
        found = relay("openai_responses", way, stream=True)
        events = found.feed(framed("openai_responses", objects)).events
        assert counted(events)[-1].tools == searched.TOOLS["openai_responses"]
        assert any(not isinstance(one, Grew) for one in events)


def test_code_alone_is_one_session_however_often_it_ran():
    answer = searched.whole("anthropic")
    blocks = [one for one in answer["content"] if one.get("name") != "web_search"]
    alone = {**answer, "content": blocks, "usage": {"input_tokens": 3, "output_tokens": 2}}
    for way in ("native", "gemini"):
        found = relay("anthropic", way, stream=False)
        events = [*found.feed(json.dumps(alone).encode()).events, *found.end().events]
        assert counted(events)[-1].tools == {"code_session": 1}


def test_pictures_in_a_chat_are_counted_alike_by_every_relay():
    usage = {
        "prompt_tokens": 10, "completion_tokens": 9, "prompt_tokens_details": {"image_tokens": 4},
        "completion_tokens_details": {"image_tokens": 7},
    }  # fmt: skip
    data = json.dumps({**searched.whole("openai_chat"), "usage": usage}).encode()
    for way in ("native", "anthropic"):
        found = relay("openai_chat", way, stream=False)
        events = [*found.feed(data).events, *found.end().events]
        assert (counted(events)[-1].image_in, counted(events)[-1].image_out) == (4, 7)
