"""Media by URL over sockets: fetched where the upstream cannot, refused where the address is not public."""

from __future__ import annotations

import base64
import json
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.support import cells
from tests.support.cells import CLIENTS, PNG, UPSTREAMS, ask, text_of
from tests.support.gateway import fetch, running

IMAGE = base64.b64decode(PNG)
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
FILES = {"/a.png": ("image/png", IMAGE), "/a.pdf": ("application/pdf", PDF), "/lie.png": ("image/png", PDF)}
IMAGE_CELLS = [
    (client, behind) for client in CLIENTS for behind in ("anthropic", "gemini") if client != behind
]
PDF_CELLS = [
    (client, behind)
    for client in CLIENTS
    for behind in ("openai_chat", "anthropic", "gemini")
    if client != behind
]
STREAM = pytest.mark.parametrize("stream", [False, True])


class Files:
    """A server of files on loopback that remembers what it was asked for, and how."""

    def __init__(self):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 - the name is the library's
                outer.asked.append((self.path, dict(self.headers)))
                if self.path.startswith("/to/"):
                    self.send_response(302)
                    self.send_header("location", self.path.removeprefix("/to/"))
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                status = 200 if self.path in FILES else 404
                kind, body = FILES.get(self.path, ("text/html", b"<html>gone</html>"))
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Canary:
    """A port that counts who connects, whatever they say."""

    def __init__(self, address="127.0.0.1"):
        self.calls = 0
        self._socket = socket.create_server((address, 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            peer.close()
            self.calls += 1

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def files():
    found = Files()
    yield found
    found.close()


@pytest.fixture
def canary():
    found = Canary()
    yield found
    found.close()


@pytest.fixture(scope="module")
def fetching(tmp_path_factory, upstream):
    """A gateway whose operator lets URLs lead to loopback."""
    with running(tmp_path_factory.mktemp("fetching") / "data", TOLLWAY_FETCH_ALLOW="127.0.0.1") as found:
        found.cli("credits", "grant", "1000000")
        for name in UPSTREAMS:
            cells.connect(found, name, upstream.url)
            connect_blind(found, name, upstream.url)
        yield found


def connect_blind(gateway, dialect, base_url):
    """A channel of which the operator says that it loads nothing."""
    root = "/v1beta" if dialect == "gemini" else "/v1"
    gateway.cli("model", "add", f"blind-{dialect}", "--input-price", "100", "--output-price", "400")
    gateway.cli(
        *("channel", "add", "--name", f"blind-{dialect}", "--dialect", dialect),
        *("--base-url", base_url + root, "--secret-env", "UP_KEY"),
        *("--model", f"blind-{dialect}=sandbox-chat", "--quirk", "fetches_urls=false"),
        UP_KEY=cells.SECRET,
    )


def showing(client, url, kind="image"):
    """The member of a body that shows a file by its URL, and the field that a refusal must name."""
    match client:
        case "openai_chat":
            part = {
                "image": {"type": "image_url", "image_url": {"url": url}},
                "pdf": {"type": "file", "file": {"filename": "a.pdf", "file_data": url}},
            }[kind]
            field = {"image": "image_url.url", "pdf": "file.file_data"}[kind]
            content = [{"type": "text", "text": "Look"}, part]
            return {"messages": [{"role": "user", "content": content}]}, f"messages[0].content[1].{field}"
        case "openai_responses":
            field = {"image": "image_url", "pdf": "file_url"}[kind]
            part = {"type": {"image": "input_image", "pdf": "input_file"}[kind], field: url}
            content = [{"type": "input_text", "text": "Look"}, part]
            return {"input": [{"role": "user", "content": content}]}, f"input[0].content[1].{field}"
        case "anthropic":
            part = {
                "type": {"image": "image", "pdf": "document"}[kind],
                "source": {"type": "url", "url": url},
            }
            content = [{"type": "text", "text": "Look"}, part]
            return {"messages": [{"role": "user", "content": content}]}, "messages[0].content[1].source.url"
    data = {"mimeType": {"image": "image/png", "pdf": "application/pdf"}[kind], "fileUri": url}
    parts = [{"text": "Look"}, {"fileData": data}]
    return {"contents": [{"role": "user", "parts": parts}]}, "contents[0].parts[1].fileData.fileUri"


def last(upstream):
    return json.dumps(fetch(urllib.request.Request(f"{upstream.url}/sandbox/last"))[2]["body"])


@pytest.mark.parametrize(("client", "behind"), IMAGE_CELLS)
@STREAM
def test_an_image_by_url_is_fetched_for_whoever_cannot_load_it(
    fetching, upstream, files, client, behind, stream
):
    files.asked.clear()
    url = f"{files.url}/a.png"
    body, _ = showing(client, url)
    status, _, answer = ask(fetching, client, behind, "chat", stream=stream, **body)
    assert status == 200, answer
    seen = cells.streamed_text(client, answer) if stream else text_of(client, answer)
    assert "1 image (PNG, 1x1)" in seen
    assert [path for path, _ in files.asked] == ["/a.png"]
    sent = last(upstream)
    assert PNG in sent
    assert url not in sent


@pytest.mark.parametrize(("client", "behind"), PDF_CELLS)
def test_a_pdf_by_url_is_fetched_for_whoever_cannot_load_it(fetching, upstream, files, client, behind):
    files.asked.clear()
    url = f"{files.url}/a.pdf"
    status, _, answer = ask(fetching, client, behind, "chat", **showing(client, url, "pdf")[0])
    assert status == 200, answer
    assert "I read 1 file" in text_of(client, answer)
    assert [path for path, _ in files.asked] == ["/a.pdf"]
    sent = last(upstream)
    assert base64.b64encode(PDF).decode() in sent
    assert url not in sent


@pytest.mark.parametrize("client", CLIENTS)
@STREAM
def test_an_upstream_known_to_load_nothing_gets_data_from_its_own_clients_too(
    fetching, upstream, files, client, stream
):
    files.asked.clear()
    url = f"{files.url}/a.png"
    body, _ = showing(client, url)
    if client != "gemini":
        body |= {"model": f"blind-{client}", "stream": stream, "max_tokens": 500}
    if client == "openai_responses":
        del body["max_tokens"]
    status, headers, answer = fetching.post(
        body, path=cells.path_of(client, f"blind-{client}", stream=stream)
    )
    assert status == 200, answer
    seen = cells.streamed_text(client, cells.events_of(answer)) if stream else text_of(client, answer)
    assert "1 image (PNG, 1x1)" in seen
    assert "x-tollway-dropped" not in headers
    assert [path for path, _ in files.asked] == ["/a.png"]
    assert url not in last(upstream)


def test_a_fetch_tells_the_server_nothing_of_the_client(fetching, files):
    files.asked.clear()
    body, _ = showing("openai_chat", f"{files.url}/a.png")
    assert ask(fetching, "openai_chat", "gemini", "chat", **body)[0] == 200
    ((_, headers),) = files.asked
    told = json.dumps(headers).lower()
    assert fetching.key not in told
    assert cells.SECRET not in told
    assert not {"authorization", "cookie", "x-api-key", "referer"} & {name.lower() for name in headers}


@pytest.mark.parametrize("client", ["openai_chat", "anthropic"])
def test_an_upstream_that_loads_urls_itself_is_given_them(fetching, upstream, files, client):
    files.asked.clear()
    url = f"{files.url}/a.png"
    assert ask(fetching, client, "openai_responses", "chat", **showing(client, url)[0])[0] == 200
    assert files.asked == []
    assert url in last(upstream)


@pytest.mark.parametrize("path", ["/gone.png", "/lie.png"])
@pytest.mark.parametrize("client", ["openai_chat", "openai_responses", "anthropic"])
def test_what_cannot_be_used_is_refused_by_its_field_and_costs_nothing(
    fetching, upstream, files, client, path
):
    before, asked = fetching.cli("credits", "balance")["available"], upstream.stats()["requests"]
    body, field = showing(client, files.url + path)
    status, headers, answer = ask(fetching, client, "gemini", "chat", **body)
    assert (status, cells.error_code(client, answer)) == (400, "unusable_media")
    assert field in json.dumps(answer)
    assert headers["x-should-retry"] == "false"
    assert fetching.cli("credits", "balance")["available"] == before
    assert upstream.stats()["requests"] == asked


PRIVATE = (
    *("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "0177.1"),
)


@pytest.mark.parametrize(("client", "behind"), IMAGE_CELLS)
def test_a_private_address_is_refused_by_its_field_and_never_dialled(
    matrix, upstream, canary, client, behind
):
    asked = upstream.stats()["requests"]
    body, field = showing(client, f"http://127.0.0.1:{canary.port}/a.png")
    status, _, answer = ask(matrix, client, behind, "chat", **body)
    assert (status, cells.error_code(client, answer)) == (400, "unusable_media")
    assert field in json.dumps(answer)
    assert canary.calls == 0
    assert upstream.stats()["requests"] == asked


@pytest.mark.parametrize("host", PRIVATE)
def test_no_way_of_writing_loopback_gets_a_connection(matrix, canary, host):
    for port in (canary.port, 80):
        body, field = showing("openai_chat", f"http://{host}:{port}/a.png")
        status, _, answer = ask(matrix, "openai_chat", "gemini", "chat", **body)
        assert (status, answer["error"]["code"]) == (400, "unusable_media")
        assert answer["error"]["param"] == field
    assert canary.calls == 0


def test_a_redirect_leads_nowhere_that_a_url_may_not(fetching, files):
    inner = Canary("127.0.0.2")
    try:
        body, field = showing("openai_chat", f"{files.url}/to/http://127.0.0.2:{inner.port}/a.png")
        status, _, answer = ask(fetching, "openai_chat", "gemini", "chat", **body)
        assert (status, answer["error"]["param"]) == (400, field)
        assert inner.calls == 0
    finally:
        inner.close()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "gopher://127.0.0.1/"])
def test_only_http_is_fetched(fetching, url):
    body, field = showing("openai_chat", url)
    status, _, answer = ask(fetching, "openai_chat", "gemini", "chat", **body)
    assert (status, answer["error"]["param"]) == (400, field)
