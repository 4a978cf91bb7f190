"""Calls cut at any moment: whatever ends them, holds close, places come back and the books balance."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from functools import partial

import pytest
from msgspec.structs import replace
from tests.support.servers import Peer, eventually, whole
from tests.support.till import END, SSE, WHOLE, Ear, event, till

from tollway.core.billing.pricing import cost, estimate
from tollway.core.errors import GatewayError
from tollway.core.exchange import Loss
from tollway.flows import attempts, text, translate
from tollway.flows.admit import COMPARED_MAX, find_model, stranger
from tollway.flows.count import count
from tollway.store import calls
from tollway.store.base import AttemptRecord, CallRecord
from tollway.upstream.transport import UpstreamFault, UpstreamRequest

MOMENTS = 60


async def answering(peer: Peer) -> None:
    """Chat as it should be, whole or in pieces, over connections that are kept."""
    while True:
        asked = await peer.request()
        if b'"stream":true' in asked.body:
            await peer.send(SSE, event(""), event("Hel"), event("lo"), *END)
        else:
            await peer.send(WHOLE)


async def cut(till_, moment: int, why: str, *, stream: bool) -> str:
    """A call that is cancelled after so many turns of the loop, as the server does it."""
    call, ear = await till_.call(), Ear()
    task = asyncio.create_task(text.answer(till_.gate, call, till_.asked(stream=stream), ear))
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel(why)
    with contextlib.suppress(asyncio.CancelledError, GatewayError):
        await task
    return call.id


@pytest.mark.parametrize("why", [text.CLIENT_GONE, "draining"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("drains", [{}, {"bills_after_cancel": 1}])
async def test_a_call_cut_at_any_moment_leaves_nothing_behind(tmp_path, why, stream, drains):
    async with till(tmp_path, answering, **drains) as found:
        await found.ask(stream=stream)
        for moment in range(MOMENTS):
            await cut(found, moment, why, stream=stream)
            await found.quiet()
            await asyncio.sleep(0)
        await found.check()


async def test_who_leaves_before_the_first_word_of_an_upstream_that_bills_all_the_same_pays_all(tmp_path):
    accepted, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE, event(""))
        accepted.set()
        await go_on.wait()
        await peer.send(event("Hello"), *END)

    async with till(tmp_path, slowly, bills_after_cancel=1) as found:
        call = await found.call()
        task = asyncio.create_task(text.answer(found.gate, call, found.asked(stream=True), Ear()))
        await accepted.wait()
        await eventually(lambda: _reading(task))
        task.cancel(text.CLIENT_GONE)
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await found.check()
        shown = await found.receipt(call.id)
        assert shown.outcome == "cancelled"
        assert set(shown.flags) == {"client_cancelled", "drained"}
        assert (shown.usage.input_tokens, shown.usage.output_tokens) == (7, 5)


def _reading(task: asyncio.Task[None]) -> bool:
    """Whether a call waits for more of an answer that has begun, whose upstream bills all the same."""
    frame = task.get_coro().cr_await  # type: ignore[union-attr]
    while frame is not None and hasattr(frame, "cr_await"):
        if frame.cr_code.co_name == "_read_shielded":
            return True
        frame = frame.cr_await
    return False


async def test_a_process_that_stops_does_not_wait_for_what_is_read_on(tmp_path):
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE, event("Hello"))
        await peer.until_gone()

    async with till(tmp_path, endless, bills_after_cancel=1) as found:
        call, ear = await found.call(), Ear()
        task = asyncio.create_task(text.answer(found.gate, call, found.asked(stream=True), ear))
        await eventually(lambda: b"Hello" in ear.body)
        task.cancel(text.CLIENT_GONE)
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await found.gate.close()
        await found.check()
        shown = await found.receipt(call.id)
        assert shown.outcome == "cancelled" and shown.usage.output_tokens == 2


@pytest.mark.parametrize(
    "headers",
    [b"retry-after: %b\r\n" % (b"9" * 400), b"retry-after-ms: %b\r\n" % (b"9" * 400), b"retry-after: Mon, 01 Jan 0001 00:00:00 GMT\r\n"],
)  # fmt: skip
async def test_an_absurd_wait_is_no_mistake_of_ours(tmp_path, headers):
    async def refusing(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(whole(429, b"{}", headers=headers))

    async with till(tmp_path, refusing) as found:
        with pytest.raises(GatewayError) as caught:
            await found.ask()
        assert caught.value.code != "internal_error"
        await found.check()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_end_is_cut_off(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(attempts, "ANSWER_MAX", 1_000_000)

    async def flooding(peer: Peer) -> None:
        await peer.request()
        if stream:
            await peer.send(SSE, *[event("x" * 10_000)] * 200)
        else:
            await peer.send(b"HTTP/1.1 200 X\r\ncontent-length: 2000000\r\n\r\n" + b" " * 2_000_000)

    async with till(tmp_path, flooding) as found:
        if stream:
            ear, call_id = await found.ask(stream=True)
            assert b"stream_interrupted" in ear.body and b"[DONE]" not in ear.body
            assert len(ear.body) < 1_100_000
            assert (await found.receipt(call_id)).outcome == "partial"
        else:
            with pytest.raises(GatewayError) as caught:
                await found.ask()
            assert caught.value.status == 502
        await found.check()


async def test_a_stream_of_nothing_is_not_held_back_for_ever(tmp_path):
    """Many bytes without content reach the client as they come; they are not gathered."""
    nothing = event("", filler="y" * 50_000)

    async def busy(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE, *[nothing] * 40)
        await peer.until_gone()

    async with till(tmp_path, busy) as found:
        call, ear = await found.call(), Ear()
        task = asyncio.create_task(text.answer(found.gate, call, found.asked(stream=True), ear))
        await eventually(lambda: ear.status == 200 and len(ear.body) > attempts.HELD_BACK_MAX)
        task.cancel(text.CLIENT_GONE)
        with pytest.raises(asyncio.CancelledError):
            await task
        await found.check()


@pytest.mark.parametrize("told", ["1e999999999", "-1e999999999", "1e-999999999", "9" * 5000])
async def test_an_absurd_bound_on_a_call_is_refused_by_name(tmp_path, told):
    async with till(tmp_path, answering) as found:
        call = await found.call()
        call.max_credits = told
        with pytest.raises(GatewayError) as caught:
            await text.answer(found.gate, call, found.asked(), Ear())
        assert (caught.value.code, caught.value.param) == ("invalid_value", "x-tollway-max-credits")
        await found.check()


def test_what_was_dropped_is_remembered_in_few_words():
    told = translate._told((Loss("x" * 10_000_000, "no such field"), Loss("n", "answers once")))
    assert len(told[0]) < 300
    assert told[0].endswith("...: no such field")
    assert told[1] == "n: answers once"


async def test_a_test_of_a_channel_that_sent_nothing_is_left_to_the_next_call(tmp_path):
    """What a client asks for in vain (an image nobody may load) must not keep a channel out of use."""
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    async with till(tmp_path, answering, dialect="gemini") as found:
        found.ail()
        with pytest.raises(GatewayError) as caught:
            await found.ask(messages=[{"role": "user", "content": [image]}])
        assert caught.value.status == 400
        await found.check()


async def counting(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(whole(body=b'{"input_tokens":3}', headers=b"content-type: application/json\r\n"))


async def counted(found) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    return (await count(found.gate, await found.call(), "anthropic", body))["input_tokens"]


async def test_counting_is_no_test_of_a_channel(tmp_path):
    async with till(tmp_path, counting, dialect="anthropic") as found:
        found.ail()
        assert await counted(found) == 3
        await found.check()


async def test_an_upstream_that_gives_no_access_is_counted_without(tmp_path):
    async def authorise(request: UpstreamRequest) -> UpstreamRequest:
        raise UpstreamFault("connect", f"no token for {request.method}", sent=False)

    async with till(tmp_path, counting, dialect="anthropic") as found:
        for endpoint in found.gate.endpoints.values():
            endpoint.authorise = authorise
        assert await counted(found) > 3
        await found.check()


async def test_who_names_unknown_models_does_not_hold_up_others(tmp_path):
    """What was meant is looked for among few names, and still found among many."""
    async with till(tmp_path, answering) as found:
        one = found.gate.catalogue.models["m"]
        many = {name: replace(one, id=name) for name in [f"{n:05}" for n in range(5000)] + ["zebra-large"]}
        found.gate.catalogue = replace(found.gate.catalogue, models=many)
        compared = []
        real = difflib.get_close_matches

        def counted_matches(word, names, **more):
            compared.append(len(names))
            return real(word, names, **more)

        call = await found.call()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(difflib, "get_close_matches", counted_matches)
            for name, near in [("zebra-larg", ("zebra-large",)), ("0" * 100, ())]:
                with pytest.raises(GatewayError) as caught:
                    await find_model(found.gate, call.key, name)
                assert caught.value.suggestions == near
        assert max(compared) <= COMPARED_MAX


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_strangers_are_told_apart_by_what_they_cannot_change(one, other, same):
    assert (stranger(one, 1).id == stranger(other, 2).id) is same


async def test_what_is_known_of_a_call_is_recorded_under_its_own_name(tmp_path):
    # The records are made by position: each field has a value here that no other has.
    async with till(tmp_path, answering) as found:
        call = await found.call()
        call.ip, call.user_agent = "10.1.2.3", "a client"
        await text.answer(found.gate, call, found.asked(), Ear())
        record = await found.admin.store.read(partial(calls.by_id, call_id=call.id))
        [attempt] = await found.admin.store.read(partial(calls.attempts, call_id=call.id))
        price, key = call.model.price, call.key
        [channel_id] = [one.channel_id for one in call.model.routes]
        assert record == CallRecord(
            id=call.id,
            account_id=key.account_id,
            project_id=key.project_id,
            key_id=key.id,
            model="m",
            channel_id=channel_id,
            upstream_model="m",
            dialect="openai_chat",
            route="/v1/chat/completions",
            stream=False,
            status=200,
            outcome="ok",
            error_code=None,
            flags=(),
            usage={"input": 7, "output": 5},
            price_version=price.version,
            held=estimate(call.request.input_bound, 50, 1, call.model, None).amount,
            charged=cost({"input": 7, "output": 5}, price.rates),
            absorbed=0,
            cost=None,
            created_at=call.created_at,
            first_token_at=record.first_token_at,
            finished_at=record.finished_at,
            ip="10.1.2.3",
            user_agent="a client",
            discount=0,
        )
        assert attempt == AttemptRecord(
            call_id=call.id,
            n=1,
            channel_id=channel_id,
            upstream_model="m",
            status=200,
            error=None,
            latency_ms=record.finished_at - attempt.created_at,
            first_byte_ms=attempt.first_byte_ms,
            cost=None,
            created_at=attempt.created_at,
            dropped=(),
        )
        times = (call.created_at, attempt.created_at, record.first_token_at, record.finished_at)
        assert sorted(times) == list(times)
        assert 0 <= attempt.first_byte_ms <= attempt.latency_ms
