"""Base URLs as people paste them."""

import pytest

from tollway.upstream.addresses import has_version, settled

CHAT, RESPONSES, CLAUDE, GEMINI = "openai_chat", "openai_responses", "anthropic", "gemini"
H = "https://h.example"


@pytest.mark.parametrize(
    ("dialect", "given", "meant"),
    [
        (CHAT, "/v1", "/v1"),
        (CHAT, "/v1/", "/v1"),
        (CHAT, "", "/v1"),
        (CHAT, "/", "/v1"),
        (CHAT, "/v1/chat/completions", "/v1"),
        (CHAT, "/v1/chat/completions/", "/v1"),
        (CHAT, "/chat/completions", "/v1"),
        (CHAT, "/v1/embeddings", "/v1"),
        (CHAT, "/v1/models", "/v1"),
        (CHAT, "/v1/v1", "/v1"),
        (CHAT, "/openai/v1", "/openai/v1"),
        (CHAT, "/api/paas/v4", "/api/paas/v4"),
        (CHAT, "/inference", "/inference"),
        (CHAT, "/v1beta/openai", "/v1beta/openai"),
        (RESPONSES, "/v1/responses", "/v1"),
        (RESPONSES, "/v1/responses/input_tokens", "/v1"),
        (CLAUDE, "", "/v1"),
        (CLAUDE, "/v1", "/v1"),
        (CLAUDE, "/v1/messages", "/v1"),
        (CLAUDE, "/v1/messages/count_tokens", "/v1"),
        (CLAUDE, "/anthropic", "/anthropic/v1"),
        (CLAUDE, "/anthropic/v1/messages", "/anthropic/v1"),
        (GEMINI, "", "/v1beta"),
        (GEMINI, "/v1beta", "/v1beta"),
        (GEMINI, "/v1", "/v1"),
        (GEMINI, "/v1beta/models", "/v1beta"),
        (GEMINI, "/v1beta/models/gemini-2.5-pro:generateContent", "/v1beta"),
    ],
)
def test_what_is_plainly_meant_is_put_right_and_told(dialect, given, meant):
    url, told = settled(dialect, "", H + given)
    assert url == H + meant
    assert bool(told) == (given.rstrip("/") != meant)
    assert settled(dialect, "", url) == (url, []), "it is done once"


@pytest.mark.parametrize(
    ("platform", "dialect", "given", "meant"),
    [
        ("azure", CHAT, "", ""),
        ("azure", CHAT, "/openai/deployments/d/chat/completions", ""),
        ("azure", CHAT, "/openai/v1/", ""),
        ("azure", CHAT, "/team/openai", "/team"),
        ("vertex", GEMINI, "", "/v1"),
        ("vertex", GEMINI, "/v1beta1", "/v1beta1"),
        ("vertex", CLAUDE, "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict", "/v1"),
        ("bedrock", CLAUDE, "", ""),
        ("bedrock", CLAUDE, "/model/anthropic.claude/invoke", ""),
    ],
)
def test_platforms_have_addresses_of_their_own(platform, dialect, given, meant):
    assert settled(dialect, platform, H + given)[0] == H + meant


def test_a_correction_says_what_became_of_it():
    _, [one] = settled(CHAT, "", "https://api.example/v1/chat/completions")
    assert "/v1/chat/completions became /v1" in one
    _, [one] = settled(CLAUDE, "", "https://api.example")
    assert one.startswith("/v1 was added")


def test_versions_in_paths():
    assert (
        has_version("https://h/v1") and has_version("https://h/api/v3/x") and has_version("https://h/v1beta")
    )
    assert not has_version("https://h/inference") and not has_version("https://v1.example/")
