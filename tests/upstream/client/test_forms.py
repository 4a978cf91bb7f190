"""Requests from a form: the bytes they share are checked once, what varies is checked each time."""

import pytest
from tests.support.servers import serve, whole

from tollway.config import Settings
from tollway.core.routing.models import Channel
from tollway.upstream.channels import Endpoint
from tollway.upstream.client import Client
from tollway.upstream.transport import Deadlines, Origin
from tollway.upstream.wire import Form

NOWHERE = Origin("http", "api.example", 80)


def channel(base_url: str) -> Channel:
    return Channel(
        id="ch_1",
        name="one",
        dialect="openai_chat",
        base_url=base_url,
        secret=None,
        secret_hint="",
        groups=(),
        priority=0,
        weight=1,
        status="enabled",
        created_at=0,
        options={},
    )


async def test_the_bytes_of_a_chat_request(client: Client):
    asked = []

    async def script(peer):
        while True:
            asked.append(await peer.request())
            await peer.send(whole())

    async with serve(script) as server:
        url = f"http://127.0.0.1:{server.origin.port}/v1/"
        endpoint = Endpoint(channel(url), "s3cret", Settings(), None)
        for body, request_id, stream in ((b"{}", "req_1", False), (b'{"a":1}', "req_2", True)):
            response = await client.send(endpoint.text(body, request_id, model="m", stream=stream))
            assert await response.read_all(10) == b"ok"
        kinds = [(b"application/json", b"req_1", b"{}"), (b"text/event-stream", b"req_2", b'{"a":1}')]
        for one, (accept, request_id, body) in zip(asked, kinds, strict=True):
            assert one.body == body
            assert one.line == b"POST /v1/chat/completions HTTP/1.1"
            agent = one.header(b"user-agent")
            assert agent.startswith(b"tollway/")
            assert one.headers == [
                (b"host", b"127.0.0.1:%d" % server.origin.port),
                (b"accept-encoding", b"identity"),
                (b"content-type", b"application/json"),
                (b"user-agent", agent),
                (b"authorization", b"Bearer s3cret"),
                (b"accept", accept),
                (b"x-request-id", request_id),
                (b"content-length", b"%d" % len(body)),
            ]
        assert len(server.peers) == 1


def test_each_kind_of_request_has_its_deadlines():
    endpoint = Endpoint(
        channel("http://api.example"), None, Settings(total_timeout=7, stream_timeout=9), None
    )
    assert endpoint.text(b"", "r", model="m", stream=False).deadlines.total == 7
    assert endpoint.text(b"", "r", model="m", stream=True).deadlines.total == 9


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "é", "\x7f", "a\u2028b"])
def test_a_value_that_is_not_printable_ascii_is_refused(value):
    form = Form(NOWHERE, "/", (), b"x-request-id", Deadlines())
    with pytest.raises(ValueError, match="printable ASCII"):
        form.request(value, b"{}")


@pytest.mark.parametrize(
    ("origin", "target", "headers", "varying"),
    [
        (Origin("http", "a b", 80), "/", (), b"x"),
        (Origin("http", "api.example", 0), "/", (), b"x"),
        (NOWHERE, "v1", (), b"x"),
        (NOWHERE, "/a\r\nb", (), b"x"),
        (NOWHERE, "/", ((b"x", b"a\r\nb: c"),), b"y"),
        (NOWHERE, "/", ((b"host", b"a"),), b"y"),
        (NOWHERE, "/", (), b"content-length"),
        (NOWHERE, "/", (), b"a b"),
    ],
)
def test_what_is_unsafe_in_all_requests_is_refused_when_the_form_is_made(origin, target, headers, varying):
    with pytest.raises(ValueError):
        Form(origin, target, headers, varying, Deadlines())


@pytest.mark.parametrize("secret", ["a\nb", "a\r\nx: y", "a\0b"])
def test_a_credential_that_would_break_out_of_its_header_makes_no_endpoint(secret):
    with pytest.raises(ValueError, match="header value") as raised:
        Endpoint(channel("http://api.example"), secret, Settings(), None)
    assert secret not in str(raised.value)
