"""Against servers we did not write: aiohttp, hypercorn and the standard library's."""

import asyncio
import contextlib
import hashlib
import http.server
import threading

import pytest
from aiohttp import web
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from tests.support.servers import eventually, unused_port

from tollway.upstream.client import Client
from tollway.upstream.transport import Origin, UpstreamFault, UpstreamRequest

EVENTS = [b"data: %d\n\n" % n for n in range(50)]


@contextlib.asynccontextmanager
async def aiohttp_server():
    async def echo(request):
        return web.Response(body=hashlib.sha256(await request.read()).digest(), status=201)

    async def stream(request):
        await request.read()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in EVENTS:
            await response.write(event)
        return response

    async def cut(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"half")
        request.transport.abort()
        return response

    async def empty(request):
        return web.Response(status=204)

    app = web.Application(client_max_size=1 << 26)
    routes = (("/echo", echo), ("/stream", stream), ("/cut", cut), ("/empty", empty))
    app.add_routes([web.route("*", path, handler) for path, handler in routes])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    start = {"type": "http.response.start", "headers": []}
    match scope["path"]:
        case "/echo":
            digest = hashlib.sha256(body).digest()
            await send(start | {"status": 201, "headers": [(b"content-length", b"32")]})
            await send({"type": "http.response.body", "body": digest})
        case "/stream":
            await send(start | {"status": 200})
            for event in EVENTS:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/empty":
            await send(start | {"status": 204})
            await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def hypercorn_server():
    config = Config()
    port = unused_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    stop = asyncio.Event()
    serving = asyncio.create_task(hypercorn_serve(asgi, config, shutdown_trigger=stop.wait, mode="asgi"))

    async def listening():
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.005)
            else:
                writer.close()
                await writer.wait_closed()
                return

    await asyncio.wait_for(listening(), 10)
    yield port
    stop.set()
    await serving


class Handler(http.server.BaseHTTPRequestHandler):
    """HTTP/1.0: every response ends with its connection."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        match self.path:
            case "/echo":
                self.send_response(201)
                self.end_headers()
                self.wfile.write(hashlib.sha256(body).digest())
            case "/stream":
                self.send_response(200)
                self.end_headers()
                for event in EVENTS:
                    self.wfile.write(event)
            case "/empty":
                self.send_response(204)
                self.end_headers()


class Handler11(Handler):
    """The same over kept connections: a length or chunks."""

    protocol_version = "HTTP/1.1"

    def end_headers(self):
        if self.path == "/echo":
            self.send_header("content-length", "32")
        elif self.path == "/stream":
            self.send_header("transfer-encoding", "chunked")
        super().end_headers()
        if self.path == "/stream":
            self.wfile = Chunks(self.wfile)

    def do_POST(self):
        plain = self.wfile
        super().do_POST()
        if self.wfile is not plain:
            self.wfile = plain
            plain.write(b"0\r\n\r\n")


class Chunks:
    def __init__(self, out):
        self.out = out

    def write(self, data):
        self.out.write(b"%x\r\n%b\r\n" % (len(data), data))

    def flush(self):
        self.out.flush()


@contextlib.asynccontextmanager
async def stdlib_server(handler):
    class Listening(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Listening(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join()


SERVERS = {
    "aiohttp": (aiohttp_server, True),
    "hypercorn": (hypercorn_server, True),
    "http.server 1.0": (lambda: stdlib_server(Handler), False),
    "http.server 1.1": (lambda: stdlib_server(Handler11), True),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_whole_streamed_large_and_empty(client: Client, name):
    serving, kept = SERVERS[name]
    async with serving() as port:
        origin = Origin("http", "127.0.0.1", port)

        def ask(target, body=b"{}"):
            return client.send(
                UpstreamRequest(origin=origin, method="POST", target=target, headers=(), body=body)
            )

        for body in (b"", b"{}", bytes(range(256)) * 40_000):
            response = await ask("/echo", body)
            assert response.status == 201
            assert await response.read_all(100) == hashlib.sha256(body).digest()
        response = await ask("/stream")
        assert response.status == 200
        assert await response.read_all(1 << 20) == b"".join(EVENTS)
        response = await ask("/empty")
        assert (response.status, await response.read_all(100)) == (204, b"")
        found = await asyncio.gather(*(ask("/echo", b"%d" % n) for n in range(30)))
        for n, response in enumerate(found):
            assert await response.read_all(100) == hashlib.sha256(b"%d" % n).digest()
        if kept:
            assert client.stats()[origin].idle >= 1
        else:
            await eventually(lambda: client.stats() == {})
        await client.close()


async def test_a_real_server_that_breaks_off(client: Client):
    async with aiohttp_server() as port:
        request = UpstreamRequest(
            origin=Origin("http", "127.0.0.1", port), method="POST", target="/cut", headers=(), body=b"{}"
        )
        with pytest.raises(UpstreamFault) as raised:
            await (await client.send(request)).read_all(1000)
        assert raised.value.kind == "truncated"


async def test_a_real_server_that_stopped_since(client: Client):
    async with aiohttp_server() as port:
        request = UpstreamRequest(
            origin=Origin("http", "127.0.0.1", port), method="POST", target="/echo", headers=(), body=b"{}"
        )
        await (await client.send(request)).read_all(1000)
        assert client.stats()[request.origin].idle == 1
    with pytest.raises(UpstreamFault) as raised:
        await client.send(request)
    assert raised.value.kind == "connect"
    assert client.stats() == {}
