"""What is printed: medians, ratios, and no ratio at all where an answer was wrong."""

from collections import Counter

import msgspec
import pytest
from bench.contenders import CONTENDERS, Refused, Running, by_name
from bench.load import Shape, Target
from bench.processes import Memory
from bench.report import Held, Played, Report
from bench.rounds import Limits, Measured, Row, Scenario
from bench.upstream import Upstream, listen

from bench import __main__ as command
from bench import report, rounds

WHOLE = Scenario("whole answers, 16 at a time", 16, 100)
STREAMED = Scenario("streams", 16, 10, Shape(chunks=50))


def measured(cpu: float | None, p50: float = 1.0, wrong: dict[str, int] | None = None) -> Measured:
    return Measured(100, 1000.0, cpu, p50, p50 * 2, p50 / 2, 51.0, wrong or {})


def rows(scenario: Scenario, **of: list[Measured]) -> dict[str, Row]:
    found = {name: Row(name, values) for name, values in of.items()}
    for row in found.values():
        rounds.summarise(row, scenario)
    rounds.compare(found)
    return found


def report_of(scenario: Scenario, found: dict[str, Row], **problems: str) -> Report:
    memory = {"tollway": Held(Memory(200 * 2**20, 90 * 2**20, 1), Memory(210 * 2**20, None, 2))}
    return Report(
        {"cpu": "test"}, {}, {"nginx": "1"}, [Played(scenario, list(found.values()))], memory, problems
    )


def test_medians_not_means_are_compared():
    found = rows(
        WHOLE,
        direct=[measured(None, 1.0), measured(None, 1.0), measured(None, 9.0)],
        nginx=[measured(20.0), measured(10.0), measured(90.0)],
        tollway=[measured(100.0, 3.0), measured(900.0, 3.5), measured(80.0, 4.0)],
    )
    assert (found["nginx"].cpu, found["tollway"].cpu) == (20.0, 100.0)
    assert found["tollway"].ratio == 5.0
    assert found["tollway"].added_p50 == 2.5
    assert found["tollway"].cpu_per_chunk is None
    first = next(report.ratios(report_of(WHOLE, found)))
    assert "tollway: 5.00x nginx (100.0 us to 20.0 us a request)" in first


def test_a_stream_is_told_by_the_chunk():
    found = rows(STREAMED, nginx=[measured(500.0)], tollway=[measured(800.0)])
    assert found["tollway"].cpu_per_chunk == 16.0
    assert found["tollway"].frames == 50 / 53
    assert "16.00 us a chunk" in next(report.ratios(report_of(STREAMED, found)))


@pytest.mark.parametrize("culprit", ["nginx", "tollway"])
def test_a_wrong_answer_on_either_side_leaves_no_ratio(culprit):
    values = {"nginx": [measured(20.0)], "tollway": [measured(100.0)]}
    values[culprit] = [measured(5.0), measured(5.0, wrong={"status 500": 1})]
    found = rows(WHOLE, **values)
    assert found["tollway"].ratio is None
    result = report_of(WHOLE, found)
    assert not result.sound()
    text = "\n".join(report.render(result))
    assert "no ratio" in text
    assert "1 x status 500" in text
    assert "MISSED: whole answers" in text


def test_a_contender_whose_own_check_fails_gets_no_ratio():
    found = rows(WHOLE, nginx=[measured(20.0)], tollway=[measured(100.0)])
    result = report_of(WHOLE, found, tollway="its books do not balance")
    assert not result.sound()
    assert "no ratio, it was wrong: its books do not balance" in next(report.ratios(result))
    assert not next(report.targets(result))[0]


@pytest.mark.parametrize(
    ("scenario", "cpu", "met"),
    [(WHOLE, 140.0, True), (WHOLE, 141.0, False), (STREAMED, 30.0, True), (STREAMED, 31.0, False)],
)
def test_targets_are_judged(scenario, cpu, met):
    result = report_of(scenario, rows(scenario, nginx=[measured(20.0)], tollway=[measured(cpu)]))
    assert [good for good, _ in report.targets(result)] == [met, True]


@pytest.mark.parametrize(("load", "busy"), [("0.40", False), ("4.94", True)])
def test_a_run_on_a_busy_machine_says_so_first(load, busy):
    result = report_of(WHOLE, rows(WHOLE, nginx=[measured(20.0)], tollway=[measured(100.0)]))
    result.machine["load_before"] = load
    assert next(report.render(result)).startswith("The machine was busy") is busy


def test_a_saved_report_reads_back(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    result = report_of(WHOLE, rows(WHOLE, nginx=[measured(20.0)]))
    result.machine["at"] = "2026-01-02T03:04:05+00:00"
    file = report.save(result)
    assert file.name == "2026-01-02T030405Z.json"
    assert msgspec.json.decode(file.read_bytes()) == msgspec.json.decode(msgspec.json.encode(result))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles(share, expected):
    assert rounds.percentile(range(100, 0, -1), share) == expected
    assert rounds.percentile([], share) == 0.0


def test_rounds_alternate():
    assert [list(rounds.order(["a", "b", "c"], number)) for number in (0, 1)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
    ]


async def test_a_load_answered_from_a_cache_is_caught(monkeypatch):
    """The upstream must have been asked once per request."""
    state = Upstream()
    server, port = await listen(state)
    target = Target(port, "/v1/chat/completions", "bench")
    answers = iter([10, 14])
    monkeypatch.setattr(rounds, "ask_upstream", lambda _port: next(answers))
    found = await rounds.measure(Running(target, target), Scenario("x", 2, 5), Limits(1, 10), port)
    server.close()
    assert found.requests == 5
    assert found.wrong == {"the upstream was asked 4 times for 5 requests": 1}
    assert Counter(found.wrong).total() == 1


def test_the_table_of_contenders():
    assert [one.name for one in CONTENDERS] == ["direct", "nginx", "tollway", "litellm", "portkey"]
    with pytest.raises(Refused, match="there are direct, nginx"):
        by_name("envoy")


def test_the_command_line_makes_the_scenarios():
    told = command.parse(
        ["--bodies", "300,10240", "--connections", "1,16", "--streams", "16:0,8:2.5", "--requests", "100"]
    )
    found = command.scenarios(told)
    assert [(one.connections, one.requests, one.shape.body) for one in found[:4]] == [
        (1, 50, 300),
        (16, 100, 300),
        (1, 50, 10240),
        (16, 100, 10240),
    ]
    assert [(one.connections, one.gap, one.shape.chunks) for one in found[4:]] == [
        (16, 0.0, 100),
        (8, 0.0025, 100),
    ]
    with pytest.raises(Refused, match="cannot read the load"):
        command.scenarios(command.parse(["--streams", "16"]))
    assert [one.name for one in command.chosen(command.parse(["--peer", "litellm"]))] == [
        "direct",
        "nginx",
        "tollway",
        "litellm",
    ]
    assert [one.name for one in command.chosen(command.parse(["--only", "nginx"]))] == ["nginx"]
