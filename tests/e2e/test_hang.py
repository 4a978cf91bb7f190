"""The database hangs while calls are made: what clients see, and that nothing is lost when it goes on."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest
from tests.support.gateway import Upstream, running, wait_for

pytestmark = pytest.mark.postgres


class Stream:
    """A streamed chat read by a thread. `text` is what has arrived; `done` whether it ended."""

    def __init__(self, gateway, model: str) -> None:
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "x"}]}
        self.request = urllib.request.Request(
            gateway.url + "/v1/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"},
        )
        self.text = b""
        self.done = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with urllib.request.urlopen(self.request, timeout=60) as answer:
            for line in answer:
                self.text += line
        self.done.set()


def test_content_flows_ends_wait_and_new_calls_are_refused(tmp_path, postgres, postgres_database):
    upstream = Upstream()
    env = {"TOLLWAY_DATABASE_URL": postgres_database(), "TOLLWAY_STREAM_KEEP_ALIVE": "0.3"}
    try:
        with running(tmp_path / "data", **env) as gateway:
            gateway.cli(
                *("channel", "add", "--name", "up", "--dialect", "openai_chat"),
                *("--base-url", f"{upstream.url}/v1", "--secret-env", "UP_KEY"),
                *("--model", "up-slow=sandbox-slow-50", "--model", "up-chat=sandbox-chat"),
                UP_KEY="sk-upstream-canary-0123456789",
            )
            cold = gateway.new_key("never used")
            wait_for(lambda: gateway.chat("up-chat")[0] == 200)
            stream = Stream(gateway, "up-slow")
            wait_for(lambda: stream.text.count(b"data:") > 2)
            calls = len(upstream.stats()["calls"])
            postgres.freeze()
            try:
                for key in (gateway.key, cold):
                    status, headers, body = gateway.chat("up-chat", key=key)
                    assert (status, body["error"]["code"]) == (503, "ledger_unavailable")
                    assert headers["retry-after"] == "5"
                assert gateway.get("/readyz")[0] == 503
                assert gateway.get("/livez")[0] == 200
                wait_for(lambda: b'"finish_reason":"length"' in stream.text or b'"stop"' in stream.text)
                # The end waits for its settlement, and the client is shown that it is not forgotten.
                seen = stream.text.count(b": keep-alive")
                wait_for(lambda: stream.text.count(b": keep-alive") > seen + 1)
                assert b"[DONE]" not in stream.text
                assert not stream.done.is_set()
                # What cannot be recorded is not sent.
                assert len(upstream.stats()["calls"]) == calls
            finally:
                postgres.thaw()
            assert stream.done.wait(30)
            assert stream.text.endswith(b"data: [DONE]\n\n")
            wait_for(lambda: gateway.chat("up-chat", key=cold)[0] == 200)
            wait_for(lambda: gateway.get("/readyz")[0] == 200)
            assert gateway.cli("credits", "verify")["ok"]
            assert gateway.cli("credits", "balance")["held"] in (0, "0")
    finally:
        upstream.close()
