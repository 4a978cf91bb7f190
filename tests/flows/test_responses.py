"""What the gateway remembers of Responses calls: whole conversations, for their owners, within bounds."""

from __future__ import annotations

import json

import pytest
from tests.support.talk import ENCRYPTED, Talk, bounded, key_of, message, refusal, texts, thought, user

from tollway.flows import responses
from tollway.flows.call import Call
from tollway.flows.clock import new_id, now_ms
from tollway.flows.jobs.registry import JOBS
from tollway.flows.jobs.runner import Runner
from tollway.flows.jobs.work import Tools
from tollway.flows.responses import Wanted, input_items, keeper, remove, resolve, retrieve
from tollway.store.base import LedgerUnavailable
from tollway.store.responses import several


async def test_a_first_turn_goes_out_as_it_came_but_for_what_upstreams_must_not_keep(gate, key):
    resolved = await resolve(gate, key, {"model": "m", "input": "Hi", "store": True, "top_p": 1}, now_ms())
    assert resolved.body == {"model": "m", "input": "Hi", "store": False, "top_p": 1}
    assert resolved.echo == {"store": True, "previous_response_id": None}


async def test_three_turns_with_a_tool_go_out_whole_and_in_order(talk):
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "3"}
    first = await talk.turn([call], input="What is 1 + 2?", instructions="Be brief.")
    second = await talk.turn("It is 3.", first, input=[result])
    assert talk.sent == [user("What is 1 + 2?"), call, result]
    await talk.turn("You are welcome.", second, input=[user("Thanks")])
    assert talk.sent[:3] == [user("What is 1 + 2?"), call, result]
    assert texts(talk.sent[3:]) == ["It is 3.", "Thanks"]
    assert talk.answer["previous_response_id"] == second


async def test_instructions_are_of_their_turn_alone(gate, talk, key):
    first = await talk.turn("Yes.", input="Hi", instructions="Be brief.")
    body = {"model": "m", "input": "Go on", "previous_response_id": first}
    resolved = await resolve(gate, key, body, now_ms())
    assert "instructions" not in resolved.body
    assert "previous_response_id" not in resolved.body
    told = await resolve(gate, key, {**body, "instructions": "Be long."}, now_ms())
    assert told.body["instructions"] == "Be long."


async def test_one_response_can_be_continued_in_two_ways(talk):
    first = await talk.turn("Hello!", input="Hi")
    left = await talk.turn("left!", first, input="left?")
    await talk.turn("right!", first, input="right?")
    assert texts(talk.sent) == ["Hi", "Hello!", "right?"]
    await talk.turn("more!", left, input="more?")
    assert texts(talk.sent) == ["Hi", "Hello!", "left?", "left!", "more?"]


async def test_a_turn_without_input_of_its_own_continues(talk):
    first = await talk.turn("Hello!", input="Hi")
    await talk.turn("Still here.", first)
    assert texts(talk.sent) == ["Hi", "Hello!"]


@pytest.mark.parametrize("days", [30, 0])
async def test_store_false_or_no_days_keep_nothing(gate, talk, key, days):
    first = await talk.turn("Hello!", input="Hi")
    bounded(gate, responses_days=days)
    body = {"store": False} if days else {}
    second = await talk.turn("Again!", first, input="Hi again", **body)
    assert texts(talk.sent) == ["Hi", "Hello!", "Hi again"]
    assert talk.answer["store"] is False
    assert (await refusal(retrieve(gate, key, second, (), now_ms()))).code == "not_found"
    error = await refusal(talk.turn("no", second, input="Hi"))
    assert error.code == "previous_response_not_found"


ODD = [
    "",
    "resp_",
    "resp_\x00",
    "resp_1' OR '1'='1",
    "resp_" + "a" * 129,
    "RESP_abc",
    "msg_abc",
    "resp_\ud800",
    "resp_ä",
    "resp_none",
    "resp_abc\n",
    "%",
]


@pytest.mark.parametrize("name", ODD)
async def test_ids_that_lead_nowhere_are_not_found(gate, talk, key, name):
    error = await refusal(talk.turn("no", input="Hi", previous_response_id=name))
    assert (error.code, error.status, error.param) == (
        "previous_response_not_found",
        400,
        "previous_response_id",
    )
    for work in (
        retrieve(gate, key, name, (), now_ms()),
        remove(gate, key, name, now_ms()),
        responses.cancel(gate, key, name, now_ms()),
        input_items(gate, key, name, Wanted(), (), now_ms()),
    ):
        error = await refusal(work)
        assert (error.code, error.status) == ("not_found", 404)


@pytest.mark.parametrize("whose", ["another account", "another project"])
async def test_another_owner_cannot_tell_a_response_from_none(gate, talk, key, whose):
    """Same code, same words: there is no telling that it exists."""
    first = await talk.turn([message("Secret", "f" * 31), message("Too", "", 7)], input="Hi")
    stranger = key_of("acc_x", key.project_id) if whose == "another account" else key_of(key.account_id, "p")
    none = "resp_" + "0" * 31
    for one in (
        lambda name: retrieve(gate, stranger, name, (), now_ms()),
        lambda name: remove(gate, stranger, name, now_ms()),
        lambda name: responses.cancel(gate, stranger, name, now_ms()),
        lambda name: input_items(gate, stranger, name, Wanted(), (), now_ms()),
        lambda name: Talk(gate, stranger).turn("no", name, input="Hi"),
    ):
        theirs, nothing = await refusal(one(first)), await refusal(one(none))
        assert (theirs.code, theirs.status) == (nothing.code, nothing.status)
        assert theirs.message.replace(first, "X") == nothing.message.replace(none, "X")
    token = first.removeprefix("resp_")
    for item in (f"msg_{token}i0", f"msg_{token}0", "msg_7"):
        error = await refusal(Talk(gate, stranger).turn("no", input=[{"type": "item_reference", "id": item}]))
        assert (error.code, error.param) == ("not_found", "input")
    assert (await retrieve(gate, key, first, (), now_ms()))["id"] == first


async def test_another_key_of_the_project_goes_on(gate, talk, key):
    first = await talk.turn("Hello!", input="Hi")
    mate = Talk(gate, key_of(key.account_id, key.project_id))
    await mate.turn("Hello you!", first, input="It is me")
    assert texts(mate.sent) == ["Hi", "Hello!", "It is me"]


async def test_a_deleted_turn_ends_what_was_built_on_it(gate, talk, key):
    first = await talk.turn("1!", input="1?")
    second = await talk.turn("2!", first, input="2?")
    third = await talk.turn("3!", second, input="3?")
    await remove(gate, key, second, now_ms())
    assert (await refusal(remove(gate, key, second, now_ms()))).code == "not_found"
    error = await refusal(talk.turn("no", third, input="4?"))
    assert error.code == "previous_response_not_found"
    assert second in error.message
    await talk.turn("again", first, input="2 again?")
    assert texts(talk.sent) == ["1?", "1!", "2 again?"]
    assert texts((await input_items(gate, key, third, Wanted(order="asc"), (), now_ms()))["data"]) == ["3?"]


async def test_an_expired_response_is_gone_but_not_from_later_turns(gate, talk, key):
    first = await talk.turn("1!", input="1?")
    bounded(gate, responses_days=60)
    second = await talk.turn("2!", first, input="2?")
    later = now_ms() + 31 * responses.DAY_MS
    body = {"model": "m", "input": "3?"}
    error = await refusal(resolve(gate, key, {**body, "previous_response_id": first}, later))
    assert error.code == "previous_response_not_found"
    found = await resolve(gate, key, {**body, "previous_response_id": second}, later)
    assert texts(found.body["input"]) == ["1?", "1!", "2?", "2!", "3?"]


REFUSED = [
    ({"background": True}, "unsupported_parameter", "background"),
    ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    ({"conversation": {"id": "conv_1"}}, "unsupported_parameter", "conversation"),
    (
        {"conversation": "conv_1", "previous_response_id": "resp_1"},
        "invalid_value",
        "previous_response_id",
    ),
    ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt"),
    ({"store": "yes"}, "invalid_value", "store"),
    ({"background": 1}, "invalid_value", "background"),
    ({"previous_response_id": 7}, "invalid_value", "previous_response_id"),
    ({"previous_response_id": ["resp_1"]}, "invalid_value", "previous_response_id"),
    ({"input": {"role": "user"}}, "invalid_value", "input"),
    ({"input": [{"type": "item_reference"}]}, "invalid_value", "input[0].id"),
    ({"input": [{"type": "item_reference", "id": 7}]}, "invalid_value", "input[0].id"),
    ({"input": [{"type": "item_reference", "id": "msg_\x00"}]}, "not_found", "input"),
    ({"input": [{"id": "msg_none"}]}, "not_found", "input"),
    ({"include": "all", "model": "thinker"}, "invalid_value", "include"),
]


@pytest.mark.parametrize(("body", "code", "param"), REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(talk, body, code, param):
    error = await refusal(talk.turn("no", **{"input": "Hi", **body}))
    assert (error.code, error.param) == (code, param)
    assert error.status in (400, 404)


@pytest.mark.parametrize("body", [{"background": False}, {"conversation": None}, {"store": None}])
async def test_what_means_nothing_is_let_through(talk, body):
    assert (await talk.turn("Hello!", input="Hi", **body)).startswith("resp_")
    assert talk.answer["store"] is True


INCLUDED = [
    ({"model": "m"}, None),
    ({"model": "thinker"}, [ENCRYPTED]),
    ({"model": "alias"}, [ENCRYPTED]),
    ({"model": "thinker", "include": ["x"]}, ["x", ENCRYPTED]),
    ({"model": "thinker", "include": [ENCRYPTED]}, [ENCRYPTED]),
    ({"model": "thinker", "store": False}, None),
    ({"model": "plain"}, None),
    ({"model": "mixed"}, None),
    ({"model": "unknown"}, None),
    ({"model": None}, None),
]


@pytest.mark.parametrize(("body", "include"), INCLUDED)
async def test_thoughts_are_asked_for_encrypted_where_upstreams_can_and_they_are_kept(
    gate, key, body, include
):
    resolved = await resolve(gate, key, {"input": "Hi", **body}, now_ms())
    assert resolved.body.get("include") == include


async def test_thoughts_only_their_upstream_knew_are_left_out_with_the_ids_it_knew(talk):
    kept = thought("rs_up1", encrypted_content="gAAA")
    first = await talk.turn([kept, message("1!", "up", 1)], input="1?")
    second = await talk.turn([thought("rs_up2"), message("2!", "up", 2)], first, input="2?")
    spoken = thought("rs_up3", content=[{"type": "reasoning_text", "text": "hm"}])
    third = await talk.turn([spoken, message("3!", "up", 3)], second, input="3?")
    await talk.turn("4!", third, input="4?")
    assert [item.get("id") for item in talk.sent] == [
        None,
        "rs_up1",
        "msg_up1",
        None,
        None,  # the second answer, without the thought and the id that went with it
        None,
        "rs_up3",
        "msg_up3",
        None,
    ]


async def test_a_conversation_grows_no_larger_than_is_kept(gate, talk):
    bounded(gate, responses_max=10_000)
    first = await talk.turn("1!" * 2000, input="1?" * 2000)
    error = await refusal(talk.turn("no", first, input="2?" * 2000))
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    error = await refusal(talk.turn("no", input="x" * 10_001))
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    # Without keeping it the same goes through.
    await talk.turn("yes", first, input="2?" * 2000, store=False)
    # An answer is paid for and kept, however long; but nothing is built on it.
    second = await talk.turn("2!" * 2000, first, input="2?")
    error = await refusal(talk.turn("no", second, input="3?"))
    assert (error.code, error.param) == ("context_length_exceeded", "previous_response_id")
    shown = await input_items(gate, talk.key, second, Wanted(order="asc"), (), now_ms())
    assert texts(shown["data"])[-1] == "2?"


async def test_a_conversation_has_only_so_many_turns(monkeypatch, talk):
    monkeypatch.setattr(responses, "TURNS_MAX", 2)
    first = await talk.turn("1!", input="1?")
    second = await talk.turn("2!", first, input="2?")
    third = await talk.turn("3!", second, input="3?")
    error = await refusal(talk.turn("no", third, input="4?"))
    assert (error.code, error.param) == ("context_length_exceeded", "previous_response_id")


async def test_a_large_conversation_comes_back_whole(talk):
    """Large enough to be packed and unpacked beside the loop."""
    noise = "".join(str(number) for number in range(100_000))
    first = await talk.turn(noise, input=noise)
    await talk.turn("2!", first, input="2?")
    assert texts(talk.sent) == [noise, noise, "2?"]
    assert await retrieve(talk.gate, talk.key, first, (), now_ms())


async def test_a_response_is_shown_as_its_client_had_it_but_for_secrets(gate, talk, key):
    items = [thought("rs_1", encrypted_content="gAAA"), message("1!")]
    first = await talk.turn(items, input="1?", instructions="Be brief.")
    answer = talk.answer
    assert await retrieve(gate, key, first, (ENCRYPTED,), now_ms()) == answer
    shown = await retrieve(gate, key, first, (), now_ms())
    assert shown == {**answer, "output": [thought("rs_1"), items[1]]}
    assert list(shown) == list(answer)
    # What goes upstream has them still.
    await talk.turn("2!", first, input="2?")
    assert talk.sent[1] == items[0]


async def test_only_background_responses_could_be_cancelled(gate, talk, key):
    error = await refusal(responses.cancel(gate, key, await talk.turn("1!", input="1?"), now_ms()))
    assert error.status == 400
    assert "synchronous" in error.message


async def test_keeping_twice_keeps_once_and_a_database_that_is_away_is_told(gate, key):
    call = Call(call_id=new_id("req", now_ms()), route="", ip="", user_agent="", created_at=now_ms())
    call.key, call.model = key, gate.catalogue.models["m"]
    keep = keeper(gate, call, await resolve(gate, key, {"model": "m", "input": "Hi"}, now_ms()))
    answer = {"id": f"resp_{call.token}", "output": [message("Hello!")], "status": "incomplete"}
    await keep(answer)
    await keep(answer)
    assert (await retrieve(gate, key, answer["id"], (), now_ms()))["status"] == "incomplete"
    await gate.store.close()
    with pytest.raises(LedgerUnavailable):
        await keep(answer)


async def test_what_is_kept_is_exactly_what_was_given(talk):
    """Numbers, unknown members, odd texts: nothing is understood, so nothing is lost."""
    odd = json.loads(
        '[{"role": "user", "content": "\\u0000\\ud83d\\ude00", "x": [1.5, 12345678901234567890, {}]}]'
    )
    first = await talk.turn("1!", input=odd)
    await talk.turn("2!", first, input="2?")
    assert talk.sent[0] == odd[0]


async def test_scheduled_maintenance_deletes_conversations_that_are_over(gate, talk, key):
    bounded(gate, responses_days=1)
    over = await talk.turn("!", input="?")
    begun = await talk.turn("1!", input="1?")
    bounded(gate, responses_days=30)
    await talk.turn("2!", begun, input="2?")
    soon = now_ms() + 2 * responses.DAY_MS
    runner = Runner(Tools(store=gate.store, clock=lambda: soon, settings=gate.settings), JOBS)
    report = await runner.run("scheduled-maintenance")
    assert report.details["responses_deleted"] == 1
    owner = responses.owner_of(key)
    left = await gate.store.read(lambda conn: several(conn, owner, [over, begun], 0))
    assert [turn.id for turn in left] == [begun]
