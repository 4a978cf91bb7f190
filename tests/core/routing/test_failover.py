"""Failover: which faults move on, which end, how often, and when waiting is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.errors import GatewayError
from tollway.core.routing.choose import Candidate
from tollway.core.routing.failover import Ok, Terms, Wait, Waited, failover
from tollway.core.routing.faults import KINDS, STATUSES, Fault, upstream_error
from tollway.core.routing.models import Channel, Route

NOW = 1_800_000_000_000
DEADLINE = NOW + 60_000


def a_candidate(name: str) -> Candidate:
    channel = Channel(
        id=name, name=name, dialect="openai_chat", base_url="http://127.0.0.1", secret=None, secret_hint="",
        groups=("default",), priority=0, weight=1, status="enabled", created_at=0, options={},
    )  # fmt: skip
    return Candidate(channel, Route(channel_id=name, upstream_model="u"))


def terms(**changes) -> Terms:
    return Terms(
        **{"deadline": DEADLINE, "may_retry": lambda now: True, "explain": upstream_error, **changes}
    )


def run(names: str, outcomes: list, **changes) -> tuple[list[str], GatewayError | None]:
    """What the plan did (channels, and waits as `~ms`) when fed these outcomes, and how it ended."""
    plan = failover([a_candidate(name) for name in names], terms(**changes))
    did: list[str] = []
    feed = iter(outcomes)
    try:
        step = next(plan)
        while True:
            if isinstance(step, Wait):
                did.append(f"~{step.ms}")
                step = plan.send(Waited(NOW))
            else:
                did.append(step.channel.id)
                step = plan.send(next(feed))
    except StopIteration as end:
        return did, end.value


def status(code: int, **more) -> Fault:
    return Fault("status", NOW, code, **more)


CUT = Fault("reset", NOW)


@pytest.mark.parametrize(
    ("names", "outcomes", "did", "code"),
    [
        ("abc", [Ok()], ["a"], None),
        ("abc", [CUT, Ok()], ["a", "b"], None),
        ("abc", [status(500), status(503), Ok()], ["a", "b", "c"], None),
        ("abcd", [CUT, CUT, CUT], ["a", "b", "c"], "upstream_error"),
        ("a", [CUT], ["a"], "upstream_error"),
        ("aab", [CUT, Ok()], ["a", "b"], None),
        ("", [], [], "no_healthy_channel"),
        # what the caller did wrong is not tried elsewhere
        ("ab", [status(400)], ["a"], "upstream_rejected"),
        ("ab", [status(413)], ["a"], "upstream_rejected"),
        ("ab", [status(422)], ["a"], "upstream_rejected"),
        # the channel's credential or model is wrong: another one's may be right
        ("ab", [status(401), Ok()], ["a", "b"], None),
        ("ab", [status(403), Ok()], ["a", "b"], None),
        ("ab", [status(404), status(404)], ["a", "b"], "upstream_error"),
        # after the first byte there is no second channel
        ("ab", [Fault("truncated", NOW, before_first_byte=False)], ["a"], "stream_interrupted"),
        # an error as the first event, a page of HTML and an empty answer move on
        ("abcd", [Fault("in_band", NOW), Fault("bad_body", NOW), Fault("empty", NOW)], ["a", "b", "c"], "upstream_error"),
        ("ab", [Fault("in_band", NOW, 400)], ["a"], "upstream_rejected"),
        ("ab", [Fault("too_large", NOW)], ["a"], "upstream_error"),
        # the last fault decides what is told
        ("ab", [status(500), Fault("first_byte_timeout", NOW)], ["a", "b"], "upstream_timeout"),
        ("ab", [status(500), status(429)], ["a", "b"], "upstream_rate_limited"),
        # no attempt begins after the deadline
        ("ab", [Fault("first_byte_timeout", DEADLINE)], ["a"], "upstream_timeout"),
        # Retry-After: not while there is another channel, then once, if it is short
        ("ab", [status(429, retry_after_ms=2000), Ok()], ["a", "b"], None),
        ("a", [status(429, retry_after_ms=2000), Ok()], ["a", "~2000", "a"], None),
        ("a", [status(429, retry_after_ms=2000)] * 2, ["a", "~2000", "a"], "upstream_rate_limited"),
        ("ab", [CUT, status(503, retry_after_ms=1), Ok()], ["a", "b", "~1", "b"], None),
        ("abc", [CUT, CUT, status(429, retry_after_ms=1)], ["a", "b", "c"], "upstream_rate_limited"),
        ("a", [status(429, retry_after_ms=10_001)], ["a"], "upstream_rate_limited"),
        ("a", [status(429, retry_after_ms=0)], ["a"], "upstream_rate_limited"),
        ("a", [status(429)], ["a"], "upstream_rate_limited"),
        ("a", [Fault("status", DEADLINE - 5, 429, 5)], ["a"], "upstream_rate_limited"),
        ("a", [status(400, retry_after_ms=5)], ["a"], "upstream_rejected"),
    ],
)  # fmt: skip
def test_plans(names, outcomes, did, code) -> None:
    found, error = run(names, outcomes)
    assert found == did
    assert (error and error.code) == code


def test_waiting_can_be_forbidden() -> None:
    assert run("a", [status(429, retry_after_ms=5)], wait_max_ms=0)[0] == ["a"]


def test_every_further_attempt_asks_the_retry_budget() -> None:
    asked = []
    did, error = run("abc", [CUT, CUT], may_retry=lambda now: not asked and (asked.append(now) or True))
    assert did == ["a", "b"] and asked == [NOW]
    assert error is not None and error.code == "upstream_error"
    assert run("a", [status(429, retry_after_ms=5)], may_retry=lambda now: False)[0] == ["a"]


def test_the_caller_builds_the_error() -> None:
    _, error = run(
        "a", [CUT], explain=lambda fault, attempts: GatewayError("overloaded", f"{fault.kind} {attempts}")
    )
    assert error is not None and (error.code, error.message) == ("overloaded", "reset 1")


FAULTS = st.builds(
    Fault,
    kind=st.sampled_from([*KINDS, "status", "unheard of"]),
    now=st.integers(NOW, DEADLINE + 10),
    status=st.sampled_from([0, 200, 302, 400, 418, 500, *STATUSES]),
    retry_after_ms=st.none() | st.integers(-5, 20_000),
    before_first_byte=st.booleans(),
)


@given(
    st.text("abcdef", max_size=8),
    st.lists(FAULTS | st.just(Ok()), min_size=10, max_size=10),
    st.integers(1, 4),
    st.integers(0, 10),
)
def test_at_most_three_attempts_and_no_channel_twice_unless_it_was_waited_for(
    names, outcomes, most, budget
) -> None:
    left = iter(range(budget))
    may_retry = lambda now: next(left, None) is not None
    did, error = run(names, outcomes, may_retry=may_retry, attempts_max=min(most, 3))
    attempts = [name for name in did if not name.startswith("~")]
    assert len(attempts) <= min(most, 3, budget + 1)
    waits = [at for at, name in enumerate(did) if name.startswith("~")]
    assert len(waits) <= 1
    for at in waits:
        assert did[at - 1] == did[at + 1] and set(names) == set(did[:at])
    repeats = len(attempts) - len(set(attempts))
    assert repeats == len(waits)
    ended_well = bool(attempts) and isinstance(outcomes[len(attempts) - 1], Ok)
    assert (error is None) == ended_well
    for outcome in outcomes[: max(0, len(attempts) - 1)]:
        assert isinstance(outcome, Fault) and outcome.before_first_byte
