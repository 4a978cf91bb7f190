"""Events fold into answers: what grew is joined, the last totals win, and a broken stream is no answer."""

from __future__ import annotations

import pytest

from tollway.core.exchange import (
    Citation,
    Counted,
    Failed,
    Finished,
    Grew,
    Logprob,
    Media,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Response,
    Seal,
    Started,
    StillAlive,
    Text,
    ToolCall,
    Usage,
    size_of,
)
from tollway.core.fold import Broken, fold, unfold

STOP = Finished("stop", "stop")


def folded(*events):
    return fold([Started("1", "m", {"gemini": {"x": 1}}), *events, STOP])


def test_text_is_joined_with_its_sources_and_probabilities():
    cited, token = Citation(kind="url", url="u"), Logprob("a", -0.5)
    response = folded(
        PartStarted(0, Text("a")),
        PartGrew(0, "b", cited),
        PartGrew(0, "c", logprobs=(token,)),
        PartEnded(0, {"gemini": {"y": 2}}),
    )
    assert response.parts == (Text("abc", (cited,), (token,), extras={"gemini": {"y": 2}}),)
    assert (response.id, response.model, response.extras) == ("1", "m", {"gemini": {"x": 1}})


@pytest.mark.parametrize(
    ("start", "text", "expected"),
    [
        (ToolCall("1", "f"), "", ToolCall("1", "f", "{}")),
        (ToolCall("1", "f"), ' {"a":1}', ToolCall("1", "f", ' {"a":1}')),
        (ToolCall("1", "f", kind="custom"), "", ToolCall("1", "f", kind="custom")),
        (Refusal(""), "no", Refusal("no")),
        (Reasoning(form="withheld"), "hm", Reasoning("hm")),
        (Reasoning(form="summary"), "hm", Reasoning("hm", "summary")),
        (Reasoning(form="withheld"), "", Reasoning(form="withheld")),
        (Media("image/png", "base64", "AA=="), "", Media("image/png", "base64", "AA==")),
    ],
)
def test_parts_are_what_they_grew_to(start, text, expected):
    assert folded(PartStarted(0, start), PartGrew(0, text), PartEnded(0)).parts == (expected,)


def test_interleaved_parts_keep_their_order_and_the_last_seal_wins():
    response = folded(
        PartStarted(0, Reasoning()),
        PartStarted(1, Text("")),
        PartGrew(1, "x"),
        PartGrew(0, "y", seal=Seal("gemini", "early")),
        PartGrew(0, seal=Seal("gemini", "late")),
        PartEnded(1),
        PartEnded(0),
    )
    assert response.parts == (Reasoning("y", seal=Seal("gemini", "late")), Text("x"))


def test_the_last_totals_win():
    response = folded(Counted(Usage(input=1, output=9)), StillAlive(), Counted(Usage(input=2, output=3)))
    assert response.usage == Usage(input=2, output=3)


def test_a_failure_is_no_answer():
    failed = Failed("server", "gone")
    with pytest.raises(Broken) as broken:
        fold([Started("1", "m"), failed])
    assert broken.value.failed == failed
    with pytest.raises(Broken):
        fold([Started("1", "m")])


def test_an_answer_unfolds_into_events_that_fold_into_it():
    response = Response(
        id="1", model="m", parts=(Text("a"), ToolCall("1", "f", "{}")), finish=STOP, usage=Usage(input=1)
    )
    assert fold(unfold(response)) == response


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (Grew(7), 7),
        (PartGrew(0, "h\u00e9"), 3),
        (PartStarted(0, Text("ab")), 2),
        (PartStarted(0, ToolCall("1", "f", "{}")), 3),
        (PartStarted(0, Media("image/png", "base64", "AAAA")), 4),
        (PartEnded(0), 0),
        (STOP, 0),
    ],
)
def test_size_counts_the_bytes_generated(event, size):
    assert size_of(event) == size
