"""Messages natively: cumulative usage, named events, where the bill goes when the upstream is sloppy."""

from __future__ import annotations

import pytest
from tests.core.dialects.native.relays import RECEIPT, fed, run, sent, stream_of, told, wire
from tests.support.dialects import golden

from tollway.core.exchange import Counted, Failed, Finished, Grew, Started
from tollway.core.relay import BadAnswer, Fed, Receipt


def start(message_id="msg_1", **usage):
    message = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": "theirs",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 2050, "output_tokens": 1, **usage},
    }
    return {"type": "message_start", "message": message}


def block(index=0, **members):
    return {
        "type": "content_block_start",
        "index": index,
        "content_block": {"type": "text", "text": "", **members},
    }


def delta(index=0, **members):
    return {"type": "content_block_delta", "index": index, "delta": members}


def text(words):
    return delta(type="text_delta", text=words)


def stop(index=0):
    return {"type": "content_block_stop", "index": index}


def told_end(reason="end_turn", **members):
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **members}


END = {"type": "message_stop"}
HI = [start(), block(), text("Hi"), stop()]


def relay(objects, receipt=RECEIPT):
    out, events = run(stream_of("anthropic"), wire("anthropic", objects), receipt=receipt)
    return sent("anthropic", out), events


def test_later_totals_replace_earlier_ones_member_by_member():
    later = {"input_tokens": 31_772, "output_tokens": 40, "cache_read_input_tokens": None}
    first = start(cache_read_input_tokens=7, server_tool_use={"web_search_requests": 1})
    objects, events = relay([first, block(), text("Hi"), stop(), told_end(usage=later), END])
    counted = [one.usage for one in events if isinstance(one, Counted)]
    assert [(one.input, one.output) for one in counted] == [(2057, 1), (31_779, 40)]
    assert counted[-1].tools == {"web_search": 1}
    assert objects[0]["message"]["usage"] == first["message"]["usage"]
    assert objects[-2]["usage"] == {**later, "cost": RECEIPT.cost}


def test_pings_pass_even_while_the_end_waits_for_the_bill():
    native = stream_of("anthropic")
    native.feed(wire("anthropic", [*HI, told_end(usage={"output_tokens": 2})]))
    assert native.feed(wire("anthropic", [{"type": "ping"}])).out == wire("anthropic", [{"type": "ping"}])
    assert native.feed(wire("anthropic", [END])).out == b""
    assert native.feed(b": still here\n\n").out == b": keep-alive\n\n"


@pytest.mark.parametrize("usage", [None, {}, "none"])
def test_a_delta_without_usage_shows_what_the_start_counted(usage):
    last = told_end() if usage == "none" else told_end(usage=usage)
    objects, _ = relay([*HI, last, END])
    assert objects[-2]["usage"] == {"input_tokens": 2050, "output_tokens": 1, "cost": RECEIPT.cost}


def test_totals_on_the_way_pass_and_the_last_ones_carry_the_bill():
    on_the_way = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}
    after = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}
    stream = [
        start(),
        on_the_way,
        block(),
        text("Hi"),
        stop(),
        told_end(usage={"output_tokens": 8}),
        after,
        END,
    ]
    native = stream_of("anthropic")
    out, events = fed(native, wire("anthropic", stream))
    assert sent("anthropic", out)[1] == on_the_way
    assert sent("anthropic", native.close(RECEIPT)) == [
        told_end(usage={"output_tokens": 8}),
        {**after, "usage": {"output_tokens": 9, "cost": RECEIPT.cost}},
        END,
    ]
    assert told(events)["usage"].output == 9


def test_what_comes_between_the_reason_and_the_end_keeps_its_place():
    odd = {"type": "x_note", "n": 1}
    objects, _ = relay([*HI, told_end(usage={"output_tokens": 2}), odd, END])
    assert [one["type"] for one in objects[-3:]] == ["message_delta", "x_note", "message_stop"]


def test_an_end_without_totals_is_given_some():
    objects, events = relay([*HI, END])
    assert objects[-2:] == [
        told_end(usage={"input_tokens": 2050, "output_tokens": 1, "cost": RECEIPT.cost}),
        END,
    ]
    assert events[-1] == Finished("stop", "")


def test_an_end_of_the_body_after_the_reason_is_an_end():
    objects, events = relay([*HI, told_end("max_tokens", usage={"output_tokens": 2})])
    assert objects[-1] == END
    assert events[-1] == Finished("length", "max_tokens")


def test_our_own_count_stands_where_the_charge_rests_on_it():
    objects, _ = relay([*HI, told_end(usage={"output_tokens": 0}), END], Receipt(0.5, True, 2050, 12))
    usage = objects[-2]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["estimated"]) == (2050, 12, True)


@pytest.mark.parametrize(
    ("reason", "stopped", "finish"),
    [
        ("tool_use", None, Finished("tool_calls", "tool_use")),
        ("stop_sequence", "###", Finished("stop", "stop_sequence", "###")),
        ("model_context_window_exceeded", None, Finished("length", "model_context_window_exceeded")),
        ("pause_turn", None, Finished("pause", "pause_turn")),
        ("something_new", None, Finished("other", "something_new")),
    ],
)
def test_reasons_are_told_in_our_words(reason, stopped, finish):
    tool = [block(1, type="tool_use", id="t", name="f", input={}), stop(1)] if reason == "tool_use" else []
    last = told_end(reason, usage={"output_tokens": 2})
    last["delta"]["stop_sequence"] = stopped
    _, events = relay([*HI, *tool, last, END])
    assert events[-1] == finish


def sizes(*objects):
    _, events = relay([start(), *objects, told_end(usage={"output_tokens": 2}), END])
    return [one.size for one in events if isinstance(one, Grew)]


def test_all_that_is_generated_counts():
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    assert sizes(block(), text("é"), text(""), text(5), stop()) == [2]
    assert sizes(
        block(type="thinking", thinking=""), delta(type="thinking_delta", thinking="hmm"), stop()
    ) == [3]
    assert sizes(block(text="first"), stop()) == [5]
    assert sizes(block(**call), stop()) == [4, 2]
    assert sizes(block(**{**call, "input": {"a": 1}}), stop()) == [4, 7]
    pieces = [delta(type="input_json_delta", partial_json=one) for one in ("", ' {"a"', ":1}")]
    assert sizes(block(**call), *pieces, stop()) == [4, 5, 3]
    server = block(type="server_tool_use", id="s", name="web_search", input={})
    assert sizes(server, *pieces, stop()) == [10, 5, 3]
    assert sizes(block(type="redacted_thinking", data="x" * 99), stop()) == []
    assert sizes(block(), delta(type="signature_delta", signature="x" * 99), stop()) == []


def test_a_repeated_start_is_dropped_and_another_answer_is_none():
    objects, events = relay([start(), *HI, told_end(usage={"output_tokens": 2}), END])
    assert [one["type"] for one in objects].count("message_start") == 1
    assert [one for one in events if isinstance(one, Started)] == [Started("msg_1", "theirs")]
    with pytest.raises(BadAnswer):
        relay([*HI, start("msg_2")])


@pytest.mark.parametrize("first", [block(), text("Hi"), told_end(), END, {"type": "message_start"}])
def test_nothing_comes_before_the_start(first):
    with pytest.raises(BadAnswer):
        relay([first])


def test_nothing_follows_the_end():
    stream = wire("anthropic", golden("anthropic", "plain")["stream"])
    plain = run(stream_of("anthropic"), stream)
    assert run(stream_of("anthropic"), stream + b"data: [DONE]\n\nrubbish\n\n" + stream) == plain


def test_an_event_without_a_type_reaches_nobody():
    objects, _ = relay([start(), block(), text("Hi"), stop(), told_end(usage={"output_tokens": 2}), END])
    native = stream_of("anthropic")
    data = (
        wire("anthropic", HI)
        + b'data: {"x":1}\n\n'
        + wire("anthropic", [told_end(usage={"output_tokens": 2}), END])
    )
    out, _ = run(native, data)
    assert sent("anthropic", out) == objects


def test_an_error_after_the_reason_is_still_a_failure():
    error = {"type": "error", "error": {"type": "api_error", "message": "Oh no sk-ant-abcdefgh"}}
    native = stream_of("anthropic")
    found = native.feed(wire("anthropic", [*HI, told_end(usage={"output_tokens": 2}), error]))
    assert isinstance(found.events[-1], Failed)
    assert found.events[-1].message == "Oh no [redacted]"
    assert b"message_delta" not in found.out
    assert native.end() == Fed(b"", [])


def test_members_the_caller_names_are_as_given():
    native = stream_of("anthropic", echo={"container": {"id": "ours"}})
    out = native.feed(wire("anthropic", [start()])).out
    assert sent("anthropic", out)[0]["message"]["container"] == {"id": "ours"}
