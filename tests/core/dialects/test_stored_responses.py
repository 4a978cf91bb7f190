"""Kept conversations of the Responses API, as pure values: what is sent back, shown and paged through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from tollway.core import seals
from tollway.core.dialects.openai_responses import stored
from tollway.core.errors import GatewayError
from tollway.core.exchange import Seal

TOKEN = "0123456789abcdef0123456789abcde"
RESPONSE = f"resp_{TOKEN}"
OTHER = f"resp_{TOKEN[::-1]}"

ANSWERED = {
    "sealed": ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, True),
    "written out": ({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"text": "hm"}]}, True),
    "known upstream only": ({"type": "reasoning", "id": "rs_1", "summary": [{"text": "hm"}]}, False),
    "translated": ({"type": "reasoning", "id": f"rs_{TOKEN}0", "summary": [{"text": "hm"}]}, True),
    "translated elsewhere": (
        {"type": "reasoning", "id": f"rs_{TOKEN[::-1]}0", "summary": [{"text": "hm"}]},
        False,
    ),
    "empty": ({"type": "reasoning", "id": f"rs_{TOKEN}0", "summary": []}, False),
    "no thought": ({"type": "web_search_call", "id": "ws_1"}, True),
    "no object": ("text", False),
}


@pytest.mark.parametrize(("item", "kept"), ANSWERED.values(), ids=ANSWERED)
def test_an_answer_is_sent_back_without_thoughts_nobody_can_read(item, kept):
    message = {"type": "message", "id": "msg_1", "content": []}
    found = stored.answered([item, message], RESPONSE, words=True)
    left_out = type(item) is dict and not kept
    assert found == ([item] if kept else []) + [
        {"type": "message", "content": []} if left_out else message,
    ]


def test_words_of_a_translated_thought_stay_only_where_they_are_understood():
    words = {"type": "reasoning", "id": f"rs_{TOKEN}0", "summary": [{"text": "hm"}]}
    sealed = {**words, "encrypted_content": "tw1.x"}
    call = {"type": "function_call", "id": "fc_1"}
    assert stored.answered([words, call], RESPONSE, words=True) == [words, call]
    assert stored.answered([words, call], RESPONSE, words=False) == [{"type": "function_call"}]
    assert stored.answered([sealed, call], RESPONSE, words=False) == [sealed, call]


def test_a_thought_that_names_its_account_leaves_what_came_with_it_nameless():
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA.x"}
    message = {"type": "message", "id": "msg_1", "content": []}
    (found, other) = stored.sealed([thought, message], "scope1")
    assert seals.unwrap(found["encrypted_content"], "openai_responses") == Seal(
        "openai_responses", "gAAA.x", "scope1", "rs_1"
    )
    assert (found["id"], other) == ("rs_1", {"type": "message", "content": []})
    assert stored.sealed([found, message], "scope2") == [found, message]


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {
            "type": "reasoning",
            "id": "rs_1",
            "encrypted_content": seals.wrap(Seal("anthropic", "x", "scope2")),
        },
        {"type": "message", "id": "msg_2", "encrypted_content": "x"},
    ],
)
def test_what_has_no_seal_or_a_named_one_stays_as_it_is(thought):
    message = {"type": "message", "id": "msg_1", "content": []}
    assert stored.sealed([thought, message], "scope1") == [thought, message]
    sealed = {**thought, "type": "reasoning", "encrypted_content": "gAAA"}
    assert stored.sealed([sealed, message], "") == [sealed, message]


OWN = {
    f"msg_{TOKEN}0": (RESPONSE, False, 0),
    f"fco_{TOKEN}i12": (RESPONSE, True, 12),
    f"msg_{TOKEN}": None,
    f"msg_{TOKEN}i": None,
    f"m_{TOKEN}1": None,
    f"msg_{TOKEN}1234567": None,
    f"msg_{TOKEN.upper()}1": None,
    f"msg_{TOKEN}1\n": None,
    "msg_1": None,
    "": None,
}


@pytest.mark.parametrize(("name", "meaning"), OWN.items())
def test_an_id_of_ours_says_where_it_belongs(name, meaning):
    assert stored.own(name) == meaning
    assert stored.own(None) is None


REFERENCES = [
    ({"type": "item_reference", "id": "a"}, True),
    ({"id": "a"}, True),
    ({"id": "a", "role": "user", "content": "x"}, False),
    ({"id": "a", "type": "message"}, False),
    ({"role": "user"}, False),
    ("a", False),
    (None, False),
]


@pytest.mark.parametrize(("item", "expected"), REFERENCES)
def test_a_reference_is_told_from_an_item(item, expected):
    assert stored.is_reference(item) is expected


def test_each_referenced_id_is_looked_up_once():
    assert stored.references([{"id": "b"}, {"id": "a"}, "x", {"id": "b"}]) == ["b", "a"]


def test_the_ids_that_must_be_remembered_are_those_that_do_not_say_where_they_belong():
    ids = ["msg_up", f"msg_{TOKEN}0", f"msg_{TOKEN[::-1]}0", "msg_up", "ä", "x" * 300, 7, None]
    output = [{"id": one} for one in ids]
    assert stored.foreign_ids([*output, "x", {}], RESPONSE) == ["msg_up", f"msg_{TOKEN[::-1]}0"]


def test_a_reference_names_an_output_item_by_its_id_and_an_input_item_by_its_place():
    inputs, output = [{"role": "user"}, "odd"], ["odd", {"id": "msg_up"}]
    assert stored.named("msg_up", RESPONSE, inputs, output, words=True) == [{"id": "msg_up"}]
    assert stored.named(f"msg_{TOKEN}i0", RESPONSE, inputs, output, words=True) == [{"role": "user"}]
    for name in (f"msg_{TOKEN}i2", f"msg_{TOKEN}0", "msg_none"):
        assert stored.named(name, RESPONSE, inputs, output, words=True) is None
    assert stored.named(f"msg_{TOKEN}i0", OTHER, inputs, output, words=True) is None


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
SHOWN = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": "x"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
    {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "x"}]},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_image", "image_url": "u", "detail": "low"}],
    },
    CALL,
    {**CALL, "id": "fc_own", "status": "incomplete"},
    {"type": "function_call_output", "call_id": "c", "output": "x"},
    {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
    {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
]


@pytest.mark.parametrize("item", SHOWN, ids=lambda item: f"{item.get('type')}-{item.get('role')}")
def test_what_is_shown_is_what_the_official_types_demand(item):
    """Strictly: a member that is missing or of a wrong type fails."""
    (found,) = stored.shown([item], RESPONSE)
    TypeAdapter(ResponseItem).validate_python(found, strict=True)
    assert found["id"] == item.get("id", found["id"])


def test_ids_of_shown_items_differ_and_lead_back_to_them():
    found = stored.shown(SHOWN, RESPONSE)
    assert len({item["id"] for item in found}) == len(SHOWN)
    for item, source in zip(found, SHOWN, strict=True):
        if "id" not in source:
            assert stored.named(item["id"], RESPONSE, SHOWN, [], words=True) == [source]


def test_what_no_item_can_be_is_not_shown():
    assert stored.shown(["x", None, 7], RESPONSE) == []
    odd = stored.shown([{"type": "message", "role": "assistant", "content": 7}, {}], RESPONSE)
    assert [item["type"] for item in odd] == ["message", "item"]


@given(
    count=st.integers(0, 12),
    limit=st.integers(1, 5),
    order=st.sampled_from(("asc", "desc")),
    back=st.booleans(),
)
def test_pages_in_either_direction_are_the_whole_list_once(count, limit, order, back):
    listed = [{"id": str(number)} for number in range(count)]
    whole = listed if order == "asc" else listed[::-1]
    seen: list[dict[str, object]] = []
    edge: str | None = whole[-1]["id"] if back and whole else None
    if edge is not None:
        seen = [whole[-1]]
    while True:
        page = stored.page(listed, order, limit, None if back else edge, edge if back else None)
        assert len(page.data) <= limit
        seen = page.data + seen if back else seen + page.data
        if not page.more:
            break
        edge = page.data[0]["id"] if back else page.data[-1]["id"]
    assert seen == whole


def test_an_edge_that_is_not_in_the_list_is_refused():
    with pytest.raises(GatewayError, match="after"):
        stored.page([], "asc", 1, "x", None)
