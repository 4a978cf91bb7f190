"""One spelling for every path: what clean_path lets through, and what it never does."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.web.paths import clean_path, origin_form, valid_host


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/v1/models", "/v1/models"),
        (b"/v1/models/", "/v1/models/"),
        (b"/v1/models/a.b-c_d~e:f@g", "/v1/models/a.b-c_d~e:f@g"),
        (b"/v1beta/models/gemini-2.5:generateContent", "/v1beta/models/gemini-2.5:generateContent"),
        (b"/v1/models/a%2Fb", "/v1/models/a%2Fb"),
        (b"/v1/models/a%2fb", "/v1/models/a%2Fb"),
        (b"/v1/models/%E4%BD%A0", "/v1/models/\u4f60"),
        (b"/v1/models/...", "/v1/models/..."),
        (b"/v1%2Fmodels", "/v1%2Fmodels"),
        (b"", None),
        (b"//", None),
        (b"/a//b", None),
        (b"/.", None),
        (b"/a/./b", None),
        (b"/a/..", None),
        (b"/a/%2e%2e/b", None),
        (b"/a%2f..%2fb", None),
        (b"/a;b", None),
        (b"/a%3Bb", None),
        (b"/a\\b", None),
        (b"/a%5Cb", None),
        (b"/a%00", None),
        (b"/a%0d%0a", None),
        (b"/a%7f", None),
        (b"/a%252Fb", None),
        (b"/a%", None),
        (b"/a%zz", None),
        (b"/a%ff", None),
        (b"/a%C2%85", None),
        (b"/a b", None),
        (b"a/b", None),
    ],
)
def test_paths(raw, path):
    assert clean_path(raw) == path


@given(
    st.binary(max_size=40).map(lambda tail: b"/" + tail)
    | st.text("/.%2fF5cC0;\\ae", max_size=24).map(str.encode)
)
def test_a_clean_path_reads_the_same_to_whoever_decodes_it_again(raw):
    path = clean_path(raw)
    if path is not None:
        again = unquote(path)
        assert path.startswith("/")
        assert "//" not in path
        assert not {".", ".."} & set(again.split("/"))
        assert not set("\\;\x00\r\n%") & set(again)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"a", True), (b"a.example", True), (b"my_service:8800", True), (b"127.0.0.1", True), (b"a:0", True),
        (b"[::1]", True), (b"[::ffff:127.0.0.1]:80", True), (b"xn--bcher-kva.example", True),
        (b"", False), (b":80", False), (b"a:", False), (b"a:99999", False), (b"[::1", False), (b"::1", False),
        (b"[1:2]", False), (b"a b", False), (b"a/b", False), (b"a?b", False), (b"a@b", False), (b"a\x00", False),
        (b"-a", False), (b"a" * 300, False), ("h\u00f6st".encode(), False), (b"a\n", False),
    ],
)  # fmt: skip
def test_hosts(value, valid):
    assert valid_host(value) is valid


@pytest.mark.parametrize(
    ("target", "host", "relative"),
    [
        (b"http://a/x?y", b"a", b"/x?y"), (b"HTTPS://A:1/x", b"a:1", b"/x"), (b"http://a", b"a", b"/"),
        (b"http://a?q", b"a", b"/?q"), (b"http://b/x", b"a", None), (b"http://a/x", None, None),
        (b"http:///x", b"a", None), (b"a:1", b"a", None),
    ],
)  # fmt: skip
def test_absolute_targets(target, host, relative):
    assert origin_form(target, host) == relative
