"""Vertex AI: paths and bodies of each publisher, and access tokens from a token endpoint of our own."""

import asyncio
import json
from functools import cache
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from tests.support.channels import channel, endpoint, headers, target
from tests.support.servers import serve

from tollway.config import Settings
from tollway.upstream.channels import Endpoint
from tollway.upstream.client import Client
from tollway.upstream.platforms.access import EARLY_MS, AccessTokens
from tollway.upstream.transport import UpstreamFault

BASE = "https://us-east5-aiplatform.googleapis.com/v1"
PLACE = {"platform": "vertex", "project": "my-project", "location": "us-east5"}
MODELS = "/v1/projects/my-project/locations/us-east5/publishers"
BODY = json.dumps(
    {"model": "claude-opus-4-5@20251101", "max_tokens": 5, "stream": True, "messages": []}
).encode()


@pytest.fixture
async def client():
    found = Client()
    yield found
    await found.close()


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def pem() -> str:
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def account(uri: str, **more) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "own-project",
            "private_key_id": "kid-1",
            "private_key": pem(),
            "client_email": "gw@own-project.iam.gserviceaccount.com",
            "token_uri": uri,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("dialect", "stream", "path"),
    [
        ("gemini", False, f"{MODELS}/google/models/m-1:generateContent"),
        ("gemini", True, f"{MODELS}/google/models/m-1:streamGenerateContent?alt=sse"),
        ("anthropic", False, f"{MODELS}/anthropic/models/m-1:rawPredict"),
        ("anthropic", True, f"{MODELS}/anthropic/models/m-1:streamRawPredict"),
        (
            "openai_chat",
            True,
            "/v1/projects/my-project/locations/us-east5/endpoints/openapi/chat/completions",
        ),
    ],
)
def test_paths(dialect, stream, path):
    one = endpoint(BASE, dialect, "an-api-key", **PLACE)
    assert target(one.text(BODY, "r", model="m-1", stream=stream)) == path


@pytest.mark.parametrize("name", ["m@1", "models/m@1", "publishers/google/models/m@1"])
def test_a_model_may_be_named_as_it_is_listed(name):
    one = endpoint(BASE, "gemini", "an-api-key", **PLACE)
    assert (
        target(one.text(b"{}", "r", model=name, stream=False))
        == f"{MODELS}/google/models/m@1:generateContent"
    )


def test_an_api_key_needs_no_project():
    one = endpoint("https://aiplatform.googleapis.com/v1", "gemini", "an-api-key", platform="vertex")
    request = one.text(b"{}", "r", model="m", stream=False)
    assert target(request) == "/v1/publishers/google/models/m:generateContent"
    assert headers(request)["x-goog-api-key"] == ["an-api-key"]
    assert one.authorise is None


def test_counting():
    gemini = endpoint(BASE, "gemini", "an-api-key", **PLACE).count(b"{}", "r", model="m")
    assert target(gemini) == f"{MODELS}/google/models/m:countTokens"
    claude = endpoint(BASE, "anthropic", "an-api-key", **PLACE).count(b'{"messages":[]}', "r", model="m")
    assert target(claude) == f"{MODELS}/anthropic/models/count-tokens:rawPredict"
    assert json.loads(claude.body) == {"messages": [], "anthropic_version": "vertex-2023-10-16", "model": "m"}


def test_anthropics_body_names_the_version_and_not_the_model():
    passed = ((b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a"))
    one = endpoint(BASE, "anthropic", "an-api-key", **PLACE)
    request = one.text(BODY, "r", model="m", stream=True, passed=passed)
    assert json.loads(request.body) == {
        "max_tokens": 5,
        "stream": True,
        "messages": [],
        "anthropic_version": "vertex-2023-10-16",
    }
    found = headers(request)
    assert found["anthropic-beta"] == ["a"] and "anthropic-version" not in found


def test_what_it_does_not_have():
    for dialect in ("gemini", "anthropic", "openai_chat"):
        one = endpoint(BASE, dialect, "an-api-key", **PLACE)
        assert one.models("r") is None
        assert one.embeddings(b"{}", "r", model="m") is None


class Google:
    """A token endpoint that checks assertions as Google does, and an API that checks tokens."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.seen: list[str] = []
        self.refuse = False
        self.answer: bytes | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, peer) -> None:
        while True:
            asked = await peer.request()
            if asked.line.startswith(b"POST /token "):
                await self.hold.wait()
                await peer.send(self.token(asked))
            else:
                self.seen.append(asked.header(b"authorization").decode())
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def token(self, asked) -> bytes:
        fields = {name: value for name, [value] in parse_qs(asked.body.decode()).items()}
        self.asked.append(fields)
        if "assertion" in fields:
            public = (
                private_key()
                .public_key()
                .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            )
            verifier = crypt.RSAVerifier.from_string(public)
            head, claims, signed, signature = jwt._unverified_decode(fields["assertion"])
            assert verifier.verify(signed, signature)
            fields["claims"] = {**claims, "kid": head.get("kid")}
        if self.refuse:
            body, status = b'{"error":"invalid_grant","error_description":"kid-1"}', b"400 Bad Request"
        else:
            body, status = b'{"access_token":"ya29.%d","expires_in":3599}' % len(self.asked), b"200 OK"
        body = self.answer or body
        return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


async def ask(client, one: Endpoint) -> None:
    request = one.text(b"{}", "req_1", model="m", stream=False)
    response = await client.send(await one.authorise(request))
    await response.read_all(10)


def ready(server, client, clock, secret=None) -> Endpoint:
    base = f"http://127.0.0.1:{server.origin.port}"
    row = channel(base, "gemini", **PLACE)
    tokens = AccessTokens(client, clock)
    return Endpoint(row, secret or account(f"{base}/token"), Settings(), None, tokens=tokens)


async def test_a_service_account_gets_one_token_and_a_new_one_before_it_ends(client):
    google, clock = Google(), Clock()
    async with serve(google) as server:
        one = ready(server, client, clock)
        for _ in range(3):
            await ask(client, one)
        assert google.seen == ["Bearer ya29.1"] * 3
        [asked] = google.asked
        assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert asked["claims"] == {
            "iss": "gw@own-project.iam.gserviceaccount.com",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": f"http://127.0.0.1:{server.origin.port}/token",
            "iat": clock.now // 1000,
            "exp": clock.now // 1000 + 3600,
            "kid": "kid-1",
        }
        clock.now += 3_599_000 - EARLY_MS
        await ask(client, one)
        assert google.seen[-1] == "Bearer ya29.2"


async def test_many_calls_at_once_fetch_one_token(client):
    google = Google()
    google.hold.clear()
    async with serve(google) as server:
        one = ready(server, client, Clock())
        calls = [asyncio.ensure_future(ask(client, one)) for _ in range(8)]
        await asyncio.sleep(0)
        google.hold.set()
        await asyncio.gather(*calls)
    assert len(google.asked) == 1
    assert google.seen == ["Bearer ya29.1"] * 8


async def test_a_caller_that_leaves_does_not_leave_the_others_without_a_token(client):
    google = Google()
    google.hold.clear()
    async with serve(google) as server:
        one = ready(server, client, Clock())
        first = asyncio.ensure_future(ask(client, one))
        second = asyncio.ensure_future(ask(client, one))
        while not server.peers:
            await asyncio.sleep(0.001)
        first.cancel()
        google.hold.set()
        await second
    assert google.seen == [google.seen[0]]


async def test_an_old_token_serves_while_no_new_one_can_be_had_and_then_no_longer(client):
    google, clock = Google(), Clock()
    async with serve(google) as server:
        one = ready(server, client, clock)
        await ask(client, one)
        google.refuse = True
        clock.now += 3_599_000 - 1
        await ask(client, one)
        assert google.seen == ["Bearer ya29.1"] * 2
        clock.now += 1
        with pytest.raises(UpstreamFault, match=r"status 400: invalid_grant") as raised:
            await ask(client, one)
        assert not raised.value.sent
        assert "kid-1" not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"access_token":""}',
        b'{"access_token":7}',
        b'{"access_token":"a\\r\\nx: y"}',
    ],
)
async def test_an_answer_without_a_token_is_a_fault(client, answer):
    google = Google()
    google.answer = answer
    async with serve(google) as server:
        with pytest.raises(UpstreamFault, match="token"):
            await ask(client, ready(server, client, Clock()))


async def test_a_persons_login_is_refreshed(client):
    google = Google()
    async with serve(google) as server:
        base = f"http://127.0.0.1:{server.origin.port}"
        secret = json.dumps(
            {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": "cs-secret",
                "refresh_token": "rt-secret",
                "token_uri": f"{base}/token",
            }
        )
        one = ready(server, client, Clock(), secret)
        await ask(client, one)
    assert google.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": "id",
            "client_secret": "cs-secret",
            "refresh_token": "rt-secret",
        }
    ]
    assert one.scrub("cs-secret rt-secret") == "[redacted] [redacted]"


@pytest.mark.parametrize(
    "uri",
    [
        "http://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com.evil.example/token",
        "https://evilgoogleapis.com/token",
        "https://evil.example/token",
        "https://u:p@oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com:8443/token",
        "http://169.254.169.254/token",
        "file:///etc/passwd",
        "gopher://us-east5-aiplatform.googleapis.com/x",
    ],
)
async def test_a_credential_cannot_name_any_token_endpoint(client, uri):
    tokens = AccessTokens(client, Clock())
    with pytest.raises(ValueError, match="token endpoint"):
        Endpoint(channel(BASE, "gemini", **PLACE), account(uri), Settings(), None, tokens=tokens)


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("{", "not JSON"),
        ("{}", "neither"),
        ('{"type":"external_account"}', "neither"),
        ('{"type":"service_account","client_email":"a"}', "no private_key"),
        (json.dumps({"type": "service_account", "client_email": "a", "private_key": "b"}), "PEM"),
        (None, "wants a credential"),
    ],
)
async def test_a_credential_that_cannot_work_makes_no_endpoint(client, secret, told):
    tokens = AccessTokens(client, Clock())
    with pytest.raises(ValueError, match=told):
        Endpoint(channel(BASE, "gemini", **PLACE), secret, Settings(), None, tokens=tokens)


@pytest.mark.parametrize(
    "place", [{}, {"project": "p"}, {"location": "l/../x", "project": "p"}, {"project": "a/b"}]
)
def test_where_the_models_are_must_be_told(place):
    with pytest.raises(ValueError, match="needs the option"):
        endpoint(BASE, "gemini", account("https://oauth2.googleapis.com/token"), platform="vertex", **place)


def test_the_credentials_own_project_is_used():
    one = endpoint(BASE, "gemini", "key", platform="vertex", location="global", project="p")
    assert "/projects/p/locations/global/" in target(one.text(b"{}", "r", model="m", stream=False))


def test_a_responses_channel_is_refused():
    with pytest.raises(ValueError, match="does not speak"):
        endpoint(BASE, "openai_responses", "key", **PLACE)
