"""`tollway credits estimate` says what `POST /v1/credits/estimate` says, running or stopped."""

import json
from decimal import Decimal

import pytest
from tests.e2e.test_credits_api import PRICE, estimate
from tests.support.gateway import in_process, tollway

CHAT = {"messages": [{"role": "user", "content": "go"}], "max_tokens": 50}
BODIES = [
    {"model": "est", **CHAT},
    {"model": "est", "messages": CHAT["messages"]},
    {"model": "est", **CHAT, "max_credits": 0.01},
    {"model": "est", "system": "Be brief.", **CHAT},
    {"model": "est", "input": "Hello", "max_output_tokens": 9},
    {"model": "est", "dialect": "gemini", "contents": [{"parts": [{"text": "go"}]}]},
    {"model": "est", "input_tokens": 1200, "output_tokens": 350},
    {"model": "est", "meters": {"input": 5, "output": 7}},
]


@pytest.fixture(scope="module")
def priced(gateway, upstream):
    gateway.cli(
        "channel", "add", "--name", "est", "--dialect", "openai_chat", "--base-url", f"{upstream.url}/v1", *PRICE,
        "--model", "est=sandbox-tokens-50",
    )  # fmt: skip
    gateway.secret = gateway.new_key("est", "--budget", "0.3", "--budget-period", "monthly")
    return gateway


def asked(gateway, body, tmp_path, *options):
    (tmp_path / "body.json").write_text(json.dumps(body))
    code, out = in_process(
        [
            "credits",
            "estimate",
            "--body",
            str(tmp_path / "body.json"),
            *options,
            "--data",
            str(gateway.data),
            "-o",
            "json",
        ],
        gateway.env,
    )
    return code, json.loads(out, parse_float=Decimal)


@pytest.mark.parametrize("body", BODIES)
def test_the_command_and_the_route_say_the_same(priced, body, tmp_path):
    status, _, public = estimate(priced, body)
    assert status == 200, public
    assert asked(priced, body, tmp_path) == (0, public)
    status, _, own = estimate(priced, body, priced.secret)
    code, found = asked(priced, body, tmp_path, "--key", "est")
    assert found == own
    assert code == (0 if own["verdict"]["allowed"] else 5)


def test_a_call_that_would_be_refused_is_exit_5_and_says_by_what(priced, tmp_path):
    code, found = asked(priced, {"model": "est", **CHAT, "max_tokens": 5000}, tmp_path, "--key", "est")
    assert (code, found["verdict"]["code"]) == (5, "key_budget_exceeded")


def test_counts_and_another_model_are_named_on_the_line(priced, tmp_path):
    words = ["credits", "estimate", "est", "--input-tokens", "1000", "--output-tokens", "100"]
    code, out = in_process([*words, "--data", str(priced.data), "-o", "json"], priced.env)
    assert (code, json.loads(out)["credits"]) == (0, 2)
    code, out = in_process(
        [*words[:3], "--meter", "output=100", "--data", str(priced.data), "-o", "json"], priced.env
    )
    assert (code, json.loads(out)["credits"]) == (0, 1)
    code, found = asked(priced, {"model": "nonesuch", **CHAT}, tmp_path, "est")
    assert (code, found["model"]) == (0, "est")


def test_a_body_may_be_piped_in_and_needs_no_gateway(tmp_path):
    body = json.dumps({"model": "sandbox-chat", **CHAT})
    words = ("credits", "estimate", "--data", str(tmp_path / "data"))
    for more in ((), ("--body", "-")):
        done = tollway(*words, *more, stdin=body)
        assert "sandbox-chat" in done.stdout
        assert "the most the call can cost" in done.stderr
    table = done.stdout.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["METER", "input", "output"]
    assert any(line.startswith("costs  ") for line in table)


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        ((), "", 2, "Nothing to estimate was given"),
        ((), "{", 2, "Error: "),
        (("--body", "/nonesuch"), "", 2, "/nonesuch cannot be read"),
        (("m", "--meter", "image"), "", 2, "'image' is no count"),
        (("m", "--input-tokens", "1", "--body", "-"), "{}", 2, "Counts and a body are given"),
        (("sandbox-cht", "--input-tokens", "1"), "", 3, "Did you mean 'sandbox-chat'"),
        (("sandbox-chat", "--input-tokens", "1", "--key", "cii"), "", 3, "No key 'cii'"),
        (("sandbox-chat", "--meter", "song=1"), "", 2, "has no price for 'song'"),
        (("sandbox-chat", "--meter", "nonesuch=1"), "", 2, "nonesuch"),
        (("sandbox-chat", "--input-tokens", "-1"), "", 2, "Error: "),
    ],
)
def test_what_cannot_be_estimated_says_why(tmp_path_factory, words, stdin, code, said):
    data = tmp_path_factory.getbasetemp() / "estimates"
    done = tollway("credits", "estimate", *words, "--data", str(data), stdin=stdin, ok=False)
    assert (done.returncode, said in done.stderr, done.stdout) == (code, True, ""), done.stderr
