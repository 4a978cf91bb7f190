"""Who pays when something breaks: one test for each row of the published table that concerns text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.billing.ledger import Bill, Due, Facts, bill, close, close_plain
from tollway.core.billing.rates import Rates
from tollway.core.exchange import Usage

TOLD = Usage(input=100, output=40)
RUNNING = Usage(input=100, output=1)
OURS = {"input_tokens": 90, "output_tokens": 30}


def facts(**known) -> Facts:
    return Facts(**{"accepted": True, **known})


@pytest.mark.parametrize(
    ("case", "known", "usage", "flags", "outcome"),
    [
        ("rejected before dispatch", {"accepted": False}, None, (), "failed"),
        ("rejected by every upstream", {"accepted": False, "failed_by": "upstream"}, None, (), "failed"),
        (
            "the client left before anything was sent",
            {"accepted": False, "failed_by": "client"},
            None, ("client_cancelled",), "cancelled",
        ),
        ("all attempts fail before output", {"failed_by": "upstream", "input_tokens": 90}, None, (), "failed"),
        (
            "... though the upstream counted input",
            {"failed_by": "upstream", "input_tokens": 90, "usage": RUNNING},
            None, (), "failed",
        ),
        (
            "cut after output, nothing counted",
            {"failed_by": "upstream", **OURS},
            Usage(input=90, output=30), ("partial", "estimated"), "partial",
        ),
        (
            "cut after output, input counted early",
            {"failed_by": "upstream", **OURS, "usage": RUNNING},
            Usage(input=100, output=30), ("partial", "estimated"), "partial",
        ),
        (
            "cut after the usage had come",
            {"failed_by": "upstream", **OURS, "usage": TOLD, "usage_final": True},
            TOLD, ("partial",), "partial",
        ),
        (
            "cut after output, but the upstream counts none",
            {"failed_by": "upstream", **OURS, "usage": Usage(input=100), "usage_final": True},
            None, (), "failed",
        ),
        (
            "cut after output, of which an earlier running total knew nothing",
            {"failed_by": "upstream", **OURS, "usage": Usage(input=100)},
            Usage(input=100, output=30), ("partial", "estimated"), "partial",
        ),
        (
            "the gateway drains and cuts the answer",
            {"failed_by": "gateway", **OURS},
            Usage(input=90, output=30), ("partial", "estimated"), "partial",
        ),
        ("the gateway fails before output", {"failed_by": "gateway", "input_tokens": 90}, None, (), "failed"),
        (
            "a stream that just stops",
            {**OURS},
            Usage(input=90, output=30), ("partial", "estimated"), "partial",
        ),
        (
            "the client left after output began",
            {"failed_by": "client", **OURS},
            Usage(input=90, output=30), ("client_cancelled", "estimated"), "cancelled",
        ),
        (
            "... and the usage came within two seconds",
            {"failed_by": "client", **OURS, "usage": TOLD, "usage_final": True},
            TOLD, ("client_cancelled",), "cancelled",
        ),
        (
            "... which is believed though we counted more events",
            {"failed_by": "client", "output_tokens": 70, "usage": TOLD, "usage_final": True},
            TOLD, ("client_cancelled",), "cancelled",
        ),
        (
            "... with a running total only",
            {"failed_by": "client", **OURS, "usage": RUNNING},
            Usage(input=100, output=30), ("client_cancelled", "estimated"), "cancelled",
        ),
        (
            "the client left before the first token of an accepted call",
            {"failed_by": "client", "input_tokens": 90},
            Usage(input=90), ("client_cancelled", "estimated"), "cancelled",
        ),
        (
            "... whose input the upstream had counted",
            {"failed_by": "client", "input_tokens": 90, "usage": Usage(input=100)},
            Usage(input=100), ("client_cancelled",), "cancelled",
        ),
        (
            "the upstream bills after a cancel and was read to its end",
            {"failed_by": "client", **OURS, "usage": TOLD, "usage_final": True, "drained": True},
            TOLD, ("client_cancelled", "drained"), "cancelled",
        ),
        (
            "the client left when all had come",
            {"failed_by": "client", **OURS, "usage": TOLD, "finished": True},
            TOLD, ("client_cancelled",), "cancelled",
        ),
        ("normal end", {**OURS, "usage": TOLD, "finished": True}, TOLD, (), "ok"),
        (
            "normal end, our count is larger",
            {"output_tokens": 70, "usage": TOLD, "finished": True},
            TOLD, (), "ok",
        ),
        (
            "normal end, usage missing",
            {**OURS, "finished": True},
            Usage(input=90, output=30), ("estimated",), "ok",
        ),
        (
            "normal end, usage all zero is usage missing",
            {**OURS, "usage": Usage(), "finished": True},
            Usage(input=90, output=30), ("estimated",), "ok",
        ),
        (
            "normal end, no output counted beside output",
            {**OURS, "usage": Usage(input=100), "finished": True},
            Usage(input=100, output=30), ("estimated",), "ok",
        ),
        (
            "normal end, usage negative throughout",
            {**OURS, "usage": Usage(anomalous=True), "finished": True},
            Usage(input=90, output=30), ("estimated", "usage_anomaly"), "ok",
        ),
        (
            "normal end, usage absurd",
            {**OURS, "usage": Usage(input=100, output=10**9, anomalous=True), "finished": True},
            Usage(input=100, output=10**9, anomalous=True), ("usage_anomaly",), "ok",
        ),
        (
            "normal end, details larger than their totals",
            {**OURS, "usage": Usage(input=100, output=40, cache_read=400), "finished": True},
            Usage(input=100, output=40, cache_read=400), ("usage_anomaly",), "ok",
        ),
        ("200 with a page of HTML", {"bad_body": True, "input_tokens": 90}, None, ("bad_upstream",), "failed"),
        ("empty completion", {"finished": True, "input_tokens": 90}, None, ("bad_upstream",), "failed"),
        (
            "empty completion, counted as such",
            {"finished": True, "usage": Usage(input=100)},
            None, ("bad_upstream",), "failed",
        ),
        (
            "hidden reasoning is output without text",
            {"finished": True, "usage": Usage(input=100, output=40, reasoning=40)},
            Usage(input=100, output=40, reasoning=40), (), "ok",
        ),
    ],
)  # fmt: skip
def test_who_pays(case, known, usage, flags, outcome) -> None:
    assert bill(facts(**known)) == Bill(usage, flags, outcome), case


RATES = {"input": 1_000_000, "output": 2_000_000}


@pytest.mark.parametrize(
    ("flags", "bounded", "held", "expected"),
    [
        ((), True, 1000, 180),
        ((), True, 150, 150),
        ((), False, 150, 180),
        (("estimated",), False, 150, 150),
        (("usage_anomaly",), False, 150, 150),
        (("partial",), False, 150, 150),
        (("client_cancelled",), False, 150, 180),
    ],
)
def test_what_a_bill_charges(flags, bounded, held, expected) -> None:
    due = close(Bill(TOLD, flags, "ok"), RATES, held, bounded=bounded)
    assert due == Due(TOLD, flags, "ok", {"input": 100, "output": 40}, expected)


def test_nothing_due_releases_the_hold() -> None:
    assert close(Bill(None, (), "failed"), RATES, 150, bounded=True) == Due(None, (), "failed", {}, None)


COUNT = st.integers(0, 50)
ANY_FACTS = st.builds(
    Facts,
    accepted=st.booleans(), failed_by=st.sampled_from(["none", "client", "upstream", "gateway"]),
    input_tokens=COUNT, output_tokens=COUNT,
    usage=st.none() | st.builds(Usage, input=COUNT, output=COUNT, anomalous=st.booleans()),
    usage_final=st.booleans(), finished=st.booleans(), bad_body=st.booleans(), drained=st.booleans(),
)  # fmt: skip


@given(ANY_FACTS, st.integers(0, 200))
def test_no_bounded_call_costs_more_than_its_hold_and_no_refused_one_costs_anything(known, held) -> None:
    due = bill(known)
    amount = close(due, RATES, held, bounded=True).amount
    assert amount is None or 0 <= amount <= held
    if not known.accepted or known.bad_body:
        assert amount is None
    if due.outcome == "failed":
        assert amount is None
    if amount is not None and known.finished and known.output_tokens:
        assert due.usage is not None and due.usage.output > 0


DETAIL = st.integers(0, 3)
MANY = st.integers(0, 10**12)
ANY_USAGE = st.builds(
    Usage,
    input=MANY | COUNT, output=MANY | COUNT, anomalous=st.booleans(),
) | st.builds(
    Usage,
    input=COUNT, output=COUNT, cache_read=DETAIL, cache_write=DETAIL, cache_write_1h=DETAIL,
    reasoning=DETAIL, audio_in=DETAIL, audio_out=DETAIL, image_in=DETAIL, image_out=DETAIL,
    tools=st.sampled_from([{}, {"web_search": 2}]), tier=st.sampled_from(["", "flex", "priority"]),
)  # fmt: skip
RATE = st.integers(0, 10**7)
EVERY_RATE = ("input", "output", "cache_read", "reasoning", "call", "web_search", "grounded")
ANY_RATES = st.dictionaries(st.sampled_from(EVERY_RATE), RATE).map(Rates) | st.sampled_from(
    [
        Rates({"input": 3, "input@20": 4, "output": 9}),
        Rates({"input": 3, "output": 9, "input:flex": 1, "output:flex": 2}),
        Rates({"input": 2_500_000, "output": 10_000_000}, 1_250),
        Rates({"input": 10**18, "output": 10**18}, 10_000),
        RATES,
    ]
)


@given(
    told=ANY_USAGE,
    rates=ANY_RATES,
    held=st.integers(0, 10**15),
    bounded=st.booleans(),
    ours=st.tuples(COUNT, COUNT),
    silent=st.booleans(),
)
def test_most_calls_are_closed_as_all_are(told, rates, held, bounded, ours, silent) -> None:
    short = close_plain(told, rates, held, bounded=bounded)
    known = facts(
        input_tokens=ours[0],
        output_tokens=ours[1],
        usage=told,
        usage_final=True,
        finished=True,
        silent=silent,
    )
    assert short is None or short == close(bill(known), rates, held, bounded=bounded)


def test_a_call_of_input_and_output_alone_is_closed_without_more_thought() -> None:
    due = close_plain(TOLD, Rates(RATES), 150, bounded=False)
    assert due == Due(TOLD, (), "ok", {"input": 100, "output": 40}, 180)
