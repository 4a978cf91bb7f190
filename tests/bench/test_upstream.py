"""The fake upstream: what it answers, how it frames it, and that it counts what it was asked."""

import asyncio
import json

import pytest
from bench.upstream import Upstream

from bench import upstream

STREAM = {"model": "bench", "stream": True, "messages": []}


@pytest.fixture
async def served():
    state = Upstream(chunks=5)
    server, port = await upstream.listen(state)
    yield state, port
    server.close()


def request(body: bytes, path: str = "/v1/chat/completions", method: str = "POST", extra: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read_whole(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head, await reader.readexactly(length)


async def read_chunks(reader: asyncio.StreamReader) -> list[bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    found = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found.append((await reader.readexactly(size + 2))[:-2])
    assert await reader.readexactly(2) == b"\r\n"
    return found


async def test_a_whole_answer_is_a_chat_completion_of_about_600_bytes(served):
    state, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in (b'{"model":"bench"}', b'{"model":"bench","stream":false}'):
        writer.write(request(body))
        head, answer = await read_whole(reader)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert 500 < len(answer) < 700
        value = json.loads(answer)
        assert value["choices"][0]["message"]["content"] == upstream.TEXT
        assert value["usage"] == upstream.usage(upstream.COMPLETION_TOKENS)
    assert state.completions == 2
    writer.close()


@pytest.mark.parametrize(
    ("options", "events"), [({}, 7), ({"include_usage": False}, 7), ({"include_usage": True}, 8)]
)
@pytest.mark.parametrize("gap", [0.0, 0.001])
async def test_a_stream_is_one_http_chunk_per_event(served, options, events, gap):
    state, port = served
    state.pace(5, gap)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(json.dumps({**STREAM, "stream_options": options}).encode()))
    chunks = await read_chunks(reader)
    assert len(chunks) == events
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in chunks)
    assert chunks[-1] == b"data: [DONE]\n\n"
    values = [json.loads(chunk[6:]) for chunk in chunks[:-1]]
    assert sum(upstream.WORD in chunk.decode() for chunk in chunks) == 5
    assert [value["choices"][0]["finish_reason"] for value in values if value["choices"]] == [None] * 5 + [
        "stop"
    ]
    counts = [value["usage"] for value in values if value.get("usage")]
    assert counts == ([upstream.usage(5)] if options.get("include_usage") else [])
    assert 120 < len(chunks[1]) < 220
    writer.close()


async def test_requests_split_anywhere_and_chunked_bodies_are_understood(served):
    _, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(6, 1, 1)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = head + b'9\r\n{"model":\r\n8\r\n"bench"}\r\n0\r\n\r\n'
    for at in range(0, len(whole), 7):
        writer.write(whole[at : at + 7])
        await writer.drain()
        await asyncio.sleep(0)
    _, answer = await read_whole(reader)
    assert json.loads(answer)["object"] == "chat.completion"
    writer.close()


async def test_models_control_and_unknown_paths(served):
    state, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(b"", "/v1/models", "GET"))
    _, answer = await read_whole(reader)
    assert [one["id"] for one in json.loads(answer)["data"]] == ["bench"]
    writer.write(request(b'{"chunks":9,"gap":0.5}', "/bench"))
    _, answer = await read_whole(reader)
    assert json.loads(answer) == {"completions": 0, "streams": 0}
    assert (len(state.stream), state.gap) == (11, 0.5)
    writer.write(request(b"", "/nothing", "GET"))
    head, _ = await read_whole(reader)
    assert head.startswith(b"HTTP/1.1 404 ")
    writer.close()


@pytest.mark.parametrize("body", [b'{"model":"bench"}', json.dumps(STREAM).encode()])
async def test_connection_close_is_obeyed(served, body):
    _, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(body, extra="Connection: close\r\n"))
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_client_that_leaves_stops_its_stream(served):
    state, port = served
    state.pace(5_000, 30.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(json.dumps(STREAM).encode()))
    await reader.readuntil(b"\n\n")
    assert state.streams == 1
    writer.transport.abort()
    async with asyncio.timeout(10):
        while state.streams:
            await asyncio.sleep(0)


@pytest.mark.parametrize(("chunks", "gap"), [(0, 0.0), (1, -1.0)])
def test_an_impossible_pace_is_refused(chunks, gap):
    with pytest.raises(ValueError, match="at least one chunk"):
        Upstream(chunks, gap)
