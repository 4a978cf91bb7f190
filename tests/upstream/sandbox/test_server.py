"""Starting, embedding and closing the server."""

import asyncio
import subprocess
import sys

import pytest
from tests.upstream.sandbox.raw import Raw, get, post, question

from tollway.upstream.sandbox import connection
from tollway.upstream.sandbox.server import SandboxServer, run


async def exchange(port, request):
    """One response, from a thread so that the server's loop is free."""

    def fetch():
        with Raw(port) as raw:
            raw.send(request)
            return raw.read()

    return await asyncio.to_thread(fetch)


async def test_close_cuts_connections_and_can_be_started_again():
    server = SandboxServer()
    await server.close()
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(post(question("sandbox-hang")))
    idle = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(10):
        while (await exchange(server.port, get("/sandbox/stats"))).json()["in_flight"] != 1:
            pass
        await server.close()
        assert await gone(reader) and await gone(idle[0])
    for one in (writer, idle[1]):
        one.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", server.port)
    await server.start()
    assert (await exchange(server.port, get("/v1/models"))).status == 200
    await server.close()


async def gone(reader):
    """Whether the connection has ended, in order or not, without another byte."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_a_taken_port_is_an_error():
    first, second = SandboxServer(), SandboxServer()
    await first.start()
    with pytest.raises(OSError):
        await second.start(port=first.port)
    await first.close()


async def test_a_clock_dates_answers():
    server = SandboxServer(clock=lambda: 1234.9)
    await server.start()
    answer = await exchange(server.port, post(question("sandbox-chat")))
    assert answer.json()["created"] == 1234
    await server.close()


async def test_an_idle_connection_is_closed(monkeypatch):
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.01)
    server = SandboxServer()
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    await server.close()


async def test_a_connection_being_answered_is_not_idle(monkeypatch):
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.01)
    server = SandboxServer()
    await server.start()
    answer = await exchange(server.port, post(question("sandbox-slow-400-3", stream=True)))
    assert answer.end == "complete" and answer.payloads()[-1] == "[DONE]"
    await server.close()


@pytest.mark.parametrize("path", ["/sandbox/stats", "/sandbox/last"])
async def test_inspection_can_be_off(path):
    server = SandboxServer(inspect=False)
    await server.start()
    await exchange(server.port, post(question("sandbox-chat")))
    assert (await exchange(server.port, get(path))).status == 404
    await server.close()


async def test_run_tells_its_port_and_ends_when_cancelled():
    port = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run("127.0.0.1", 0, started=port.set_result))
    assert (await exchange(await port, get("/v1/models"))).status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port.result())


def test_importing_the_server_is_light():
    """Nothing that takes long to import comes along."""
    heavy = "{'sqlalchemy', 'starlette', 'cryptography', 'redis', 'uvicorn', 'structlog', 'email', 'openai'}"
    script = f"import sys, tollway.upstream.sandbox.server; sys.exit(str({heavy} & sys.modules.keys()) if {heavy} & sys.modules.keys() else 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
