"""The models as data: names, families, and that every odd one is known to be odd and documented."""

from pathlib import Path

import pytest

from tollway.upstream.sandbox import faults, minds, models, refusals
from tollway.upstream.sandbox.mouths.anthropic import quirks as anthropic
from tollway.upstream.sandbox.mouths.gemini import quirks as gemini
from tollway.upstream.sandbox.mouths.openai_chat import quirks as chat
from tollway.upstream.sandbox.mouths.openai_responses import quirks as responses

DOCS = Path(__file__).parents[3] / "docs" / "sandbox.md"
QUIRKS = {name for mouth in (anthropic, chat, gemini, responses) for name in mouth.QUIRKS}
ODD = {*faults.FAULTS, *refusals.REFUSALS, *QUIRKS, "sandbox-empty-choice"}
IDS = [model.id for model in models.MODELS]


def test_names_are_unique_and_begin_alike():
    assert len(set(IDS)) == len(IDS)
    assert all(name.startswith("sandbox-") for name in IDS)


def test_a_model_misbehaves_if_and_only_if_something_makes_it():
    assert {model.id for model in models.MODELS if model.misbehaves} == ODD


def test_every_special_mind_belongs_to_a_model():
    assert minds.MINDS.keys() <= {*IDS, *models.FAMILIES}


@pytest.mark.parametrize("model", models.MODELS, ids=lambda model: model.id)
def test_rows_are_complete(model):
    assert models.find(model.id).model.id == model.id
    assert model.kind in ("chat", "embedding") and model.description and model.capabilities
    assert 0 < model.output_max <= model.context


@pytest.mark.parametrize(
    ("name", "behaviour", "numbers"),
    [
        ("sandbox-chat", "sandbox-chat", ()),
        ("sandbox-500", "sandbox-500", ()),
        ("sandbox-html-502", "sandbox-html-502", ()),
        ("sandbox-tokens-500", "sandbox-tokens", (500,)),
        ("sandbox-tokens-0", "sandbox-tokens", (0,)),
        ("sandbox-slow-40", "sandbox-slow", (40,)),
        ("sandbox-slow-5-100", "sandbox-slow", (5, 100)),
        ("sandbox-cut-1234", "sandbox-cut", (1234,)),
        ("sandbox-drip-3", "sandbox-drip", (3,)),
    ],
)
def test_names_are_found(name, behaviour, numbers):
    found = models.find(name)
    assert (found.model.id, models.behaviour(found), found.numbers) == (name, behaviour, numbers)


@pytest.mark.parametrize(
    "name",
    ["", "gpt-5", "sandbox-", "sandbox-nonesuch", "sandbox-chat-5", "sandbox-tokens", "sandbox-tokens-100001",
     "sandbox-tokens-5-5", "sandbox-slow-60001", "sandbox-tokens--1", "sandbox-tokens-1e3", "sandbox-tokens-٣"],
)  # fmt: skip
def test_other_names_are_not(name):
    assert models.find(name) is None


@pytest.mark.parametrize("name", [*IDS, *models.FAMILIES])
def test_the_documentation_lists_every_model(name):
    assert f"`{name}" in DOCS.read_text()
