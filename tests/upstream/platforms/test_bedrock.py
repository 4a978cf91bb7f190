"""Bedrock: signatures checked the way the service checks them, bodies, paths, streams."""

import hashlib
import hmac
import json
import re
from urllib.parse import quote

import pytest
from tests.support.channels import channel, endpoint, headers, target
from tests.support.eventstreams import chunk
from tests.support.servers import serve, whole

from tollway.config import Settings
from tollway.upstream.channels import Endpoint
from tollway.upstream.client import Client
from tollway.upstream.platforms.bedrock import Keys, keys_of

BASE = "https://bedrock-runtime.us-east-1.amazonaws.com"
ACCESS, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
BODY = json.dumps(
    {"model": MODEL, "stream": True, "max_tokens": 5, "messages": [{"role": "user", "content": "hé"}]}
).encode()


@pytest.fixture
async def client():
    found = Client()
    yield found
    await found.close()


def bedrock(secret: str = "ABSKapikey", base: str = BASE, **options):
    return endpoint(base, "anthropic", secret, platform="bedrock", **options)


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_is_in_the_path_and_the_version_in_the_body(stream):
    request = bedrock().text(BODY, "r", model=MODEL, stream=stream)
    verb = "invoke-with-response-stream" if stream else "invoke"
    assert target(request) == f"/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/{verb}"
    assert json.loads(request.body) == {
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hé"}],
        "anthropic_version": "bedrock-2023-05-31",
    }
    accept = "application/vnd.amazon.eventstream" if stream else "application/json"
    assert headers(request)["accept"] == [accept]
    assert "anthropic-version" not in headers(request)


def test_a_profile_is_one_segment():
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude"
    path = target(bedrock().text(BODY, "r", model=arn, stream=False))
    assert path == f"/model/{quote(arn, safe='')}/invoke"


def test_betas_are_in_the_body():
    passed = (
        (b"anthropic-beta", b"a, b"),
        (b"anthropic-beta", b"b,c,"),
        (b"anthropic-version", b"2026-10-21"),
    )
    request = bedrock().text(BODY, "r", model=MODEL, stream=True, passed=passed)
    body = json.loads(request.body)
    assert body["anthropic_beta"] == ["a", "b", "c"]
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert not {"anthropic-beta", "anthropic-version"} & set(headers(request))


def test_an_api_key_is_a_bearer():
    one = bedrock("ABSKapikey")
    assert one.authorise is None
    assert headers(one.text(BODY, "r", model=MODEL, stream=False))["authorization"] == ["Bearer ABSKapikey"]


def test_what_it_does_not_have():
    one = bedrock()
    assert one.count(b"{}", "r", model=MODEL) is None
    assert one.embeddings(b"{}", "r", model=MODEL) is None
    assert one.models("r") is None


def verify(asked, region: str) -> str:
    """What the service makes of a signed request: raises AssertionError unless the signature is right."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        asked.header(b"authorization").decode(),
    )
    access, day, told_region, service, names, signature = found.groups()
    assert (told_region, service) == (region, "bedrock")
    method, path, _ = asked.line.decode().split(" ")
    signed = [(name, (asked.header(name.encode()) or b"").decode()) for name in names.split(";")]
    assert {"host", "x-amz-date", "content-type"} <= {name for name, _ in signed}
    lines = [
        method,
        # Every service but S3 encodes the path once more.
        quote(path, safe="/-_.~"),
        "",
        *(f"{name}:{' '.join(value.split())}" for name, value in signed),
        "",
        names,
        hashlib.sha256(asked.body).hexdigest(),
    ]
    stamp = asked.header(b"x-amz-date").decode()
    assert stamp.startswith(day)
    scope = f"{day}/{region}/{service}/aws4_request"
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{KEY}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{canonical}"
    assert hmac.digest(key, text.encode(), "sha256").hex() == signature
    return access


@pytest.mark.parametrize("session", [None, "FwoGZXIvYXdzEXAMPLE"])
async def test_a_signed_request_is_accepted(client, session):
    asked = []

    async def script(peer):
        while True:
            asked.append(await peer.request())
            await peer.send(whole())

    secret = f"{ACCESS}:{KEY}" + (f":{session}" if session else "")
    async with serve(script) as server:
        base = f"http://127.0.0.1:{server.origin.port}"
        row = channel(base, "anthropic", platform="bedrock", region="eu-west-1")
        one = Endpoint(row, secret, Settings(), None)
        for stream in (False, True):
            request = await one.authorise(one.text(BODY, "req_1", model=MODEL, stream=stream))
            response = await client.send(request)
            assert await response.read_all(10) == b"ok"
    for request in asked:
        assert verify(request, "eu-west-1") == ACCESS
        assert (request.header(b"x-amz-security-token") or b"").decode() == (session or "")
        assert request.header(b"x-request-id") == b"req_1"
        assert KEY.encode() not in request.head
        request.body += b" "
        with pytest.raises(AssertionError):
            verify(request, "eu-west-1")
    assert len(asked) == 2


def test_streams_are_unwrapped():
    one = bedrock()
    feed = one.unwrapper(b"application/vnd.amazon.eventstream", stream=True)
    assert feed(chunk({"type": "ping"})) == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert one.unwrapper(b"application/json", stream=False) is None
    assert one.unwrapper(b"application/json", stream=True) is None


@pytest.mark.parametrize(
    ("secret", "keys"),
    [
        (f"{ACCESS}:{KEY}", Keys(ACCESS, KEY)),
        (f"{ACCESS}:{KEY}:tok:en", Keys(ACCESS, KEY, "tok:en")),
        (json.dumps({"aws_access_key_id": ACCESS, "aws_secret_access_key": KEY}), Keys(ACCESS, KEY)),
        (
            json.dumps({"AccessKeyId": ACCESS, "SecretAccessKey": KEY, "SessionToken": "t"}),
            Keys(ACCESS, KEY, "t"),
        ),
        ("ABSKQmVkcm9ja0FQSUtleQ==", None),
        ("bedrock-api-key-xyz", None),
    ],
)
def test_credentials(secret, keys):
    assert keys_of(secret) == keys
    assert KEY not in repr(keys)


@pytest.mark.parametrize(
    "secret", ["{", "{}", '{"aws_access_key_id":"AKIAIOSFODNN7EXAMPLE"}', '{"aws_access_key_id":7}']
)
def test_half_a_credential_makes_no_endpoint(secret):
    with pytest.raises(ValueError, match="credential"):
        bedrock(secret)


def test_the_region_comes_from_the_address_or_from_the_option():
    bedrock(f"{ACCESS}:{KEY}")
    bedrock(f"{ACCESS}:{KEY}", "https://bedrock-runtime.us-gov-west-1.amazonaws.com")
    with pytest.raises(ValueError, match="region"):
        bedrock(f"{ACCESS}:{KEY}", "https://proxy.example")
    with pytest.raises(ValueError, match="region"):
        bedrock(f"{ACCESS}:{KEY}", region="us-east-1/../")


def test_all_of_a_credential_is_kept_out_of_words():
    one = bedrock(f"{ACCESS}:{KEY}:sessiontoken")
    told = one.scrub(f"bad {KEY} and sessiontoken and {ACCESS}:{KEY}:sessiontoken")
    assert KEY not in told and "sessiontoken" not in told


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "gemini"])
def test_only_anthropic_is_spoken(dialect):
    with pytest.raises(ValueError, match="only anthropic"):
        endpoint(BASE, dialect, "ABSKx", platform="bedrock")


def test_a_credential_is_wanted():
    with pytest.raises(ValueError, match="credential"):
        endpoint(BASE, "anthropic", None, platform="bedrock")
