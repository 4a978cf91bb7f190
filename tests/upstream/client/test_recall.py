"""Answers whose head is recognised by its bytes are what the parser would have read, and nothing else is recognised."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.servers import whole
from tests.support.wires import begin, begun, hear

from tollway.upstream.recall import Heads

FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OK = b"HTTP/1.1 200 OK\r\n"


def answer(*lines: bytes, body: bytes = b"abc", start: bytes = OK) -> bytes:
    return (
        start + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body
    )


async def taught(*answers: bytes) -> Heads:
    heads = Heads()
    for one in answers:
        assert (await hear([one], heads=heads)).fault is None
    return heads


names = st.sampled_from(
    [
        b"x",
        b"X",
        b"date",
        b"Content-Type",
        b"set-cookie",
        b"content-length",
        b"connection",
        b"content-encoding",
    ]
    + [b"transfer-encoding", b"upgrade", b"keep-alive", b"server"]
)
values = st.one_of(
    st.sampled_from(
        [
            b"",
            b"a",
            b" b",
            b"c \t",
            b"\td",
            b"e\x7f",
            b"f\x01",
            b"keep-alive",
            b"close",
            b"gzip",
            b"identity",
            b"chunked",
            b"3",
            b"03",
            b"5",
        ]
    ),
    st.binary(max_size=6),
)
lengths = st.sampled_from([b"%d", b"%d", b"%d", b" %d", b"%d ", b"0%d", b"+%d", b"%d, %d"])


@st.composite
def series(draw):
    """Answers of one server: mostly the same lines with some other values, now and then something else."""
    usual = draw(st.lists(st.tuples(names, values), max_size=4))
    varying = draw(st.integers(0, 15))
    found = []
    for _ in range(draw(st.integers(2, 9))):
        lines = [
            (name, draw(values) if varying >> at & 1 and draw(st.booleans()) else value)
            for at, (name, value) in enumerate(usual)
        ]
        body = draw(st.sampled_from([b"", b"a", b"abc", b"abc\r\n\r\n", b"x" * 40]))
        length = (b"%d" if draw(st.booleans()) else draw(lengths)).replace(b"%d", b"%d" % len(body))
        head = b"".join(b"%b: %b\r\n" % line for line in lines)
        raw = b"HTTP/1.1 200 OK\r\n" + head + b"content-length: " + length + b"\r\n\r\n" + body
        match draw(st.integers(0, 9)):
            case 0:
                raw += draw(st.sampled_from([b"\r\n", b"x", OK]))
            case 1:
                at = draw(st.integers(0, len(raw) - 1))
                raw = raw[:at] + draw(st.binary(max_size=2)) + raw[at + 1 :]
            case 2:
                raw = raw[: draw(st.integers(0, len(raw)))]
        found.append(raw)
    return found


@settings(FAST, max_examples=500)
@given(series())
async def test_what_was_learnt_changes_nothing(answers):
    heads = Heads()
    for raw in answers:
        pieces = [raw] if raw else []
        assert await hear(pieces, heads=heads) == await hear(pieces)


async def test_a_head_is_recognised_but_for_its_length_its_date_and_what_was_seen_to_vary():
    lines = b"X-Request-ID:\t%d", b"Date: %d", b"server: %b"
    first, second, third = (answer(lines[0] % i, lines[1] % i, lines[2] % b"s") for i in range(3))
    heads = await taught(first)
    assert heads.known.body(first) == b"abc"
    assert heads.known.body(answer(lines[0] % 0, b"Date: 7", b"server: s", body=b"defg")) == b"defg"
    assert heads.known.body(second) is None
    heads = await taught(first, second, third)
    raw = answer(b"X-Request-ID:\t4\xe9 5", b"Date: 7", b"server: s", body=b"defg")
    assert heads.known.body(raw) == b"defg"
    assert heads.known.body(raw.replace(b"server: s", b"server: t")) is None
    heard = await hear([raw], heads=heads)
    assert heard == await hear([raw])
    assert heard.headers[0] == (b"x-request-id", b"4\xe9 5")


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"a: b")[:-1],
        answer(b"a: b") + b"\r\n",
        answer(b"a: b", body=b""),
        answer(b"a: b").replace(b": 3", b": 03"),
        answer(b"a: b").replace(b": 3", b":  3"),
        answer(b"a: c"),
        answer(b"A: b"),
        answer(b"a: b", b"c: d"),
        answer(b"a: b", b"date: x"),
        answer(b"a: b", start=b"HTTP/1.1 201 OK\r\n"),
        answer(b"a: b", start=b"HTTP/1.0 200 OK\r\n"),
        b"\r\n" + answer(b"a: b"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"a: b"),
    ],
)
async def test_whatever_differs_goes_to_the_parser(raw):
    heads = await taught(answer(b"a: b"))
    assert heads.known.body(answer(b"a: b")) == b"abc"
    assert heads.known.body(raw) is None
    assert await hear([raw], heads=heads) == await hear([raw])


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"connection: close"),
        answer(body=b""),
        answer(start=b"HTTP/1.0 200 OK\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        whole(404, b"abc"),
        answer(b"a: " + b"b" * 5000),
    ],
)
async def test_these_heads_are_not_learnt(raw):
    heads = await taught(raw)
    assert heads.known is None or heads.known.body(raw) is None


@pytest.mark.parametrize("name", [b"connection", b"Upgrade", b"content-encoding"])
async def test_a_header_that_says_how_to_go_on_never_varies(name):
    first, second = answer(name + b": identity"), answer(name + b": Identity")
    heads = await taught(first, second, second, second)
    assert heads.known.varying == {b"content-length", b"date"}


async def test_the_answer_to_head_is_not_recognised():
    raw = answer()
    heads = await taught(raw)
    assert (await hear([raw], method="HEAD", heads=heads)) == (await hear([raw], method="HEAD"))


async def test_a_head_in_two_segments_is_not_recognised_by_its_second():
    heads = await taught(answer())
    pieces = [b"HTTP/1.1 100 Continue\r\n\r\n", answer()]
    assert await hear(pieces, heads=heads) == await hear([answer()])
    pieces = [b"HTTP/1.1 200 OK\r\nx: ", answer()]
    assert (await hear(pieces, heads=heads)).headers == [
        (b"x", b"HTTP/1.1 200 OK"),
        (b"content-length", b"3"),
    ]


async def test_recognised_and_parsed_answers_follow_each_other_on_one_connection():
    chunked = OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with begun() as (connection, response, home):
        for number, raw in enumerate([answer(), answer(), chunked, answer(), answer(b"a: b"), answer()]):
            response = begin(connection) if number else response
            connection.data_received(raw)
            assert response.status == 200
            assert await response.read_all(10) == b"abc"
            response.close()
            assert home.said == ["released"] * (number + 1)
