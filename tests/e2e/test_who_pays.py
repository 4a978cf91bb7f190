"""Who pays when something breaks: each row of the published table, by receipts, in every dialect."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.support import cells, raw_http
from tests.support.cells import CLIENTS, UPSTREAMS, ask, body_of, model_for, path_of
from tests.support.gateway import running, wait_for

CELLS = pytest.mark.parametrize(
    ("client", "behind"), [(client, behind) for client in CLIENTS for behind in UPSTREAMS]
)
EXTRA = ("slow-20", "hang", "html", "empty-choice", "bad-usage", "rst", "stall", "slow-5-60")


@pytest.fixture(scope="module")
def shop(tmp_path_factory, upstream):
    """A gateway whose channels have every way of going wrong, one of each dialect."""
    with running(tmp_path_factory.mktemp("shop") / "data") as found:
        found.cli("credits", "grant", "1000000")
        for name in UPSTREAMS:
            cells.connect(found, name, upstream.url, *EXTRA)
        yield found


def receipt(gateway, headers):
    return gateway.get(f"/v1/generations/{headers['x-request-id']}")[2]


def balance(gateway):
    return gateway.cli("credits", "balance")["available"]


def raw_request(gateway, client, behind, name, *, stream=True):
    model = model_for(behind, name)
    body = json.dumps(body_of(client, model, stream=stream)).encode()
    head = (
        f"POST {path_of(client, model, stream=stream)} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {gateway.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def receipt_of(gateway, request_id):
    def look():
        status, _, body = gateway.get(f"/v1/generations/{request_id}")
        return body if status == 200 else None

    return await asyncio.to_thread(wait_for, look)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("model", "more", "status"), [("nobody", {}, (404, 400)), ("chat", {"tools": 5}, (400,))]
)
def test_what_is_refused_before_it_is_sent_costs_nothing(shop, client, model, more, status):
    before = balance(shop)
    found, headers, _ = ask(shop, client, "openai_chat", model, **more)
    assert found in status
    assert shop.get(f"/v1/generations/{headers['x-request-id']}")[0] == 404
    assert balance(shop) == before


@CELLS
@pytest.mark.parametrize("name", ["500", "rst", "html", "empty-choice"])
def test_what_fails_before_its_first_word_costs_nothing(shop, client, behind, name):
    status, headers, _ = ask(shop, client, behind, name, stream=True)
    assert status == 502
    found = receipt(shop, headers)
    assert (found["outcome"], found["net"], found["charged"]) == ("failed", 0, 0)
    assert found["attempts"]


@CELLS
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_cannot_be_believed_never_costs_more_than_was_held(shop, client, behind, stream):
    status, headers, _ = ask(shop, client, behind, "bad-usage", stream=stream)
    assert status == 200
    found = receipt(shop, headers)
    assert found["outcome"] == "ok"
    assert 0 < found["net"] <= found["held"]


@CELLS
async def test_who_leaves_mid_stream_pays_for_what_was_generated(shop, upstream, client, behind):
    before = upstream.stats()["cancelled"]
    async with raw_http.connect(shop.port) as raw:
        await raw.send(raw_request(shop, client, behind, "slow-20"))
        _, headers = await raw.head()
        for _ in range(8):
            await raw.chunk()
        raw.close()
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["cancelled"] > before)
    found = await receipt_of(shop, dict(headers)["x-request-id"])
    assert found["outcome"] == "cancelled"
    assert "client_cancelled" in found["flags"]
    assert 1 <= found["usage"]["output_tokens"] <= 60
    assert 0 < found["net"] < found["held"]


@CELLS
async def test_who_leaves_before_any_answer_pays_nothing(shop, upstream, client, behind):
    stats = upstream.stats()
    before = balance(shop)
    async with raw_http.connect(shop.port) as raw:
        await raw.send(raw_request(shop, client, behind, "hang"))
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["requests"] > stats["requests"])
        raw.close()
        await asyncio.to_thread(wait_for, lambda: upstream.stats()["cancelled"] > stats["cancelled"])
    await asyncio.to_thread(wait_for, lambda: shop.cli("credits", "balance")["held"] == 0)
    assert balance(shop) == before


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_upstream_that_bills_after_a_cancel_is_read_to_its_end(shop, upstream, client):
    shop.cli("channel", "set", "to-anthropic", "--option", "bills_after_cancel=1")
    try:
        before = upstream.stats()["cancelled"]
        async with raw_http.connect(shop.port) as raw:
            await raw.send(raw_request(shop, client, "anthropic", "slow-5-60"))
            _, headers = await raw.head()
            await raw.chunk()
            raw.close()
            found = await receipt_of(shop, dict(headers)["x-request-id"])
        assert found["outcome"] == "cancelled"
        assert {"client_cancelled", "drained"} <= set(found["flags"])
        assert "estimated" not in found["flags"]
        assert found["usage"]["output_tokens"] == 60
        assert upstream.stats()["cancelled"] == before
    finally:
        shop.cli("channel", "set", "to-anthropic", "--option", "bills_after_cancel=")
