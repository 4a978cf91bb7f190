"""What is known of models by name, and which knowledge wins."""

import pytest

from tollway.core.billing.pricing import OUTPUT_UNKNOWN
from tollway.core.dialects.base import Target
from tollway.core.routing.models import Channel, Model, Route
from tollway.core.routing.targets import KNOWN, ROWS, by_name, fault_of, mending, quirks
from tollway.flows.targets import target


def channel(dialect: str, **options) -> Channel:
    return Channel(
        id="c", name="c", dialect=dialect, base_url="http://api.example", secret=None, secret_hint="",
        groups=(), priority=0, weight=1, status="enabled", created_at=0, options=options,
    )  # fmt: skip


def model(**more) -> Model:
    facts = {
        "id": "m", "kind": "chat", "provider": "", "description": "", "context_window": 0, "output_max": 0,
        "capabilities": (), "status": "enabled", "created_at": 0, "price": None, "aliases": (), "routes": (),
    }  # fmt: skip
    return Model(**{**facts, **more})


def aim(dialect: str, name: str, route: dict | None = None, known: dict | None = None, **options):
    one = Route(channel_id="c", upstream_model=name, options=route or {})
    return target(channel(dialect, **options), one, model(**(known or {})), "scope-123")


def test_what_is_asked_for_unasked_is_what_is_put_aside_for_it():
    assert Target().default_output_tokens == OUTPUT_UNKNOWN


SAMPLING = [
    ("openai_chat", "gpt-4o", True),
    ("openai_chat", "gpt-4.1-mini", True),
    ("openai_chat", "chatgpt-4o-latest", True),
    ("openai_chat", "gpt-5-chat-latest", True),
    ("openai_chat", "gpt-oss-120b", True),
    ("openai_chat", "o3-ish/llama", True),
    ("openai_chat", "olmo-2", True),
    ("openai_chat", "gpt-5", False),
    ("openai_chat", "GPT-5-Nano", False),
    ("openai_chat", "gpt-5-codex", False),
    ("openai_chat", "gpt-5.1-codex-max", False),
    ("openai_responses", "gpt-5.2-pro", False),
    ("openai_chat", "openai/o1-mini", False),
    ("openai_chat", "o3", False),
    ("openai_responses", "o4-mini-2025-04-16", False),
    ("anthropic", "claude-3-5-haiku-latest", True),
    ("anthropic", "claude-sonnet-4-5", True),
    ("anthropic", "claude-opus-4-6", True),
    ("anthropic", "claude-opus-4-7", False),
    ("anthropic", "us.anthropic.claude-opus-5-5-v1:0", False),
    ("gemini", "gemini-3-pro", True),
]
THINKING = [
    ("openai_chat", "gpt-4o", "none"),
    ("openai_chat", "gpt-5", "effort"),
    ("openai_responses", "o3", "effort"),
    ("anthropic", "claude-3-opus-20240229", "none"),
    ("anthropic", "anthropic.claude-3-5-sonnet-20241022-v2:0", "none"),
    ("anthropic", "claude-3-7-sonnet-latest", "budget"),
    ("anthropic", "claude-sonnet-4@20250514", "budget"),
    ("anthropic", "claude-sonnet-4-20250514", "budget"),
    ("anthropic", "claude-opus-4-1-20250805", "budget"),
    ("anthropic", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "budget"),
    ("anthropic", "claude-opus-4-6", "effort"),
    ("anthropic", "claude-opus-5-5", "effort"),
    ("anthropic", "kimi-k2", "effort"),
    ("gemini", "gemini-2.0-flash", "none"),
    ("gemini", "gemma-3-27b-it", "none"),
    ("gemini", "models/gemini-2.5-pro", "budget"),
    ("gemini", "gemini-2.5-flash-image", "none"),
    ("gemini", "gemini-3-pro-preview", "effort"),
    ("gemini", "gemini-3.5-flash-lite", "effort"),
    ("gemini", "gemini-1.5-pro-002", "none"),
    ("gemini", "unheard-of", "effort"),
]


@pytest.mark.parametrize(("dialect", "name", "accepted"), SAMPLING)
def test_who_takes_sampling(dialect, name, accepted):
    assert aim(dialect, name).sampling is accepted


@pytest.mark.parametrize(("dialect", "name", "how"), THINKING)
def test_how_thought_is_asked_for(dialect, name, how):
    assert aim(dialect, name).thinking == how


def test_who_takes_schemas():
    assert not aim("anthropic", "claude-3-7-sonnet").json_schema
    assert aim("anthropic", "claude-sonnet-4-5").json_schema
    assert not aim("gemini", "gemini-2.0-flash").json_schema
    assert aim("gemini", "gemini-2.5-flash").json_schema


def test_limits():
    assert aim("anthropic", "claude-3-haiku-20240307").max_output_tokens == 4096
    assert aim("anthropic", "claude-3-haiku-20240307", known={"output_max": 2000}).max_output_tokens == 2000
    assert aim("openai_chat", "unheard-of").max_output_tokens is None
    assert aim("openai_chat", "unheard-of").completion_tokens_field == "max_tokens"
    assert aim("openai_chat", "gpt-4o").completion_tokens_field == "max_completion_tokens"


def test_budgets_that_are_not_told_keep_their_usual_size():
    found = aim("anthropic", "claude-sonnet-4-5", route={"budgets": {"low": 4000}}).budgets
    assert (found["low"], found["medium"]) == (4000, 8192)


def test_what_is_more_particular_wins():
    assert aim("openai_chat", "x").json_schema is True
    assert aim("openai_chat", "x", preset="deepseek").json_schema is False
    set_on = {"preset": "deepseek", "quirks": {"json_schema": True}}
    assert aim("openai_chat", "x", **set_on).json_schema is True
    assert aim("openai_chat", "x", known={"capabilities": ("no_json_schema",)}, **set_on).json_schema is False
    route = {"json_schema": True}
    assert aim("openai_chat", "x", route, {"capabilities": ("no_json_schema",)}, **set_on).json_schema is True


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("no_reasoning", "thinking", "none"),
        ("reasoning_effort", "thinking", "effort"),
        ("reasoning_budget", "thinking", "budget"),
        ("no_sampling", "sampling", False),
        ("mid_system", "mid_system", True),
    ],
)
def test_capability_words(word, name, value):
    assert getattr(aim("anthropic", "unheard-of", known={"capabilities": (word, "other")}), name) == value


def test_the_scope_goes_along():
    assert aim("gemini", "x").scope == "scope-123"


def test_a_presets_quirks_are_for_its_own_dialect():
    assert aim("anthropic", "deepseek-chat", preset="deepseek").json_schema is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling", 1),
        ("thinking", "hard"),
        ("thinking", []),
        ("budgets", {"huge": 5}),
        ("budgets", {"low": 0}),
        ("budgets", {"low": True}),
        ("budgets", 5),
        ("max_output_tokens", -1),
        ("max_output_tokens", "5"),
        ("completion_tokens_field", "tokens"),
        ("fetches_urls", "no"),
        ("drop", "x"),
        ("drop", [1]),
        ("drop", [""]),
        ("drop", ["seed", "max_tokens"]),
        ("cache_marks_max", True),
        ("unheard_of", True),
    ],
)
def test_a_quirk_that_makes_no_sense_is_named_and_ignored(name, value):
    assert fault_of(name, value)
    assert aim("openai_chat", "x", route={name: value}, quirks={name: value}) == aim("openai_chat", "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fetches_urls", None),
        ("thinking", "budget"),
        ("drop", ["seed"]),
        ("budgets", {"low": 5}),
        ("sampling", False),
    ],
)
def test_a_quirk_that_makes_sense_has_no_fault(name, value):
    assert fault_of(name, value) is None


def test_every_row_holds_quirks_that_exist():
    for row in ROWS:
        for name, value in row.quirks.items():
            assert fault_of(name, value) is None, (row, name)
    assert all(meaning for _, meaning in KNOWN.values())


def test_knowledge_by_name_is_not_shared():
    one = quirks(channel("gemini"), Route(channel_id="c", upstream_model="gemini-2.5-pro"), model(), {})
    one["thinking"] = "none"
    assert by_name("gemini", "gemini-2.5-pro")["thinking"] == "budget"


def test_only_what_is_known_to_be_refused_is_mended():
    assert mending(channel("openai_chat"), "gpt-4o", {}) == {}
    assert mending(channel("openai_chat"), "x", {"json_schema": False}) == {}
    assert mending(channel("openai_chat"), "gpt-5", {}) == {
        "completion_tokens_field": "max_completion_tokens"
    }
    assert mending(channel("openai_chat", quirks={"drop": ["a"]}), "x", {}) == {"drop": ["a"]}
