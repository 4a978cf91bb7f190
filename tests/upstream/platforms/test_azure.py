"""Azure OpenAI: classic deployment URLs with a dated version, and the API without."""

import pytest
from tests.support.channels import endpoint, headers, target

BASE = "https://res.openai.azure.com"


def azure(dialect: str = "openai_chat", base: str = BASE, **options):
    return endpoint(base, dialect, "k3y-k3y", platform="azure", **options)


@pytest.mark.parametrize(
    ("dialect", "version", "path"),
    [
        ("openai_chat", None, "/openai/v1/chat/completions"),
        ("openai_chat", "v1", "/openai/v1/chat/completions"),
        ("openai_chat", "preview", "/openai/v1/chat/completions?api-version=preview"),
        (
            "openai_chat",
            "2024-10-21",
            "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
        ),
        ("openai_responses", None, "/openai/v1/responses"),
        ("openai_responses", "2025-04-01-preview", "/openai/responses?api-version=2025-04-01-preview"),
    ],
)
def test_paths(dialect, version, path):
    one = azure(dialect, **({"api_version": version} if version else {}))
    for stream in (False, True):
        request = one.text(b'{"model":"my gpt"}', "r", model="my gpt", stream=stream)
        assert target(request) == path
        assert request.origin.host == "res.openai.azure.com"


def test_the_key_has_its_own_header():
    found = headers(azure().text(b"{}", "r", model="d", stream=True))
    assert found["api-key"] == ["k3y-k3y"]
    assert "authorization" not in found


def test_other_calls():
    classic, unified = azure(api_version="2024-10-21"), azure()
    assert target(classic.embeddings(b"{}", "r", model="e")) == (
        "/openai/deployments/e/embeddings?api-version=2024-10-21"
    )
    assert target(classic.completions(b"{}", "r", model="c", stream=False)) == (
        "/openai/deployments/c/completions?api-version=2024-10-21"
    )
    assert classic.completions(b"{}", "r", stream=False) is None, "it needs to know the deployment"
    assert target(unified.embeddings(b"{}", "r", model="e")) == "/openai/v1/embeddings"
    assert classic.models("r") is None and unified.models("r") is None
    assert classic.count(b"{}", "r", model="m") is None
    assert (
        target(azure("openai_responses").count(b"{}", "r", model="m")) == "/openai/v1/responses/input_tokens"
    )


def test_a_gateway_in_front_keeps_its_path():
    request = azure(base="https://apim.example/team").text(b"{}", "r", model="m", stream=False)
    assert target(request) == "/team/openai/v1/chat/completions"


@pytest.mark.parametrize("deployment", ["..", "a/../b", "a?b=c", "a#b"])
def test_a_deployment_stays_in_its_segment(deployment):
    one = azure(api_version="2024-10-21")
    if deployment == "..":
        with pytest.raises(ValueError, match="path"):
            one.text(b"{}", "r", model=deployment, stream=False)
        return
    path = target(one.text(b"{}", "r", model=deployment, stream=False))
    assert path.count("/") == 5 and path.count("?") == 1 and "#" not in path


@pytest.mark.parametrize("version", ["2024", "2024-10-21&x=y", "latest/..", "2024-10-21-preview2"])
def test_an_odd_version_makes_no_endpoint(version):
    with pytest.raises(ValueError, match="api_version"):
        azure(api_version=version)


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_only_openais_dialects_are_there(dialect):
    with pytest.raises(ValueError, match="does not speak"):
        azure(dialect)


def test_an_unknown_platform_makes_no_endpoint():
    with pytest.raises(ValueError, match="platform"):
        endpoint(platform="mars")
