"""Serving as a newcomer meets it: the first screen, the second start, the refusals, the end."""

import json
import re
import shlex
import signal
import urllib.request

import pytest
from tests.support.gateway import fetch, running, start, tollway


def test_the_first_screen_holds_a_key_and_a_line_that_works_when_pasted(gateway):
    found = re.search(r"(curl .*?\}\')\n", gateway.screen, re.DOTALL)
    assert found, gateway.screen
    words = shlex.split(found[1].replace("\\\n", " "))
    assert words[0] == "curl"
    url = words[1]
    headers = dict(
        word.split(": ", 1) for word, before in zip(words[1:], words, strict=False) if before == "-H"
    )
    body = words[words.index("-d") + 1]
    status, _, answer = fetch(urllib.request.Request(url, body.encode(), headers))
    assert status == 200
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["cost"] > 0


def test_a_second_start_prints_no_secret_and_keeps_everything(tmp_path):
    with running(tmp_path / "data") as first:
        key = first.key
        assert first.chat("sandbox-chat")[0] == 200
        spent = first.cli("credits", "balance")["spent"]
    with running(tmp_path / "data") as second:
        assert "sk-tw-" not in second.screen
        assert second.cli("credits", "balance")["spent"] == spent
        assert second.chat("sandbox-chat", key=key)[0] == 200


def test_provider_keys_in_the_environment_are_offered_and_never_used(tmp_path):
    with running(tmp_path / "data", OPENAI_API_KEY="sk-canary-openai-0123456789") as gateway:
        assert "--secret-env OPENAI_API_KEY" in gateway.screen
        assert "sk-canary" not in gateway.screen
        assert [channel["name"] for channel in gateway.cli("channel", "list")] == ["sandbox"]


def test_an_address_others_can_reach_needs_an_administrator_and_says_how(tmp_path):
    data = str(tmp_path / "data")
    refused = tollway("serve", "--data", data, "--host", "0.0.0.0", "--port", "0", ok=False)
    assert refused.returncode == 5
    assert "tollway admin create" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "sk-tw-" not in refused.stdout
    made = tollway(
        "admin",
        "create",
        "--email",
        "a@example.com",
        "--password-stdin",
        "--data",
        data,
        stdin="correct horse battery\n",
        ok=False,
    )
    assert made.returncode == 0, made.stderr


def test_a_port_that_is_taken_is_one_line_and_no_traceback(gateway, tmp_path):
    found = tollway("serve", "--data", str(tmp_path / "data"), "--port", str(gateway.port), ok=False)
    assert found.returncode != 0
    assert "Traceback" not in found.stderr
    assert str(gateway.port) in found.stderr


def test_a_second_process_on_the_same_sqlite_folder_is_refused_with_the_pid_of_the_first(gateway):
    found = tollway("serve", "--data", str(gateway.data), "--port", "0", ok=False)
    assert found.returncode != 0
    assert str(gateway.process.pid) in found.stderr
    assert "Traceback" not in found.stderr


def test_a_revoked_key_stops_at_once(gateway):
    key = gateway.new_key("short-lived")
    assert gateway.chat("sandbox-chat", key=key)[0] == 200
    gateway.cli("key", "revoke", "short-lived", "--yes")
    status, _, body = gateway.chat("sandbox-chat", key=key)
    assert (status, body["error"]["code"]) == (403, "key_revoked")


def test_liveness_and_readiness(gateway):
    assert gateway.get("/livez")[0] == 200
    assert gateway.get("/readyz")[2] == {"status": "ready"}


def test_sigterm_lets_a_stream_finish_then_ends_with_zero(tmp_path):
    gateway = start(tmp_path / "data", TOLLWAY_ACCEPT_GRACE="0")
    body = json.dumps(
        {"model": "sandbox-long", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    ).encode()
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(gateway.url + "/v1/chat/completions", body, headers), timeout=30
    ) as answer:
        answer.read(200)
        gateway.process.send_signal(signal.SIGTERM)
        rest = answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert gateway.process.wait(20) == 0
    gateway.process.stdout.close()


@pytest.mark.parametrize("path", ["/v1/v1/chat/completions", "/v1/chat/completion"])
def test_a_wrong_base_url_is_told_what_is_wrong(gateway, path):
    status, _, body = gateway.post({}, path=path)
    assert (status, body["error"]["code"]) == (404, "unknown_route")
    assert "/v1/chat/completions" in body["error"]["message"] or "twice" in body["error"]["message"]


def test_the_wrong_method_names_the_right_one(gateway):
    status, headers, body = gateway.get("/v1/chat/completions")
    assert (status, headers["allow"], body["error"]["code"]) == (405, "POST", "method_not_allowed")


def test_a_silent_stream_is_kept_alive_and_cut_with_an_error_when_it_stays_silent(tmp_path):
    with running(tmp_path / "data", TOLLWAY_STREAM_KEEP_ALIVE="0.2", TOLLWAY_IDLE_TIMEOUT="2") as gateway:
        _, _, body = gateway.chat("sandbox-stall", stream=True)
    text = body.decode()
    assert text.count(": keep-alive") >= 2
    assert '"code":"stream_interrupted"' in text
    assert "[DONE]" not in text
