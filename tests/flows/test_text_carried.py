"""Usual events that arrive one by one go from the upstream's socket to the client's as they came: nothing else changes."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest
from msgspec.structs import replace
from tests.support.servers import Peer, Script, eventually
from tests.support.till import END, SSE, STOP, Ear, Till, chunk, event, till

from tollway.flows import attempts, text

WORDS = [f"w{at} " for at in range(12)]


async def say(peer: Peer, ear: Ear, words: list[str]) -> None:
    """Begin to answer: each word when the one before has been heard."""
    await peer.request()
    await peer.send(SSE + event("", role="x"))
    for word in words:
        await peer.send(event(word))
        await eventually(partial(_holds, ear, word.encode()), f"{word!r} to be heard")


def _holds(ear: Ear, what: bytes) -> bool:
    return what in ear.body


def one_by_one(ear: Ear, *ending: bytes) -> Script:
    """An upstream that says all words, and then `ending`."""

    async def speak(peer: Peer) -> None:
        await say(peer, ear, WORDS)
        await peer.send(*(ending or END))

    return speak


def heard(body: bytes) -> list[str]:
    payloads = [block[6:] for block in body.split(b"\n\n") if block.startswith(b"data: ")]
    chunks = [json.loads(one) for one in payloads if one != b"[DONE]"]
    return [one["choices"][0]["delta"]["content"] for one in chunks if "content" in json.dumps(one)]


async def ask(found: Till, ear: Ear, **more: object) -> str:
    return (await found.ask(ear, stream=True, **more))[1]


@pytest.mark.parametrize("routes", [1, 2])
async def test_what_is_carried_reads_and_costs_the_same(tmp_path, routes):
    """With one channel and with two, where the signatures in answers are looked for."""
    said, costs = [], []
    for chunked in (True, False):
        ear = Ear(chunked=chunked)
        async with till(
            tmp_path / str(chunked), one_by_one(ear, event(**STOP), chunk(b"data: [DONE]\n\n"), chunk(b""))
        ) as found:
            if routes > 1:
                model = found.gate.catalogue.models["m"]
                found.gate.catalogue.models["m"] = replace(model, routes=model.routes * 2)
            receipt = await found.receipt(await ask(found, ear))
            await found.check()
        said.append(heard(ear.body))
        costs.append((receipt.charged, receipt.flags, receipt.usage.output_tokens))
        # The first is read in full to learn what repeats.
        assert len(ear.carried) == (len(WORDS) - 1) * chunked
        assert ear.body.endswith(b"data: [DONE]\n\n")
    assert said[0] == said[1] == ["", *WORDS]
    assert costs[0] == costs[1]
    assert costs[0][0] > 0


async def test_what_begins_amid_another_event_is_not_carried(tmp_path):
    ear = Ear(chunked=True)
    early = event("early ").split(b"\r\n")[1]

    async def speak(peer: Peer) -> None:
        await say(peer, ear, WORDS)
        await peer.send(chunk(early + b": a comment that is cut"))
        await eventually(partial(_holds, ear, b"early "), "what is before the comment")
        await peer.send(event("hidden "))
        await eventually(partial(_holds, ear, b"keep-alive"), "the comment")
        await peer.send(event("seen "), *END)

    async with till(tmp_path, speak) as found:
        await ask(found, ear)
        await found.check()
    assert heard(ear.body) == ["", *WORDS, "early ", "seen "]


async def test_a_slow_client_is_waited_for_and_misses_nothing(tmp_path):
    ear = Ear(chunked=True, slow_after=3)
    async with till(tmp_path, one_by_one(ear)) as found:
        await ask(found, ear)
        await found.check()
    assert heard(ear.body) == ["", *WORDS]
    assert len(ear.carried) == len(WORDS) - 1


async def test_what_is_carried_counts_among_the_bytes_of_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "ANSWER_MAX", 1_500)
    monkeypatch.setattr(text, "ANSWER_MAX", 1_500)
    ear = Ear(chunked=True)

    async def endless(peer: Peer) -> None:
        await say(peer, ear, [f"w{at} " for at in range(100)])

    async with till(tmp_path, endless) as found:
        call_id = await ask(found, ear)
        assert b"stream_interrupted" in ear.body and b"[DONE]" not in ear.body
        assert 3 < len(ear.carried) < 12
        assert (await found.receipt(call_id)).outcome == "partial"
        await found.check()


async def test_an_upstream_that_bills_after_a_cancel_is_read_as_before(tmp_path):
    ear = Ear(chunked=True)
    async with till(tmp_path, one_by_one(ear), bills_after_cancel=1) as found:
        await ask(found, ear)
        await found.check()
    assert (heard(ear.body), ear.carried) == (["", *WORDS], [])


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ([event(error={"message": "out of words"})], b"out of words"),
        ([chunk(b"data: no JSON\n\n")], b"stream_interrupted"),
        ([chunk(b"")], b"stream_interrupted"),
        ([b"zz\r\n"], b"stream_interrupted"),
    ],
)
async def test_an_answer_that_breaks_after_what_was_carried_is_told_to_be_broken(tmp_path, end, told):
    ear = Ear(chunked=True)
    async with till(tmp_path, one_by_one(ear, *end)) as found:
        call_id = await ask(found, ear)
        assert heard(ear.body)[: len(WORDS) + 1] == ["", *WORDS] and told in ear.body
        assert len(ear.carried) == len(WORDS) - 1
        assert (await found.receipt(call_id)).charged > 0
        await found.check()


async def test_a_client_that_leaves_while_its_answer_is_carried_pays_for_what_it_got(tmp_path):
    ear = Ear(chunked=True)

    async def speaking(peer: Peer) -> None:
        await say(peer, ear, WORDS)
        await peer.until_gone()

    async with till(tmp_path, speaking) as found:
        call = await found.call()
        asking = asyncio.create_task(text.answer(found.gate, call, found.asked(stream=True), ear))
        await eventually(lambda: WORDS[-1].encode() in ear.body, "the last word")
        asking.cancel(text.CLIENT_GONE)
        with pytest.raises(asyncio.CancelledError):
            await asking
        await found.quiet()
        receipt = await found.receipt(call.id)
        assert receipt.usage.output_tokens >= len(WORDS)
        assert receipt.charged > 0
        await found.check()
