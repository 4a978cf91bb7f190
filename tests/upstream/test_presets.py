"""Every preset makes an endpoint for each of its dialects, and says nothing nobody understands."""

import re

import pytest
from tests.support.channels import channel

from tollway.core.routing.targets import fault_of
from tollway.flows.admin.connecting import PLACES, AddChannel, settle
from tollway.upstream.channels import DIALECTS, check
from tollway.upstream.presets import DEVIATIONS, PRESETS, preset_of, quirks_of

PLACE = {"resource": "res", "region": "us-east-1", "location": "us-east5", "project": "p"}
EXPECTED = (
    "openai anthropic gemini azure vertex bedrock deepseek xai groq mistral openrouter together fireworks cerebras"
    " moonshot zhipu qwen siliconflow nvidia perplexity cohere huggingface github ollama vllm lmstudio llamacpp"
    " localai sandbox"
)


def test_the_usual_providers_are_there():
    assert set(EXPECTED.split()) <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda one: one.name)
def test_a_preset_makes_a_usable_channel_in_each_of_its_dialects(preset):
    for dialect, url in preset.bases.items():
        blanks = set(re.findall(r"\{(\w+)\}", url))
        assert blanks <= set(PLACES)
        secret = None if preset.local else "s3cret-s3cret"
        place = {name: PLACE[name] for name in (*blanks, *(("project",) if preset.name == "vertex" else ()))}
        found = settle(AddChannel(preset=preset.name, dialect=dialect, place=place, secret=secret))
        assert found.hints == ()
        assert (found.name, found.dialect) == (preset.name, dialect)
        assert found.base_url == "sandbox:" or found.base_url.startswith(("https://", "http://127.0.0.1:"))
        made = channel(found.base_url, found.dialect, **found.options)
        check(made, secret, ["some-model"])
        assert preset_of(made) is preset
        if not preset.platform:
            assert quirks_of(made) == (preset.quirks if dialect == preset.dialect else {})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda one: one.name)
def test_a_preset_holds_facts_that_somebody_reads(preset):
    assert set(preset.bases) <= set(DIALECTS)
    assert set(preset.deviations) <= set(DEVIATIONS)
    for name, value in preset.quirks.items():
        assert fault_of(name, value) is None
    assert preset.local or (preset.variable.isupper() and preset.docs.startswith("https://"))
    assert re.fullmatch(r"[a-z][a-z0-9-]*", preset.name) and preset.title


def test_every_deviation_is_somebodys():
    used = {word for preset in PRESETS.values() for word in preset.deviations}
    assert used == set(DEVIATIONS)


def test_a_preset_of_another_version_is_no_mistake():
    assert preset_of(channel(preset="gone")) is None
    assert quirks_of(channel(preset="gone")) == {}
    assert quirks_of(channel(preset=7)) == {}


@pytest.mark.parametrize("platform", ["vertex", "bedrock"])
def test_what_a_platform_cannot_do_is_known_without_a_preset(platform):
    assert quirks_of(channel(dialect="anthropic", platform=platform)) == {"fetches_urls": False}
    assert quirks_of(channel(dialect="anthropic", platform=["odd"])) == {}
