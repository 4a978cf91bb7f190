"""`tollway channel` for upstreams of every kind: presets, discovery, settings and rotation, as commands."""

import io
import os

import pytest
from tests.support.admin import ready

from tollway.cli.app import run

CANARY = "sk-canary-abcdef0123456789"


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch):
    import json

    for name in list(os.environ):
        if name.startswith("TOLLWAY_") or name.endswith(("_API_KEY", "_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLWAY_DATA", str(ready(tmp_path / "data")))

    def call(*words: str, code: int = 0):
        capsys.readouterr()
        found = run(words, lambda settings: 0)
        out, err = capsys.readouterr()
        assert found == code, err
        return (json.loads(out) if "--json" in words else out), err

    return call


def test_presets_are_listed_with_where_their_key_is(cli):
    found, _ = cli("channel", "presets", "--json")
    rows = {row["name"]: row for row in found}
    assert rows["deepseek"]["variable"] == "DEEPSEEK_API_KEY"
    assert rows["mistral"]["quirks"] == {"developer_role": False}
    assert "the usage comes with the finish reason, not in a chunk of its own" in rows["groq"]["deviations"]
    table, _ = cli("channel", "presets")
    assert "https://openrouter.ai/api/v1" in table


def test_a_preset_finds_its_own_variable_and_says_so(cli, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", CANARY)
    made, err = cli("channel", "add", "--preset", "deepseek", "--model", "deepseek-chat", "--json")
    assert made["channel"]["secret"] == "…6789"
    assert "read from DEEPSEEK_API_KEY" in err
    assert CANARY not in str(made) + err


def test_what_was_corrected_in_an_address_is_told(cli):
    made, err = cli(
        "channel",
        "add",
        "--name",
        "c",
        "--dialect",
        "anthropic",
        "--base-url",
        "http://127.0.0.1:9/anthropic/v1/messages",
        "--json",
    )
    assert made["channel"]["base_url"] == "http://127.0.0.1:9/anthropic/v1"
    assert "became /anthropic/v1" in err


def test_a_cloud_says_what_it_wants_to_know(cli, monkeypatch):
    monkeypatch.setenv("KEY", CANARY)
    _, err = cli("channel", "add", "--preset", "azure", "--secret-env", "KEY", code=2)
    assert "--set resource=VALUE" in err
    made, _ = cli(
        "channel",
        "add",
        "--preset",
        "azure",
        "--secret-env",
        "KEY",
        "--set",
        "resource=res",
        "--set",
        "api_version=2024-10-21",
        "--json",
    )
    assert made["channel"]["base_url"] == "https://res.openai.azure.com"
    assert made["channel"]["options"]["api_version"] == "2024-10-21"


def test_settings_come_and_go(cli):
    cli("channel", "add", "--preset", "ollama", "--quirk", "thinking=none", "--header", "X-Team=a=b")
    changed = ("channel", "set", "ollama", "--quirk", "thinking=", "--quirk", 'budgets={"low": 5}', "--json")
    found, _ = cli(*changed, "--header", "x-team=", "--option", "idle_timeout=7", "--priority", "4")
    assert found["options"] == {
        "preset": "ollama",
        "quirks": {"budgets": {"low": 5}},
        "headers": {},
        "idle_timeout": 7,
    }
    assert found["priority"] == 4
    for word in ("--quirk", "--header"):
        _, err = cli("channel", "set", "ollama", word, "nonsense", code=2)
        assert "NAME=VALUE" in err
    _, err = cli("channel", "set", "ollama", "--quirk", "json_shema=true", code=2)
    assert "json_schema" in err


def test_a_credential_is_rotated_from_standard_input(cli, monkeypatch):
    cli("channel", "add", "--preset", "vllm")
    monkeypatch.setattr("sys.stdin", io.StringIO(CANARY + "\n"))
    out, err = cli("channel", "rotate", "vllm", "--json")
    assert out["secret"] == "…6789"
    assert "new credential (…6789)" in err and CANARY not in str(out) + err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    cli("channel", "rotate", "vllm", code=2)


def test_the_sandbox_is_asked_for_its_models_in_every_dialect(cli):
    for dialect in ("openai_responses", "anthropic", "gemini"):
        made, _ = cli(
            "channel",
            "add",
            "--preset",
            "sandbox",
            "--name",
            dialect,
            "--dialect",
            dialect,
            "--model",
            "auto",
            "--json",
        )
        assert "sandbox-chat" in made["channel"]["models"]
        found, err = cli("channel", "discover", dialect, "--json")
        assert {"upstream_model": "sandbox-chat", "chat": True, "served": ["sandbox-chat"]} in found
        _, err = cli("channel", "test", dialect, "--model", "sandbox-chat")
        assert "works" in err
