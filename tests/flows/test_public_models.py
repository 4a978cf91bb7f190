"""The shipped catalogue: every row can be sold by, has a source and a date, and is what its sources say."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import Rates
from tollway.flows.admin import names
from tollway.flows.admin.models import KINDS, TOKENS_MAX
from tollway.flows.admin.public_models import chosen, one_for_each, providers, shipped

ROOT = Path(__file__).parents[2]
CAPABILITIES = {
    "streaming", "tools", "json_schema", "vision", "file_input", "audio_input", "video_input", "reasoning",
    "caching", "logprobs", "image_output", "audio_output", "video_output",
}  # fmt: skip


@pytest.mark.parametrize("row", shipped().models, ids=lambda row: f"{row.provider}/{row.id}")
def test_every_row_can_be_sold_by(row):
    names.model(row.id)
    names.upstream_model(row.upstream or row.id)
    assert row.kind in KINDS
    assert any(Rates(row.rates).values())
    if row.kind == "chat":
        assert {"input", "output"} <= row.rates.keys()
    assert 0 <= row.output_max <= TOKENS_MAX and 0 <= row.context_window <= TOKENS_MAX
    assert set(row.capabilities) <= CAPABILITIES
    assert all(name.isidentifier() for name in row.parameters)
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", row.date) and row.source
    assert row.description.isprintable() and len(row.description) <= 500


def test_no_provider_has_a_model_twice_and_the_makers_are_there():
    pairs = [(row.provider, row.id) for row in shipped().models]
    assert len(set(pairs)) == len(pairs)
    makers = (
        "openai anthropic google x-ai deepseek mistral moonshotai zai kling sunoapi byteplus alibaba meta"
    )
    assert set(makers.split()) <= set(providers())
    assert {row.kind for row in shipped().models} == set(KINDS)


@pytest.mark.parametrize(
    ("provider", "model", "counted", "usd"),
    [
        # checked by hand against the prices the providers publish
        ("openai", "gpt-5", {"input": 10**6, "cache_read": 10**6, "output": 10**6}, 1.25 + 0.125 + 10),
        ("openai", "whisper-1", {"audio_second": 60}, 0.006),
        ("openai", "tts-1", {"character": 1000}, 0.015),
        ("anthropic", "claude-opus-4-5", {"input": 10**6, "cache_write_1h": 10**6}, 5 + 10),
        ("google", "gemini-2.5-pro", {"input": 200_000, "output": 1000}, 0.25 + 0.01),
        ("google", "gemini-2.5-pro", {"input": 200_001, "output": 1000}, 0.5000025 + 0.015),
        ("google", "veo-3.1-generate-preview", {"video_second:1080p:audio": 8}, 3.2),
        ("google", "lyria-3.5", {"song": 1}, 0.08),
        ("kling", "kling-v3", {"video_second:1080p:audio:pro": 10}, 1.68),
        ("byteplus", "seedance-1-5-pro-251215", {"video_token:720p:audio": 100_000}, 0.24),
        ("byteplus", "seedream-4-5-251128", {"image:2048x2048:any": 3}, 0.12),
        ("perplexity", "sonar", {"input": 1000, "output": 1000, "call": 1}, 0.012 + 0.002),
    ],
)
def test_public_prices_in_dollars(provider, model, counted, usd):
    (row,) = [row for row in chosen(provider, model) if row.id == model]
    assert cost(counted, Rates(row.rates)) == round(usd * 10**9)


def test_the_makers_row_is_meant_unless_a_model_is_said_to_be_anothers():
    rows = chosen(None, "kimi-k3")
    assert {row.provider for row in rows} >= {"moonshotai", "fireworks"}
    assert [row.provider for row in one_for_each(rows, {})] == ["moonshotai"]
    assert [row.provider for row in one_for_each(rows, {"kimi-k3": "fireworks"})] == ["fireworks"]
    assert [row.provider for row in one_for_each(rows, {"kimi-k3": "ours"})] == ["moonshotai"]


def test_the_file_is_what_its_sources_say():
    built_from = shipped().built_from.split()[-1]
    # The lock file has one version of it; the file is built anew whenever that changes.
    assert importlib.metadata.version("genai-prices") == built_from
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "catalogue.py"), "--check"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
