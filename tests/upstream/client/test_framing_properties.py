"""Any valid response, in any framing and any segments, is read as what was meant; a damaged one never succeeds."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.wires import hear

FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(
    lambda one: f"x-{one}".encode()
)
values = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20
).map(lambda one: one.encode("latin-1"))
headers = st.lists(st.tuples(names, values), max_size=8)
statuses = st.integers(200, 599).filter(lambda one: one not in (204, 304))
bodies = st.binary(max_size=400)
framings = st.sampled_from(["length", "chunked", "close"])


@st.composite
def responses(draw):
    """(status, headers, body, framing, bytes)."""
    status, body, framing, extra = draw(statuses), draw(bodies), draw(framings), draw(headers)
    told = list(extra)
    if framing == "length":
        told.insert(draw(st.integers(0, len(told))), (b"content-length", b"%d" % len(body)))
        payload = body
    elif framing == "chunked":
        told.insert(draw(st.integers(0, len(told))), (b"transfer-encoding", b"chunked"))
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        extension = draw(st.sampled_from([b"", b";a", b";a=b"]))
        payload = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part)
        payload += b"0\r\n" + draw(st.sampled_from([b"", b"x-t: v\r\n"])) + b"\r\n"
    else:
        payload = body
    before = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nlink: x\r\n\r\n"])
    )
    head = b"".join(b"%b: %b\r\n" % one for one in told)
    return status, told, body, framing, before + b"HTTP/1.1 %d R\r\n%b\r\n" % (status, head) + payload


@st.composite
def segmented(draw, data):
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12)))
    return [part for part in (data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)) if part]


@FAST
@given(st.data())
async def test_any_response_in_any_segments(data):
    status, told, body, framing, raw = data.draw(responses())
    heard = await hear(data.draw(segmented(raw)))
    assert heard == (status, told, body, None, framing != "close")


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
heads = st.sampled_from(
    [CHUNKED, CHUNKED, b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
chunks = st.binary(max_size=40).map(lambda one: b"%x\r\n%b\r\n" % (len(one), one) if one else b"")
oddities = st.one_of(
    st.sampled_from([b"1", b"1;", b"0\r\n", b"\r\n", b"3\r\n", b"a\r\n", b"0\r\nx: y\r\n\r\n"]),
    st.sampled_from([b"05\r\nhello\r\n", b"A\r\n0123456789\r\n", b"5\r\n1\r\na\r\n\r\n", b"1\r\n\r\n\r\n"]),
    st.sampled_from(
        [b"3;x\r\nabc\r\n", b"+3\r\nabc\r\n", b"3 \r\nabc\r\n", b"0x3\r\nabc\r\n", b"1_0\r\n" + b"b" * 16]
    ),
    st.sampled_from([b"3\nabc\n", b"3\r\nabcd\r\n", b"3\r\nabc\n\n", b"3\r\nabc\n\r", b"4\r\n\r\n\r\n"]),
    st.binary(max_size=8),
)


@st.composite
def arrivals(draw):
    """Segments of a chunked stream: most hold one chunk, some several, a part of one, or what is none."""
    segments = [draw(heads) + draw(chunks)]
    for _ in range(draw(st.integers(0, 8))):
        segment = draw(chunks) + (draw(oddities) if draw(st.booleans()) else b"")
        at = draw(st.integers(0, len(segment))) if draw(st.integers(0, 3)) == 0 else 0
        segments += [segment[:at], segment[at:]]
    return [segment for segment in (*segments, draw(st.sampled_from([b"0\r\n\r\n", b""]))) if segment]


@settings(FAST, max_examples=600)
@given(arrivals())
async def test_what_is_handed_over_at_once_is_what_the_parser_reads(segments):
    """A segment that is one chunk is not shown to the parser while its reader pumps; nobody can tell."""
    assert await hear(segments, pumped=True) == await hear(segments)


@FAST
@given(st.data())
async def test_any_response_can_be_pumped(data):
    _, _, _, _, raw = data.draw(responses())
    segments = data.draw(segmented(raw))
    assert await hear(segments, pumped=True) == await hear(segments)


@FAST
@given(st.data())
async def test_any_cut_is_told(data):
    _, _, body, framing, raw = data.draw(responses())
    at = data.draw(st.integers(0, len(raw) - 1))
    heard = await hear(data.draw(segmented(raw[:at])) if at else [])
    if framing == "close" and raw[:at].endswith(body[: len(heard.body)]) and heard.fault is None:
        # A body that the connection's end delimits cannot tell; its reader must know its own end.
        assert b"\r\n\r\n" in raw[:at]
    else:
        assert heard.fault == ("truncated" if at else "reset")
    assert body.startswith(heard.body)


@FAST
@given(st.data())
async def test_any_damage_ends_bounded_and_never_claims_a_full_length(data):
    _, _, _, _, raw = data.draw(responses())
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                damaged[at] = data.draw(st.integers(0, 255))
            case 1:
                del damaged[at]
            case _:
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not damaged:
            break
    heard = await hear(data.draw(segmented(bytes(damaged))) if damaged else [])
    assert heard.fault in (None, "protocol", "truncated", "reset", "too_large")
    if heard.fault is None:
        lengths = [int(value) for name, value in heard.headers if name == b"content-length"]
        assert not lengths or heard.status in (204, 304) or lengths == [len(heard.body)]


@FAST
@given(st.binary(max_size=300))
async def test_noise_is_never_a_success(noise):
    heard = await hear([noise] if noise else [])
    assert heard.fault in ("protocol", "truncated", "reset")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
async def test_many_tiny_chunks_are_one_body(size):
    body = bytes(range(256)) * 40
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    raw = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    for segments in ([head + raw], [head, *(raw[at : at + 1111] for at in range(0, len(raw), 1111))]):
        assert (await hear(segments)).body == body
