"""The load generator: it counts every answer, and takes no wrong one for a right one."""

import asyncio
import json

import pytest
from bench.load import Load, Shape, Target, check_stream, check_whole, prepare, wrong_text

from bench import load as bench_load
from bench import upstream

PATH = "/v1/chat/completions"
RIGHT = upstream.whole_answer()
WHOLE = Shape()


@pytest.fixture
async def real():
    state = upstream.Upstream(chunks=7)
    server, port = await upstream.listen(state)
    yield state, Target(port, PATH, "bench")
    server.close()


@pytest.fixture
async def scripted():
    """A server that answers every request with the same bytes, and hangs up where told to."""
    servers = []

    async def start(answer: bytes, *, hang_up: bool = False) -> Target:
        async def handle(reader, writer):
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    at = head.index(b"Content-Length: ") + 16
                    await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
                    writer.write(answer)
                    if hang_up:
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(handle, "127.0.0.1", 0))
        return Target(servers[-1].sockets[0].getsockname()[1], PATH, "bench")

    yield start
    for server in servers:
        server.close()


async def run(
    target: Target, shape: Shape = WHOLE, connections: int = 3, requests: int = 20, seconds: float = 20
):
    load = Load(target, shape, connections)
    try:
        return await load.run(requests, seconds)
    finally:
        await load.close()


@pytest.mark.parametrize(("connections", "requests"), [(1, 1), (1, 9), (4, 50), (8, 3)])
@pytest.mark.parametrize("chunks", [0, 7])
async def test_it_sends_exactly_as_many_as_it_was_told(real, connections, requests, chunks):
    state, target = real
    outcome = await run(target, Shape(chunks=chunks), connections, requests)
    assert outcome.wrong.total() == 0, outcome.wrong
    assert (outcome.requests, state.completions) == (requests, requests)
    assert len(outcome.latencies) == len(outcome.firsts) == requests
    assert all(0 < first <= whole for first, whole in zip(outcome.firsts, outcome.latencies, strict=True))
    assert outcome.frames == (requests * (7 + 3 + 1) if chunks else 0)


async def test_runs_follow_each_other_on_the_same_connections(real):
    state, target = real
    load = Load(target, Shape(), 2)
    first = await load.run(4, 20)
    second = await load.run(6, 20)
    await load.close()
    assert (first.requests, second.requests, state.completions) == (4, 6, 10)
    assert second.reconnects == 0


async def test_it_stops_sending_when_its_time_is_over(real):
    _, target = real
    outcome = await run(target, requests=10_000_000, seconds=0.05)
    assert 0 < outcome.requests < 10_000_000
    assert outcome.wrong.total() == 0


@pytest.mark.parametrize("hang_up", [True, False])
async def test_a_server_that_hangs_up_after_each_answer_is_met_again(scripted, hang_up):
    answer = RIGHT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) if hang_up else RIGHT
    target = await scripted(answer, hang_up=hang_up)
    outcome = await run(target)
    assert outcome.wrong.total() == 0, outcome.wrong
    assert outcome.requests == 20
    assert (outcome.reconnects > 0) is hang_up


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (upstream.response(b"500 Oops", b"{}"), "status 500: {}"),
        (upstream.response(b"200 OK", b"<html>"), "not a chat completion"),
        (RIGHT.replace(upstream.WORD.encode(), b"gravel", 1), "another text"),
        (RIGHT.replace(b'"completion_tokens":80', b'"completion_tokens":81'), "another usage"),
        (RIGHT.replace(b'"model":"bench"', b'"model":"bunch"'), "another model: bunch"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "broken framing"),
    ],
)
async def test_every_wrong_answer_is_counted(scripted, answer, problem):
    outcome = await run(await scripted(answer))
    assert outcome.requests == outcome.wrong.total() == 20
    assert all(text.startswith(problem) for text in outcome.wrong)


async def test_a_truncated_answer_is_wrong(scripted):
    outcome = await run(await scripted(RIGHT[:-5], hang_up=True))
    assert dict(outcome.wrong) == {"the connection closed before the answer was complete": 20}


async def test_a_server_that_is_not_there_is_an_error():
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError, match="onnect"):
        await run(Target(port, PATH, "bench"))


def body_of(pieces: list[bytes]) -> bytes:
    raw = b"".join(pieces).split(b"\r\n\r\n", 1)[1]
    found = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        found, raw = found + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return found


STREAM = body_of(upstream.stream_pieces(4, with_usage=True))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (STREAM, None),
        (STREAM.replace(b"data: [DONE]\n\n", b""), "no [DONE] at the end of a stream"),
        (STREAM + b"data: {}\n\n", "no [DONE] at the end of a stream"),
        (STREAM.replace(b" tarmac", b"", 1), "3 content chunks instead of 4"),
        (STREAM.replace(b'"stop"', b'"length"'), "not one finish_reason in a stream"),
        (body_of(upstream.stream_pieces(4, with_usage=False)), "not one usage in a stream"),
        (STREAM.replace(b'"bench"', b'"other"'), "another model in a stream"),
    ],
)
def test_a_stream_is_right_only_whole(body, problem):
    assert check_stream("bench", 4)(body) == problem


def test_fields_a_gateway_adds_are_no_fault():
    value = json.loads(RIGHT.split(b"\r\n\r\n", 1)[1])
    value["usage"]["cost"] = 1.25
    value["provider"] = "bench"
    assert check_whole("bench")(json.dumps(value).encode()) is None


@pytest.mark.parametrize("size", [300, 10_240, 102_400])
@pytest.mark.parametrize("chunks", [0, 500])
def test_a_request_has_the_size_it_was_told(size, chunks):
    prepared = prepare(Target(80, PATH, "bench", {"Authorization": "Bearer k"}), Shape(size, chunks))
    head, _, body = prepared.partition(b"\r\n\r\n")
    value = json.loads(body)
    assert len(body) == size
    assert f"Content-Length: {size}".encode() in head
    assert b"Authorization: Bearer k" in head
    assert value.get("stream", False) is bool(chunks)
    assert value["max_tokens"] >= chunks


def test_the_most_frequent_wrong_answer_is_told_first():
    assert wrong_text({"a": 1, "b": 3}) == "3 x b; 1 x a"
    assert bench_load.wrong_text({}) == ""
