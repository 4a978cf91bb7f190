"""Conversations with signatures stay with the account that made them, and go on without them where it is gone."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from tests.support import cells
from tests.support.cells import CLIENTS
from tests.support.gateway import Upstream, fetch, running, wait_for

SIGNING = ("openai_responses", "anthropic", "gemini")
CELLS = pytest.mark.parametrize(
    ("client", "behind"), [(client, behind) for client in CLIENTS for behind in SIGNING]
)
ROUNDS = 6
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = "What is the weather in Hanoi?"
TOLD = "31 degrees"


@pytest.fixture(scope="module")
def accounts():
    """Two accounts at the same provider: neither takes the other's signatures."""
    found = {name: Upstream(account=name) for name in ("one", "two")}
    yield found
    for one in found.values():
        one.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory, accounts):
    """A gateway with a model behind both accounts, for each dialect that signs."""
    with running(tmp_path_factory.mktemp("affinity") / "data") as found:
        found.cli("credits", "grant", "1000000")
        connect(found, accounts)
        yield found


def connect(gateway, accounts):
    for behind in SIGNING:
        price = ("--input-price", "100", "--output-price", "400")
        gateway.cli("model", "add", behind, *price, "--output-max", "8192")
        root = "/v1beta" if behind == "gemini" else "/v1"
        for name, account in accounts.items():
            gateway.cli(
                *("channel", "add", "--name", f"{behind}-{name}", "--dialect", behind),
                *("--base-url", account.url + root, "--secret-env", "UP_KEY"),
                *("--model", f"{behind}=sandbox-reasoning"),
                UP_KEY=f"sk-{name}-0123456789",
            )


class Talk:
    """A conversation in a client's dialect that carries back whatever it was given."""

    def __init__(self, gateway, client, model, *, stream=False):
        self.gateway = gateway
        self.client = client
        self.model = model
        self.stream = stream
        self.key = gateway.key
        self.history = [user(client, QUESTION)]

    def ask(self):
        """One turn; what the model said joins the history. Headers, and the body of the receipt."""
        body = {**OPTIONS[self.client], HISTORY[self.client]: self.history}
        if self.client != "gemini":
            body |= {"model": self.model, "stream": self.stream}
        status, headers, answer = self.gateway.post(
            body, self.key, path=cells.path_of(self.client, self.model, stream=self.stream)
        )
        assert status == 200, json.dumps(answer)
        if isinstance(answer, bytes):
            answer = whole(self.client, cells.events_of(answer))
        self.history += said(self.client, answer)
        receipt = self.gateway.get(f"/v1/generations/{headers['x-request-id']}", self.key)[2]
        return headers, receipt

    def report(self):
        """Tell the result of the last call."""
        self.history += results(self.client, self.history)

    @property
    def text(self):
        return json.dumps(self.history[-2:])


OPTIONS = {
    "openai_chat": {
        "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": TOOL}}],
        "reasoning_effort": "medium",
    },
    "openai_responses": {
        "tools": [{"type": "function", "name": "get_weather", "parameters": TOOL}],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
    },
    "anthropic": {
        "tools": [{"name": "get_weather", "input_schema": TOOL}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 4000,
    },
    "gemini": {
        "tools": [{"functionDeclarations": [{"name": "get_weather", "parametersJsonSchema": TOOL}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    },
}
HISTORY = {
    "openai_chat": "messages",
    "openai_responses": "input",
    "anthropic": "messages",
    "gemini": "contents",
}


def user(client, text):
    if client == "gemini":
        return {"role": "user", "parts": [{"text": text}]}
    return {"role": "user", "content": text}


def said(client, answer):
    match client:
        case "openai_chat":
            return [answer["choices"][0]["message"]]
        case "openai_responses":
            return answer["output"]
        case "anthropic":
            return [{"role": "assistant", "content": answer["content"]}]
    return [answer["candidates"][0]["content"]]


def results(client, history):
    match client:
        case "openai_chat":
            return [
                {"role": "tool", "tool_call_id": call["id"], "content": TOLD}
                for call in history[-1]["tool_calls"]
            ]
        case "openai_responses":
            return [
                {"type": "function_call_output", "call_id": item["call_id"], "output": TOLD}
                for item in history
                if item.get("type") == "function_call"
            ]
        case "anthropic":
            calls = [block for block in history[-1]["content"] if block["type"] == "tool_use"]
            content = [{"type": "tool_result", "tool_use_id": call["id"], "content": TOLD} for call in calls]
            return [{"role": "user", "content": content}]
    calls = [part["functionCall"] for part in history[-1]["parts"] if "functionCall" in part]
    shown = [{"functionResponse": {**named(call), "response": {"result": TOLD}}} for call in calls]
    return [{"role": "user", "parts": shown}]


def named(call):
    return {name: call[name] for name in ("id", "name") if name in call}


def whole(client, events):
    """The answer that a stream adds up to, as a client puts it together."""
    if client == "openai_responses":
        return events[-1]["response"]
    if client == "gemini":
        parts = [
            part
            for event in events
            for candidate in event.get("candidates", [])
            for part in candidate.get("content", {}).get("parts", [])
        ]
        return {"candidates": [{"content": {"role": "model", "parts": parts}}]}
    assert client == "anthropic"
    blocks = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            grow(blocks[-1], event["delta"])
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(text or "{}")
    return {"content": blocks}


def grow(block, delta):
    for name, value in delta.items():
        if name == "partial_json":
            block["json"] += value
        elif name != "type":
            block[name] = block.get(name, "") + value


def asked(accounts, headers):
    """The accounts that were asked for a call, and how often each."""
    found = {}
    for name, account in accounts.items():
        calls = [call["request_id"] for call in account.stats()["calls"]]
        if headers["x-request-id"] in calls:
            found[name] = calls.count(headers["x-request-id"])
    return found


def lost(headers):
    """What was dropped of signatures and thoughts."""
    told = (headers["x-tollway-dropped"] or "").split(", ")
    return [name for name in told if name in ("seal", "thinking", "reasoning")]


def sealed(account):
    """Whether the last conversation an account was sent carries something it has signed."""
    told = json.dumps(fetch(urllib.request.Request(f"{account.url}/sandbox/last"))[2]["body"])
    assert "tw1." not in told
    seals = re.findall(r'"(?:signature|thoughtSignature|encrypted_content)": "([^"]+)"', told)
    return any(not seal.startswith("skip_") for seal in seals)


@CELLS
def test_a_sealed_conversation_stays_with_the_account_that_sealed_it(served, accounts, client, behind):
    for _ in range(ROUNDS):
        talk = Talk(served, client, behind)
        first, _ = talk.ask()
        talk.report()
        second, receipt = talk.ask()
        assert asked(accounts, second) == asked(accounts, first)
        (account,) = asked(accounts, second)
        assert sealed(accounts[account])
        assert len(receipt["attempts"]) == 1
        assert TOLD in talk.text


@pytest.mark.parametrize("client", SIGNING)
@pytest.mark.parametrize("behind", SIGNING)
def test_a_sealed_stream_stays_with_the_account_that_sealed_it(served, accounts, client, behind):
    for _ in range(ROUNDS):
        talk = Talk(served, client, behind, stream=True)
        first, _ = talk.ask()
        talk.report()
        second, _ = talk.ask()
        assert asked(accounts, second) == asked(accounts, first)
        (account,) = asked(accounts, second)
        assert sealed(accounts[account])


@CELLS
@pytest.mark.parametrize("stream", [False, True])
def test_where_its_account_is_gone_the_next_one_goes_on_without_seals(
    served, accounts, client, behind, stream
):
    talk = Talk(served, client, behind, stream=stream and client != "openai_chat")
    first, _ = talk.ask()
    talk.report()
    (gone,) = asked(accounts, first)
    served.cli("channel", "disable", f"{behind}-{gone}")
    try:
        wait_for(lambda: talk_elsewhere(served, accounts, client, behind, gone))
        headers, receipt = talk.ask()
    finally:
        served.cli("channel", "enable", f"{behind}-{gone}")
    (other,) = asked(accounts, headers)
    assert other != gone
    assert not sealed(accounts[other])
    assert lost(headers)
    assert receipt["status"] == 200
    assert TOLD in talk.text


def talk_elsewhere(gateway, accounts, client, behind, gone):
    """Whether the change of channels is in force."""
    headers, _ = Talk(gateway, client, behind).ask()
    return gone not in asked(accounts, headers)


def test_where_its_account_fails_the_next_one_goes_on_without_seals(tmp_path):
    accounts = {name: Upstream(account=name) for name in ("one", "two")}
    with running(tmp_path / "data") as gateway:
        gateway.cli("credits", "grant", "1000000")
        connect(gateway, accounts)
        talks = [Talk(gateway, client, behind) for client in CLIENTS for behind in SIGNING]
        firsts = [next(iter(asked(accounts, talk.ask()[0]))) for talk in talks]
        accounts.pop("one").close()
        for talk, first in zip(talks, firsts, strict=True):
            talk.report()
            headers, receipt = talk.ask()
            assert asked(accounts, headers)
            assert TOLD in talk.text
            assert receipt["outcome"] == "ok"
            assert (first == "one") <= bool(lost(headers))
        assert "one" in firsts
    accounts["two"].close()


def test_another_process_finds_the_account_by_asking(tmp_path, accounts):
    """What a gateway does not remember, as after a restart, costs an attempt and loses nothing."""
    with running(tmp_path / "data") as gateway:
        gateway.cli("credits", "grant", "1000000")
        connect(gateway, accounts)
        talks = {behind: [Talk(gateway, behind, behind) for _ in range(ROUNDS)] for behind in SIGNING}
        firsts = {behind: [talk.ask()[0] for talk in some] for behind, some in talks.items()}
        key = gateway.key
    with running(tmp_path / "data") as again:
        wandered = 0
        for behind, some in talks.items():
            for talk, first in zip(some, firsts[behind], strict=True):
                talk.gateway, talk.key = again, key
                talk.report()
                headers, receipt = talk.ask()
                (*_, account) = asked(accounts, first)
                assert sealed(accounts[account])
                assert set(asked(accounts, first)) <= set(asked(accounts, headers))
                wandered += len(receipt["attempts"]) > 1
        assert wandered


def test_a_prompt_that_speaks_of_signatures_is_not_sent_twice(served, accounts):
    """Only a conversation that carries a signature can be refused for one."""
    body = {
        "model": "anthropic",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"name": "signature", "input_schema": {"type": "string"}}],
    }
    status, headers, _ = served.post(body, path="/v1/messages")
    assert status == 400
    assert sum(asked(accounts, headers).values()) == 1
