"""Bad input over real sockets: refused in the caller's envelope, with no upstream call, no hold and no harm.

The names are those of the list of cases the project promises to refuse.
"""

import asyncio
import contextlib
import json
import zlib

import pytest
from tests.support import raw_http

from tollway.flows.admin.control_client import ControlClient

HELLO = [{"role": "user", "content": "hello"}]
FINE = {"model": "up-chat", "messages": HELLO}


def body(**fields):
    return json.dumps({**FINE, **fields}).encode()


def user(content):
    return body(messages=[{"role": "user", "content": content}])


LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
TOOL = {"type": "function", "function": {"name": "f"}}

BODIES = {
    "B01 empty": b"",
    "B02 not JSON": b"hello",
    "B03 truncated": body()[:-1],
    "B04 array": b"[]",
    "B04 null": b"null",
    "B04 string": b'"x"',
    "B04 number": b"5",
    "B05 NaN": b'{"model":"up-chat","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "B05 infinity": b'{"model":"up-chat","messages":[{"role":"user","content":"x"}],"temperature":-Infinity}',
    "B06 1e400": b'{"model":"up-chat","messages":[{"role":"user","content":"x"}],"temperature":1e400}',
    "B07 2^64": body(max_tokens=2**64),
    "B07 30 digits": body(max_tokens=10**29),
    "B07 5,000 digits": body()[:-1] + b',"max_tokens":' + b"9" * 5000 + b"}",
    "B07 a million digits": body()[:-1] + b',"seed":' + b"9" * 1_000_000 + b"}",
    **{f"B08 max_tokens {value!r}": body(max_tokens=value) for value in (-5, 0, 1e30, "abc", 1.5, True)},
    **{f"B09 n {value!r}": body(n=value) for value in (0, -1, 10**9)},
    "B10 duplicate key": b'{"model":"up-chat","model":"up-chat","messages":[{"role":"user","content":"x"}]}',
    "B10 escaped twin": b'{"model":"up-chat","stream":false,"\\u0073tream":true,"messages":[{"role":"user","content":"x"}]}',
    "B11 depth 65": body()[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}",
    "B11 depth 1,000": body()[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "B11 depth 100,000": body()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "B11 a million unclosed": b'{"a":' + b"[" * 1_000_000,
    "B12 a million keys": b"{" + b",".join(b'"k%d":1' % index for index in range(1_000_000)) + b"}",
    "B13 lone high surrogate": body()[:-1] + b',"x":"\\ud800"}',
    "B13 lone low surrogate": body()[:-1] + b',"x":"\\udc00"}',
    "B14 invalid UTF-8": body()[:-1] + b',"x":"\xff"}',
    "B14 overlong": body()[:-1] + b',"x":"\xc0\xaf"}',
    "B14 CESU": body()[:-1] + b',"x":"\xed\xa0\x80"}',
    "B15 UTF-16": body().decode().encode("utf-16"),
    "B15 BOM": b"\xef\xbb\xbf" + body(),
    "B16 control character": body()[:-1] + b',"x":"\x01"}',
    **{
        f"B17 model {str(value)[:12]!r}": body(model=value)
        for value in (None, [], {}, "m" * 1_000_000, "up-chat\r\nx: y")
    },
    "B18 messages missing": b'{"model":"up-chat"}',
    **{f"B18 messages {value!r}": body(messages=value) for value in (None, [], [None], [1], "hello")},
    "B19 role 5": body(messages=[{"role": 5, "content": "x"}]),
    "B19 role unknown": body(messages=[{"role": "wizard", "content": "x"}]),
    "B20 content dict": user({"text": "x"}),
    "B20 junk parts": user([1, "x"]),
    "B20 10^5 parts": user([{"type": "text", "text": "x"}] * 100_000),
    "B21 tools string": body(tools="x"),
    "B21 cyclic reference": body(tools=[{"type": "function", "function": {"name": "f", "parameters": LOOP}}]),
    "B21 1 MB schema": body(
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 1_000_000}}}]
    ),
    "B22 stream yes": body(stream="yes"),
    "B23 stream_options 5": body(stream_options=5),
    "B24 temperature": body(temperature=2.5),
    "B26 api_base": body(api_base="http://127.0.0.1:1"),
    "B26 base_url": body(base_url="http://127.0.0.1:1"),
    "B26 api_key": body(api_key="sk-x"),
    "B26 user_api_key": body(metadata={"user_api_key": "x"}),
}


def http(key, payload, *lines, method="POST", path="/v1/chat/completions", host="Host: gateway"):
    head = [
        f"{method} {path} HTTP/1.1",
        host,
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(payload)}",
        *lines,
    ]
    if not any(line.lower().startswith("content-type") for line in lines):
        head.append("Content-Type: application/json")
    return "\r\n".join([line for line in head if line]).encode("latin-1") + b"\r\n\r\n" + payload


async def send(gateway, data):
    """What a server answers to these bytes; None where it just closes."""
    async with raw_http.connect(gateway.port) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(data)
        try:
            return await client.response()
        except (EOFError, ConnectionError, asyncio.IncompleteReadError):
            return None


@pytest.fixture
async def untouched(gateway, upstream):
    """Fails if a test reached the upstream or moved a credit."""

    async def state():
        balance = await ControlClient(gateway.data).perform("credits.balance", {})
        return upstream.stats()["requests"], balance

    before = await state()
    yield
    assert await state() == before


def refusal(answer, *statuses):
    assert answer is not None
    assert answer.status in statuses, (answer.status, answer.body[:300])
    error = answer.json()["error"]
    assert {"message", "type", "code", "request_id"} <= set(error)
    assert len(error["message"]) < 500
    assert "Traceback" not in error["message"]
    return error


@pytest.mark.usefixtures("untouched")
async def test_every_bad_body_is_a_400_that_reaches_nobody(gateway):
    wrong = {}
    for name, payload in BODIES.items():
        answer = await send(gateway, http(gateway.key, payload))
        try:
            error = refusal(answer, 400, 413)
            assert error["type"] == "invalid_request_error"
            assert "param" in error
        except AssertionError as failure:
            wrong[name] = str(failure)[:300]
    assert not wrong


@pytest.mark.usefixtures("untouched")
async def test_a_bad_body_behind_a_repeated_head_is_refused_in_the_same_words(gateway):
    def said(answer):
        return answer.status, {**answer.json()["error"], "request_id": ""}

    small = [payload for payload in BODIES.values() if len(payload) < 60_000]
    async with raw_http.connect(gateway.port) as client:
        for payload in small:
            data = http(gateway.key, payload)
            await client.send(data)
            assert said(await client.response()) == said(await send(gateway, data))


async def test_b16_an_escaped_nul_passes(gateway):
    answer = await send(gateway, http(gateway.key, user("a\u0000b")))
    assert answer.status == 200


async def test_b17_an_unknown_model_is_404_with_the_nearest_name(gateway):
    error = refusal(await send(gateway, http(gateway.key, body(model="up-chatt"))), 404)
    assert error["code"] == "model_not_found"
    assert "up-chat" in error["suggestions"]
    refusal(await send(gateway, http(gateway.key, body(model="../../etc"))), 404)


async def test_b25_unknown_fields_pass_and_do_nothing(gateway):
    answer = await send(gateway, http(gateway.key, body(__proto__={"x": 1}, constructor="x", unknown=[1])))
    assert answer.status == 200


HEADERS = {
    "B29 absent": ("Content-Type:", 415),
    "B29 text/plain": ("Content-Type: text/plain", 415),
    "B29 utf-7": ("Content-Type: application/json; charset=utf-7", 415),
    "B30 not gzip": ("Content-Encoding: gzip", 400),
    "B30 unknown coding": ("Content-Encoding: br", 415),
    "B30 two codings": ("Content-Encoding: gzip, gzip", 415),
    "B47 idempotency key too long": ("Idempotency-Key: " + "k" * 256, 400),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("line", "status"), HEADERS.values(), ids=HEADERS)
async def test_headers_that_make_a_body_unreadable_are_refused(gateway, line, status):
    refusal(await send(gateway, http(gateway.key, body(), line)), status)


@pytest.mark.usefixtures("untouched")
async def test_b30_a_bomb_is_413(gateway):
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    refusal(await send(gateway, http(gateway.key, bomb, "Content-Encoding: gzip")), 413)


@pytest.mark.usefixtures("untouched")
async def test_b31_a_body_beyond_the_limit_is_413_before_it_is_read(gateway):
    head = http(gateway.key, b"").replace(b"Content-Length: 0", b"Content-Length: 99999999999")
    refusal(await send(gateway, head), 413)


@pytest.mark.usefixtures("untouched")
async def test_b31_a_chunked_body_is_413_at_the_limit(gateway):
    head = http(gateway.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    refusal(await send(gateway, head + piece * 40), 413)


def raw(*lines):
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


POST = "POST /v1/chat/completions HTTP/1.1"
FRAMING = {
    "B32 CL and TE": raw(POST, "Host: a", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "B32 two lengths": raw(POST, "Host: a", "Content-Length: 3", "Content-Length: 4") + b"abcd",
    **{
        f"B32 length {value}": raw(POST, "Host: a", f"Content-Length: {value}")
        for value in ("+2", "0x2", "-1", "1" * 30)
    },
    "B32 TE list": raw(POST, "Host: a", "Transfer-Encoding: gzip, chunked"),
    "B32 TE xchunked": raw(POST, "Host: a", "Transfer-Encoding: xchunked"),
    "B32 bare LF": b"POST /v1/chat/completions HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
    "B32 folded": raw(POST, "Host: a", "X-A: b", " c", "Content-Length: 0"),
    "B32 NUL": raw(POST, "Host: a", "X-A: b\0c", "Content-Length: 0"),
    "B33 no host": raw(POST, "Content-Length: 0"),
    "B33 two hosts": raw(POST, "Host: a", "Host: b", "Content-Length: 0"),
    "B33 bad host": raw(POST, "Host: a/#@b", "Content-Length: 0"),
    "B34 another host": raw("GET http://other/v1/models HTTP/1.1", "Host: a"),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("data", FRAMING.values(), ids=FRAMING)
async def test_broken_framing_is_refused_and_closed(gateway, data):
    answer = await send(gateway, data)
    refusal(answer, 400)
    assert answer.header("connection") == "close"


@pytest.mark.usefixtures("untouched")
async def test_b32_a_bad_chunk_size_is_refused_and_closed(gateway):
    head = http(gateway.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for size in (b"zz", b"-1", b"0x5", b"f" * 40):
        answer = await send(gateway, head + size + b"\r\nhello\r\n0\r\n\r\n")
        refusal(answer, 400)
        assert answer.header("connection") == "close"


LIMITS = {
    "B35 long header": (raw(POST, "Host: a", "X-A: " + "x" * 33_000, "Content-Length: 0"), (431,)),
    "B35 many headers": (
        raw(POST, "Host: a", *[f"X-{index}: 1" for index in range(101)], "Content-Length: 0"),
        (431,),
    ),
    "B35 long URL": (raw("GET /v1/" + "x" * 8200 + " HTTP/1.1", "Host: a"), (414,)),
    "B36 unknown method": (raw("BREW /v1/models HTTP/1.1", "Host: a"), (400, 405, 501)),
    "B36 lower case": (raw("get /v1/models HTTP/1.1", "Host: a"), (400, 405, 501)),
    "B36 100 characters": (raw("G" * 100 + " /v1/models HTTP/1.1", "Host: a"), (400, 405, 501)),
    **{
        f"B37 {path}": (raw(f"GET {path} HTTP/1.1", "Host: a"), (400, 404))
        for path in ("//v1/models", "/v1%2fmodels", "/v1/%00models", "/x/..;/v1/models", "/v1/../v1/models")
    },
}


@pytest.mark.parametrize(("data", "statuses"), LIMITS.values(), ids=LIMITS)
async def test_heads_beyond_the_limits_are_refused(gateway, data, statuses):
    refusal(await send(gateway, data), *statuses)


async def test_b36_an_override_header_overrides_nothing(gateway):
    data = raw("GET /livez HTTP/1.1", "Host: a", "X-HTTP-Method-Override: DELETE")
    assert (await send(gateway, data)).status == 200


async def test_b38_a_hundred_pipelined_requests_are_answered_in_order(gateway):
    async with raw_http.connect(gateway.port) as client:
        await client.send(
            b"".join(
                raw(f"GET {'/livez' if index % 2 else '/nowhere'} HTTP/1.1", "Host: a")
                for index in range(100)
            )
        )
        assert [(await client.response()).status for _ in range(100)] == [404, 200] * 50


async def test_b39_a_get_with_a_body_leaves_the_connection_usable(gateway):
    async with raw_http.connect(gateway.port) as client:
        for _ in range(2):
            await client.send(raw("GET /livez HTTP/1.1", "Host: a", "Content-Length: 5") + b"hello")
            assert (await client.response()).status == 200


async def test_b40_an_upgrade_to_h2c_is_ignored(gateway):
    data = raw(
        "GET /livez HTTP/1.1",
        "Host: a",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    assert (await send(gateway, data)).status == 200


async def test_b41_tls_on_the_plain_port_is_closed(gateway):
    answer = await send(gateway, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200)
    assert answer is None or answer.status == 400


KEYS = {
    "B44 garbage": "garbage",
    "B44 wrong checksum": "sk-tw-" + "A" * 36,
    "B44 non-ASCII": "sk-tw-\xe9",
    "B44 10 KB": "sk-tw-" + "A" * 10_000,
    "B44 SQL": "' OR '1'='1",
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_b44_a_key_that_is_none_is_401(gateway, key):
    assert refusal(await send(gateway, http(key, body())), 401)["code"] == "invalid_api_key"


@pytest.mark.usefixtures("untouched")
async def test_b43_two_different_credentials_are_400(gateway):
    error = refusal(await send(gateway, http(gateway.key, body(), "x-api-key: sk-tw-other")), 400)
    assert error["code"] == "conflicting_credentials"


async def test_b43_the_same_credential_twice_is_fine(gateway):
    assert (await send(gateway, http(gateway.key, body(), f"x-api-key: {gateway.key}"))).status == 200


async def test_no_credential_at_all_names_the_ways_to_send_one(gateway):
    data = http("x", body()).replace(b"Authorization: Bearer x\r\n", b"")
    error = refusal(await send(gateway, data), 401)
    assert "x-api-key" in error["message"]


async def test_b45_a_forged_forwarded_address_does_not_pass_a_network_rule(gateway):
    key = gateway.new_key("elsewhere", "--ip", "203.0.113.0/24")
    error = refusal(await send(gateway, http(key, body(), "X-Forwarded-For: 203.0.113.7")), 403)
    assert error["code"] == "ip_not_allowed"
