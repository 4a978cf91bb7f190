"""Heads that are refused before any handler sees them: one row for each way to send one."""

from __future__ import annotations

import pytest
from tests.support.raw_http import connect, exchange
from tests.web.server.probe import Probe

from tollway.core.errors import GatewayError
from tollway.web.head import read_head

OK = b"Host: gw.example\r\n"


def get(
    target: bytes = b"/echo", headers: bytes = OK, method: bytes = b"GET", version: bytes = b"HTTP/1.1"
) -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    return get(method=b"POST", headers=OK + headers) + body


SMUGGLED = get(b"/path/smuggled")
CHUNKED = b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    # sizes
    "head of 33 KiB in one header": (
        get(headers=OK + b"X-A: " + b"a" * 33 * 1024 + b"\r\n"),
        431,
        "header_too_large",
    ),
    "head of 33 KiB in many": (
        get(headers=OK + (b"X-A: " + b"a" * 1000 + b"\r\n") * 34),
        431,
        "header_too_large",
    ),
    "head of 1 MiB that never ends": (
        get(headers=OK + b"X-A: " + b"a" * (1 << 20))[:-2],
        431,
        "header_too_large",
    ),
    "101 headers": (get(headers=OK + b"X-A: 1\r\n" * 100), 431, "header_too_large"),
    "5000 headers": (get(headers=OK + b"X-A: 1\r\n" * 5000), 431, "header_too_large"),
    "target over 8 KiB": (get(b"/" + b"a" * 8192), 414, "uri_too_long"),
    "target of 1 MiB that never ends": (b"GET /" + b"a" * (1 << 20), 414, "uri_too_long"),
    # hosts
    "no host": (get(headers=b""), 400, "bad_request"),
    "two hosts": (get(headers=OK + OK), 400, "bad_request"),
    "empty host": (get(headers=b"Host: \r\n"), 400, "bad_request"),
    "host with a path": (get(headers=b"Host: x/#@y\r\n"), 400, "bad_request"),
    "host with user": (get(headers=b"Host: u@x\r\n"), 400, "bad_request"),
    "host with a list": (get(headers=b"Host: a, b\r\n"), 400, "bad_request"),
    "host with a bad port": (get(headers=b"Host: a:65536\r\n"), 400, "bad_request"),
    "host with a word as port": (get(headers=b"Host: a:http\r\n"), 400, "bad_request"),
    "host with bad IPv6": (get(headers=b"Host: [::1::2]\r\n"), 400, "bad_request"),
    "bad host in HTTP/1.0": (get(headers=b"Host: x/#@y\r\n", version=b"HTTP/1.0"), 400, "bad_request"),
    # targets
    "URL of another host": (get(b"http://other.example/echo"), 400, "bad_request"),
    "URL with user": (get(b"http://u@gw.example/echo"), 400, "bad_request"),
    "URL of another scheme": (get(b"ftp://gw.example/echo"), 400, "bad_request"),
    "asterisk": (get(b"*", method=b"OPTIONS"), 400, "bad_request"),
    "no slash": (get(b"echo"), 400, "bad_request"),
    "fragment": (get(b"/echo#x"), 400, "bad_request"),
    "bytes outside ASCII": (get(b"/echo\xff"), 400, "bad_request"),
    "space in the target": (get(b"/echo now"), 400, "bad_request"),
    # methods
    "TRACE": (get(method=b"TRACE"), 405, "method_not_allowed"),
    "CONNECT": (get(b"gw.example:80", method=b"CONNECT"), 405, "method_not_allowed"),
    "PROPFIND": (get(method=b"PROPFIND"), 405, "method_not_allowed"),
    "unknown method": (get(method=b"FETCH"), 405, "method_not_allowed"),
    "lower-case method": (get(method=b"get"), 405, "method_not_allowed"),
    "method of 100 letters": (get(method=b"A" * 100), 405, "method_not_allowed"),
    "method that goes on": (get(method=b"POSTX"), 405, "method_not_allowed"),
    # versions
    "HTTP/0.9": (b"GET /echo\r\n\r\n", 400, "bad_request"),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), 400, "bad_request"),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), 400, "bad_request"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "wrong protocol": (get(version=b"ICY/1.1"), 400, "bad_request"),
    # framing
    "length and chunks": (post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"), 400, "bad_request"),
    "chunks and length": (post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"), 400, "bad_request"),
    "two lengths": (post(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"abc"), 400, "bad_request"),
    "the same length twice": (post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"ab"), 400, "bad_request"),
    "list of lengths": (post(b"Content-Length: 2, 2\r\n", b"ab"), 400, "bad_request"),
    "length +2": (post(b"Content-Length: +2\r\n", b"ab"), 400, "bad_request"),
    "length -1": (post(b"Content-Length: -1\r\n"), 400, "bad_request"),
    "length 0x2": (post(b"Content-Length: 0x2\r\n", b"ab"), 400, "bad_request"),
    "length 1e1": (post(b"Content-Length: 1e1\r\n", b"a"), 400, "bad_request"),
    "length of 31 digits": (post(b"Content-Length: 1" + b"0" * 30 + b"\r\n"), 400, "bad_request"),
    "empty length": (post(b"Content-Length: \r\n"), 400, "bad_request"),
    "coding list": (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400, "bad_request"),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), 400, "bad_request"),
    "two codings": (post(b"Transfer-Encoding: chunked\r\n" * 2, b"0\r\n\r\n"), 400, "bad_request"),
    "unknown coding": (post(b"Transfer-Encoding: xchunked\r\n"), 400, "bad_request"),
    "coding with a tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), 400, "bad_request"),
    "chunks in HTTP/1.0": (
        get(method=b"POST", headers=OK + CHUNKED, version=b"HTTP/1.0") + b"0\r\n\r\n",
        400,
        "bad_request",
    ),
    # header syntax
    "folded header": (get(headers=OK + b"X-A: 1\r\n 2\r\n"), 400, "bad_request"),
    "bare LF between headers": (get(headers=b"Host: a\nX-A: 1\r\n"), 400, "bad_request"),
    "bare LF after the request line": (b"GET /echo HTTP/1.1\nHost: a\r\n\r\n", 400, "bad_request"),
    "bare LF everywhere": (b"GET /echo HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    "CR in a value": (get(headers=OK + b"X-A: 1\rX-B: 2\r\n"), 400, "bad_request"),
    "NUL in a value": (get(headers=OK + b"X-A: 1\x002\r\n"), 400, "bad_request"),
    "NUL in a name": (get(headers=OK + b"X\x00A: 1\r\n"), 400, "bad_request"),
    "space before the colon": (get(headers=OK + b"X-A : 1\r\n"), 400, "bad_request"),
    "empty name": (get(headers=OK + b": 1\r\n"), 400, "bad_request"),
    "no colon": (get(headers=OK + b"X-A\r\n"), 400, "bad_request"),
    "leading space": (get(headers=b" Host: a\r\n"), 400, "bad_request"),
    # paths that have no one reading
    "double slash": (get(b"//v1/models"), 404, "unknown_route"),
    "inner double slash": (get(b"/v1//models"), 404, "unknown_route"),
    "dot segments": (get(b"/v1/../path/x"), 404, "unknown_route"),
    "encoded dot segments": (get(b"/v1/%2e%2E/path/x"), 404, "unknown_route"),
    "parameter": (get(b"/v1/..;/path"), 404, "unknown_route"),
    "NUL": (get(b"/path/%00"), 404, "unknown_route"),
    "backslash": (get(b"/path/%5c..%5cx"), 404, "unknown_route"),
    "twice encoded": (get(b"/%2570ath"), 404, "unknown_route"),
    "overlong UTF-8": (get(b"/path/%c0%af"), 404, "unknown_route"),
    "unfinished escape": (get(b"/path/%2"), 404, "unknown_route"),
}


@pytest.mark.parametrize(("data", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_bad_heads_are_refused_in_json_and_the_connection_closed(serving, data, status, code):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        raw.writer.write(data + SMUGGLED)
        answer = await raw.response()
        assert (answer.status, answer.json()["error"]["code"]) == (status, code)
        assert answer.header("content-type") == "application/json"
        assert answer.header("x-request-id") == answer.json()["error"]["request_id"]
        assert answer.header("connection") == "close"
        assert await raw.rest() == b""
    assert probe.begun == []


ACCEPTED = {
    "32 KiB of head": get(headers=OK + b"X-A: " + b"a" * (32 * 1024 - 64) + b"\r\n"),
    "100 headers": get(headers=OK + b"X-A: 1\r\n" * 99),
    "target of 8 KiB": get(b"/echo?" + b"a" * (8192 - 6)),
    "IPv4 host": get(headers=b"Host: 127.0.0.1:8800\r\n"),
    "IPv6 host": get(headers=b"Host: [::1]:8800\r\n"),
    "URL of our host": get(b"http://GW.example/echo"),
    "HTTP/1.0 without a host": get(headers=b"", version=b"HTTP/1.0"),
    "blank lines first": b"\r\n\r\n" + get(),
    "tab around a value": get(headers=OK + b"X-A:\t1 \t\r\n"),
    "every method's override is ignored": get(headers=OK + b"X-HTTP-Method-Override: TRACE\r\n"),
    "unknown upgrade": get(headers=OK + b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_the_limits_themselves_are_allowed(serving, data):
    probe = Probe()
    async with serving(probe) as server:
        answer = await exchange(server.port, data)
        assert answer.status == 200
        assert probe.begun == ["/echo"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_methods_on_the_list_reach_the_app(serving, method):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        await raw.send(get(method=method.encode()))
        assert (await raw.response(head_only=method == "HEAD")).status == 200
    assert probe.scopes[0]["method"] == method


@pytest.mark.parametrize(
    ("target", "kind"),
    [(b"/v1/x", "invalid_request_error"), (b"/api/v1/x", "invalid_request_error"), (b"/openai/v1/x", "invalid_request_error"),
     (b"/v1x", "gateway_error"), (b"/admin/x", "gateway_error")],
)  # fmt: skip
async def test_refusals_speak_the_envelope_of_the_path(serving, target, kind):
    async with serving(Probe()) as server:
        answer = await exchange(server.port, get(target, headers=b""))
        assert answer.json()["error"]["type"] == kind


async def test_a_refused_method_names_those_allowed(serving):
    async with serving(Probe()) as server:
        answer = await exchange(server.port, get(method=b"TRACE"))
        assert answer.header("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


async def test_tls_on_a_plain_port_is_closed_without_a_word(serving):
    async with serving(Probe()) as server, connect(server.port) as raw:
        await raw.send(bytes.fromhex("1603010200010001fc0303") + b"\x00" * 200)
        assert await raw.rest() == b""


async def test_one_byte_at_a_time_is_the_same_request(serving):
    probe = Probe()
    async with serving(probe) as server, connect(server.port) as raw:
        for byte in post(b"Content-Length: 3\r\n", b"abc"):
            await raw.send(bytes((byte,)))
        assert (await raw.response()).body == b"abc"


async def test_an_encoded_slash_stays_inside_its_segment(serving):
    probe = Probe()
    async with serving(probe) as server:
        answer = await exchange(server.port, get(b"/path/vendor%2fmodel%20x"))
        assert answer.body == b"/path/vendor%2Fmodel x"
        assert probe.scopes[0]["raw_path"] == b"/path/vendor%2fmodel%20x"


async def test_trailers_never_become_headers(serving):
    probe = Probe()
    async with serving(probe) as server:
        answer = await exchange(server.port, post(CHUNKED, b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n"))
        assert answer.body == b"a"
        assert b"authorization" not in dict(probe.scopes[0]["headers"])


@pytest.mark.parametrize(
    ("sent", "status"), [(b"GET /" + b"a" * 9000, 414), (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 33 * 1024, 431)]
)
async def test_a_head_is_measured_before_it_ends(serving, sent, status):
    async with serving(Probe()) as server:
        assert (await exchange(server.port, sent)).status == status


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"2"), (b"content-length", b"2")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"content-length", b"+2")],
        [(b"content-length", b"")],
        [(b"content-length", b"\xb2")],
        [(b"host", b"b")],
    ],
)
def test_framing_is_checked_whatever_the_parser_lets_through(headers):
    with pytest.raises(GatewayError) as refused:
        read_head(b"POST", "1.1", b"/", [(b"host", b"a"), *headers])
    assert refused.value.status == 400
