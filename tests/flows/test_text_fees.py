"""Fees and tiers on real receipts: charged to the micro-credit, whoever relays, and refused where the price is silent."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import pytest
from tests.support import searched
from tests.support.admin import do
from tests.support.dialects import NAMES
from tests.support.servers import Peer, whole
from tests.support.till import SSE, Ear, chunk, till

from tollway.core.dialects.checked import ask, read_chat
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Price
from tollway.flows import text
from tollway.flows.estimates import by_body
from tollway.web.pricing import price_view

PRICES = {
    "input": 100, "output": 400,
    "input:priority": 200, "output:priority": 800, "input:fast-us": 600, "output:fast-us": 2000,
    "web_search": 10, "map_search": 25, "file_search": Decimal("2.5"), "code_session": 30,
    "image:1024x1024:high": 167, "image:1024x1024:low": 11,
}  # fmt: skip
"""Credits per 10^6 tokens, or for one use."""
TOKENS = {
    # 30 in and 8 out, in credits: 30 x 200 + 8 x 800, or 30 x 600 + 8 x 2,000, by 10^6
    "openai_chat": Decimal("0.0124"),
    "openai_responses": Decimal("0.0124"),
    "anthropic": Decimal("0.034"),
    "gemini": Decimal("0.0124"),
}
FEES = {
    "openai_chat": Decimal(20),
    "openai_responses": 20 + 30 + Decimal("2.5") + 167,
    "anthropic": Decimal(20),
    "gemini": Decimal(20 + 25),
}
BODIES = {
    "openai_chat": {"messages": [{"role": "user", "content": "x"}], "search_parameters": {"mode": "on"}},
    "openai_responses": {
        "input": "x",
        "tools": [
            {"type": "web_search"}, {"type": "file_search", "vector_store_ids": []}, {"type": "image_generation"},
            {"type": "code_interpreter", "container": {"type": "auto"}},
        ],
    },
    "anthropic": {
        "max_tokens": 50, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
                  {"type": "code_execution_20250825", "name": "code_execution"}],
    },
    "gemini": {"contents": [{"parts": [{"text": "x"}]}], "tools": [{"googleSearch": {}}]},
}  # fmt: skip


def answering(dialect):
    frame = DIALECTS[dialect].frame

    async def script(peer: Peer) -> None:
        while True:
            asked = await peer.request()
            if b'"stream":true' in asked.body or b"stream" in asked.head:
                pieces = [chunk(frame(one)) for one in searched.stream(dialect)]
                await peer.send(SSE, *pieces, chunk(b""))
            else:
                body = json.dumps(searched.whole(dialect)).encode()
                await peer.send(whole(body=body, headers=b"content-type: application/json\r\n"))

    return script


def request(client, *, stream, **body):
    body = {"model": "m", "stream": stream, **body}
    return read_chat(json.dumps(body).encode()) if client == "openai_chat" else ask(client, body)


async def answered(found, asked):
    ear, call = Ear(), await found.call()
    await text.answer(found.gate, call, asked, ear)
    return await found.receipt(call.id)


async def priced(found, prices):
    await do(found.admin, "model.price", name="m", prices=prices)
    await found.gate.look_again()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", NAMES)
async def test_a_call_pays_for_what_tools_did_at_the_rates_of_its_tier(tmp_path, dialect, stream):
    async with till(tmp_path, answering(dialect), dialect=dialect) as found:
        await priced(found, PRICES)
        native = await answered(found, request(dialect, stream=stream, **BODIES[dialect]))
        assert native.charged == native.bill.sum == TOKENS[dialect] + FEES[dialect]
        assert native.bill.proved
        lines = {line.meter: line.quantity for line in native.bill.lines}
        mark = f"tier:{searched.TIERS[dialect]}"
        assert lines == {
            mark: 1, "input": searched.INPUT, "output": searched.OUTPUT, **searched.TOOLS[dialect],
        }  # fmt: skip
        # A client of another dialect cannot ask for the tools, and pays the same where they ran all the same.
        client = "anthropic" if dialect == "openai_chat" else "openai_chat"
        plain = {name: value for name, value in BODIES[client].items() if name in ("messages", "max_tokens")}
        other = await answered(found, request(client, stream=stream, **{"max_tokens": 20, **plain}))
        assert other.usage.meters == native.usage.meters
        assert other.bill.sum == native.bill.sum
        await found.check()


@pytest.mark.parametrize("dialect", NAMES)
async def test_a_tool_without_a_rate_is_refused_before_anything_is_held_or_sent(tmp_path, dialect):
    asked_upstream = []

    async def script(peer: Peer) -> None:
        asked_upstream.append(await peer.request())

    async with till(tmp_path, script, dialect=dialect) as found:
        with pytest.raises(GatewayError) as caught:
            await answered(found, request(dialect, stream=False, **BODIES[dialect]))
        assert (caught.value.code, caught.value.status) == ("unsupported_parameter", 400)
        assert "web_search" in caught.value.message
        assert asked_upstream == []
        await found.check()


FUNCTIONS = {
    "openai_chat": {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
    "openai_responses": {"type": "function", "name": "f", "parameters": {"type": "object"}},
    "anthropic": {"name": "f", "input_schema": {"type": "object"}},
    "gemini": {"functionDeclarations": [{"name": "f"}]},
}
OFFERED = {
    "openai_chat": {"type": "openrouter:web_search"},
    "openai_responses": {"type": "web_search"},
    "anthropic": {"type": "web_search_20250305", "name": "web_search"},
    "gemini": {"googleSearch": {}},
}
FORCED = {
    "openai_responses": {"type": "web_search"},
    "anthropic": {"type": "tool", "name": "web_search"},
}


@pytest.mark.parametrize("dialect", NAMES)
async def test_a_tool_without_a_rate_is_left_out_where_others_are_offered_beside_it(tmp_path, dialect):
    # As coding agents do in every request.
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(json.loads((await peer.request()).body))
        body = json.dumps(searched.whole(dialect)).encode()
        await peer.send(whole(body=body, headers=b"content-type: application/json\r\n"))

    plain = {
        name: value for name, value in BODIES[dialect].items() if name not in ("tools", "search_parameters")
    }
    async with till(tmp_path, script, dialect=dialect) as found:
        offered = request(
            dialect, stream=False, **plain, tools=[OFFERED[dialect], FUNCTIONS[dialect]], kept=1
        )
        shown = await answered(found, offered)
        assert (shown.outcome, seen[0]["tools"], seen[0]["kept"]) == ("ok", [FUNCTIONS[dialect]], 1)
        assert any("earch" in one for one in shown.attempts[0].dropped)
        # What is estimated for the same body is what was held for it.
        tools = [OFFERED[dialect], FUNCTIONS[dialect]]
        body = {"model": "m", "stream": False, **plain, "tools": tools, "kept": 1}
        if dialect == "anthropic":
            body["dialect"] = "messages"  # which without a system prompt looks like Chat
        call = await found.call()
        assert (await by_body(found.gate, call.key, body, call)).credits == shown.held
        await found.check()


@pytest.mark.parametrize("dialect", FORCED)
async def test_a_tool_without_a_rate_that_must_be_used_is_refused(tmp_path, dialect):
    plain = {name: value for name, value in BODIES[dialect].items() if name != "tools"}
    tools = [OFFERED[dialect], FUNCTIONS[dialect]]
    async with till(tmp_path, answering(dialect), dialect=dialect) as found:
        forced = request(dialect, stream=False, **plain, tools=tools, tool_choice=FORCED[dialect])
        with pytest.raises(GatewayError, match="web_search"):
            await answered(found, forced)


async def test_both_names_of_one_gemini_tool_are_told_apart(tmp_path):
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(json.loads((await peer.request()).body))
        await peer.send(
            whole(
                body=json.dumps(searched.whole("gemini")).encode(),
                headers=b"content-type: application/json\r\n",
            )
        )

    async with till(tmp_path, script, dialect="gemini") as found:
        tools = [{"googleSearch": {}, **FUNCTIONS["gemini"]}]
        await answered(
            found, request("gemini", stream=False, contents=BODIES["gemini"]["contents"], tools=tools)
        )
        assert seen[0]["tools"] == [FUNCTIONS["gemini"]]


async def test_a_tool_that_no_channel_will_run_costs_nothing_and_is_no_reason_to_refuse(tmp_path):
    # Codex offers its search whatever is behind; translation leaves it out and says so.
    async with till(tmp_path, answering("anthropic"), dialect="anthropic") as found:
        shown = await answered(found, request("openai_responses", stream=True, **BODIES["openai_responses"]))
        assert shown.outcome == "ok"
        assert any("web_search" in one for one in shown.attempts[0].dropped)


@pytest.mark.parametrize("dialect", ["openai_responses", "anthropic"])
async def test_who_leaves_after_a_search_pays_for_it(tmp_path, dialect):
    searching, go_on = asyncio.Event(), asyncio.Event()
    frame = DIALECTS[dialect].frame
    objects = searched.stream(dialect)
    # As far as the first words, which come after every tool has run.
    upto = next(at for at, one in enumerate(objects) if "Found it." in json.dumps(one.get("delta", "")))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE, *[chunk(frame(one)) for one in objects[: upto + 1]])
        searching.set()
        await go_on.wait()

    class Leaving(Ear):
        def write(self, chunk: bytes) -> None:
            super().write(chunk)
            if b"Found it." in self.body:
                task.cancel(text.CLIENT_GONE)

    async with till(tmp_path, script, dialect=dialect) as found:
        await priced(found, PRICES)
        call = await found.call()
        asked = request(dialect, stream=True, **BODIES[dialect])
        task = asyncio.create_task(text.answer(found.gate, call, asked, Leaving()))
        await searching.wait()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await found.check()
        shown = await found.receipt(call.id)
        assert (shown.outcome, shown.charged > FEES[dialect]) == ("cancelled", True)
        assert {name: shown.usage.meters[name] for name in searched.TOOLS[dialect]} == searched.TOOLS[dialect]
        assert shown.usage.output_tokens >= 3


async def test_a_tier_is_asked_for_by_a_price_and_billed_by_the_answer(tmp_path):
    async with till(tmp_path, answering("openai_chat")) as found:
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 50, "service_tier": "priority"}
        with pytest.raises(GatewayError) as caught:
            await answered(found, request("openai_chat", stream=False, **body))
        assert caught.value.param == "service_tier"
        await priced(
            found, {name: PRICES[name] for name in ("input", "output", "input:priority", "output:priority")}
        )
        shown = await answered(found, request("openai_chat", stream=False, **body))
        assert shown.charged == TOKENS["openai_chat"]


async def test_an_estimate_shows_what_tools_and_tiers_are_held_for(tmp_path):
    async with till(tmp_path, answering("openai_responses"), dialect="openai_responses") as found:
        await priced(found, PRICES)
        call = await found.call()
        tools = [{"type": "web_search"}, {"type": "file_search", "vector_store_ids": []}]
        body = {"model": "m", "input": "x", "max_output_tokens": 10, "max_tool_calls": 2, "tools": tools}
        shown = await by_body(found.gate, call.key, {**body, "service_tier": "priority"}, call)
        lines = {line.meter: (line.quantity, line.credits) for line in shown.lines}
        assert lines["output"] == (10, Decimal("0.008"))
        assert (lines["web_search"], lines["file_search"]) == ((2, Decimal(20)), (2, Decimal(5)))
        assert shown.credits == sum(amount for _, amount in lines.values())
        assert not shown.bounded and "tools are held for" in shown.rule
        counts = {"input": 30, "output": 8, "web_search": 2, "tier:priority": 1}
        exact = await by_body(found.gate, call.key, {"model": "m", "meters": counts}, call)
        # 30 x 200 + 8 x 800, by 10^6, and two searches
        assert exact.credits == Decimal("20.0124")
        with pytest.raises(GatewayError, match="tier:flex"):
            await by_body(found.gate, call.key, {"model": "m", "meters": {"tier:flex": 1}}, call)


def test_prices_are_shown_with_their_tiers():
    rates = {
        "input": 1_000_000_000, "input@200000": 2_000_000_000, "output": 4_000_000_000, "web_search": 10 * 10**12,
        "input:priority": 2_000_000_000, "input:priority@200000": 3_000_000_000, "output:priority": 8_000_000_000,
    }  # fmt: skip
    view = price_view(Price(version=3, rates=rates, created_at=0))
    assert view["rates"]["web_search"] == {"credits": 10, "usd": 0.01, "per": "1 web search"}
    assert [step["above_input_tokens"] for step in view["tiers"]] == [200_000]
    served = view["service_tiers"]["priority"]
    assert {name: one["credits"] for name, one in served["rates"].items()} == {"input": 2000, "output": 8000}
    assert served["tiers"][0]["rates"]["input"]["credits"] == 3000
    assert view["rates"]["input"]["credits"] == 1000
