"""A gateway and an upstream for the tests that only look at them from outside."""

import openai
import pytest
from tests.support import cells
from tests.support.gateway import Upstream, running


@pytest.fixture(scope="session")
def upstream():
    found = Upstream()
    yield found
    found.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory, upstream):
    """A gateway that serves the sandbox by itself, and `up-*` models through a channel of its own."""
    with running(tmp_path_factory.mktemp("gateway") / "data") as found:
        found.cli("credits", "grant", "1000000")
        found.cli(
            "channel",
            "add",
            "--name",
            "up",
            "--dialect",
            "openai_chat",
            "--base-url",
            f"{upstream.url}/v1",
            "--secret-env",
            "UP_KEY",
            *[word for name in MODELS for word in ("--model", f"up-{name}=sandbox-{name}")],
            UP_KEY="sk-upstream-canary-0123456789",
        )
        yield found


@pytest.fixture(scope="session")
def matrix(tmp_path_factory, upstream):
    """A gateway with one channel of each dialect; see `cells.model_for` for its models."""
    with running(tmp_path_factory.mktemp("matrix") / "data") as found:
        found.cli("credits", "grant", "1000000")
        for name in cells.UPSTREAMS:
            cells.connect(found, name, upstream.url)
        yield found


MODELS = ("chat", "echo", "long", "tokens-50", "slow-50", "hang", "stall", "cut", "500", "leak", "cookie")


@pytest.fixture
def sdk(matrix):
    with openai.OpenAI(**_strict(matrix)) as found:
        yield found


@pytest.fixture
async def async_sdk(matrix):
    async with openai.AsyncOpenAI(**_strict(matrix)) as found:
        yield found


def _strict(matrix):
    return {
        "base_url": matrix.url + "/v1",
        "api_key": matrix.key,
        "max_retries": 0,
        "_strict_response_validation": True,
    }
