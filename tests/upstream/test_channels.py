"""Endpoints of the four dialects: paths, credentials, versions, passed headers, scopes."""

import pytest
from tests.support.channels import channel, endpoint, headers, target

from tollway.config import Settings
from tollway.upstream.channels import FORMS_MAX, Endpoint, scope_text
from tollway.upstream.secrets import Vault
from tollway.upstream.transport import Origin

MODEL = "a/b:c"
PATHS = [
    ("openai_chat", "text", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai_responses", "text", "/v1/responses", "/v1/responses"),
    ("anthropic", "text", "/v1/messages", "/v1/messages"),
    (
        "gemini",
        "text",
        "/v1/models/a%2Fb%3Ac:generateContent",
        "/v1/models/a%2Fb%3Ac:streamGenerateContent?alt=sse",
    ),
]
CREDENTIALS = [
    ("openai_chat", "authorization", "Bearer s3cret"),
    ("openai_responses", "authorization", "Bearer s3cret"),
    ("anthropic", "x-api-key", "s3cret"),
    ("gemini", "x-goog-api-key", "s3cret"),
]
ALL = ("openai_chat", "openai_responses", "anthropic", "gemini")


@pytest.mark.parametrize(("dialect", "_", "whole", "streamed"), PATHS)
def test_a_text_call_goes_to_its_dialects_path(dialect, _, whole, streamed):
    one = endpoint(dialect=dialect)
    for stream, path in ((False, whole), (True, streamed)):
        request = one.text(b"{}", "req_1", model=MODEL, stream=stream)
        assert (request.method, target(request), request.body) == ("POST", path, b"{}")
        found = headers(request)
        assert found["accept"] == ["text/event-stream" if stream else "application/json"]
        assert request.together is not stream, "a stream's first word is waited for"
        assert found["x-request-id"] == ["req_1"]
        assert found["content-type"] == ["application/json"]


@pytest.mark.parametrize(("dialect", "name", "value"), CREDENTIALS)
def test_the_credential_is_in_its_dialects_header_and_nowhere_else(dialect, name, value):
    one = endpoint(dialect=dialect)
    for request in (
        one.text(b"{}", "r", model="m", stream=True),
        one.count(b"{}", "r", model="m"),
        one.embeddings(b"{}", "r", model="m"),
        one.models("r"),
    ):
        if request is None:
            continue
        found = headers(request)
        assert found.pop(name) == [value]
        assert "s3cret" not in str(found) + target(request)
        assert "s3cret" not in repr(one)


@pytest.mark.parametrize("dialect", ALL)
def test_a_channel_without_a_credential_sends_none(dialect):
    found = headers(endpoint(dialect=dialect, secret=None).text(b"", "r", model="m", stream=False))
    assert not {"authorization", "x-api-key", "x-goog-api-key"} & set(found)


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai_chat", None),
        ("openai_responses", "/v1/responses/input_tokens"),
        ("anthropic", "/v1/messages/count_tokens"),
        ("gemini", "/v1/models/m:countTokens"),
    ],
)
def test_counting(dialect, path):
    request = endpoint(dialect=dialect).count(b"{}", "r", model="m")
    assert (request and target(request)) == path


@pytest.mark.parametrize(
    ("dialect", "one", "several"),
    [
        ("openai_chat", "/v1/embeddings", "/v1/embeddings"),
        ("openai_responses", "/v1/embeddings", "/v1/embeddings"),
        ("anthropic", None, None),
        ("gemini", "/v1/models/m:embedContent", "/v1/models/m:batchEmbedContents"),
    ],
)
def test_embedding(dialect, one, several):
    for batch, path in ((False, one), (True, several)):
        request = endpoint(dialect=dialect).embeddings(b"{}", "r", model="m", batch=batch)
        assert (request and target(request)) == path


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai_chat", "/v1/completions"),
        ("openai_responses", "/v1/completions"),
        ("anthropic", None),
        ("gemini", None),
    ],
)
def test_legacy_completions(dialect, path):
    for stream in (False, True):
        request = endpoint(dialect=dialect).completions(b"{}", "r", stream=stream, model="m")
        assert (request and target(request)) == path


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai_chat", "/v1/models"),
        ("openai_responses", "/v1/models"),
        ("anthropic", "/v1/models?limit=1000"),
        ("gemini", "/v1/models?pageSize=1000"),
    ],
)
def test_the_list_of_models(dialect, path):
    request = endpoint(dialect=dialect).models("req_1")
    assert (request.method, target(request), request.body) == ("GET", path, b"")
    assert headers(request)["x-request-id"] == ["req_1"]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "/v1/models/gemini-x:generateContent"),
        ("models/gemini-x", "/v1/models/gemini-x:generateContent"),
        ("tunedModels/mine", "/v1/tunedModels/mine:generateContent"),
        ("x/../../v1/files", "/v1/models/x%2F..%2F..%2Fv1%2Ffiles:generateContent"),
        ("models/../../x", "/v1/models/..%2F..%2Fx:generateContent"),
        ("a?key=b#c", "/v1/models/a%3Fkey%3Db%23c:generateContent"),
        ("a%2F..", "/v1/models/a%252F..:generateContent"),
        ("ü m", "/v1/models/%C3%BC%20m:generateContent"),
        ("m@001", "/v1/models/m@001:generateContent"),
    ],
)
def test_a_models_name_stays_in_its_segment(model, path):
    assert target(endpoint(dialect="gemini").text(b"", "r", model=model, stream=False)) == path


@pytest.mark.parametrize("model", ["", ".", "..", "models/..", "models/", "a\r\nb", "a\0b", "x" * 513])
def test_a_model_that_no_path_can_hold_is_refused(model):
    with pytest.raises(ValueError, match="path"):
        endpoint(dialect="gemini").text(b"", "r", model=model, stream=False)


def test_our_own_requests_name_the_version_they_are_written_in():
    assert headers(endpoint(dialect="anthropic").text(b"", "r", model="m", stream=True))[
        "anthropic-version"
    ] == ["2023-06-01"]


def test_a_native_clients_headers_go_along_and_replace_ours():
    passed = ((b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a,b"), (b"anthropic-beta", b"c"))
    one = endpoint(dialect="anthropic")
    for request in (
        one.text(b"", "r", model="m", stream=True, passed=passed),
        one.count(b"", "r", model="m", passed=passed),
    ):
        found = headers(request)
        assert found["anthropic-version"] == ["2026-10-21"]
        assert found["anthropic-beta"] == ["a,b", "c"]
        assert found["x-api-key"] == ["s3cret"]
    after = headers(one.text(b"", "r", model="m", stream=True))
    assert after["anthropic-version"] == ["2023-06-01"] and "anthropic-beta" not in after


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize(
    "passed",
    [
        (b"authorization", b"Bearer theirs"),
        (b"x-api-key", b"theirs"),
        (b"x-goog-api-key", b"theirs"),
        (b"cookie", b"theirs"),
        (b"host", b"theirs"),
        (b"x-request-id", b"theirs"),
        (b"openai-beta", b"a\r\nx-api-key: theirs"),
        (b"anthropic-beta", b"a\ntheirs"),
        (b"anthropic-beta", "théirs".encode()),
        (b"anthropic-beta", b"theirs" * 1000),
    ],
)
def test_no_other_header_of_a_client_reaches_an_upstream(dialect, passed):
    request = endpoint(dialect=dialect).text(b"", "r", model="m", stream=False, passed=(passed,))
    assert b"theirs" not in request.head
    assert "théirs".encode() not in request.head


def test_a_gemini_upstream_is_sent_no_header_of_a_client():
    passed = ((b"anthropic-beta", b"x"), (b"openai-beta", b"x"))
    found = headers(endpoint(dialect="gemini").text(b"", "r", model="m", stream=False, passed=passed))
    assert not {"anthropic-beta", "openai-beta"} & set(found)


def test_prepared_requests_are_kept_within_bounds():
    one = endpoint(dialect="gemini")
    for at in range(FORMS_MAX + 50):
        one.text(b"", "r", model=f"m{at}", stream=True)
    assert len(one._forms) == FORMS_MAX
    assert target(one.text(b"", "r", model="m0", stream=True)).startswith("/v1/models/m0:")


@pytest.mark.parametrize("dialect", ALL)
def test_a_request_id_cannot_smuggle_a_header(dialect):
    with pytest.raises(ValueError, match="printable ASCII"):
        endpoint(dialect=dialect).text(b"", "a\r\nx: y", model="m", stream=False)


@pytest.mark.parametrize("dialect", ALL)
def test_a_credential_that_would_break_out_of_its_header_makes_no_endpoint(dialect):
    with pytest.raises(ValueError, match="header value"):
        endpoint(dialect=dialect, secret="a\r\nx: y")


@pytest.mark.parametrize("dialect", ["smoke-signals", "", "OpenAI"])
def test_an_unknown_dialect_makes_no_endpoint(dialect):
    with pytest.raises(ValueError, match="dialect"):
        endpoint(dialect=dialect)


@pytest.mark.parametrize(("dialect", "root"), [*((one, "/v1/") for one in ALL[:3]), ("gemini", "/v1beta/")])
def test_the_sandbox_is_found_in_every_dialect(dialect, root):
    here = Origin("http", "127.0.0.1", 4711)
    one = Endpoint(channel("sandbox:", dialect), None, Settings(), here)
    request = one.text(b"", "r", model="m", stream=False)
    assert request.origin == here
    assert target(request).startswith(root)
    with pytest.raises(ValueError, match="not running"):
        Endpoint(channel("sandbox:", dialect), None, Settings(), None)


def test_plain_channels_need_no_authorising_and_no_unwrapping():
    for dialect in ALL:
        one = endpoint(dialect=dialect)
        assert one.authorise is None
        assert one.unwrapper(b"application/vnd.amazon.eventstream", stream=True) is None


def test_an_accounts_scope_does_not_depend_on_the_channels_name_and_tells_accounts_apart():
    vault = Vault(b"k" * 32)

    def scope(url: str, secret: str | None) -> str:
        return vault.scope(scope_text(channel(url), secret))

    mine = scope("https://api.example/v1", "key-1")
    assert mine == scope("https://API.example/anthropic", "key-1")
    others = {
        scope("https://api.example/v1", "key-2"),
        scope("https://api.example/v1", "KEY-1"),
        scope("https://api.example/v1", None),
        scope("https://api.other/v1", "key-1"),
        scope("http://api.example/v1", "key-1"),
        scope("https://api.example:8443/v1", "key-1"),
        Vault(b"x" * 32).scope(scope_text(channel("https://api.example/v1"), "key-1")),
    }
    assert len(others) == 7 and mine not in others
    assert len(mine) == 16 and mine.isalnum()


def test_an_upstreams_words_lose_the_credential():
    assert endpoint(secret="sk-abcdef").scrub("bad key sk-abcdef!") == "bad key [redacted]!"
    assert endpoint(secret="abc").scrub("abc") == "abc"
    assert endpoint(secret=None).scrub("x") == "x"


def test_an_operators_headers_go_with_every_request_and_may_replace_a_version():
    given = {"X-Title": "gateway", "Anthropic-Version": "2026-10-21"}
    one = endpoint(dialect="anthropic", headers=given)
    for request in (
        one.text(b"", "r", model="m", stream=True),
        one.count(b"", "r", model="m"),
        one.models("r"),
    ):
        found = headers(request)
        assert found["x-title"] == ["gateway"]
        assert found["anthropic-version"] == ["2026-10-21"]
        assert found["x-api-key"] == ["s3cret"]


@pytest.mark.parametrize("given", [{"x": "a\r\nb: c"}, {"x y": "z"}, {"host": "h"}, {"content-length": "1"}])
def test_headers_that_would_break_a_request_make_no_endpoint(given):
    with pytest.raises(ValueError):
        endpoint(headers=given)
