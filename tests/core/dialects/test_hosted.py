"""What requests ask of upstreams besides tokens, in every dialect, and what they are held for or refused."""

import json

import pytest

from tollway.core.billing.fees import TOOL_TOKENS, USES
from tollway.core.billing.pricing import OUTPUT_UNKNOWN, estimate
from tollway.core.billing.rates import Rates
from tollway.core.dialects.checked import ask, read_chat, without_tools
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Model, Price
from tollway.core.terms import PLAIN, Tool

MESSAGES = {"messages": [{"role": "user", "content": "search the web"}]}
BODIES = {
    "gemini": {"model": "m", "contents": [{"parts": [{"text": "search"}]}]},
    "anthropic": {"model": "m", "max_tokens": 10, **MESSAGES},
    "openai_responses": {"model": "m", "input": "search", "max_output_tokens": 10},
    "openai_chat": {"model": "m", "max_tokens": 10, **MESSAGES},
}
FUNCTION = {"type": "function", "function": {"name": "web_search", "parameters": {"type": "object"}}}


def terms(dialect, **more):
    body = {**BODIES[dialect], **more}
    asked = read_chat(json.dumps(body).encode()) if dialect == "openai_chat" else ask(dialect, body)
    return asked.terms


def a_model(rates, window=0):
    return Model(
        id="m", kind="chat", provider="", description="", context_window=window, output_max=0, capabilities=(),
        status="enabled", created_at=0, aliases=(), routes=(), price=Price(version=1, rates=Rates(rates), created_at=0),
    )  # fmt: skip


def tools(*listed):
    return {"tools": list(listed)}


@pytest.mark.parametrize(
    ("dialect", "more", "expected"),
    [
        # what clients run, and what nobody here knows, asks for nothing
        ("openai_chat", {}, ()),
        ("openai_chat", tools(FUNCTION), ()),
        ("openai_responses", tools({"type": "function", "name": "web_search", "parameters": {}}), ()),
        ("openai_responses", tools({"type": "local_shell"}), ()),
        ("openai_responses", tools({"type": "shell", "environment": {"type": "local"}}), ()),
        ("anthropic", tools({"name": "web_search", "input_schema": {"type": "object"}}), ()),
        ("anthropic", tools({"type": "bash_20250124", "name": "bash"}), ()),
        ("gemini", tools({"functionDeclarations": [{"name": "googleSearch"}]}), ()),
        # searches, with and without a limit
        ("openai_responses", tools({"type": "web_search"}), (Tool("web_search", "web_search"),)),
        (
            "openai_responses",
            {**tools({"type": "web_search_preview"}), "max_tool_calls": 3},
            (Tool("web_search_preview", "web_search", 3),),
        ),
        (
            "anthropic",
            tools({"type": "web_search_20250305", "name": "web_search", "max_uses": 2}),
            (Tool("web_search_20250305", "web_search", 2),),
        ),
        ("gemini", tools({"googleSearch": {}}), (Tool("googleSearch", "web_search"),)),
        ("gemini", tools({"google_search": {}}), (Tool("google_search", "web_search"),)),
        ("gemini", tools({"googleMaps": {}}), (Tool("googleMaps", "map_search"),)),
        ("openai_responses", tools({"type": "file_search", "vector_store_ids": ["vs"]}), (Tool("file_search", "file_search"),)),
        # code, by the session
        (
            "openai_responses",
            tools({"type": "code_interpreter", "container": {"type": "auto"}}),
            (Tool("code_interpreter", "code_session", 1),),
        ),
        (
            "openai_responses",
            tools({"type": "shell", "environment": {"type": "container_auto"}}),
            (Tool("shell", "code_session", 1),),
        ),
        (
            "anthropic",
            tools({"type": "code_execution_20250825", "name": "code_execution"}),
            (Tool("code_execution_20250825", "code_session", 1),),
        ),
        # ... or free beside a search that sorts what it finds by code
        (
            "anthropic",
            tools(
                {"type": "code_execution_20250825", "name": "code_execution"},
                {"type": "web_search_20260209", "name": "web_search"},
            ),
            (Tool("code_execution_20250825", None, 1), Tool("web_search_20260209", "web_search")),
        ),
        # pictures are sold as pictures
        ("openai_responses", tools({"type": "image_generation"}), (Tool("image_generation", "image", 1, False),)),
        # free of charge, but what they find is input
        ("anthropic", tools({"type": "web_fetch_20250910", "name": "web_fetch"}), (Tool("web_fetch_20250910", None),)),
        ("gemini", tools({"urlContext": {}}), (Tool("urlContext", None),)),
        # another model's price
        ("anthropic", tools({"type": "advisor_20260301", "name": "advisor", "model": "x"}), (Tool("advisor_20260301", ""),)),
        # Chat tells of searches in many ways
        ("openai_chat", {"web_search_options": {}}, (Tool("web_search_options", "call", 1, field="web_search_options"),)),
        ("openai_chat", {"enable_search": True}, (Tool("enable_search", "call", 1, field="enable_search"),)),
        ("openai_chat", {"enable_search": False}, ()),
        (
            "openai_chat",
            {"search_parameters": {"mode": "auto", "max_search_results": 4}},
            (Tool("search_parameters", "web_search", 4, False, "search_parameters"),),
        ),
        ("openai_chat", {"search_parameters": {"mode": "off"}}, ()),
        ("openai_chat", {"plugins": [{"id": "web"}]}, (Tool("web", "web_search", 1, field="plugins"),)),
        ("openai_chat", {"plugins": [{"id": "web", "enabled": False}, {"id": "file-parser"}]}, ()),
        ("openai_chat", tools({"type": "openrouter:web_search"}), (Tool("openrouter:web_search", "web_search"),)),
        ("openai_chat", tools(FUNCTION, {"type": "browser_search"}), (Tool("browser_search", "call", 1),)),
    ],
)  # fmt: skip
def test_requests_tell_which_tools_upstreams_run_for_them(dialect, more, expected):
    found = terms(dialect, **more)
    assert found.tools == expected
    assert (found is PLAIN) == (not expected)


WITH_FEES = {"input": 10**6, "output": 10**7, "web_search": 10**10, "web_search:preview": 3 * 10**10}


@pytest.mark.parametrize(
    ("more", "uses"),
    [({}, USES), ({"max_tool_calls": 2}, 2), ({"max_tool_calls": 0}, 0)],
)
def test_a_tool_is_held_for_its_uses_at_its_dearest_rate_and_for_what_it_finds(more, uses):
    asked = terms("openai_responses", **tools({"type": "web_search"}), **more)
    found = estimate(100, 10, 1, a_model(WITH_FEES), None, terms=asked)
    read = 100 + uses * TOOL_TOKENS
    # 1 micro-credit a token in, 10 a token out, 30,000 a search
    assert (found.input_tokens, found.amount) == (read, read + 10 * 10 + uses * 30_000)
    # Nobody knows what a search finds, so what is really counted may be charged beyond the hold.
    assert not found.bounded


def test_what_tools_find_never_exceeds_the_window():
    asked = terms("gemini", **tools({"googleSearch": {}}))
    found = estimate(100, 10, 1, a_model({**WITH_FEES, "grounded": 5 * 10**10}, 8192), None, terms=asked)
    assert found.input_tokens == 8192
    # ... and a price may sell both the call that searched and each search
    assert found.amount == 8192 + 100 + USES * 30_000 + 50_000


@pytest.mark.parametrize(
    ("dialect", "more", "param", "meter"),
    [
        ("openai_responses", tools({"type": "web_search"}), "tools", "web_search"),
        ("openai_responses", tools({"type": "code_interpreter"}), "tools", "code_session"),
        ("openai_responses", tools({"type": "image_generation"}), "tools", "image"),
        ("anthropic", tools({"type": "web_search_20250305", "name": "web_search"}), "tools", "web_search"),
        ("gemini", tools({"googleMaps": {}}), "tools", "map_search"),
        ("openai_chat", {"web_search_options": {}}, "web_search_options", "call"),
        ("openai_chat", {"plugins": [{"id": "web"}]}, "plugins", "web_search"),
    ],
)
def test_a_tool_without_a_rate_is_refused_by_its_field_with_what_helps(dialect, more, param, meter):
    asked = terms(dialect, **more)
    with pytest.raises(GatewayError) as caught:
        estimate(100, 10, 1, a_model({"input": 1, "output": 1}), None, terms=asked)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert f"--rate {meter}=" in caught.value.message
    # A rate of nothing is a rate.
    assert estimate(100, 10, 1, a_model({"input": 1, "output": 1, meter: 0}), None, terms=asked).amount >= 1


def test_a_tool_that_no_rate_could_price_is_refused():
    asked = terms("anthropic", **tools({"type": "advisor_20260301", "name": "advisor", "model": "x"}))
    with pytest.raises(GatewayError, match="no rate of the model"):
        estimate(100, 10, 1, a_model(WITH_FEES), None, terms=asked)


PDF = {"type": "input_file", "file_id": "file-1"}
KEPT = [
    ("gemini", {"cachedContent": "cachedContents/1"}, "cachedContent"),
    ("openai_responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
    ("openai_responses", {"input": [{"role": "user", "content": [PDF]}]}, "file_id"),
    ("openai_chat", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "file_id"),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]},
        "file_id",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "more", "name"), KEPT)
def test_input_that_an_upstream_keeps_is_held_as_a_full_window_or_refused(dialect, more, name):
    asked = terms(dialect, **more)
    assert asked.keeps == name
    found = estimate(100, 10, 1, a_model(WITH_FEES, 50_000), None, terms=asked)
    assert (found.input_tokens, found.amount, found.bounded) == (50_000, 50_000 + 100, True)
    with pytest.raises(GatewayError) as caught:
        estimate(100, 10, 1, a_model(WITH_FEES), None, terms=asked)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


def test_a_limit_of_the_callers_is_sent_once():
    body = {**BODIES["openai_chat"], "plugins": [{"id": "web"}], "service_tier": "priority"}
    asked = read_chat(json.dumps(body).encode())
    sent = asked.body("up", 7)
    assert sent.count(b'"max_tokens"') == 1
    assert json.loads(sent) == {**body, "model": "up"}
    open_ended = {name: value for name, value in body.items() if name != "max_tokens"}
    assert json.loads(read_chat(json.dumps(open_ended).encode()).body("up", 7))["max_tokens"] == 7


def test_without_terms_nothing_changes():
    plain = estimate(100, None, 1, a_model(WITH_FEES), None, terms=terms("openai_chat"))
    assert plain == estimate(100, None, 1, a_model(WITH_FEES), None)
    assert plain.output_tokens == OUTPUT_UNKNOWN


URLS = [
    ("gemini", {"contents": [{"parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "https://a.example/v"}}]}]}, True),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "https://a.example/d"}}]}]},
        True,
    ),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a.example/i"}}]}]},
        False,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "more", "loads"), URLS)
def test_what_is_behind_a_url_may_be_charged_beyond_the_hold(dialect, more, loads):
    asked = terms(dialect, **more)
    assert asked.loads is loads
    found = estimate(100, 10, 1, a_model(WITH_FEES, 50_000), None, terms=asked)
    assert (found.input_tokens, found.amount, found.bounded) == (100, 200, not loads)


@pytest.mark.parametrize(
    "wish", [{"usage": {"include": True}}, {"stream_options": {"include_usage": True}}, {}]
)
def test_what_is_left_without_tools_is_otherwise_what_was_asked(wish):
    body = {
        "model": "m", "stream": True, "max_credits": 5, "messages": [{"role": "user", "content": "x"}], **wish,
        "tools": [{"type": "openrouter:web_search"}, {"type": "function", "function": {"name": "f"}}],
    }  # fmt: skip
    asked = read_chat(json.dumps(body).encode())
    lighter = without_tools(asked, frozenset({"openrouter:web_search"}))
    assert [one["type"] for one in lighter.members["tools"]] == ["function"]
    for name in ("model", "stream", "include_usage", "max_credits", "output_wanted", "choices"):
        assert getattr(lighter, name) == getattr(asked, name)
    assert lighter.include_usage is bool(wish)
