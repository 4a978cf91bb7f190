"""Finished bodies changed for upstreams that refuse what others take, native ones too."""

import json

import pytest
from tests.support.channels import endpoint


def sent(body: dict, model: str = "m", dialect: str = "openai_chat", **options) -> dict:
    one = endpoint(dialect=dialect, **options)
    return json.loads(one.text(json.dumps(body).encode(), "r", model=model, stream=False).body)


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-5-mini-2025-08-07", "gpt-5.2", "o3", "o4-mini", "openai/gpt-5.1-codex"]
)
def test_reasoning_models_get_the_new_limit(model):
    assert sent({"max_tokens": 5}, model) == {"max_completion_tokens": 5}
    assert sent({"max_tokens": 5, "max_completion_tokens": 6}, model) == {"max_completion_tokens": 6}
    assert sent({"max_tokens": 5}, "gpt-4o") == {"max_tokens": 5}


def test_a_preset_that_knows_only_the_old_limit_gets_it():
    limit = {"quirks": {"completion_tokens_field": "max_tokens"}}
    assert sent({"max_completion_tokens": 5}, **limit) == {"max_tokens": 5}
    assert sent({"max_completion_tokens": 5}) == {"max_completion_tokens": 5}
    assert sent({"max_completion_tokens": 5}, "gpt-5", **limit) == {"max_tokens": 5}


def test_developers_become_system_where_the_role_is_unknown():
    body = {"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "developer"}, 7]}
    mended = {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "developer"}, 7]}
    assert sent(body, preset="mistral") == mended
    assert sent(body, preset="openai") == body
    assert sent({"messages": "developer"}, preset="mistral") == {"messages": "developer"}


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic", "openai_responses"])
def test_named_members_are_left_out(dialect):
    body = {"seed": 1, "a": {"seed": 2}, "b": "seed"}
    assert sent(body, dialect=dialect, quirks={"drop": ["seed", "c"]}) == {"a": {"seed": 2}, "b": "seed"}


def test_a_body_that_needs_no_change_is_sent_byte_by_byte():
    one = endpoint(quirks={"drop": ["seed"], "developer_role": False})
    body = b'{"messages" : [ {"role":"user","content":"x"} ] }'
    assert one.text(body, "r", model="gpt-5", stream=False).body == body


@pytest.mark.parametrize(
    "quirks", [{"drop": "seed"}, {"developer_role": "no"}, {"unheard_of": 1}, "text", None]
)
def test_quirks_that_make_no_sense_change_nothing(quirks):
    body = {"seed": 1, "messages": [{"role": "developer", "content": ""}]}
    assert sent(body, quirks=quirks) == body


@pytest.mark.parametrize(
    ("field", "body", "limit"),
    [
        ("max_tokens", {"max_tokens": 100, "max_completion_tokens": 6}, 6),
        ("max_tokens", {"max_tokens": 100, "max_completion_tokens": None}, 100),
        ("max_completion_tokens", {"max_tokens": 5, "max_completion_tokens": None}, 5),
        ("max_completion_tokens", {"max_tokens": 100, "max_completion_tokens": 6}, 6),
    ],
)
def test_the_limit_that_is_sent_is_the_one_the_call_was_weighed_by(field, body, limit):
    model = "gpt-5" if field == "max_completion_tokens" else "m"
    assert sent(body, model, quirks={"completion_tokens_field": field}) == {field: limit}


@pytest.mark.parametrize(
    "name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "model", "stream"]
)
def test_what_bounds_a_calls_cost_is_never_dropped(name):
    assert sent({name: 5}, "gpt-4o", quirks={"drop": [name]}) == {name: 5}
