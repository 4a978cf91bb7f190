"""Single items of kept conversations: references to them, and the list of what a response was made from."""

from __future__ import annotations

from typing import Any

from tests.support.talk import ENCRYPTED, Talk, bounded, message, refusal, texts, thought, user

from tollway.flows import responses
from tollway.flows.call import Call
from tollway.flows.clock import new_id, now_ms
from tollway.flows.responses import Wanted, input_items, keeper, remove, resolve


async def test_references_are_replaced_by_what_they_name(talk):
    call = {"type": "function_call", "id": "fc_up", "call_id": "c1", "name": "add", "arguments": "{}"}
    first = await talk.turn([call, message("two", "up", 5)], input=[user("zero"), user("one")])
    token = first.removeprefix("resp_")
    second = await talk.turn("three", input="unrelated")
    refer = [
        {"type": "item_reference", "id": f"msg_{token}i1"},
        {"id": "msg_up5"},
        {"type": "item_reference", "id": f"msg_{second.removeprefix('resp_')}0"},
        {"type": "item_reference", "id": "fc_up"},
        user("new"),
        {"type": "item_reference", "id": "fc_up"},
    ]
    third = await talk.turn("four", input=refer)
    assert texts(talk.sent) == ["one", "two", "three", "{}", "new", "{}"]
    assert talk.sent[3] == call
    # What was referred to is part of this turn from now on, whatever becomes of the others.
    await remove(talk.gate, talk.key, first, now_ms())
    await talk.turn("five", third, input="more")
    assert texts(talk.sent)[:4] == ["one", "two", "three", "{}"]
    assert (await refusal(talk.turn("no", input=refer))).code == "not_found"


async def test_references_lead_into_the_conversation_that_is_continued_too(talk):
    first = await talk.turn([message("1!", "up", 9)], input="1?")
    await talk.turn("2!", first, input=[{"type": "item_reference", "id": "msg_up9"}])
    assert texts(talk.sent) == ["1?", "1!", "1!"]


async def test_an_upstreams_id_may_look_like_one_of_ours(talk):
    name = "msg_" + "0123456789abcdef" * 2  # 32 hexadecimal digits, as some upstreams write them
    number = name[:-1] + "7"
    first = await talk.turn([{**message("one"), "id": name}, {**message("two"), "id": number}], input="?")
    await talk.turn("!", input=[{"id": name}, {"type": "item_reference", "id": number}])
    assert texts(talk.sent) == ["one", "two"]
    await talk.turn("!", first, input=[{"id": number}])
    assert texts(talk.sent) == ["?", "one", "two", "two"]


async def test_a_reference_to_a_thought_nobody_remembers_is_no_item(talk):
    await talk.turn(
        [thought("rs_up", summary=[{"type": "summary_text", "text": "hm"}]), message("!")], input="?"
    )
    await talk.turn("!", input=[user("go"), {"type": "item_reference", "id": "rs_up"}])
    assert texts(talk.sent) == ["go"]


async def test_a_translated_thought_keeps_its_words(talk, gate, key):
    call = Call(call_id=new_id("req", now_ms()), route="", ip="", user_agent="", created_at=now_ms())
    call.key, call.model = key, gate.catalogue.models["m"]
    own = thought(f"rs_{call.token}0", summary=[{"type": "summary_text", "text": "hm"}])
    keep = keeper(gate, call, await resolve(gate, key, {"model": "m", "input": "?"}, now_ms()))
    await keep({"id": f"resp_{call.token}", "output": [own, message("!")], "status": "completed"})
    await talk.turn("!", f"resp_{call.token}", input="go")
    assert talk.sent[1] == own


async def test_a_reference_to_a_place_that_is_not_there_is_not_found(talk):
    first = await talk.turn("1!", input="1?")
    token = first.removeprefix("resp_")
    for name in (f"msg_{token}i1", f"msg_{token}1", f"msg_{token}", f"msg_{token}i"):
        error = await refusal(talk.turn("no", input=[{"type": "item_reference", "id": name}]))
        assert (error.code, error.status, error.param) == ("not_found", 404, "input")
        assert name in error.message


async def test_references_cannot_make_much_of_little(gate, talk):
    first = await talk.turn([message("x" * 3000, "up", 1)], input="1?")
    again = await talk.turn([message("x" * 3000, "up", 2)], input="1?")
    assert first != again
    bounded(gate, responses_max=10_000)
    one, two = ({"type": "item_reference", "id": f"msg_up{n}"} for n in (1, 2))
    await talk.turn("yes", input=[one, two, one])
    error = await refusal(talk.turn("no", input=[one] * 4, store=False))
    assert error.code == "context_length_exceeded"
    bounded(gate, responses_max=5_000)
    error = await refusal(talk.turn("no", input=[one, two], store=False))
    assert error.code == "context_length_exceeded"
    many = [{"type": "item_reference", "id": f"msg_n{n}"} for n in range(responses.REFERENCES_MAX + 1)]
    assert (await refusal(talk.turn("no", input=many))).param == "input"
    assert (await refusal(talk.turn("no", input=many[1:]))).code == "not_found"


async def listed(talk: Talk, response_id: str, *include: str, **wanted: Any) -> dict[str, Any]:
    return await input_items(talk.gate, talk.key, response_id, Wanted(**wanted), include, now_ms())


async def test_input_items_are_everything_a_response_was_made_from(talk):
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    first = await talk.turn([thought("rs_1", encrypted_content="gAAA"), message("1!")], input="1?")
    parts = [{"type": "input_text", "text": "2?"}]
    given = [{"role": "developer", "content": parts}, {"role": "assistant", "content": "so"}, call]
    second = await talk.turn("2!", first, input=given)
    page = await listed(talk, second, order="asc")
    one, two = (name.removeprefix("resp_") for name in (first, second))
    assert page == {
        "object": "list",
        "data": [
            {
                "id": f"msg_{one}i0",
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "1?"}],
                "status": "completed",
            },
            thought("rs_1"),
            message("1!"),
            {
                "id": f"msg_{two}i0",
                "type": "message",
                "role": "developer",
                "content": parts,
                "status": "completed",
            },
            {
                "id": f"msg_{two}i1",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "so", "annotations": []}],
                "status": "completed",
            },
            {"id": f"fc_{two}i2", **call, "status": "completed"},
        ],
        "first_id": f"msg_{one}i0",
        "last_id": f"fc_{two}i2",
        "has_more": False,
    }
    shown = await listed(talk, second, ENCRYPTED, order="asc")
    assert shown["data"][1]["encrypted_content"] == "gAAA"


async def test_input_items_are_paged_in_both_orders(talk):
    first = await talk.turn("!", input=[user(str(number)) for number in range(5)])
    seen: list[str] = []
    page = await listed(talk, first, limit=2)
    while page["has_more"]:
        seen += texts(page["data"])
        page = await listed(talk, first, limit=2, after=page["last_id"])
    seen += texts(page["data"])
    assert seen == ["4", "3", "2", "1", "0"]
    names = [item["id"] for item in (await listed(talk, first, order="asc"))["data"]]
    page = await listed(talk, first, order="asc", limit=2, before=names[4])
    assert (texts(page["data"]), page["has_more"]) == (["2", "3"], True)
    page = await listed(talk, first, order="asc", limit=2, after=names[0], before=names[2])
    assert (texts(page["data"]), page["has_more"]) == (["1"], False)
    page = await listed(talk, first, order="asc", after=names[4])
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for wanted in ({"after": "msg_none"}, {"before": "\x00"}):
        error = await refusal(listed(talk, first, **wanted))
        assert (error.code, error.param) == ("invalid_value", next(iter(wanted)))
