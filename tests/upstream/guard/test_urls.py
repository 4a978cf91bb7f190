"""URLs are read strictly: what each leads to, and what is no URL to fetch."""

import pytest

from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_urls import URL_MAX, Place, joined, read_url

READ = [
    ("https://h.example/a.png", Place("https", "h.example", 443, "/a.png")),
    ("HTTPS://H.Example/A.png", Place("https", "h.example", 443, "/A.png")),
    ("http://h.example", Place("http", "h.example", 80, "/")),
    ("http://h.example:8080?x=1", Place("http", "h.example", 8080, "/?x=1")),
    ("https://h.example/a?b=/c?d#e@f/g", Place("https", "h.example", 443, "/a?b=/c?d")),
    ("https://h.example#@inside.example/", Place("https", "h.example", 443, "/")),
    ("https://h.example/a@b:c", Place("https", "h.example", 443, "/a@b:c")),
    ("https://h.example?@inside.example", Place("https", "h.example", 443, "/?@inside.example")),
    ("https://h.example/%2e%2e/x", Place("https", "h.example", 443, "/%2e%2e/x")),
    ("https://h.example/bäh", Place("https", "h.example", 443, "/b%C3%A4h")),
    ("https://bücher.example/", Place("https", "xn--bcher-kva.example", 443, "/")),
    ("https://xn--bcher-kva.example/", Place("https", "xn--bcher-kva.example", 443, "/")),
    ("https://faß.example/", Place("https", "xn--fa-hia.example", 443, "/")),
    ("https://a_b.s3.example/", Place("https", "a_b.s3.example", 443, "/")),
    ("http://8.8.8.8/", Place("http", "8.8.8.8", 80, "/")),
    ("http://[2606:4700:0::1111]:81/", Place("http", "2606:4700::1111", 81, "/")),
    ("http://[::FFFF:10.0.0.1]/", Place("http", "10.0.0.1", 80, "/")),
    ("http://１２７.0.0.1/", Place("http", "127.0.0.1", 80, "/")),
    ("http://127。0。0。1/", Place("http", "127.0.0.1", 80, "/")),
]


@pytest.mark.parametrize(("url", "place"), READ)
def test_a_url_leads_to_one_place(url, place):
    assert read_url(url) == place


REFUSED = [
    "",
    "h.example/a.png",
    "//h.example/a.png",
    "/etc/passwd",
    "ftp://h.example/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "unix:///run/docker.sock",
    "https:h.example",
    "https:/h.example",
    "https:///a.png",
    "https://",
    "https://:443/",
    "https://?x",
    "https://h.example:/",
    "https://h.example:0/",
    "https://h.example:65536/",
    "https://h.example:443443/",
    "https://h.example:+443/",
    "https://h.example:４４３/",
    "https://h.example:80:80/",
    "https://user@h.example/",
    "https://user:secret@h.example/",
    "https://h.example@127.0.0.1/",
    "https://@h.example/",
    "https://h.example\\@127.0.0.1/",
    "https://h.example\\.inside.example/",
    "https:\\\\h.example\\",
    " https://h.example/",
    "https://h.example/ a",
    "https://h.example/\r\nHost: inside.example",
    "https://h.exam\tple/",
    "https://h.example/\x00",
    "https://h.example/\x7f",
    "https://h.example/\ud800",
    "https://h.example./",
    "https://.h.example/",
    "https://h..example/",
    "https://-h.example/",
    "https://h-.example/",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 127 + "example/",
    "https://h%2eexample/",
    "https://127%2e0%2e0%2e1/",
    "https://h,example/",
    "https://h!.example/",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.01/",
    "https://127.0.0.256/",
    "https://1.2.3.4.5/",
    "https://127.0.0.0x1/",
    "https://h.example.1/",
    "https://[127.0.0.1]/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]extra/",
    "https://[::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[]/",
    "https://[1::2::3]/",
    "https://[v1.fe80]/",
    "https://[::1]]/",
    "https://\u202ea.example/",
    "https://a\u2100b.example/",
    "https://h.example/" + "a" * URL_MAX,
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_no_url_to_fetch_is_refused(url):
    with pytest.raises(FetchFault) as caught:
        read_url(url)
    assert caught.value.kind == "bad_url"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("location", "url"),
    [
        (b"https://other.example/x", "https://other.example/x"),
        (b"//other.example/x", "https://other.example/x"),
        (b"/x", "https://h.example:444/x"),
        (b"x?y", "https://h.example:444/a/x?y"),
        (b"../x", "https://h.example:444/x"),
        ("/ä".encode(), "https://h.example:444/ä"),
        (b"file:///etc/passwd", "file:///etc/passwd"),
    ],
)
def test_a_redirect_is_joined_to_where_it_came_from(location, url):
    assert joined(Place("https", "h.example", 444, "/a/b"), location) == url


@pytest.mark.parametrize("location", [b"\xff", b"//[::1"])
def test_a_redirect_to_no_url_is_refused(location):
    with pytest.raises(FetchFault) as caught:
        joined(Place("https", "h.example", 443, "/"), location)
    assert caught.value.kind == "redirect"
