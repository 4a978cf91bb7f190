"""Heads recognised from before: the same request as the parser would have found, and never another one."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.raw_http import connect, eventually
from tests.web.server.conftest import Sharing, running
from tests.web.server.probe import Probe

from tollway.web.head import read_head
from tollway.web.recall import MEMO, learn

HEAD = b"POST /echo?a=b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: %b\r\nX-B: 2\r\n\r\n"


def learnt(raw: bytes):
    """What is remembered of a head, read as the parser reads well-formed ones."""
    request_line, *lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, target, _ = request_line.split(b" ")
    headers = [
        (name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)
    ]
    head = read_head(method, "1.1", target, headers)
    return learn(raw, head, {"path": head.path, "headers": headers, "state": {}})


def test_a_head_comes_back_with_another_length():
    recall = learnt(HEAD % b"2" + b"{}")
    again = HEAD % b"345"
    assert recall.match(again + b"body") == (len(again), b"345")
    assert recall.scope(b"345") == {
        "path": "/echo",
        "headers": [(b"host", b"a"), (b"x-a", b"1"), (b"content-length", b"345"), (b"x-b", b"2")],
        "state": {},
    }


@pytest.mark.parametrize(
    "length", [b"", b"-1", b"+1", b"1 ", b" 1", b"1,2", b"1_0", b"0x1", b"1" * 10, b"\xb2"]
)
def test_a_length_that_is_not_plain_is_for_the_parser(length):
    assert learnt(HEAD % b"2").match(HEAD % length) is None


@given(
    st.binary(max_size=12), st.sampled_from([b"%d", b"0%d", b" %d", b"%d0", b"%d "]), st.binary(max_size=3)
)
def test_what_is_whole_is_what_would_be_matched(body, form, more):
    recall, digits = learnt(HEAD % b"2"), form % len(body)
    head = HEAD % digits
    found, whole = recall.match(head + body + more), recall.whole(head + body + more)
    if whole is None:
        assert found is None or more or digits != b"%d" % len(body)
    else:
        assert found is not None
        assert found == (len(head), digits)
        assert (int(digits), whole) == (len(body + more), body + more)


def test_no_other_head_is_taken_for_it():
    recall, head = learnt(HEAD % b"2"), HEAD % b"2"
    at_length = head.index(b"2\r\n")
    for at in range(len(head)):
        assert recall.match(head[:at]) is recall.whole(head[:at]) is None
        if at != at_length:
            other = head[:at] + bytes([head[at] ^ 1]) + head[at + 1 :] + b"{}"
            assert recall.match(other) is recall.whole(other) is None
        assert recall.match(head[:at] + b"x" + head[at:]) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", id="no length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2 \r\n\r\n", id="space after"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", id="expect"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nX: \n\r\nContent-Length: 2\r\n\r\n", id="bare line feed"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nX: \ry\r\nContent-Length: 2\r\n\r\n", id="bare return"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", id="no end"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nX: %b\r\nContent-Length: 2\r\n\r\n" % (b"x" * 3000), id="large"
        ),
    ],
)
def test_what_is_not_remembered(raw):
    assert learnt(raw) is None


def test_a_folded_line_or_one_too_many_is_not_remembered():
    headers = [(b"host", b"a"), (b"content-length", b"2")]
    head = read_head(b"POST", "1.1", b"/", headers)
    scope = {"path": "/", "headers": headers, "state": {}}
    assert learn(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", head, scope)
    assert learn(b"POST / HTTP/1.1\r\nHost:\r\n a\r\nContent-Length: 2\r\n\r\n", head, scope) is None
    assert learn(b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", head, scope) is None


def request(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


async def parsed_heads(server, raw, bodies: list[bytes]) -> int:
    """Send one request for each body; returns how many heads the parser saw."""
    connection, seen = None, []
    for body in bodies:
        await raw.send(request(b"/echo", body))
        assert (await raw.response()).body == body
        (connection,) = server.connections
        seen.append(connection.headers)
    return len({id(headers) for headers in seen})


async def test_the_parser_sees_a_repeated_head_once(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        assert await parsed_heads(server, raw, [b"{}", b"[]", b"x" * 500, b"", b"x" * 200_000, b"{}"]) == 1


async def test_below_a_small_limit_every_head_is_parsed(serving):
    async with serving(Probe(), head_max=1024) as server, connect(server.port) as raw:
        assert await parsed_heads(server, raw, [b"{}", b"{}", b"{}"]) == 3


async def test_nothing_a_handler_changes_reaches_the_next_request(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        for _ in range(3):
            await raw.send(request(b"/echo", b"{}"))
            await raw.response()
            scope = probe.scopes[-1]
            assert scope["headers"] == [(b"host", b"a"), (b"content-length", b"2")]
            assert scope["state"] == {}
            assert "left" not in scope
            scope["headers"].append((b"authorization", b"of another"))
            scope["state"]["left"] = scope["left"] = scope["extensions"]["left"] = 1
        assert all(
            one is probe.scopes[-1] or one["extensions"] != scope["extensions"] for one in probe.scopes
        )


async def test_what_was_made_of_a_head_is_kept_for_that_head_alone(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        for key in (b"a", b"a", b"b", b"b", b"a"):
            await raw.send(request(b"/echo?" + key, b"{}"))
            await raw.response()
            memo = probe.scopes[-1][MEMO]
            assert memo in ({}, {"of": key})
            memo["of"] = key
    found = [id(scope[MEMO]) for scope in probe.scopes]
    assert found[0] == found[1] and found[2] == found[3] and len(set(found)) == 3


async def test_a_recognised_request_meets_every_limit(serving):
    probe = Probe()
    async with serving(probe, body_max=100, calls_max=2) as server:
        async with connect(server.port) as raw:
            await raw.send(request(b"/v1/x", b"{}"))
            assert (await raw.response()).status == 200
            await raw.send(request(b"/v1/x", b"x" * 101))
            answer = await raw.response()
            assert (answer.status, answer.json()["error"]["type"]) == (413, "invalid_request_error")
            assert answer.header("connection") == "close"
            assert await raw.rest() == b""
        async with connect(server.port) as raw, connect(server.port) as one, connect(server.port) as two:
            await raw.send(request(b"/echo", b"{}"))
            await raw.response()
            for other in (one, two):
                await other.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually(lambda: server.shared.calls == 2)
            await raw.send(request(b"/echo", b"{}"))
            assert (await raw.response()).status == 503
            probe.release.set()


async def test_a_refusal_is_worded_for_its_own_request(serving):
    async with serving(Probe(), body_max=100) as server, connect(server.port) as raw:
        await raw.send(request(b"/v1/x", b"{}"))
        await raw.response()
        await raw.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        await raw.response()
        await raw.response()
        await raw.send(request(b"/v1/x", b"x" * 101))
        assert (await raw.response()).json()["error"]["type"] == "invalid_request_error"


async def test_a_recognised_request_is_the_last_of_a_drain(serving):
    async with serving(Probe(), accept_grace=5.0) as server, connect(server.port) as raw:
        await raw.send(request(b"/echo", b"{}"))
        assert (await raw.response()).header("connection") is None
        server.server.begin_drain()
        await eventually(lambda: server.shared.draining)
        await raw.send(request(b"/echo", b"{}"))
        answer = await raw.response()
        assert (answer.body, answer.header("connection")) == (b"{}", "close")
        assert await raw.rest() == b""
        server.server.begin_drain()


async def test_requests_may_follow_a_recognised_head_at_once(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(request(b"/echo", b"{}"))
        await raw.response()
        await raw.send(request(b"/echo", b"a") + request(b"/echo", b"bc") + request(b"/path/a", b""))
        assert [(await raw.response()).body for _ in range(3)] == [b"a", b"bc", b"/path/a"]


async def test_the_rest_of_a_recognised_body_may_come_later_and_be_followed(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(request(b"/echo", b"{}"))
        await raw.response()
        (connection,) = server.connections
        head = request(b"/echo", b"x" * 6)[:-6]
        await raw.send(head)
        await eventually(lambda: len(probe.begun) == 2)
        assert connection.incoming is not None
        await raw.send(b"abc")
        await eventually(lambda: connection.incoming.body.received == 3)
        await raw.send(b"def" + request(b"/path/a", b"1") + request(b"/path/b", b"2"))
        assert [(await raw.response()).body for _ in range(3)] == [b"abcdef", b"/path/a", b"/path/b"]


async def test_a_client_that_leaves_within_a_recognised_body_cancels_its_handler(serving):
    probe = Probe()
    async with serving(probe) as server:
        async with connect(server.port) as raw:
            await raw.send(request(b"/echo", b"{}"))
            await raw.response()
            await raw.send(request(b"/echo", b"x" * 6)[:-3])
            await eventually(lambda: len(probe.begun) == 2)
        await eventually(lambda: not server.tasks)
        assert probe.ended[-1][1] in ("client gone", "ClientGone")


async def test_a_slow_rest_of_a_recognised_body_is_timed_out(serving):
    async with serving(Probe(), body_timeout=0.05) as server, connect(server.port) as raw:
        await raw.send(request(b"/echo", b"{}"))
        await raw.response()
        await raw.send(request(b"/echo", b"x" * 6)[:-3])
        assert (await raw.response()).status == 408


HEADS = [
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\ncontent-length:%d\r\nAccept: */*\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nCONTENT-LENGTH: \t%d\r\n\r\n",
    b"POST /echo?content-length:%%20 HTTP/1.1\r\nHost: a\r\nContent-Length: 0%d\r\n\r\n",
    b"\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
    b"POST http://a/echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nX-Content-Length: 1\r\nContent-Length: %d\r\n\r\n",
]
BODIES = [
    b"",
    b"{}",
    b"\r\n\r\n",
    b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"x" * 1000,
]


@st.composite
def conversations(draw):
    """Requests in an order that repeats heads, and where the bytes of all of them are cut."""
    heads = draw(st.lists(st.sampled_from(HEADS), min_size=1, max_size=2))
    pairs = draw(st.lists(st.tuples(st.sampled_from(heads), st.sampled_from(BODIES)), min_size=2, max_size=6))
    whole = [head % len(body) + body for head, body in pairs]
    size = sum(map(len, whole))
    ends = [sum(map(len, whole[: at + 1])) for at in range(len(whole))]
    extra = draw(st.lists(st.integers(0, size), max_size=3))
    cuts = sorted({0, *(end for end in ends if draw(st.booleans())), *extra, size})
    return [body for _, body in pairs], whole, cuts


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as found:
        yield found


@pytest.fixture(scope="module")
def probe():
    return Probe()


@pytest.fixture(scope="module", params=[lambda app: app, Sharing], ids=["asgi", "sharing"])
def server(request, runner, probe):
    context = running(request.param(probe))
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations())
def test_one_connection_reads_what_a_connection_for_each_request_reads(runner, server, probe, conversation):
    runner.run(_compare(server, probe, *conversation))


async def _compare(server, probe: Probe, bodies: list[bytes], whole: list[bytes], cuts: list[int]) -> None:
    probe.scopes.clear()
    data = b"".join(whole)
    async with connect(server.port) as raw:
        for start, end in zip(cuts, cuts[1:], strict=False):
            await raw.send(data[start:end])
            await asyncio.sleep(0)  # Lets the server, which is on this loop, see the piece by itself.
        assert [(await raw.response()).body for _ in bodies] == bodies
    # Who shares scopes does not look at the length in them.
    lengths = not isinstance(server.server.config.app, Sharing)
    together = [_plain(scope, lengths) for scope in probe.scopes]
    probe.scopes.clear()
    for one, body in zip(whole, bodies, strict=True):
        async with connect(server.port) as raw:
            await raw.send(one)
            assert (await raw.response()).body == body
    assert together == [_plain(scope, lengths) for scope in probe.scopes]


def _plain(scope: dict, lengths: bool) -> dict:
    headers = [pair for pair in scope["headers"] if lengths or pair[0] != b"content-length"]
    plain = {name: value for name, value in scope.items() if name not in ("client", "extensions")}
    return {**plain, "headers": headers}
