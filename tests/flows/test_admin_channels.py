"""Connecting upstreams of every dialect: presets, addresses, discovery, tests over sockets, rotation."""

import contextlib
import json
import os

import msgspec
import pytest
from tests.support.admin import do, instance, ready, refused
from tests.support.eventstreams import chunk
from tests.support.servers import serve

from tollway.flows.gate import Gate
from tollway.flows.probe import lister, prober
from tollway.store import audit
from tollway.store import channels as rows
from tollway.store.limiter import MemoryLimiter
from tollway.upstream.client import Client
from tollway.upstream.sandbox.server import SandboxServer
from tollway.upstream.transport import Origin

DIALECTS = ("openai_chat", "openai_responses", "anthropic", "gemini")
SECRET = "sk-upstream-canary-0123456789"


@contextlib.asynccontextmanager
async def able(admin):
    """The same context with a client, a sandbox and a gate behind it."""
    sandbox, client = SandboxServer(), Client()
    await sandbox.start()
    try:
        gate = Gate(
            settings=admin.settings,
            store=admin.store,
            transport=client,
            limiter=MemoryLimiter(),
            vault=admin.vault,
            sandbox=Origin("http", "127.0.0.1", sandbox.port),
        )
        yield msgspec.structs.replace(admin, probe=prober(gate), lister=lister(gate)), gate
    finally:
        await client.close()
        await sandbox.close()


@pytest.fixture
async def admin(tmp_path):
    async with instance(ready(tmp_path)) as found:
        yield found


@pytest.fixture
async def online(admin):
    async with able(admin) as (found, _):
        yield found


async def row(admin, name):
    return await admin.read(lambda conn: rows.by_reference(conn, name))


# -- adding ------------------------------------------------------------------------------------


async def test_a_preset_needs_only_the_key(admin):
    made = await do(admin, "channel.add", preset="deepseek", secret=SECRET)
    shown = made["channel"]
    assert (shown["name"], shown["dialect"], shown["base_url"]) == (
        "deepseek",
        "openai_chat",
        "https://api.deepseek.com/v1",
    )
    assert shown["options"] == {"preset": "deepseek"}
    assert made["hints"] == []


async def test_a_preset_has_several_dialects_and_what_is_given_wins(admin):
    made = await do(
        admin, "channel.add", preset="deepseek", name="ds-claude", dialect="anthropic", secret=SECRET
    )
    assert made["channel"]["base_url"] == "https://api.deepseek.com/anthropic/v1"
    made = await do(
        admin, "channel.add", preset="ollama", name="mine", base_url="http://192.168.1.5:11434", priority=3
    )
    assert made["channel"]["base_url"] == "http://192.168.1.5:11434/v1"
    assert made["channel"]["options"]["preset"] == "ollama"
    refusal = await refused(admin, "channel.add", preset="mistral", dialect="gemini", secret=SECRET)
    assert "does not speak" in refusal.what
    refusal = await refused(admin, "channel.add", preset="deepsek", secret=SECRET)
    assert "deepseek" in str(refusal.why + refusal.fix)


async def test_a_pasted_address_is_corrected_and_told_unless_it_is_exact(admin):
    url = "https://api.example.com/v1/chat/completions"
    made = await do(admin, "channel.add", name="a", base_url=url, secret=SECRET)
    assert made["channel"]["base_url"] == "https://api.example.com/v1"
    assert any("became /v1" in hint and "--exact-url" in hint for hint in made["hints"])
    made = await do(admin, "channel.add", name="b", base_url=url, secret=SECRET, exact=True)
    assert made["channel"]["base_url"] == url
    made = await do(
        admin, "channel.add", name="c", dialect="anthropic", base_url="https://api.example.com", secret=SECRET
    )
    assert made["channel"]["base_url"] == "https://api.example.com/v1"


async def test_an_address_copied_from_azures_portal(admin):
    made = await do(
        admin,
        "channel.add",
        name="az",
        platform="azure",
        secret=SECRET,
        base_url="https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
    )
    assert made["channel"]["base_url"] == "https://r.openai.azure.com"
    assert made["channel"]["options"] == {"platform": "azure", "api_version": "2024-10-21"}
    made = await do(admin, "channel.add", preset="azure", place={"resource": "r2"}, secret=SECRET)
    assert made["channel"]["base_url"] == "https://r2.openai.azure.com"
    refusal = await refused(admin, "channel.add", name="x", preset="azure", secret=SECRET)
    assert "--set resource=" in refusal.fix


async def test_a_global_location_has_no_prefix(admin):
    made = await do(
        admin,
        "channel.add",
        preset="vertex",
        place={"location": "global", "project": "p"},
        secret=SECRET,
        models=["m=gemini-x"],
    )
    assert made["channel"]["base_url"] == "https://aiplatform.googleapis.com/v1"
    assert made["channel"]["options"] == {
        "platform": "vertex",
        "preset": "vertex",
        "location": "global",
        "project": "p",
    }


async def test_a_credential_of_many_lines_is_kept_on_one_and_named_by_its_account(admin):
    key = json.dumps(
        {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "x" * 40}, indent=2
    )
    made = await do(admin, "channel.add", preset="bedrock", place={"region": "us-east-1"}, secret=key)
    found = await row(admin, "bedrock")
    opened = admin.vault.open(found.secret, "channel", found.id, "secret").reveal()
    assert "\n" not in opened and json.loads(opened) == json.loads(key)
    assert made["channel"]["secret"] == "…"


async def test_a_channel_that_could_never_be_called_is_not_added(admin):
    for name, given in {
        "no such platform dialect": {
            "preset": "bedrock",
            "dialect": "gemini",
            "place": {"region": "us-east-1"},
        },
        "half a credential": {"preset": "bedrock", "place": {"region": "us-east-1"}, "secret": "{}"},
        "a path that climbs": {"name": "g", "dialect": "gemini", "base_url": "http://h", "models": ["m=.."]},
    }.items():
        given = {"secret": SECRET, **given}
        assert (await refused(admin, "channel.add", **given)).kind == "invalid", name
    assert [one["name"] for one in await do(admin, "channel.list")] == ["sandbox"]


# -- changing ----------------------------------------------------------------------------------


async def test_rotation_replaces_the_credential_and_nothing_else(admin):
    await do(admin, "channel.add", preset="groq", secret=SECRET, models=["m"], options={"idle_timeout": 5})
    before = await do(admin, "channel.show", channel="groq")
    after = await do(admin, "channel.rotate", channel="groq", secret=" sk-second-canary-9876543210\n")
    assert after == {**before, "secret": "…3210"}
    found = await row(admin, "groq")
    assert (
        admin.vault.open(found.secret, "channel", found.id, "secret").reveal()
        == "sk-second-canary-9876543210"
    )
    log = "".join(str(one) for one in await admin.read(audit.page))
    assert "channel.rotate" in log and "canary" not in log
    for bad in ("", "a\r\nb", "ü"):
        assert (await refused(admin, "channel.rotate", channel="groq", secret=bad)).kind == "invalid"
    assert (await refused(admin, "channel.rotate", channel="sandbox", secret="x")).kind == "invalid"


async def test_an_accounts_scope_survives_a_rotation_where_it_is_the_same_account(admin):
    async with able(admin) as (found, gate):

        async def scope() -> str:
            return gate.endpoint_for(await row(admin, "groq")).scope

        await do(found, "channel.add", preset="groq", secret=SECRET)
        first = await scope()
        for secret in ("sk-second-0000", "sk-third-00000"):
            await do(found, "channel.rotate", channel="groq", secret=secret, same_account=True)
            assert await scope() == first
        await do(found, "channel.rotate", channel="groq", secret="sk-fourth-0000")
        assert await scope() not in ("", first)
        await do(found, "channel.rotate", channel="groq", secret=SECRET)
        assert await scope() == first


async def test_settings_change_one_by_one(admin):
    await do(
        admin,
        "channel.add",
        name="up",
        base_url="http://h/v1",
        options={"idle_timeout": 5, "connect_timeout": 1},
        quirks={"json_schema": False},
        headers={"X-Title": "gateway"},
    )
    after = await do(
        admin,
        "channel.set",
        channel="up",
        priority=5,
        weight=2,
        groups=["gold"],
        options={"idle_timeout": None, "total_timeout": 9},
        quirks={"thinking": "none"},
        headers={"X-Title": None, "x-other": "y"},
    )
    assert (after["priority"], after["weight"], after["groups"]) == (5, 2, ["gold"])
    assert after["options"] == {
        "connect_timeout": 1,
        "total_timeout": 9,
        "quirks": {"json_schema": False, "thinking": "none"},
        "headers": {"x-other": "y"},
    }
    before = await do(admin, "channel.show", channel="up")
    for bad in ({"priority": 5000}, {"quirks": {"thinking": 1}}, {"headers": {"cookie": "x"}}, {"weight": 0}):
        assert (await refused(admin, "channel.set", channel="up", **bad)).kind == "invalid"
    assert await do(admin, "channel.show", channel="up") == before


async def test_a_route_has_quirks_of_its_own(admin):
    from tollway.store import models as catalogues

    await do(admin, "channel.add", name="up", base_url="http://h/v1", models=["m=x"])
    await do(admin, "channel.serve", channel="up", models=["m=x"], quirks={"thinking": "budget"})

    async def options():
        return (await admin.read(catalogues.catalogue)).models["m"].routes[0].options

    assert await options() == {"thinking": "budget"}
    await do(admin, "channel.serve", channel="up", models=["m=y"])
    assert await options() == {"thinking": "budget"}
    await do(admin, "channel.serve", channel="up", models=["m=y"], quirks={})
    assert await options() == {}
    bad = await refused(admin, "channel.serve", channel="up", models=["m=y"], quirks={"drop": ["seed"]})
    assert "whole channel" in bad.what


# -- asking the upstream -----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_channel_of_any_dialect_is_tested_whole_streamed_with_a_tool_and_counted(online, dialect):
    await do(
        online, "channel.add", name="up", base_url="sandbox:", dialect=dialect, models=["m=sandbox-chat"]
    )
    report = await do(online, "channel.test", channel="up")
    found = {check["capability"]: (check["finding"], check["detail"]) for check in report["checks"]}
    wanted = dict.fromkeys(("chat", "stream", "tools", "count"), ("ok", ""))
    if dialect == "openai_chat":
        del wanted["count"]
    assert found == wanted
    assert report["ok"] is True


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_upstreams_models_are_listed_and_served_at_once(online, dialect):
    added = await do(online, "channel.add", name="up", base_url="sandbox:", dialect=dialect, models=["auto"])
    listed = await do(online, "channel.discover", channel="up")
    names = {one["upstream_model"]: one for one in listed}
    assert names["sandbox-chat"] == {
        "upstream_model": "sandbox-chat",
        "chat": True,
        "served": ["sandbox-chat"],
    }
    served = {one["name"] for one in added["models"]}
    assert served == {name for name, one in names.items() if one["chat"]}
    assert not any("embed" in name for name in served)


class Upstream:
    """A provider that answers each path with what a test wrote down, and remembers who asked how."""

    def __init__(self, answers: dict[str, tuple[int, str, bytes]]) -> None:
        self.answers = answers
        self.asked = []

    async def __call__(self, peer) -> None:
        while True:
            asked = await peer.request()
            self.asked.append(asked)
            path = asked.line.split(b" ")[1].decode()
            status, kind, body = self.answers.get(
                path, (404, "application/json", b'{"error":{"message":"no"}}')
            )
            head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            await peer.send(head.encode() + body)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "text/html", b"<html>"), "not a JSON object"),
        ((200, "application/json", b'{"data":{}}'), "no list of models"),
        (
            (401, "application/json", b'{"error":{"message":"bad key ' + SECRET.encode() + b'"}}'),
            "unauthorized",
        ),
        ((404, "text/html", b"<html>"), "status 404"),
    ],
)
async def test_why_there_is_no_list_is_told_without_the_credential(online, answer, told):
    async with serve(Upstream({"/v1/models": answer})) as server:
        url = f"http://127.0.0.1:{server.origin.port}/v1"
        await do(online, "channel.add", name="up", base_url=url, secret=SECRET)
        for operation, more in (("discover", {}), ("serve", {"models": ["auto"]})):
            refusal = await refused(online, f"channel.{operation}", channel="up", **more)
            assert told in refusal.why
            assert SECRET not in str(refusal)
    assert (await do(online, "channel.show", channel="up"))["models"] == {}


async def test_names_that_no_model_can_have_are_left_out(online):
    listed = {
        "data": [{"id": name} for name in ("ok-1", "a b", "x" * 200, "text-embedding-3", "<b>")]
        + [7, {"id": 5}]
    }
    async with serve(
        Upstream({"/v1/models": (200, "application/json", json.dumps(listed).encode())})
    ) as server:
        url = f"http://127.0.0.1:{server.origin.port}/v1"
        made = await do(
            online, "channel.add", name="up", base_url=url, models=["auto", "mine=text-embedding-3"]
        )
    assert made["channel"]["models"] == {"ok-1": "ok-1", "mine": "text-embedding-3"}
    assert "lists 5 models, of which 1 look like chat models" in " ".join(made["hints"])


def anthropic_answer() -> bytes:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [{"type": "text", "text": "OK"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        }
    ).encode()


def anthropic_events() -> list[dict]:
    message = {**json.loads(anthropic_answer()), "content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "OK"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]


async def test_bedrock_end_to_end(online):
    model = "anthropic.claude-sonnet-4-5-20250929-v1%3A0"
    stream = b"".join(map(chunk, anthropic_events()))
    upstream = Upstream(
        {
            f"/model/{model}/invoke": (200, "application/json", anthropic_answer()),
            f"/model/{model}/invoke-with-response-stream": (
                200,
                "application/vnd.amazon.eventstream",
                stream,
            ),
        }
    )
    async with serve(upstream) as server:
        await do(
            online,
            "channel.add",
            preset="bedrock",
            base_url=f"http://127.0.0.1:{server.origin.port}",
            place={"region": "us-east-1"},
            secret="AKIAIOSFODNN7EXAMPLE:" + "k" * 40,
            models=["claude=anthropic.claude-sonnet-4-5-20250929-v1:0"],
        )
        report = await do(online, "channel.test", channel="bedrock")
    found = {check["capability"]: check["finding"] for check in report["checks"]}
    assert found == {"chat": "ok", "stream": "ok", "tools": "no_tool_call"}
    assert report["ok"] is True
    assert all(asked.header(b"authorization").startswith(b"AWS4-HMAC-SHA256 ") for asked in upstream.asked)


async def test_a_failure_is_not_waited_for_four_times(online):
    upstream = Upstream(
        {
            "/v1/messages": (
                529,
                "application/json",
                b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
            )
        }
    )
    async with serve(upstream) as server:
        url = f"http://127.0.0.1:{server.origin.port}"
        await do(
            online, "channel.add", name="up", dialect="anthropic", base_url=url, secret=SECRET, models=["m"]
        )
        report = await do(online, "channel.test", channel="up")
    assert [(check["capability"], check["finding"]) for check in report["checks"]] == [
        ("chat", "server_error"),
        ("stream", "server_error"),
    ]
    assert len(upstream.asked) == 2


async def test_nothing_can_be_asked_where_nothing_can_be_sent(admin):
    await do(admin, "channel.add", name="up", base_url="http://h/v1")
    for operation, more in (("discover", {}), ("serve", {"models": ["auto"]}), ("test", {})):
        assert (await refused(admin, f"channel.{operation}", channel="up", **more)).kind == "unavailable"


# -- the command line --------------------------------------------------------------------------


def test_a_presets_variable_is_looked_into_and_named(monkeypatch):
    from tollway.cli.channel_options import secret_of_new

    for name in [one for one in os.environ if one.endswith("_KEY")]:
        monkeypatch.delenv(name)
    assert secret_of_new("groq", None, None, stdin=False) == (None, "")
    monkeypatch.setenv("GROQ_API_KEY", f"{SECRET}\n")
    assert secret_of_new("groq", None, None, stdin=False) == (SECRET, "GROQ_API_KEY")
    monkeypatch.setenv("OTHER", "other")
    assert secret_of_new("groq", "OTHER", None, stdin=False) == ("other", "")
    assert secret_of_new("unheard-of", None, None, stdin=False) == (None, "")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a=1"], {"a": 1}),
        (["a=true", "b=text", 'c={"low": 5}'], {"a": True, "b": "text", "c": {"low": 5}}),
        (["a="], {"a": None}),
        (None, None),
    ],
)
def test_quirks_on_the_command_line(given, found):
    from tollway.cli.channel_options import values

    assert values(given) == found
