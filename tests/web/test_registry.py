"""Unknown paths: the route that was meant is named, at a price that a scanner cannot make anybody pay."""

from __future__ import annotations

import sys

import pytest

from tollway.web.registry import Registry
from tollway.web.routes import anthropic, gemini, health, models, openai, responses
from tollway.web.routes import credits as money

ROUTES = (
    *openai.ROUTES,
    *responses.ROUTES,
    *anthropic.ROUTES,
    *gemini.ROUTES,
    *models.ROUTES,
    *money.ROUTES,
    *health.ROUTES,
)
REGISTRY = Registry(ROUTES)

MEANT = {
    "/v1/chat/completion": "/v1/chat/completions",
    "/v1/chat/compeltions": "/v1/chat/completions",
    "/v1/message": "/v1/messages",
    "/v1/messages/": "/v1/messages",
    "/v1/respones": "/v1/responses",
    "/v1/embedding": "/v1/embeddings",
    "/v1/credit": "/v1/credits",
    "/openai/v1/chat/completion": "/openai/v1/chat/completions",
    "/wp-admin/setup.php": None,
    "/.env": None,
    "/": None,
    "": None,
    "/livezz": None,  # not one of those that documents show
    "/" + "a" * 8000: None,
}


@pytest.mark.parametrize("asked", MEANT)
def test_the_path_that_was_meant(asked):
    assert REGISTRY.nearest(asked) == MEANT[asked]


def test_templates_are_never_suggested():
    """Nobody can call a path with a placeholder in it."""
    for route in ROUTES:
        assert "{" not in (REGISTRY.nearest(route.path + "x") or "")


@pytest.mark.parametrize("asked", ["/v1/chat/completionz", "/wp-admin/setup.php", "/" + "v1" * 4000])
def test_the_work_does_not_grow_with_what_is_asked(asked):
    """Counted in calls of functions, which do not depend on the machine."""
    calls = 0

    def count(_frame, event, _arg):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        REGISTRY.nearest(asked)
    finally:
        sys.setprofile(None)
    assert calls < 4 * len(ROUTES)
