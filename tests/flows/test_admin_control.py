"""The control socket: the same answers as the database itself, for the owner only, whatever comes in."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from tests.support.admin import do, instance, ready

from tollway.flows.admin.control import ControlServer
from tollway.flows.admin.control_client import ControlClient, ControlUnavailable, socket_path
from tollway.flows.admin.refusals import Refused
from tollway.store import audit


@contextlib.asynccontextmanager
async def controlled(folder: Path):
    async with instance(ready(folder)) as admin:
        server = ControlServer(admin)
        await server.start()
        try:
            yield admin, server, ControlClient(folder)
        finally:
            await server.close()


@pytest.fixture
async def control(tmp_path):
    async with controlled(tmp_path) as found:
        yield found


async def send(folder: Path, *lines: bytes) -> list[dict]:
    reader, writer = await asyncio.open_unix_connection(socket_path(folder), limit=10**7)
    try:
        answers = []
        for line in lines:
            writer.write(line + b"\n")
            await writer.drain()
            answers.append(json.loads(await asyncio.wait_for(reader.readline(), 10)))
        return answers
    finally:
        writer.close()
        await writer.wait_closed()


async def test_both_ways_give_the_same_results(control):
    admin, _, client = control
    await do(admin, "key.create", name="ci", budget="0.000001")
    await do(admin, "credits.grant", amount="123456789.000001")
    for name in (
        "key.list",
        "channel.list",
        "model.list",
        "credits.balance",
        "credits.ledger",
        "project.list",
    ):
        assert await client.perform(name, {}) == await do(admin, name), name
    assert str((await client.perform("credits.balance", {}))["available"]) == "123457789.000001"


async def test_both_ways_refuse_alike(control):
    admin, _, client = control
    for name, arguments in [
        ("key.show", {"key": "nope"}),
        ("key.create", {}),
        ("key.create", {"name": "a", "rpm": -1}),
        ("no.such", {}),
        ("channel.test", {"channel": "sandbox"}),
    ]:
        with pytest.raises(Refused) as here:
            await do(admin, name, **arguments)
        with pytest.raises(Refused) as there:
            await client.perform(name, arguments)
        assert here.value.refusal == there.value.refusal


async def test_the_audit_log_names_who_was_on_the_other_end(control):
    admin, _, client = control
    await client.perform("key.create", {"name": "ci"})
    row = (await admin.read(audit.page))[0]
    import pwd

    assert (row.action, row.actor, row.source) == ("key.create", pwd.getpwuid(os.getuid()).pw_name, "cli")


async def test_the_socket_is_its_owners_only_and_goes_with_the_server(control, tmp_path):
    _, server, client = control
    path = tmp_path / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.close()
    await server.close()
    assert not path.exists()
    with pytest.raises(ControlUnavailable):
        await client.perform("key.list", {})


async def test_a_dead_gateways_socket_is_unavailable_and_does_not_stop_the_next(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    with pytest.raises(ControlUnavailable):
        await ControlClient(tmp_path).perform("key.list", {})
    async with controlled(tmp_path) as (_, _, client):
        assert await client.perform("key.list", {}) == []


async def test_a_path_too_long_for_a_socket_is_served_from_a_private_folder(tmp_path):
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    async with controlled(folder) as (_, _, client):
        assert not (folder / "control.sock").exists()
        place = socket_path(folder)
        assert len(str(place)) < 108
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert await client.perform("key.list", {}) == []
    assert not place.parent.exists()
    assert socket_path(folder) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[]",
        b"{}",
        b'{"op": 1, "args": {}}',
        b'{"op": "key.list"}',
        b'{"op": "key.list", "args": []}',
        b'{"op": "key.list", "args": {}} trailing',
        b"\xff\xfe",
        b'{"op":"' + b"[" * 5000,
    ],
)
async def test_a_line_that_is_no_request_is_answered_and_the_next_one_served(control, tmp_path, line):
    answers = await send(tmp_path, line, b'{"op": "key.list", "args": {}}')
    assert (answers[0]["ok"], answers[0]["refusal"]["kind"]) == (False, "invalid")
    assert answers[1] == {"ok": True, "result": []}


async def test_an_endless_line_ends_only_its_own_connection(control, tmp_path):
    _, _, client = control
    reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path))
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            writer.write(b"x" * 1024 * 1024)
            await writer.drain()
    assert await asyncio.wait_for(_end(reader), 10)
    writer.close()
    assert await client.perform("key.list", {}) == []


async def _end(reader) -> bool:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    return True


async def test_many_clients_at_once_are_all_served(control):
    admin, _, client = control
    made = await asyncio.gather(*(client.perform("key.create", {"name": f"k{n}"}) for n in range(20)))
    assert len({one["key"] for one in made}) == 20
    results = await asyncio.gather(
        *(client.perform("key.create", {"name": "same"}) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(one, dict) for one in results) == 1
    assert {one.refusal.kind for one in results if isinstance(one, Refused)} == {"conflict"}


async def test_a_gateway_that_goes_away_leaves_the_outcome_unknown_and_says_so(tmp_path):
    async def hang_up(reader, writer):
        await reader.readline()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, tmp_path / "control.sock")
    try:
        with pytest.raises(Refused, match="went away") as error:
            await ControlClient(tmp_path).perform("key.list", {})
        assert error.value.refusal.kind == "failed"
    finally:
        server.close()
        await server.wait_closed()


async def test_an_operation_that_breaks_does_not_break_the_server(control, caplog):
    """A row nobody can read: the caller is told, the log has the details, the others are served."""
    admin, _, client = control
    await admin.store.write(lambda conn: conn.exec_driver_sql("UPDATE channel SET groups = '{'"))
    with pytest.raises(Refused) as error:
        await client.perform("channel.list", {})
    assert error.value.refusal.kind == "failed"
    assert "Traceback" not in str(error.value.refusal)
    assert "the operation channel.list failed" in caplog.text
    assert await client.perform("key.list", {}) == []
